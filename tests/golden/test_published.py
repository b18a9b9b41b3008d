"""Golden: the values that transformers' own tests expect of Meta's weights, where those lie in the local Hub cache.

Source: github.com/huggingface/transformers (Apache-2.0), tests/models/musicgen/test_modeling_musicgen.py and
tests/models/musicgen_melody/test_modeling_musicgen_melody.py, the classes Musicgen…IntegrationTests, as of commit
01080c629600d4ff3121446bb4f4a2e240c2cf41. Left out are what they draw with torch's generator, and three that feed
columns without the delay pattern (test_logits_text_audio_prompt twice, five tokens of
test_generate_unconditional_greedy).
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

import streamgen
from streamgen.checkpoint.find import cached_folder

pytestmark = pytest.mark.slow  # each reads gigabytes

TEXTS = ["80s music", "Club techno"]
RATE_HZ = 32_000
WEIGHTS = {  # melody's under the name that the tests have, and Meta's
    "small": ("facebook/musicgen-small",),
    "stereo-small": ("facebook/musicgen-stereo-small",),
    "melody": ("facebook/musicgen-melody", "ylacombe/musicgen-melody"),
    "stereo-melody": ("facebook/musicgen-stereo-melody", "ylacombe/musicgen-stereo-melody"),
}


@cache
def loaded(name: str) -> streamgen.Model:
    return streamgen.load_model(name, device="cpu", precision="fp32")


def model_of(kind: str) -> streamgen.Model:
    """Load the weights, or skip the test."""
    for name in WEIGHTS[kind]:
        if cached_folder(name) is not None:
            return loaded(name)
    pytest.skip(f"{WEIGHTS[kind][0]} is not in the local Hub cache: `hf download {WEIGHTS[kind][0]}` puts it there")


def bips(seconds: float) -> NDArray[np.float32]:
    """A second of silence and tone in turn, 440 Hz, the last `seconds` of it; before them silence, as their padding."""
    time = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
    sound = np.cos(2 * np.pi * 440 * time) * ((time % 0.25) / 0.25 >= 0.5)
    return np.pad(sound, (RATE_HZ - len(sound), 0)).astype(np.float32)


def greedy(model: streamgen.Model, texts: list[str | None], frames: int, **options: Any) -> list[NDArray[np.float32]]:
    clips = model.generate(texts, frames / 50, temperature=0.0, seed=0, **options)
    return [clip.samples for clip in clips]


def assert_near(ours: Any, expected: str, within: float = 1e-4) -> None:
    theirs = np.array([float(number) for number in expected.split()])
    np.testing.assert_allclose(np.asarray(ours), theirs, rtol=within, atol=within)


def first_logits(model: streamgen.Model, text: str) -> Tensor:
    """Of the first codebook after the opening column, float32 [V]."""
    return model.logits(torch.zeros(model.runtime.config.num_codebooks, 1, dtype=torch.int64), text)[0, 0]


def test_logits_of_small_after_a_text() -> None:
    expected = """-0.9708 -3.0149 -4.6415 -1.4754 -0.2786 -2.3523 -2.6049 -6.7467
        -1.0206 -3.2984 -3.3968 -1.5108 -1.5786 -3.1493 -1.1503 -0.0545"""
    assert_near(first_logits(model_of("small"), TEXTS[0])[:16], expected)


@pytest.mark.parametrize(
    ("guidance", "expected"),
    [
        (
            1.0,
            "-1.1998e-04 -2.2302e-04 4.6296e-04 1.0524e-03 2.4827e-04 -4.0288e-05 -1.2468e-04 4.9846e-05 7.1485e-04 "
            "4.4197e-04",
        ),
        (
            3.0,
            "0.0283 0.0246 0.0650 0.0640 0.0599 0.0711 0.0420 0.0112 0.0511 0.0746 0.1363 0.1213 0.0185 -0.0578 "
            "-0.0908 0.0443",
        ),
    ],
)
def test_sound_of_small_after_a_text(guidance: float, expected: str) -> None:
    clip = greedy(model_of("small"), [*TEXTS], 7, guidance_scale=guidance)[0]
    assert_near(clip[0, : len(expected.split())], expected)


def test_sound_of_small_after_a_text_and_audio() -> None:
    expected = """-0.0036 -0.0130 -0.0261 -0.0384 -0.0557 -0.0718 -0.0680 -0.0632
        -0.0529 -0.0403 -0.0289 -0.0198 -0.0136 -0.0101 -0.0095 -0.0040"""
    clips = greedy(
        model_of("small"), [*TEXTS], 7, guidance_scale=1.0, audio_prompt=[bips(0.5), bips(1.0)],
        audio_prompt_rate_hz=RATE_HZ,
    )  # fmt: skip
    assert_near(clips[0][0, -16:], expected)


def test_sound_of_stereo_small_unconditional() -> None:
    (clip,) = greedy(model_of("stereo-small"), [None], 9)
    left = """0.0017 0.0004 0.0004 0.0005 0.0002 0.0002 -0.0002 -0.0013
        -0.0010 -0.0015 -0.0018 -0.0032 -0.0060 -0.0082 -0.0096 -0.0099"""
    right = """0.0038 0.0028 0.0031 0.0032 0.0031 0.0032 0.0030 0.0019
        0.0021 0.0015 0.0009 -0.0008 -0.0040 -0.0067 -0.0087 -0.0096"""
    assert_near(clip[0, :16], left)
    assert_near(clip[1, :16], right)


def test_sound_of_stereo_small_after_a_text_and_audio() -> None:
    prompts = [np.stack([bips(seconds)] * 2) for seconds in (0.5, 1.0)]
    clip = greedy(
        model_of("stereo-small"), [*TEXTS], 9, guidance_scale=3.0, audio_prompt=prompts, audio_prompt_rate_hz=RATE_HZ
    )[0]
    left = """0.2535 0.2008 0.1471 0.0896 0.0306 -0.0200 -0.0501 -0.0728
        -0.0832 -0.0856 -0.0867 -0.0884 -0.0864 -0.0866 -0.0744 -0.0430"""
    right = """0.1695 0.1213 0.0732 0.0239 -0.0264 -0.0705 -0.0935 -0.1103
        -0.1163 -0.1139 -0.1104 -0.1082 -0.1027 -0.1004 -0.0900 -0.0614"""
    assert_near(clip[0, -16:], left)
    assert_near(clip[1, -16:], right)


def test_logits_of_melody_after_a_text() -> None:
    """Beside the longer text of the batch: what it has more is zeros, which are read too."""
    model = model_of("melody")
    states = [model.text_states(text) for text in TEXTS]
    missing = max(map(len, states)) - len(states[0])
    model.learn_states("padded", torch.cat([states[0], torch.zeros(missing, states[0].shape[1])]))
    expected = """1.1100 -2.1065 -3.7699 -0.7102 1.3707 -1.7028 -2.6802 -6.0367
        1.0504 -2.5358 -4.3497 0.7338 0.4823 -2.5260 1.2717 1.5427"""
    assert_near(first_logits(model, "padded")[:16], expected)


@pytest.mark.parametrize(("texts", "guidance"), [([None], 1.0), (TEXTS, 1.0), (TEXTS, 3.0)])
def test_sound_of_melody(texts: list[str | None], guidance: float) -> None:
    expected = """1.2741e-04 -8.0474e-05 5.5789e-04 1.0402e-03 2.6547e-04 1.5597e-05 -1.4210e-04 -9.7309e-05
        6.4504e-04 5.0903e-04 9.6475e-04 1.0499e-03 3.7215e-05 -5.3651e-04 -3.6578e-04 -2.5678e-04"""
    assert_near(greedy(model_of("melody"), texts, 7, guidance_scale=guidance)[0][0, :16], expected)


def test_sound_of_melody_after_a_text_and_audio() -> None:
    expected = """-1.1999e-04 -2.2303e-04 4.6296e-04 1.0524e-03 2.4827e-04 -4.0294e-05 -1.2468e-04 4.9846e-05
        7.1484e-04 4.4198e-04 7.9063e-04 8.8141e-04 -6.1807e-05 -6.1856e-04 -3.6235e-04 -2.7226e-04"""
    tunes = [bips(0.5), bips(1.0)]
    clips = greedy(model_of("melody"), [*TEXTS], 7, guidance_scale=1.0, melody=tunes, melody_rate_hz=RATE_HZ)
    assert_near(clips[0][0, :16], expected)


def test_sound_of_stereo_melody_unconditional() -> None:
    (clip,) = greedy(model_of("stereo-melody"), [None], 9, guidance_scale=1.0)
    expected = """1.2742e-04 -8.0480e-05 5.5788e-04 1.0401e-03 2.6547e-04 1.5587e-05 -1.4211e-04 -9.7308e-05
        6.4503e-04 5.0903e-04 9.6475e-04 1.0499e-03 3.7205e-05 -5.3652e-04 -3.6579e-04 2.5679e-04"""
    for channel in clip[:, :16]:
        assert_near(channel, expected, within=6e-4)


def test_sound_of_stereo_melody_after_a_text_and_audio() -> None:
    tunes = [bips(0.5), bips(1.0)]
    first, second = greedy(
        model_of("stereo-melody"), [*TEXTS], 9, guidance_scale=3.0, melody=tunes, melody_rate_hz=RATE_HZ
    )
    left_of_first = """-0.0862 -0.1021 -0.0936 -0.0754 -0.0616 -0.0456 -0.0354 -0.0298
        -0.0036 0.0222 0.0523 0.0660 0.0496 0.0356 0.0457 0.0769"""
    right_of_second = """-0.0327 -0.0450 -0.0264 -0.0278 -0.0365 -0.0272 -0.0401 -0.0574
        -0.0413 -0.0508 -0.0269 -0.0323 -0.0762 -0.1115 -0.1390 -0.0790"""
    assert_near(first[0, :16], left_of_first)
    assert_near(second[1, :16], right_of_second)
