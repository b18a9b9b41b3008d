"""Fades, the session's rate, the effects: positions stand still through pauses. Twin: soxr over the whole."""

from __future__ import annotations

import numpy as np
import pytest
import soxr

from bridge.audio.effect import Pcm
from bridge.audio.output import OutputPath

MODEL_HZ = 32_000
NOTHING = np.zeros((2, 0), np.float32)


def music(count: int, seed: int = 4) -> Pcm:
    """Nothing near half the rate, where resampling makes peaks that the limiter would see."""
    smooth = np.convolve(np.random.default_rng(seed).standard_normal(count + 32), np.hanning(32), "valid")[:count]
    return np.stack([(0.05 * smooth).astype(np.float32)] * 2)


def played(output: OutputPath, samples: Pcm, block: int) -> list[Pcm]:
    return [output.process(samples[:, at : at + block]) for at in range(0, samples.shape[1], block)]


@pytest.mark.parametrize("rate_hz", [32_000, 44_100, 48_000, 96_000])
@pytest.mark.parametrize("block", [640, 1_111, 3_200])
def test_streamed_equals_the_whole(rate_hz: int, block: int) -> None:
    output, samples = OutputPath(MODEL_HZ, rate_hz, 1, 3_200), music(64_000)
    pieces = played(output, samples, block)
    out = np.concatenate([*pieces, output.finish(NOTHING)], axis=1)
    whole = samples if rate_hz == MODEL_HZ else soxr.resample(samples.T, MODEL_HZ, rate_hz, quality="HQ").T
    assert out.shape[1] == output.position == output.frontier == 2 * rate_hz
    np.testing.assert_allclose(out, whole[:, : out.shape[1]], atol=1e-6)


@pytest.mark.parametrize("rate_hz", [32_000, 44_100, 48_000])
def test_positions_stand_still_through_pauses_of_any_length(rate_hz: int) -> None:
    """Pieces of odd lengths, each with an end of its own: no sample more or less than the music has."""
    output, samples, at = OutputPath(MODEL_HZ, rate_hz, 2, 3_200), music(50_000), 0
    for length in (12_345, 640, 7, 20_000, 1):
        piece = samples[:, at : at + length]
        count = sum(part.shape[1] for part in [*played(output, piece, 640), output.finish(NOTHING)])
        at += length
        assert output.position == output.session_sample(at)
        assert count > 0
        assert abs(output.position - at * rate_hz / MODEL_HZ) <= 0.5


def test_what_comes_out_lags_by_less_than_20_ms() -> None:
    output = OutputPath(MODEL_HZ, 48_000, 2, 3_200)
    played(output, music(32_000), 640)
    assert 0 < output.frontier - output.position < 0.02 * 48_000


def test_edges_fade_over_20_ms_and_the_callers_samples_stay() -> None:
    ones, output = np.full((2, 3_200), 0.5, np.float32), OutputPath(MODEL_HZ, MODEL_HZ, 2, 3_200)
    out = np.concatenate([output.process(ones, fade_in=True), output.finish(ones)], axis=1)[0]
    ramp = np.arange(640) / 640
    np.testing.assert_allclose(out[:640], 0.5 * ramp, atol=1e-6)
    np.testing.assert_allclose(out[640:-640], 0.5, atol=1e-6)
    np.testing.assert_allclose(out[-640:], 0.5 * ramp[::-1], atol=1e-6)
    assert (ones == 0.5).all()
    short = np.concatenate([output.process(ones[:, :100], fade_in=True), output.finish(NOTHING)], axis=1)[0]
    np.testing.assert_allclose(short, 0.5 * np.arange(100) / 100, atol=1e-6)


def test_samples_of_the_model_and_of_the_session_find_each_other() -> None:
    output = OutputPath(MODEL_HZ, 44_100, 2, 3_200)
    for model_sample in (0, 1, 640, 12_345, 10**12 + 1):
        session = output.session_sample(model_sample)
        assert abs(session - model_sample * 44_100 / MODEL_HZ) <= 0.5 + 1e-3
        assert abs(output.model_sample(session) - model_sample) <= 1
    assert output.session_sample(640) == 882
    assert output.model_sample(883) == 641


def test_a_parameter_changes_at_its_session_sample() -> None:
    output, samples = OutputPath(MODEL_HZ, 48_000, 2, 3_200), music(32_000)
    assert output.set({"mute": True}, at_sample=24_000) == 24_000
    out = np.concatenate([*played(output, samples, 640), output.finish(NOTHING)], axis=1)
    assert np.abs(out[:, 23_000:24_000]).max() > 0.01
    assert np.abs(out[:, 24_000 + 6_000 :]).max() < 1e-6
