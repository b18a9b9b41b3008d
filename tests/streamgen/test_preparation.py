"""Texts and audio ahead of the music: what comes of them, and what they are refused for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import streamgen
from streamgen.errors import PromptError
from streamgen.testing import tiny_checkpoint

Twins = Callable[[str], Any]


def test_text_states_in_and_out(twin: Twins) -> None:
    both = twin("mono")
    states = both.model.text_states("slow piano")
    torch.testing.assert_close(states, both.states("slow piano"))
    assert both.model.text_states(None).shape == (0, 64)
    model = streamgen.Model.from_pretrained(str(tiny_checkpoint("mono")), device="cpu", precision="fp32")
    model.learn(["its own name"])
    model.learn_states("its own name", states)
    clips = model.generate(["its own name", "slow piano"], 0.5, seed=[1, 1])
    assert np.array_equal(clips[0].samples, clips[1].samples)


def test_a_melody_for_a_model_without_one_is_refused(twin: Twins) -> None:
    with pytest.raises(PromptError, match="takes no melody"):
        twin("mono").model.open_stream("piano", melody=np.zeros(32_000, np.float32), melody_rate_hz=32_000)


def test_a_prepared_melody_is_what_the_stream_makes_of_it() -> None:
    model = streamgen.load_model(str(tiny_checkpoint("melody")), device="cpu", precision="fp32")
    tune = np.sin(np.arange(32_000, dtype=np.float32) / 11)
    prepared = model.melody(tune, 32_000)
    with (
        model.open_stream("piano", seed=1, melody=prepared) as one,
        model.open_stream("piano", seed=1, melody=tune, melody_rate_hz=32_000) as other,
    ):
        assert np.array_equal(one.read(6_400).samples, other.read(6_400).samples)
    with pytest.raises(PromptError, match="takes no style"):
        model.style(tune, 32_000)
