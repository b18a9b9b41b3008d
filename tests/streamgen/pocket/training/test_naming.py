from __future__ import annotations

import random

from streamgen.pocket.training.captions import caption, written
from streamgen.pocket.training.compose import training_song
from streamgen.pocket.training.fitting import LanguageTrainer
from streamgen.pocket.training.naming import GROUPS, NAMES, tokens_that_name


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
