"""The ring against a plain list, at its edges, and with two threads."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from numpy.typing import NDArray

from bridge.audio.ring import FADE_FRAMES, Ring


def read(ring: Ring, frames: int, channels: int = 2) -> NDArray[np.float32]:
    out = np.full((frames, channels), np.nan, np.float32)
    ring.read_into(out)
    return out


def ramp(start: int, stop: int) -> NDArray[np.float32]:
    return np.stack([np.arange(start, stop), -np.arange(start, stop)], axis=1).astype(np.float32)


def test_what_is_written_is_read_in_order_over_many_turns_of_the_ring() -> None:
    draw = np.random.default_rng(0)
    ring, written, got = Ring(100, 2), 0, 0
    for _ in range(2_000):
        written += ring.write(ramp(written, written + int(draw.integers(0, 70))))
        count = int(draw.integers(0, ring.filled_frames + 1))
        np.testing.assert_array_equal(read(ring, count), ramp(got, got + count))
        got += count
        assert ring.filled_frames == written - got
        assert ring.room_frames == 100 - (written - got)
    assert got > 20_000
    assert ring.starvations == 0


def test_a_full_ring_takes_only_what_fits() -> None:
    ring = Ring(10, 2)
    assert ring.write(ramp(0, 25)) == 10
    assert ring.write(ramp(25, 26)) == 0


def test_running_empty_sinks_to_silence_without_a_click_and_is_counted() -> None:
    ring = Ring(1_000, 1, resume_frames=500)
    ring.write(np.full((300, 1), 0.8, np.float32))
    out = np.concatenate([read(ring, 64, 1) for _ in range(16)])
    np.testing.assert_array_equal(out[:300], np.float32(0.8))
    assert np.abs(np.diff(out[:, 0])).max() <= 0.8 / FADE_FRAMES * 1.001
    np.testing.assert_array_equal(out[300 + FADE_FRAMES :], 0.0)
    assert ring.starvations == 1
    assert ring.starved_frames == 16 * 64 - 300


def test_after_a_gap_it_waits_for_enough_and_rises_without_a_click() -> None:
    ring = Ring(2_000, 1, resume_frames=500)
    ring.write(np.ones((10, 1), np.float32))
    read(ring, 400, 1)
    ring.write(np.ones((499, 1), np.float32))
    np.testing.assert_array_equal(read(ring, 100, 1), 0.0)
    ring.write(np.ones((1_001, 1), np.float32))
    out = np.concatenate([read(ring, 100, 1) for _ in range(6)])[:, 0]
    assert out[0] == 0.0
    assert np.abs(np.diff(out)).max() <= 1.001 / FADE_FRAMES
    np.testing.assert_array_equal(out[FADE_FRAMES:], 1.0)
    assert ring.starvations == 1


def test_a_second_gap_counts_again() -> None:
    ring = Ring(100, 1)
    for _ in range(3):
        ring.write(np.ones((50, 1), np.float32))
        read(ring, 60, 1)
    assert ring.starvations == 3
    assert ring.starved_frames == 30


def test_the_end_is_no_starvation_and_the_rest_is_played() -> None:
    ring = Ring(1_000, 2, resume_frames=1_000)
    ring.write(ramp(1, 31))
    ring.end()
    out = read(ring, 600)
    np.testing.assert_array_equal(out[:30], ramp(1, 31))
    np.testing.assert_array_equal(out[-1], 0.0)
    assert not ring.filled_frames
    assert (ring.starvations, ring.starved_frames) == (0, 0)


def test_the_end_during_a_gap_lets_the_rest_out() -> None:
    ring = Ring(1_000, 1, resume_frames=900)
    read(ring, 400, 1)
    ring.write(np.ones((300, 1), np.float32))
    ring.end()
    assert read(ring, 300, 1)[-1] == 1.0


def test_two_threads_lose_and_repeat_nothing() -> None:
    ring, total = Ring(512, 2), 50_000

    def write() -> None:
        done = 0
        while done < total:
            done += ring.write(ramp(done, min(total, done + 100)))
            time.sleep(0)  # let the other thread run

    writer = threading.Thread(target=write)
    writer.start()
    got = 0
    while got < total:
        count = min(ring.filled_frames, 64)
        np.testing.assert_array_equal(read(ring, count), ramp(got, got + count))
        got += count
        time.sleep(0)
    writer.join()
    assert ring.starvations == 0


def test_resuming_later_than_full_is_impossible() -> None:
    with pytest.raises(AssertionError, match="11"):
        Ring(10, 1, resume_frames=11)
