from __future__ import annotations

import random

import pytest

from bridge.doors.midi.clock import CLOCKS_A_BEAT, ClockIn


def send(clock: ClockIn, bpm: float, beats: float, at: float = 5.0, seed: int = 0, jitter: float = 0.002) -> float:
    """Send clocks, each up to some milliseconds early or late; returns when the next would come."""
    rng, pace = random.Random(seed), 60 / bpm / CLOCKS_A_BEAT
    for number in range(round(beats * CLOCKS_A_BEAT)):
        clock.clock(at + number * pace + rng.uniform(-jitter, jitter))
    return at + round(beats * CLOCKS_A_BEAT) * pace


def told(bpm: float, beats: int, clocks: int = 30) -> list[tuple[float, float]]:
    """By how much tempo (bpm) and the next beat (seconds) are off after some beats, of so many clocks."""
    off = []
    for seed in range(clocks):
        clock = ClockIn()
        clock.start()
        end = send(clock, bpm, beats, seed=seed)
        seconds, beat, tempo = clock.line() or (0, 0, 0)
        off.append((abs(tempo - bpm), abs(seconds + (beats - beat) * 60 / tempo - end)))
    return off


@pytest.mark.parametrize("bpm", [60, 100, 120, 140, 180, 240])
def test_clocks_with_two_milliseconds_of_jitter_tell_tempo_and_phase(bpm: float) -> None:
    assert max(phase for _, phase in told(bpm, 4)) < 0.005
    assert max(tempo for tempo, _ in told(bpm, 4 if bpm <= 140 else 8)) < 0.1
    assert max(tempo for tempo, _ in told(bpm, 32, 5)) < 0.01, "the longer, the surer"


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
