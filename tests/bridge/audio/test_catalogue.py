"""The rack's own effects: each does what its knobs say, and no knob is heard turning."""

from __future__ import annotations

import time

import numpy as np
import pytest

from bridge.audio.catalogue import BUILT_IN
from bridge.audio.compressor import Compressor
from bridge.audio.effect import Effect, ParameterChange, Pcm
from bridge.audio.equalizer import Equalizer, HighPass, Tilt
from bridge.audio.reverb import Reverb
from bridge.audio.saturation import Saturation
from streamgen.config import Value

RATE_HZ = 48_000
TIME = np.arange(RATE_HZ) / RATE_HZ


def prepared(name: str) -> Effect:
    effect = BUILT_IN[name]()
    effect.prepare(RATE_HZ, 2, 4_096)
    return effect


def played(name: str, samples: Pcm, **values: Value) -> Pcm:
    """What comes out, at the positions it belongs to, once the knobs stand still."""
    effect = prepared(name)
    effect.process(
        np.zeros((2, RATE_HZ // 2), np.float32), 0, [ParameterChange(0, one, value) for one, value in values.items()]
    )
    late = effect.latency_samples
    out = effect.process(np.pad(samples, ((0, 0), (0, late))), RATE_HZ // 2, ())
    return out[:, late:]


def sine(hz: float, level: float = 0.25) -> Pcm:
    return np.stack([level * np.sin(2 * np.pi * hz * TIME)] * 2).astype(np.float32)


def level_db(samples: Pcm) -> float:
    return float(10 * np.log10(np.mean(np.square(samples[:, RATE_HZ // 4 :], dtype=np.float64)) + 1e-30))


def spectrum_db(samples: np.ndarray) -> np.ndarray:
    window = np.blackman(len(samples))
    return 20 * np.log10(np.abs(np.fft.rfft(samples * window)) / window.sum() * 2 + 1e-12)


def test_the_set_is_these() -> None:
    assert dict(BUILT_IN) == {
        "high-pass": HighPass,
        "equalizer": Equalizer,
        "tilt": Tilt,
        "compressor": Compressor,
        "saturation": Saturation,
        "reverb": Reverb,
    }


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_row_is_complete(name: str) -> None:
    for spec in prepared(name).parameters.values():
        assert spec.description
        assert spec.low is not None
        assert spec.high is not None
        assert spec.low <= float(spec.default) <= spec.high


@pytest.mark.parametrize(
    ("name", "hz", "values", "gain_db"),
    [
        ("high-pass", 100, {"frequency_hz": 100.0}, -3.0),
        ("high-pass", 2_000, {"frequency_hz": 100.0}, 0.0),
        ("equalizer", 1_000, {"band2_db": 6.0}, 6.0),
        ("equalizer", 30, {"low_db": -12.0, "low_hz": 300.0}, -12.0),
        ("equalizer", 15_000, {"high_db": 9.0, "high_hz": 3_000.0}, 9.0),
        ("equalizer", 4_000, {"band2_db": 6.0, "band2_q": 10.0}, 0.0),
        ("tilt", 12_000, {"tilt_db": 6.0}, 6.0),
        ("tilt", 40, {"tilt_db": 6.0}, -6.0),
    ],
)
def test_filters_lift_and_lower(name: str, hz: float, values: dict[str, Value], gain_db: float) -> None:
    assert level_db(played(name, sine(hz), **values)) - level_db(sine(hz)) == pytest.approx(gain_db, abs=0.3)


@pytest.mark.parametrize(
    ("level", "values", "gain_db"),
    [
        (-40.0, {}, 0.0),
        (-10.0, {"threshold_db": -30.0, "ratio": 4.0, "knee_db": 0.0}, -15.0),
        (-30.0, {"threshold_db": -30.0, "ratio": 4.0, "knee_db": 24.0}, -2.25),
        (-10.0, {"threshold_db": -30.0, "ratio": 20.0, "knee_db": 0.0, "makeup_db": 6.0}, -13.0),
    ],
)
def test_the_compressor_turns_down_by_its_curve(level: float, values: dict[str, Value], gain_db: float) -> None:
    tone = sine(5_000, 10 ** (level / 20))
    out = played("compressor", tone, release_ms=500.0, **values)
    assert level_db(out) - level_db(tone) == pytest.approx(gain_db, abs=0.3)


def test_the_compressor_sets_in_and_lets_go_in_its_times() -> None:
    tone = sine(5_000, 0.5)
    tone[:, RATE_HZ // 2 :] *= 0.02
    out = played("compressor", tone, threshold_db=-26.0, ratio=20.0, attack_ms=20.0, release_ms=100.0, knee_db=0.0)
    gain = np.array(
        [np.abs(out[0, at : at + 96]).max() / np.abs(tone[0, at : at + 96]).max() for at in range(0, RATE_HZ, 96)]
    )
    full_db, at_once = -20 * np.log10(gain[240]), -20 * np.log10(gain)
    assert full_db == pytest.approx(19, abs=0.7)
    assert at_once[9] / full_db == pytest.approx(0.63, abs=0.08), "two thirds of it after the attack"
    assert at_once[250 + 60] / full_db == pytest.approx(0.37, abs=0.1), "a third is left after release and attack"


def test_the_compressor_keeps_the_image() -> None:
    both = np.stack((sine(997, 0.8)[0], sine(500, 0.1)[1]))
    out = played("compressor", both, threshold_db=-40.0, ratio=10.0)
    loud = np.abs(both[1]) > 0.05
    ratio = (out[1] / np.where(loud, both[1], 1))[loud]
    assert ratio[10_000:].max() < 0.4


def test_saturation_leaves_what_is_quiet_and_does_not_fold_back() -> None:
    quiet = sine(997, 0.001)
    np.testing.assert_allclose(played("saturation", quiet)[:, 1_000:-1_000], quiet[:, 1_000:-1_000], atol=1e-6)
    for hz, drive_db in ((5_000, 24.0), (9_000, 18.0), (15_000, 12.0)):
        found = spectrum_db(played("saturation", sine(hz, 0.5), drive_db=drive_db)[0, 12_000:36_000].astype(np.float64))
        hertz = np.arange(len(found)) * 2
        harmonic = np.zeros(len(found), bool)
        for order in range(1, 10, 2):
            harmonic |= np.abs(hertz - order * hz) < 20
        audible = (hertz > 20) & (hertz < 20_000) & ~harmonic
        assert found[audible].max() - found.max() < -80


def test_the_reverb_falls_by_60_db_in_its_time() -> None:
    burst = np.zeros((2, 6 * RATE_HZ), np.float32)
    burst[:, : RATE_HZ // 2] = 0.3 * np.random.default_rng(2).standard_normal((2, RATE_HZ // 2))
    for seconds in (0.8, 2.5):
        out = played("reverb", burst, decay_seconds=seconds, damping=0.0, pre_delay_ms=0.0)
        power = [10 * np.log10(np.mean(out[:, at : at + 2_400] ** 2) + 1e-20) for at in range(0, 6 * RATE_HZ, 2_400)]
        first = 11  # behind the burst, in twentieths of a second
        last = first + round(seconds / 2 * 20)
        assert power[first] - power[last] == pytest.approx(30, abs=3)


def test_the_reverb_is_wide_dense_and_about_as_loud_as_its_input() -> None:
    noise = np.stack([0.2 * np.random.default_rng(3).standard_normal(3 * RATE_HZ)] * 2).astype(np.float32)
    out = played("reverb", noise)
    assert abs(np.corrcoef(out[:, RATE_HZ:])[0, 1]) < 0.2
    assert level_db(out) - level_db(noise) == pytest.approx(0, abs=4)
    one_side = noise.copy()
    one_side[1] = 0
    left, right = played("reverb", one_side)[:, RATE_HZ:]
    assert 10 * np.log10((left**2).mean() / (right**2).mean()) == pytest.approx(0, abs=2), "a wall throws back to both"


def test_the_reverbs_delay_and_damping() -> None:
    click = np.zeros((2, RATE_HZ), np.float32)
    click[:, 0] = 1.0
    out = played("reverb", click, pre_delay_ms=150.0)
    assert not np.abs(out[:, :7_200]).max() > 1e-6
    assert np.abs(out[:, 7_200 : 7_200 + 5_000]).max() > 1e-3
    dark, bright = (spectrum_db(played("reverb", click, damping=damping)[0, 24_000:]) for damping in (1.0, 0.0))
    treble = slice(len(dark) * 8 // 24, len(dark) * 12 // 24)
    assert dark[treble].mean() < bright[treble].mean() - 10


# -- no zipper noise ------------------------------------------------------------------------------------------------

KNOBS = [(name, knob) for name in BUILT_IN for knob in BUILT_IN[name]().parameters]


@pytest.mark.parametrize(("name", "knob"), KNOBS)
def test_no_knob_is_heard_turning(name: str, knob: str) -> None:
    """A tone of 300 Hz while a knob goes through a third of its range, 50 times a second: nothing new above 6 kHz.

    A parameter that steps makes a click every time, white up to half the rate.
    """
    effect = prepared(name)
    spec = effect.parameters[knob]
    low, high = spec.limits
    if knob in ("pre_delay_ms",):
        low, high = 10.0, 12.0  # another delay is another phase: a third of the range has a sound of its own
    tone, settle = (
        sine(300, 0.25),
        [ParameterChange(0, one, 6.0) for one in effect.parameters if one in ("low_db", "band1_db", "high_db")],
    )
    effect.process(tone, 0, settle)
    changes = [
        ParameterChange(RATE_HZ + 960 * turn, knob, spec.check(low + (high - low) * turn / 150)) for turn in range(50)
    ]
    out = effect.process(tone, RATE_HZ, changes)
    still = effect.process(tone, 2 * RATE_HZ, ())
    above = slice(6_000, None)
    turning, standing = spectrum_db(out[0].astype(np.float64))[above], spectrum_db(still[0].astype(np.float64))[above]
    assert turning.max() < max(standing.max() + 6, -90)


@pytest.mark.slow
def test_the_whole_set_costs_a_tenth_of_a_block() -> None:
    """20 ms of stereo; a machine that others use too is given time: the fastest of many."""
    effects, block = [prepared(name) for name in BUILT_IN], 0.3 * np.random.default_rng(1).standard_normal((2, 960))
    costs, audio = [], block.astype(np.float32)
    for turn in range(200):
        began = time.perf_counter()
        for effect in effects:
            effect.process(audio, 960 * turn, ())
        costs.append(time.perf_counter() - began)
    assert np.median(costs) < 0.1 * 960 / RATE_HZ
