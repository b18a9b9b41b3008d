"""Effects in order: positions that stay true whatever they hold back, changes at their samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
import pytest

from bridge.audio.chain import EFFECTS, Chain, effect_parameters
from bridge.audio.effect import ParameterChange, Pcm
from bridge.audio.gain import Gain
from bridge.audio.limiter import Limiter
from streamgen.config import ControlSpec, number

RATE_HZ = 48_000


class Delay:
    """Holds back so many samples, and writes down at which of them it was told what."""

    parameters: ClassVar[Mapping[str, ControlSpec]] = {"mark": number(0, 9, 0, "", "adds so much from a sample on")}

    def __init__(self, samples: int) -> None:
        self.latency_samples = samples

    def prepare(self, rate_hz: int, channels: int, max_block: int) -> None:
        self._level = 0.0
        self.reset()

    def reset(self) -> None:
        self._held = np.zeros((2, self.latency_samples), np.float32)

    def process(self, block: Pcm, start_sample: int, changes: Sequence[ParameterChange]) -> Pcm:
        block = block + np.float32(self._level)
        for change in changes:
            block[:, max(0, change.at_sample - start_sample) :] += float(change.value) - self._level
            self._level = float(change.value)
        audio = np.concatenate((self._held, block), axis=1)
        self._held = audio[:, block.shape[1] :]
        return audio[:, : block.shape[1]]


def ramp(count: int, start: int = 0) -> Pcm:
    return np.stack([np.arange(start, start + count, dtype=np.float32)] * 2)


@pytest.mark.parametrize("block", [1, 7, 100, 5_000])
def test_what_goes_in_as_position_p_comes_out_as_position_p(block: int) -> None:
    chain, samples = Chain(RATE_HZ, 2, block, [Delay(100), Gain(), Delay(333)]), ramp(5_000)
    assert chain.latency_samples == 433
    pieces = [chain.process(samples[:, at : at + block]) for at in range(0, 5_000, block)]
    out = np.concatenate([*pieces, chain.finish()], axis=1)
    np.testing.assert_array_equal(out, samples)
    assert chain.position == 5_000
    again = np.concatenate([chain.process(ramp(600, 5_000)), chain.finish()], axis=1)
    np.testing.assert_array_equal(again, ramp(600, 5_000))


@pytest.mark.parametrize("block", [1, 64, 1_000])
def test_a_change_lands_at_its_sample_of_the_music_behind_any_latency(block: int) -> None:
    chain = Chain(RATE_HZ, 2, block, [Delay(200), Delay(50)])
    samples = np.zeros((2, 2_000), np.float32)
    chain.set({"mark": 4.0, "temperature": 2.0}, at_sample=777)
    pieces = [chain.process(samples[:, at : at + block]) for at in range(0, 2_000, block)]
    out = np.concatenate([*pieces, chain.finish()], axis=1)[0]
    np.testing.assert_array_equal(out, np.where(np.arange(2_000) < 777, 0, 8))


def test_a_change_at_once_is_at_the_next_sample_and_the_later_of_two_wins() -> None:
    chain = Chain(RATE_HZ, 2, 1_000, [Delay(10)])
    chain.process(np.zeros((2, 500), np.float32))
    assert chain.set({"mark": 1.0}) == 500
    assert chain.set({"mark": 3.0}, at_sample=20) == 500
    assert chain.set({"mark": 5.0}, at_sample=600) == 600
    out = np.concatenate([chain.process(np.zeros((2, 500), np.float32)), chain.finish()], axis=1)[0]
    np.testing.assert_array_equal(out[-500:], np.where(np.arange(500, 1_000) < 600, 3, 5))


def test_what_is_no_number_becomes_silence() -> None:
    chain = Chain(RATE_HZ, 1, 2_000)
    samples = (0.1 * np.random.default_rng(1).standard_normal((2, 2_000))).astype(np.float32)
    samples[1] = samples[0]
    bad = samples.copy()
    bad[0, 100], bad[1, 200], bad[1, 201] = np.nan, np.inf, -np.inf
    out = np.concatenate([chain.process(bad), chain.finish()], axis=1)
    assert np.isfinite(out).all()
    np.testing.assert_array_equal(out[:, 300:], samples[:, 300:])


def test_a_new_session_has_width_gain_and_the_limiter_last() -> None:
    assert EFFECTS[-1] is Limiter
    assert set(effect_parameters()) == {"width", "master", "gain_db", "mute"}
    chain = Chain(RATE_HZ, 1, RATE_HZ)
    chain.set({"gain_db": 12.0, "width": 1.0})
    noise = np.random.default_rng(2).standard_normal(RATE_HZ).astype(np.float32)
    out = np.concatenate([chain.process(np.stack([noise, noise])), chain.finish()], axis=1)
    assert np.abs(out).max() <= 10 ** (-1 / 20)
    assert out.shape[1] == RATE_HZ


def test_a_glide_goes_there_in_small_steps_and_what_is_set_next_ends_it() -> None:
    chain = Chain(RATE_HZ, 2, 1_000, [Delay(10)])
    chain.set({"mark": 8.0}, at_sample=1_000, glide_samples=24_000)
    first = np.concatenate([chain.process(np.zeros((2, 1_000), np.float32)) for _ in range(14)], axis=1)[0]
    assert not first[:1_000].any()
    assert np.diff(first).max() < 0.1
    assert first[-1] == pytest.approx(8 * (13_000 - 10) / 24_000, abs=0.1)
    chain.set({"mark": 0.0}, glide_samples=4_800)
    rest = np.concatenate([chain.process(np.zeros((2, 1_000), np.float32)) for _ in range(30)], axis=1)[0]
    assert np.abs(np.diff(rest)).max() < 0.25
    assert np.abs(rest[4_900:]).max() < 1e-6, "the first glide is over"


def test_a_glide_of_nothing_but_a_number_is_a_step() -> None:
    chain = Chain(RATE_HZ, 2, 1_000, [Gain()])
    assert chain.set({"mute": True}, at_sample=100, glide_samples=48_000) == 100
    assert len(chain._stages[0].waiting) == 1


@pytest.mark.parametrize("block", [1, 100, 1_000])
def test_of_glides_and_steps_in_any_order_of_asking_each_begins_at_its_sample_from_where_it_is(block: int) -> None:
    """Twin: all of them sorted by their samples, walked through one sample after another."""
    asked = [(3_000, 6.0, 2_400), (5_000, 1.0, 0), (1_000, 8.0, 9_600), (7_000, 2.0, 4_800), (7_500, 4.0, 0)]
    chain, count = Chain(RATE_HZ, 2, block, [Delay(0)]), 12_000
    for at, value, glide in asked:
        chain.set({"mark": value}, at_sample=at, glide_samples=glide)
    out = np.concatenate([chain.process(np.zeros((2, block), np.float32)) for _ in range(count // block)], axis=1)[0]
    twin, level, way = np.zeros(len(out)), 0.0, (0, 0.0, 0.0, 0)
    for sample in range(len(out)):
        for at, value, glide in asked:
            if at == sample:
                way, level = (at, level, value, glide), level if glide else value
        at, first, last, glide = way
        steps = max(glide // 240, 1)
        if glide and (sample - at) * steps < glide * steps:
            level = first + (last - first) * min((sample - at) * steps // glide + 1, steps) / steps
        twin[sample] = level
    np.testing.assert_allclose(out, twin, atol=1e-5)


def test_what_is_forgotten_is_told_no_more_but_what_comes_next_is() -> None:
    chain = Chain(RATE_HZ, 2, 1_000, [Delay(0)])
    chain.set({"mark": 1.0})
    chain.set({"mark": 2.0}, at_sample=500)
    chain.forget({"mark"})
    np.testing.assert_array_equal(chain.process(np.zeros((2, 1_000), np.float32)), 1.0)


def test_a_glide_at_once_leaves_one_that_is_scheduled_which_begins_from_where_it_came_to() -> None:
    chain = Chain(RATE_HZ, 2, 1_000, [Delay(0)])
    chain.set({"mark": 8.0}, at_sample=10_000, glide_samples=4_800)
    chain.process(np.zeros((2, 1_000), np.float32))
    chain.set({"mark": 4.0}, glide_samples=2_400)
    out = np.concatenate([chain.process(np.zeros((2, 1_000), np.float32)) for _ in range(15)], axis=1)[0]
    assert out[9_000 - 1] == 4.0
    assert np.abs(np.diff(out)).max() < 0.5, "it goes on from there"
    assert out[-1] == 8.0
