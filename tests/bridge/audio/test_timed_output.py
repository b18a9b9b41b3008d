"""Output parameters at their sample; twin: an output chain that is set between two calls."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from bridge.audio.output import OutputChain
from bridge.audio.timed_output import TimedOutput

RATE_HZ = 32_000
Pcm = NDArray[np.float32]


def tone(samples: int) -> Pcm:
    wave = 0.3 * np.sin(np.arange(samples) * 0.05)
    return np.stack([wave, wave]).astype(np.float32)


def in_blocks(output: TimedOutput, samples: Pcm, block: int = 3_200) -> Pcm:
    starts = range(0, samples.shape[1], block)
    return np.concatenate([output.process(samples[:, at : at + block], at) for at in starts], axis=1)


@pytest.mark.parametrize("at_sample", [0, 1, 3_200, 7_777])
def test_a_change_ahead_is_cut_at_its_sample(at_sample: int) -> None:
    samples, output, twin = tone(16_000), TimedOutput(RATE_HZ, mono=False), OutputChain(RATE_HZ, mono=False)
    output.set({"gain_db": -6.0}, at_sample=at_sample)
    before = twin.process(samples[:, :at_sample])
    twin.set(gain_db=-6.0)
    expected = np.concatenate([before, twin.process(samples[:, at_sample:])], axis=1)
    np.testing.assert_array_equal(in_blocks(output, samples), expected)


def test_changes_are_made_in_the_order_of_their_samples_whenever_they_were_asked_for() -> None:
    samples, output, twin = tone(9_600), TimedOutput(RATE_HZ, mono=False), OutputChain(RATE_HZ, mono=False)
    output.set({"gain_db": -20.0}, at_sample=2_500)
    output.set({"gain_db": -6.0}, at_sample=1_000)
    output.set({"mute": True}, at_sample=2_500)
    pieces = [twin.process(samples[:, :1_000])]
    twin.set(gain_db=-6.0)
    pieces.append(twin.process(samples[:, 1_000:2_500]))
    twin.set(gain_db=-20.0, mute=True)
    pieces.append(twin.process(samples[:, 2_500:]))
    np.testing.assert_array_equal(in_blocks(output, samples), np.concatenate(pieces, axis=1))


def test_a_change_at_once_counts_from_the_next_block_and_other_names_are_not_its_own() -> None:
    samples, output = tone(32_000), TimedOutput(RATE_HZ, mono=False)
    output.process(samples, 0)
    output.set({"mute": True, "temperature": 2.0, "prompt/1/text": "piano"})
    output.set({"temperature": 2.0}, at_sample=33_000)
    silenced = output.process(samples, 32_000)
    assert np.abs(silenced[:, 3_200:]).max() < 1e-4


def test_a_sample_that_has_passed_is_the_next_one() -> None:
    samples, output = tone(6_400), TimedOutput(RATE_HZ, mono=False)
    output.process(samples, 100_000)
    output.set({"mute": True}, at_sample=5)
    assert np.abs(output.process(samples, 106_400)[:, 3_200:]).max() < 1e-4


def test_edges_fade_over_20_ms() -> None:
    ones = np.full((2, 3_200), 0.5, np.float32)
    output = TimedOutput(RATE_HZ, mono=False)
    late = output.latency_samples
    faded = output.process(ones, 0, fade_in=True, fade_out=True)
    rest = output.process(np.zeros((2, 3_200), np.float32), 3_200)
    out = np.concatenate([faded, rest], axis=1)[0, late : late + 3_200]
    ramp = np.arange(640) / 640
    np.testing.assert_allclose(out[:640], 0.5 * ramp, atol=1e-6)
    np.testing.assert_allclose(out[640:-640], 0.5, atol=1e-6)
    np.testing.assert_allclose(out[-640:], 0.5 * ramp[::-1], atol=1e-6)
    assert (ones == 0.5).all(), "the caller's block is not written to"
