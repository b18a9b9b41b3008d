"""Rows of the decoder; what texts and melodies come to is tested in conditioning, what rows do in lm."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from streamgen.conditioning import PromptMix
from streamgen.conditioning.rows import PrefixRows, TextRows, Wanted
from streamgen.errors import PromptError

Twins = Callable[[str], Any]
TUNE = (0.3 * np.sin(np.arange(32_000) * 0.1)).astype(np.float32)


def test_each_text_is_a_row_with_its_own_keys_computed_once(twin: Twins) -> None:
    conditioner = twin("mono").model.runtime.prompts.conditioner()
    rows = conditioner.of(Wanted(PromptMix.of(prompts=[("piano", 3.0), ("rock", 1.0)]), 2.0))
    assert rows.names == ("piano", "rock", None)
    assert rows.coefficients == (1.5, 0.5, -1.0)
    assert [text.length > 1 for text in rows.texts] == [True, True, False]
    assert rows.prefixes is None
    again = conditioner.of(Wanted(PromptMix.of("rock"), 3.0))
    assert again.texts[0] is rows.texts[1]
    assert again.texts[1] is rows.texts[2]


@pytest.fixture
def few_kept(twin: Twins, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Prompts of a model that keeps some five texts."""
    prompts = twin("mono").model.runtime.prompts
    keys = prompts.keys("piano 0")
    monkeypatch.setattr(prompts._kept, "_limit", 5 * (keys.keys.nbytes + keys.values.nbytes))
    return prompts


def test_texts_not_used_for_long_are_forgotten(few_kept: Any) -> None:
    for number in range(10):
        few_kept.conditioner().of(Wanted(PromptMix.of(f"piano {number}"), 3.0))
    assert (
        sum(text.keys.nbytes + text.values.nbytes for text in few_kept._kept._values.values()) <= few_kept._kept._limit
    )
    assert "piano 0" not in few_kept._kept._values
    assert {None, "piano 9"} <= set(few_kept._kept._values)


def test_rows_in_force_keep_their_texts_however_many_others_come(few_kept: Any) -> None:
    """A glide makes rows anew for each frame: what it plays already is not encoded again and again."""
    conditioner = few_kept.conditioner()
    rows = conditioner.of(Wanted(PromptMix.of("organ"), 3.0))
    for number in range(10):
        conditioner.of(Wanted(PromptMix.of(f"organ {number}"), 3.0))
    later = conditioner.of(Wanted(PromptMix.of("organ"), 2.0), rows)
    assert later.texts[0] is rows.texts[0]
    assert later.coefficients == (2.0, -1.0)


def test_rows_of_a_melody_share_the_longest_texts_length_and_the_null_row_has_none(twin: Twins) -> None:
    prompts = twin("melody").model.runtime.prompts
    conditioner, tune = prompts.conditioner(), prompts.chroma.melody(TUNE, 32_000)
    melody, null = prompts.chroma.window(tune, 0), prompts.chroma.null_prefix()
    long = Wanted(PromptMix.of("drums and bass with slow techno beat"), 3.0, melody=tune)
    short = Wanted(PromptMix.of("rock"), 3.0, melody=tune)
    rows = conditioner.of(long)
    positions = conditioner.padded([long, short]).positions(short)
    assert positions == conditioner.positions(long) > conditioner.positions(short)
    assert rows.prefix == positions > len(melody)
    assert torch.equal(rows.prefixes.of(0)[0, : len(melody)], melody)
    assert torch.equal(rows.prefixes.of(0)[1, : len(melody)], null)
    assert all(text.length == 0 for text in rows.texts), "the text is in the prefix"
    padded = conditioner.padded([long, short]).of(short)
    assert padded.prefix == rows.prefix
    unguided = conditioner.of(replace(long, guidance_scale=0.0))
    assert torch.equal(unguided.prefixes.of(0)[0, : len(melody)], null)


def test_the_row_of_the_melody_alone_has_it_and_no_text(twin: Twins) -> None:
    prompts = twin("melody").model.runtime.prompts
    tune = prompts.chroma.melody(np.sin(np.arange(32_000) * (2 * np.pi * 440 / 32_000)), 32_000)  # an A, not a C
    rows = prompts.conditioner().of(Wanted(PromptMix.of("rock"), 3.0, 2.0, melody=tune))
    assert (rows.names, rows.coefficients) == (("rock", None, None), (6.0, -3.0, -2.0))
    prefixes, length = rows.prefixes.of(0), prompts.chroma.length
    assert torch.equal(prefixes[1, :length], prefixes[0, :length])
    assert not torch.equal(prefixes[1, :length], prefixes[2, :length])
    assert not prefixes[1:, length:].any()


def test_rows_whose_prefixes_are_the_same_are_not_made_again(twin: Twins) -> None:
    prompts = twin("melody").model.runtime.prompts
    tune, conditioner = prompts.chroma.melody(TUNE, 32_000), prompts.conditioner()
    rows = conditioner.of(Wanted(PromptMix.of("rock"), 3.0, melody=tune))
    assert conditioner.of(Wanted(PromptMix.of("rock"), 2.0, melody=tune), rows).prefixes is rows.prefixes
    assert conditioner.of(Wanted(PromptMix.of("rock"), 2.0), rows).prefixes != rows.prefixes
    assert rows.prefixes.of(3) is rows.prefixes.of(3)


def test_no_text_takes_one_position(twin: Twins) -> None:
    prompts = twin("melody").model.runtime.prompts
    assert prompts.conditioner().positions(Wanted(PromptMix.of(None))) == prompts.chroma.length + 1


def test_a_checkpoint_without_melody_has_no_prefix_and_takes_none(twin: Twins) -> None:
    prompts = twin("mono").model.runtime.prompts
    conditioner, wanted = prompts.conditioner(), Wanted(PromptMix.of("piano"), 3.0)
    assert (conditioner.positions(wanted), conditioner.of(wanted).prefix) == (0, 0)
    assert conditioner.padded([wanted]) is conditioner
    for kind in ("melody", "style"):
        with pytest.raises(PromptError, match=f"takes no {kind}"):
            prompts.prepared({kind: TUNE, f"{kind}_rate_hz": 32_000})
        with pytest.raises(PromptError, match=f"{kind}_rate_hz is given without a {kind}"):
            prompts.prepared({f"{kind}_rate_hz": 32_000})


def test_only_rows_that_can_change_from_frame_to_frame_fade(twin: Twins) -> None:
    kinds = [type(twin(kind).model.runtime.prompts.conditioner()) for kind in ("mono", "melody")]
    assert kinds == [TextRows, PrefixRows]
    assert [kind.fades for kind in kinds] == [True, False]
