from __future__ import annotations

import random
from pathlib import Path

from transformers import AutoTokenizer

from streamgen.pocket.training.captions import caption, train_tokenizer
from streamgen.pocket.training.compose import training_song

SONGS = [training_song(number) for number in range(30)]


def test_numbers_are_one_token_and_any_word_can_be_spelled(tmp_path: Path) -> None:
    train_tokenizer(tmp_path, captions=1500)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    for bpm in ("150", "125", "94"):
        assert f"▁{bpm}" in tokenizer.tokenize(f"house at {bpm} bpm")
    ids = tokenizer("Zebra funk, 120 BPM; what's this?")["input_ids"]
    assert tokenizer.unk_token_id not in ids
    assert ids[-1] == tokenizer.eos_token_id


def test_a_complete_caption_names_everything() -> None:
    for song in SONGS:
        text = caption(song, random.Random(0), complete=True)
        assert str(song.bpm) in text
        assert song.key in text
        assert all(word in text for word in song.instruments)


def test_captions_of_one_song_vary() -> None:
    rng = random.Random(0)
    assert len({caption(SONGS[0], rng) for _ in range(20)}) > 15
