"""Filters without a loop against the loop; what turns leaves no zipper noise."""

from __future__ import annotations

import numpy as np
import pytest

from bridge.audio.filters import (
    FLAT,
    Sections,
    TurningFilter,
    bell,
    first_order,
    high_pass,
    high_shelf,
    low_shelf,
    tilt,
)

RATE_HZ = 48_000
CASCADE = np.array([high_pass(80, RATE_HZ), bell(1_000, 9, 3, RATE_HZ), high_shelf(6_000, -12, RATE_HZ)])


def slow(coefficients: np.ndarray, samples: np.ndarray) -> np.ndarray:
    for b0, b1, b2, a1, a2 in coefficients:
        out = np.zeros_like(samples)
        for at in range(samples.shape[1]):
            x1, x2 = (samples[:, at - back] if at >= back else 0 for back in (1, 2))
            y1, y2 = (out[:, at - back] if at >= back else 0 for back in (1, 2))
            out[:, at] = b0 * samples[:, at] + b1 * x1 + b2 * x2 - a1 * y1 - a2 * y2
        samples = out
    return samples


def response_db(coefficients: np.ndarray, hz: float) -> float:
    z = np.exp(-2j * np.pi * hz / RATE_HZ)
    gains = [(b0 + b1 * z + b2 * z * z) / (1 + a1 * z + a2 * z * z) for b0, b1, b2, a1, a2 in coefficients]
    return float(20 * np.log10(abs(np.prod(gains))))


@pytest.mark.parametrize("sizes", [[1_000], [128], [127], [1, 300, 2], [129, 0]])
def test_fast_is_the_slow_loop_in_any_chunking(sizes: list[int]) -> None:
    samples = np.random.default_rng(1).standard_normal((2, 1_000))
    sections, at, out = Sections(CASCADE, 2), 0, []
    while at < 1_000:
        size = sizes[len(out) % len(sizes)]
        out.append(sections.process(samples[:, at : at + size]))
        at += size
    np.testing.assert_allclose(np.concatenate(out, axis=1), slow(CASCADE, samples), atol=1e-10)


def test_a_filter_for_sub_bass_rings_on_exactly() -> None:
    coefficients, samples = np.array([high_pass(10, RATE_HZ)] * 2), np.zeros((1, 48_000))
    samples[0, 0] = 1.0
    np.testing.assert_allclose(
        Sections(coefficients, 1).process(samples)[:, :6_000], slow(coefficients, samples[:, :6_000]), atol=1e-9
    )


@pytest.mark.parametrize(
    ("section", "hz", "gain_db"),
    [
        (high_pass(100, RATE_HZ), 100, -3.01),
        (high_pass(100, RATE_HZ), 25, -24.1),
        (bell(1_000, 6, 2, RATE_HZ), 1_000, 6),
        (bell(1_000, 6, 2, RATE_HZ), 20, 0),
        (low_shelf(200, -9, RATE_HZ), 10, -9),
        (high_shelf(4_000, 9, RATE_HZ), 22_000, 9),
        (tilt(700, 4, RATE_HZ), 700, 0),
        (tilt(700, 4, RATE_HZ), 10, -4),
        (tilt(700, 4, RATE_HZ), 23_000, 4),
        (first_order(0.01, RATE_HZ), 15.9, -3.01),
    ],
)
def test_designs_do_what_they_say(section: list[float], hz: float, gain_db: float) -> None:
    assert response_db(np.array([section]), hz) == pytest.approx(gain_db, abs=0.05)


def test_nothing_lifted_is_nothing_done() -> None:
    for section in (
        bell(1_000, 0, 1, RATE_HZ),
        low_shelf(100, 0, RATE_HZ),
        high_shelf(1_000, 0, RATE_HZ),
        tilt(700, 0, RATE_HZ),
    ):
        assert section == FLAT
    samples = np.random.default_rng(1).standard_normal((2, 500))
    np.testing.assert_array_equal(Sections(np.array([FLAT] * 3), 2).process(samples), samples)


def test_what_is_turned_from_flat_goes_on_where_it_was() -> None:
    """A flat filter must know the newest samples too, or the one that follows starts from silence."""
    filter_ = TurningFilter(
        lambda values: np.array([low_shelf(200, float(values["db"]), RATE_HZ)]), {"db": 0.0}, RATE_HZ
    )
    steady = np.full((2, 9_600), 0.5, np.float32)
    filter_.process(steady)
    filter_.aim("db", 6.0)
    out = filter_.process(steady)
    assert np.abs(np.diff(out)).max() < 0.002
    np.testing.assert_allclose(out[:, -10:], 0.5 * 10 ** (6 / 20), rtol=1e-3)


def test_a_knob_in_motion_is_followed_to_its_end() -> None:
    filter_ = TurningFilter(
        lambda values: np.array([bell(1_000, float(values["db"]), 1, RATE_HZ)]), {"db": 0.0}, RATE_HZ
    )
    samples = np.random.default_rng(1).standard_normal((2, 48_000)).astype(np.float32)
    for turn in range(100):
        filter_.aim("db", turn / 10)
        filter_.process(samples[:, :100])
    filter_.process(samples)
    assert filter_._old is None
    np.testing.assert_allclose(filter_._now.coefficients, [bell(1_000, 9.9, 1, RATE_HZ)])
