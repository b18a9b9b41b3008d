"""One switch: louder or quieter to −14 LUFS, wide where it was mono, and nothing lost where channels are summed."""

from __future__ import annotations

import numpy as np
import pytest

from bridge.audio.chain import Chain
from bridge.audio.effect import ParameterChange, Pcm
from bridge.audio.loudness import LoudnessMeter
from bridge.audio.master import LOUDNESS, TARGET_LUFS, Master, master_default
from bridge.session.parameters import session_table
from streamgen.testing import FakeModel

RATE_HZ = 48_000
ON = [ParameterChange(0, "master", "gentle")]


def prepared(channels: int = 1) -> Master:
    master = Master()
    master.prepare(RATE_HZ, channels, RATE_HZ)
    return master


def music(seconds: float, level: float = 0.1) -> Pcm:
    """Noise that swells, with a bass below."""
    rng, time = np.random.default_rng(5), np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    swell = 0.6 + 0.4 * np.sin(2 * np.pi * 2 * time)
    mono = level * (swell * rng.standard_normal(len(time)) + np.sin(2 * np.pi * 60 * time))
    return np.stack([mono] * 2).astype(np.float32)


def played(samples: Pcm, channels: int = 1) -> Pcm:
    master = prepared(channels)
    out = [
        master.process(samples[:, at : at + 960], at, ON if not at else ()) for at in range(0, samples.shape[1], 960)
    ]
    return np.concatenate(out, axis=1)


@pytest.mark.parametrize("level", [0.04, 0.1, 0.2])
def test_it_makes_for_its_loudness(level: float) -> None:
    meter = LoudnessMeter(RATE_HZ)
    meter.process(played(music(20, level))[:, 10 * RATE_HZ :])
    assert meter.lufs == pytest.approx(TARGET_LUFS, abs=1.0)


def test_music_of_the_usual_level_begins_as_loud_as_it_goes_on() -> None:
    out = played(music(12, 0.06))

    def level_db(since_seconds: float) -> float:
        first = round(since_seconds * RATE_HZ)
        return float(10 * np.log10(np.mean(out[:, first : first + RATE_HZ // 2] ** 2)))

    assert level_db(10) - level_db(0) < 3.5, "6.3 dB where the gain begins at 0"


def test_mono_becomes_wide_and_its_sum_keeps_all() -> None:
    samples = music(12)
    left, right = played(samples)[:, 8 * RATE_HZ :]
    assert 0.5 < np.corrcoef(left, right)[0, 1] < 0.95
    stereo, summed = np.mean(left**2 + right**2) / 2, np.mean(((left + right) / 2) ** 2)
    assert 10 * np.log10(summed / stereo) > -1.0


def test_stereo_keeps_its_image() -> None:
    samples = music(6)
    samples[1] *= 0.25
    left, right = played(samples, channels=2)[:, RATE_HZ:]
    np.testing.assert_allclose(right, 0.25 * left, atol=1e-5)


@pytest.mark.parametrize("louder_db", [-3.0, 2.0])
def test_music_that_is_told_to_be_louder_is_as_loud_from_its_first_bar_on(louder_db: float) -> None:
    """What the slow gain alone makes of it is the twin: a bar later it is still as far off."""
    turn, factor = 12 * RATE_HZ, np.float32(10 ** (louder_db / 20))
    samples = music(16, 0.012)  # so quiet that the glue leaves it alone
    samples[:, turn:] *= factor

    def bar_db(out: Pcm, seconds: float) -> float:
        first = round(seconds * RATE_HZ)
        return float(10 * np.log10(np.mean(out[:, first : first + RATE_HZ] ** 2)))

    def step_db(told: bool) -> float:
        master = prepared()
        changes = {0: ON, turn: [ParameterChange(turn, LOUDNESS, louder_db)] if told else []}
        out = [master.process(samples[:, at : at + 960], at, changes.get(at, ())) for at in range(0, 16 * RATE_HZ, 960)]
        return bar_db(np.concatenate(out, axis=1), 12.25) - bar_db(np.concatenate(out, axis=1), 10.25)

    assert abs(step_db(told=True)) < 0.7
    assert step_db(told=False) / louder_db > 0.6


def test_how_loud_it_begins_is_known_before_the_first_sample() -> None:
    """Told at the beginning, there is no step; switched off, nothing is made of it."""
    samples, loud = music(2, 0.1), ParameterChange(0, LOUDNESS, 6.0)
    plain, told = prepared(), prepared()
    out = [one.process(samples, 0, [*more, *ON]) for one, more in ((plain, []), (told, [loud]))]
    first = slice(RATE_HZ // 25, RATE_HZ // 10)  # the switch is through, and the slow gain stands
    assert np.abs(out[1][:, first] - out[0][:, first] * 10 ** (-6 / 20)).max() < 1e-3
    assert np.array_equal(prepared().process(samples, 0, [loud]), samples)


def test_off_it_gives_back_what_it_gets_and_the_switch_does_not_click() -> None:
    samples, master = music(3), prepared()
    np.testing.assert_array_equal(master.process(samples[:, :9_600], 0, ()), samples[:, :9_600])
    tone = np.stack([0.2 * np.sin(2 * np.pi * 200 * np.arange(3 * RATE_HZ) / RATE_HZ)] * 2).astype(np.float32)
    switched = [ParameterChange(RATE_HZ, "master", "gentle"), ParameterChange(2 * RATE_HZ, "master", "off")]
    out = master.process(tone, 0, switched)
    assert np.abs(np.diff(out, 2)).max() < 4 * np.abs(np.diff(tone, 2)).max()
    np.testing.assert_array_equal(out[:, -9_600:], tone[:, -9_600:])


def test_it_is_on_for_the_shipped_checkpoint_alone() -> None:
    assert [master_default(name) for name in ("pocket", "facebook/musicgen-small")] == ["gentle", "off"]
    assert session_table()["master"].default == session_table(FakeModel())["master"].default == "off"
    assert session_table(FakeModel(name="pocket"))["master"].default == "gentle"


def test_the_chain_limits_what_it_lifts() -> None:
    chain = Chain(RATE_HZ, 1, RATE_HZ)
    chain.set({"master": "gentle"})
    samples = music(8, 0.02)
    samples[:, 6 * RATE_HZ : 6 * RATE_HZ + 4_800] *= 8
    out = np.concatenate(
        [chain.process(samples[:, at : at + 4_800]) for at in range(0, samples.shape[1], 4_800)], axis=1
    )
    assert np.abs(out).max() <= 10 ** (-1 / 20)
