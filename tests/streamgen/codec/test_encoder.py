"""Audio prompts against EncodecModel.encode; bad ones against their refusal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from streamgen.audio import AudioChunk
from streamgen.codec import encode_audio, resample
from streamgen.errors import PromptError

RATE_HZ = 32_000


def music(channels: int, samples: int, seed: int = 0) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    return (0.2 * rng.standard_normal((channels, samples))).astype(np.float32)


def theirs(codec: Any, audio: NDArray[np.float32]) -> torch.Tensor:
    """Let transformers encode [1, 1, n] as MusicGen's `generate` asks it to."""
    with torch.no_grad():
        return codec.encode(torch.from_numpy(audio)[None, None]).audio_codes[0, 0]


@pytest.mark.parametrize("samples", [1, 5, 19, 20, 21, 1000, 3333])
def test_mono_codes_are_transformers(codec: Any, samples: int) -> None:
    audio = music(1, samples)
    got = encode_audio(codec, audio, RATE_HZ, audio_channels=1)
    assert got.dtype == torch.int64
    assert torch.equal(got, theirs(codec, audio[0]))
    assert got.shape == (4, -(-samples // codec.config.hop_length))


def test_stereo_codes_are_interleaved(codec: Any) -> None:
    audio = music(2, 2000)
    got = encode_audio(codec, audio, RATE_HZ, audio_channels=2)
    assert torch.equal(got[0::2], theirs(codec, audio[0]))
    assert torch.equal(got[1::2], theirs(codec, audio[1]))


def test_a_codec_that_is_stereo_itself_gets_both_channels_at_once(lab: Any) -> None:
    codec, audio = lab.make(audio_channels=2), music(2, 2000)
    with torch.no_grad():
        wanted = codec.encode(torch.from_numpy(audio)[None]).audio_codes[0, 0]
    assert torch.equal(encode_audio(codec, audio, RATE_HZ, audio_channels=2), wanted)


def test_channels_are_brought_to_the_models(lab: Any) -> None:
    codec, stereo, four = lab.make(), music(2, 900), music(4, 900)
    averaged = theirs(codec, stereo.mean(0))
    assert torch.equal(encode_audio(codec, stereo, RATE_HZ, audio_channels=1), averaged)
    doubled = encode_audio(codec, stereo[:1], RATE_HZ, audio_channels=2)
    assert torch.equal(doubled, theirs(codec, stereo[0]).repeat_interleave(2, 0))
    first_two = encode_audio(codec, four, RATE_HZ, audio_channels=2)  # as audiocraft's convert_audio_channels
    assert torch.equal(first_two, encode_audio(codec, four[:2], RATE_HZ, audio_channels=2))


def test_other_rates_are_converted_first(lab: Any) -> None:
    codec, audio = lab.make(), music(1, 4410)
    got = encode_audio(codec, audio, 44_100, audio_channels=1)
    assert torch.equal(got, theirs(codec, resample(audio, 44_100, RATE_HZ)[0]))
    assert got.shape == (4, 3200 // 20)


def test_double_precision_is_taken_too(lab: Any) -> None:
    codec, audio = lab.make(), music(1, 500)
    got = encode_audio(codec, audio.astype(np.float64), RATE_HZ, audio_channels=1)  # type: ignore[arg-type]
    assert torch.equal(got, theirs(codec, audio[0]))


def test_several_bandwidths_give_all_codebooks(lab: Any) -> None:
    codec = lab.make()
    codec.config.target_bandwidths = [codec.config.target_bandwidths[0] / 2, codec.config.target_bandwidths[0]]
    assert encode_audio(codec, music(1, 100), RATE_HZ, audio_channels=1).shape == (4, 5)


@pytest.mark.parametrize(
    ("samples", "says"),
    [
        (np.zeros((1, 0), np.float32), "empty"),
        (np.zeros((0, 9), np.float32), r"\[0, 9\]"),
        (np.zeros((1, 1, 9), np.float32), r"\[1, 1, 9\]"),
        (np.zeros((1, 9), np.int16), "int16"),
        (np.zeros((1, 9), np.complex64), "complex64"),
        ([[0.0, 0.1]], "list"),
        ("song.wav", r"str: samples, rate_hz = soundfile\.read"),
        (Path("song.wav"), r"soundfile\.read"),
        (torch.zeros(1, 9), r"Tensor: tensor\.detach\(\)\.cpu\(\)\.numpy\(\)"),
        (AudioChunk(np.zeros((2, 9), np.float32), 0, RATE_HZ), r"AudioChunk: give its \.samples"),
        (np.zeros((9, 2), np.float32), r"9 channels of 2 samples; .*: transpose it"),
        (np.zeros((65, 99), np.float32), r"65 channels of 99 samples; .*: mix it to 64 or fewer, or transpose it"),
        (np.full((1, 9), 32_767, np.float32), "peak is 32767: .* divide integers by their range"),
        (np.array([[0.0, np.nan, np.inf]], np.float32), "peak is nan: samples are finite"),
    ],
)
def test_what_is_no_audio_is_refused(lab: Any, samples: Any, says: str) -> None:
    with pytest.raises(PromptError, match=says):
        encode_audio(lab.make(), samples, RATE_HZ, audio_channels=1)


@pytest.mark.parametrize("rate_hz", [0, -1, 44_100.0, True, "44100"])
def test_rates_that_are_none(lab: Any, rate_hz: Any) -> None:
    with pytest.raises(PromptError, match="sample rate is"):
        encode_audio(lab.make(), music(1, 9), rate_hz, audio_channels=1)
