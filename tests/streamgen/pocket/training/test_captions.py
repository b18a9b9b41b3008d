from __future__ import annotations

import random
from pathlib import Path

from transformers import AutoTokenizer

from streamgen.pocket.training.captions import (
    GROUPS,
    NAMES,
    caption,
    captioned_songs,
    tokens_that_name,
    train_tokenizer,
    written,
)
from streamgen.pocket.training.compose import training_song
from streamgen.pocket.training.fitting import LanguageTrainer

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


def test_held_out_songs_have_the_same_captions_each_time() -> None:
    songs = captioned_songs(12)
    assert len({song.style for song, _ in songs}) == 12
    assert all(str(song.bpm) in text and text == text.lower() for song, text in songs)
    assert [text for _, text in captioned_songs(12)] == [text for _, text in songs]


def test_captions_of_one_song_vary() -> None:
    rng = random.Random(0)
    assert len({caption(SONGS[0], rng) for _ in range(20)}) > 15


def test_every_complete_caption_names_its_tempo_style_and_key(trainer: LanguageTrainer) -> None:
    rng = random.Random(2)
    for number in range(60):
        song = training_song(number)
        text = written(caption(song, rng, complete=True), rng)
        ids, named = tokens_that_name(text, song, trainer.tokenizer)
        assert ids == trainer.tokenizer(text)["input_ids"]
        said = named.amax(0).split(GROUPS)
        assert [int(group.sum()) for group in said] == [1, 1, 1], text


def test_only_the_words_themselves_are_marked(trainer: LanguageTrainer) -> None:
    song = next(song for song in map(training_song, range(200)) if (song.style, song.tonic) == ("house", 9))
    text = f"piano, club house, in a minor, {song.bpm} bpm, driving"
    ids, named = tokens_that_name(text, song, trainer.tokenizer)
    pieces = trainer.tokenizer.convert_ids_to_tokens(ids)
    marked = "".join(piece for piece, row in zip(pieces, named, strict=True) if row.any())
    assert marked.replace("▁", " ").split() == ["club", "house", "a", str(song.bpm)]
    assert named.shape == (len(ids), NAMES)
