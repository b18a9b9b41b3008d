"""Rows of the decoder; what texts and melodies come to is tested in conditioning, what rows do in lm."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from streamgen.conditioning import PromptMix
from streamgen.errors import PromptError

Twins = Callable[[str], Any]
TUNE = (0.3 * np.sin(np.arange(32_000) * 0.1)).astype(np.float32)


def test_each_text_is_a_row_with_its_own_keys_computed_once(twin: Twins) -> None:
    prompts = twin("mono").model.prompts
    texts, rows = prompts.of(PromptMix.of(prompts=[("piano", 3.0), ("rock", 1.0)]), 2.0)
    assert texts == ("piano", "rock", None)
    assert rows.coefficients == (1.5, 0.5, -1.0)
    assert [text.length > 1 for text in rows.texts] == [True, True, False]
    assert rows.prefixes is None
    _, again = prompts.of(PromptMix.of("rock"), 3.0)
    assert again.texts[0] is rows.texts[1]
    assert again.texts[1] is rows.texts[2]


def test_texts_not_heard_for_long_are_forgotten(twin: Twins) -> None:
    prompts = twin("mono").model.prompts
    for number in range(40):
        prompts.of(PromptMix.of(f"piano {number}"), 3.0)
    assert len(prompts._kept) == 32
    assert "piano 0" not in prompts._kept
    assert {None, "piano 39"} <= set(prompts._kept)


def test_rows_of_a_melody_share_the_longest_texts_length_and_the_null_row_hears_none(twin: Twins) -> None:
    prompts = twin("melody").model.prompts
    melody = prompts.melody_prefix(TUNE, 32_000)
    long = PromptMix.of("drums and bass with slow techno beat")
    _, rows = prompts.of(long, 3.0, melody)
    positions = prompts.text_positions([long, PromptMix.of("rock")])
    assert positions > prompts.text_positions([PromptMix.of("rock")])
    assert rows.prefix == len(melody) + positions
    assert torch.equal(rows.prefixes[0, : len(melody)], melody)
    assert torch.equal(rows.prefixes[1, : len(melody)], prompts._chroma.null_prefix())
    assert all(text.length == 0 for text in rows.texts), "the text is in the prefix"
    _, padded = prompts.of(PromptMix.of("rock"), 3.0, melody, text_positions=positions)
    assert padded.prefix == rows.prefix
    _, deaf = prompts.of(long, 0.0, melody)
    assert torch.equal(deaf.prefixes[0, : len(melody)], prompts._chroma.null_prefix())


def test_no_text_takes_one_position(twin: Twins) -> None:
    assert twin("melody").model.prompts.text_positions([PromptMix.of(None)]) == 1


def test_a_checkpoint_without_melody_has_no_prefix_and_takes_none(twin: Twins) -> None:
    prompts = twin("mono").model.prompts
    assert prompts.melody_prefix(None, None) is None
    with pytest.raises(PromptError, match="takes no melody"):
        prompts.melody_prefix(TUNE, 32_000)
