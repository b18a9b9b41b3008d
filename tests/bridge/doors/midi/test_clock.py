from __future__ import annotations

import os
import random

import numpy as np
import pytest

from bridge.doors.midi.clock import CLOCKS_A_BEAT, ClockIn, _within_limits

SEED = int(os.environ.get("STREAMGEN_TORMENT_SEED", "0"))


def send(clock: ClockIn, bpm: float, beats: float, at: float = 5.0, seed: int = 0, gaussian: bool = False) -> float:
    """Send clocks, each up to 2 ms off, or by 2 ms of standard deviation; returns when the next would come."""
    rng, pace = random.Random(seed), 60 / bpm / CLOCKS_A_BEAT
    for number in range(round(beats * CLOCKS_A_BEAT)):
        clock.clock(at + number * pace + (rng.gauss(0, 0.002) if gaussian else rng.uniform(-0.002, 0.002)))
    return at + round(beats * CLOCKS_A_BEAT) * pace


def told(bpm: float, beats: int, clocks: int = 30, gaussian: bool = False) -> list[tuple[float, float]]:
    """By how much tempo (bpm) and the next beat (seconds) are off after some beats, of so many clocks."""
    off = []
    for seed in range(clocks):
        clock = ClockIn()
        clock.start()
        end = send(clock, bpm, beats, seed=seed, gaussian=gaussian)
        seconds, beat, tempo = clock.line() or (0, 0, 0)
        off.append((abs(tempo - bpm), abs(seconds + (beats - beat) * 60 / tempo - end)))
    return off


@pytest.mark.parametrize("bpm", [60, 180, *(pytest.param(bpm, marks=pytest.mark.slow) for bpm in (100, 120, 140, 160))])
def test_clocks_with_two_milliseconds_of_jitter_tell_tempo_and_phase(bpm: float) -> None:
    assert max(phase for _, phase in told(bpm, 4)) < 0.005
    assert max(tempo for tempo, _ in told(bpm, 4)) < 0.1
    assert max(tempo for tempo, _ in told(bpm, 32, 5)) < 0.01, "the longer, the surer"


@pytest.mark.parametrize("bpm", [60, 120, 180])
def test_of_a_jitter_without_limit_the_tempo_is_as_sure_as_it_can_be(bpm: float) -> None:
    """No estimate without bias has less than σ·√(12/n³) of standard deviation (Cramér and Rao)."""
    least = bpm * bpm / 60 * CLOCKS_A_BEAT * 0.002 * (12 / (4 * CLOCKS_A_BEAT) ** 3) ** 0.5
    off = told(bpm, 4, 60, gaussian=True)
    assert np.mean([tempo**2 for tempo, _ in off]) ** 0.5 < 1.25 * least
    assert max(phase for _, phase in off) < 0.005


def test_the_line_within_limits_is_the_mean_over_all_that_there_are() -> None:
    """Against thousands of lines, each weighed by how likely it makes the clocks."""
    for seed in range(5):
        places = np.arange(96) - 47.5
        off = np.random.default_rng(seed).uniform(-0.002, 0.002, 96)
        off -= off.mean() + places * (places @ off) / (places @ places)
        paces = np.linspace(-2e-5, 2e-5, 20_001)
        left = off[:, None] - places[:, None] * paces
        high, low = left.max(axis=0), left.min(axis=0)
        likely = ((high - low) / (high - low).min()) ** -95
        pace, later = _within_limits(places, off)
        assert pace == pytest.approx(np.average(paces, weights=likely), abs=5e-8)
        assert later == pytest.approx(np.average((high + low) / 2, weights=likely), abs=5e-6)


def test_another_tempo_is_found_within_a_beat_and_the_count_goes_on() -> None:
    for seed, before, after in [(1, 60, 66), (2, 120, 180), (3, 180, 60), (4, 140, 130)]:
        clock = ClockIn()
        clock.start()
        at = send(clock, before, 8, seed=seed)
        end = send(clock, after, 3, at, seed=seed + 50)
        seconds, beat, tempo = clock.line() or (0, 0, 0)
        assert tempo == pytest.approx(after, rel=0.01)
        assert seconds + (11 - beat) * 60 / tempo == pytest.approx(end, abs=0.006)


def test_start_and_song_position_number_the_next_clock() -> None:
    clock = ClockIn()
    at = send(clock, 120, 2)
    assert not clock.running
    clock.start()
    at = send(clock, 120, 1, at)
    assert (clock.line() or (0, 0, 0))[1] == pytest.approx(23 / 24)
    clock.position(32)
    clock.go_on()
    send(clock, 120, 1, at)
    seconds, beat, _ = clock.line() or (0, 0, 0)
    assert beat == pytest.approx(8 + 23 / 24)
    assert seconds == pytest.approx(at + 23 / 48, abs=0.005)
    clock.stop()
    assert not clock.running


def test_a_clock_that_was_gone_begins_anew() -> None:
    clock = ClockIn()
    assert clock.line() is None
    assert clock.lost(0.0)
    at = send(clock, 120, 1)
    assert not clock.lost(at)
    assert clock.lost(at + 1)
    send(clock, 90, 1, at + 10)
    assert (clock.line() or (0, 0, 0))[2] == pytest.approx(90, abs=0.5)


@pytest.mark.parametrize("interval", [0.0, 1e-9, 1e-6, 0.0005])
def test_clocks_that_come_all_at_once_are_no_tempo(interval: float) -> None:
    clock = ClockIn()
    for number in range(900):
        clock.clock(100.0 + number * interval)
        assert clock.line() is None
    send(clock, 120, 8, 101.0)
    assert (clock.line() or (0, 0, 0))[2] == pytest.approx(120, abs=0.5)


def test_whatever_comes_its_line_is_one_that_music_can_have() -> None:
    draw = random.Random(SEED)
    for _ in range(300):
        clock, at = ClockIn(), 100.0
        mean = draw.choice([1e-6, 0.001, 0.02, 0.1])
        for _ in range(40):
            at += draw.choice([0.0, 0.0, draw.expovariate(1 / mean), 0.6])
            draw.choice([clock.start, clock.stop, clock.go_on] + [lambda: clock.clock(at)] * 20)()  # noqa: B023
            clock.position(draw.randrange(1 << 14)) if draw.random() < 0.02 else None
            line = clock.line()
            assert line is None or 3.9 < line[2] < 1_001
