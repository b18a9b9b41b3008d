"""Clocks that disagree by up to 200 ppm: held together for an hour, without a click and without a detuned note."""

from __future__ import annotations

import numpy as np
import pytest

from bridge.doors.device.drift import MAX_CORRECTION, TOLERATED_SECONDS, DriftControl, Stretcher

RATE_HZ = 48_000
BLOCK = 4_800


def hour(ppm: float, jitter_seconds: float = 0.0, bias_seconds: float = 0.0, blocks: int = 36_000) -> np.ndarray:
    """True error after each block of 100 ms, in seconds."""
    control, error, errors = DriftControl(), 0.0, np.empty(blocks)
    noise = np.random.default_rng(8).uniform(-jitter_seconds, jitter_seconds, blocks)
    for at in range(blocks):
        drop = control.update(error + noise[at] + bias_seconds, BLOCK)
        assert abs(drop) <= MAX_CORRECTION * BLOCK + 1
        error += (BLOCK * ppm * 1e-6 - drop) / RATE_HZ
        errors[at] = error
    return errors


@pytest.mark.parametrize("ppm", [200.0, -200.0, 50.0])
@pytest.mark.parametrize("jitter_seconds", [0.0, 0.01])
def test_an_hour_of_drift_moves_the_music_by_less_than_10_ms(ppm: float, jitter_seconds: float) -> None:
    errors = hour(ppm, jitter_seconds) * np.sign(ppm)
    noise = 0.0035 if jitter_seconds else 0.0005  # of the first mean, which is what errors are measured from
    assert -noise < errors.min() < errors.max() < TOLERATED_SECONDS + 0.001 + noise
    assert errors[6_000:].mean() < TOLERATED_SECONDS + noise


def test_a_device_that_stood_still_is_seen_as_soon_as_it_runs_again() -> None:
    control, seen = DriftControl(), []
    for late in (*[0.0] * 20, *np.arange(0.04, 1.6, 0.04), *[1.6] * 20):  # it stops; it runs
        control.update(late, BLOCK)
        seen.append(control.stood_still_seconds)
    assert not any(seen[:59])
    assert seen[-1] == pytest.approx(1.6)
    assert np.count_nonzero(seen) > 9


def test_what_is_once_corrected_is_corrected_until_it_is_hardly_there() -> None:
    """A device that stood still for 20 ms, after the first measurements: in half a minute all is untouched again."""
    control, error, drops = DriftControl(), 0.0, []
    for at in range(600):
        error += 0.02 if at == 100 else 0.0
        drops.append(control.update(error, BLOCK))
        error -= drops[-1] / RATE_HZ
    assert not any(drops[:100])
    assert any(drops[100:])
    assert not any(drops[400:])
    assert abs(error) < 0.001


def test_without_drift_nothing_is_ever_touched() -> None:
    assert not hour(0.0, jitter_seconds=0.006, bias_seconds=0.03, blocks=6_000).any()


def test_what_is_placed_too_early_is_played_later_until_the_margin_is_there() -> None:
    control, error = DriftControl(), -0.06
    for _ in range(1_000):
        error -= control.update(error, BLOCK) / RATE_HZ
    assert -0.021 < error < -0.018


def test_a_measurement_that_had_to_wait_counts_for_nothing() -> None:
    control = DriftControl()
    for at in range(200):
        assert control.update(0.9 if at % 5 == 0 else 0.0, BLOCK) == 0
    assert control.error_seconds == 0


def test_at_rest_frames_pass_untouched() -> None:
    frames = np.random.default_rng(9).standard_normal((BLOCK, 2)).astype(np.float32)
    stretcher = Stretcher(2)
    out = np.concatenate([stretcher.process(piece) for piece in np.split(frames, [7, 900, 905])])
    late = Stretcher.LATENCY_FRAMES
    np.testing.assert_array_equal(out[late:], frames[:-late])


@pytest.mark.parametrize("drop", [1, -1, 3])
def test_a_stretched_block_follows_the_sine_it_came_from(drop: int) -> None:
    """The exact value of a 5 kHz sine at the places that are read: no click at either edge, nothing dulled."""
    time = np.arange(3 * BLOCK)
    tone = np.sin(2 * np.pi * 5_000 / RATE_HZ * time)[:, None].astype(np.float32)
    stretcher = Stretcher(1)
    out = [stretcher.process(tone[at : at + BLOCK], drop * (at == BLOCK)) for at in range(0, 3 * BLOCK, BLOCK)]
    assert [len(block) for block in out] == [BLOCK, BLOCK - drop, BLOCK]
    count = BLOCK - drop
    ahead = drop * (0.5 - 0.5 * np.cos(np.pi * np.arange(count) / count))
    places = (
        np.concatenate((time[:BLOCK], BLOCK + np.arange(count) + ahead, time[2 * BLOCK :])) - Stretcher.LATENCY_FRAMES
    )
    expected = np.sin(2 * np.pi * 5_000 / RATE_HZ * places)
    error = np.concatenate(out)[:, 0][20:] - expected[20:]
    assert 10 * np.log10(np.mean(expected**2) / np.mean(error[BLOCK:][:count] ** 2)) > 70
    assert np.abs(error).max() < 2e-3
