from __future__ import annotations

import numpy as np
import pytest

from bridge.audio.effect import ParameterChange, Pcm
from bridge.audio.gain import Gain

RATE_HZ = 48_000


def prepared() -> Gain:
    gain = Gain()
    gain.prepare(RATE_HZ, 2, RATE_HZ)
    return gain


def music(seconds: float = 1.0) -> Pcm:
    return (0.1 * np.random.default_rng(4).standard_normal((2, round(seconds * RATE_HZ)))).astype(np.float32)


def test_gain_and_mute_reach_their_values_exactly() -> None:
    gain, samples, settled = prepared(), music(), 12_000
    out = gain.process(samples, 0, [ParameterChange(0, "gain_db", -6.0)])
    np.testing.assert_array_equal(out[:, settled:], (samples * np.float32(10 ** (-6 / 20)))[:, settled:])
    assert not gain.process(samples, RATE_HZ, [ParameterChange(RATE_HZ, "mute", True)])[:, settled:].any()
    back = [ParameterChange(2 * RATE_HZ, "mute", False), ParameterChange(2 * RATE_HZ, "gain_db", 0.0)]
    np.testing.assert_array_equal(gain.process(samples, 2 * RATE_HZ, back)[:, settled:], samples[:, settled:])


@pytest.mark.parametrize("change", [("gain_db", -60.0), ("gain_db", 4.0), ("mute", True)])
def test_a_change_makes_no_click_and_takes_about_20_ms(change: tuple[str, float]) -> None:
    """A 200 Hz tone bends by at most its own curvature; a step of the gain would bend it a hundred times as much."""
    tone = np.stack([0.4 * np.sin(2 * np.pi * 200 * np.arange(RATE_HZ) / RATE_HZ)] * 2).astype(np.float32)
    out = prepared().process(tone, 0, [ParameterChange(24_000, *change)])[0]
    assert np.abs(np.diff(out, 2)).max() < 3 * np.abs(np.diff(tone[0], 2)).max()
    factor = 0.0 if change[0] == "mute" else 10 ** (change[1] / 20)
    np.testing.assert_array_equal(out[:24_000], tone[0, :24_000])
    assert np.abs(out - factor * tone[0])[24_000 + 1_200 :].max() < 0.02
