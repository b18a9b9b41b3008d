"""One slot by itself: paths of different latency mixed by position, whatever the blocks are."""

from __future__ import annotations

import numpy as np
import pytest

from bridge.audio.effect import ParameterChange, Pcm
from bridge.audio.slot import FADE_SECONDS, Slot

from .test_rack import RATE_HZ, Late, music

FADE = round(FADE_SECONDS * RATE_HZ)
LENGTH = 20_000


def made(latency: int = 0, factor: float = 1.0) -> Late:
    late = Late(latency, factor)
    late.prepare(RATE_HZ, 2, LENGTH)
    return late


def run(slot: Slot, samples: Pcm, sizes: list[int], start: int = 0) -> Pcm:
    out, at, turn = [], 0, 0
    while at < samples.shape[1]:
        block = samples[:, at : at + sizes[turn % len(sizes)]]
        out.append(slot.process(block, start + at))
        at, turn = at + block.shape[1], turn + 1
    return np.concatenate(out, axis=1)


@pytest.mark.parametrize("sizes", [[960], [1, 4_096, 7], [64, 0, 3_000]])
def test_any_chunking_gives_the_same_and_changes_are_exact(sizes: list[int]) -> None:
    def slot() -> Slot:
        one = Slot(made(700, 0.5), RATE_HZ, "late")
        for at, name, value in [
            (3_333, "wet", 0.3),
            (3_400, "gain_db", 6.0),
            (7_001, "input_db", -12.0),
            (9_999, "bypass", True),
        ]:
            one.tell(ParameterChange(at, name, value))
        return one

    samples = music(LENGTH)
    whole, pieces = run(slot(), samples, [LENGTH]), run(slot(), samples, sizes)
    assert whole.shape[1] == pieces.shape[1] == LENGTH - 700 - 480
    np.testing.assert_allclose(pieces, whole, atol=1e-6)


@pytest.mark.parametrize(("old", "new"), [(0, 2_000), (2_000, 0), (500, 500)])
def test_another_effect_takes_over_at_the_next_sample_and_fades(old: int, new: int) -> None:
    slot, samples = Slot(made(old, 0.5), RATE_HZ, "old"), music(LENGTH)
    first = run(slot, samples[:, :9_600], [960])
    slot.replace(made(new, 0.25), "new")
    out = np.concatenate((first, run(slot, samples[:, 9_600:], [960], start=9_600)), axis=1)
    assert (slot.name, slot.latency_samples) == ("new", new + 480)
    assert out.shape[1] == LENGTH - new - 480
    np.testing.assert_allclose(out[:, :9_600], 0.5 * samples[:, :9_600], atol=1e-6)
    after = slice(9_600 + FADE, out.shape[1])
    np.testing.assert_allclose(out[:, after], 0.25 * samples[:, after], atol=1e-6)
    ratio = out[0, 9_600 : 9_600 + FADE] / samples[0, 9_600 : 9_600 + FADE]
    assert np.all((ratio > 0.2499) & (ratio < 0.5001))


def test_of_two_that_come_at_once_the_later_plays_and_the_other_is_closed() -> None:
    first, second, third = (made(factor=factor) for factor in (1.0, 0.5, 0.25))
    slot = Slot(first, RATE_HZ, "first")
    run(slot, music(960), [960])
    slot.replace(second, "second")
    slot.replace(third, "third")
    run(slot, music(LENGTH), [960], start=960)
    assert [late.closed for late in (first, second, third)] == [True, True, False]


def test_what_leaves_ends_as_its_input() -> None:
    slot, samples = Slot(made(1_000, 0.5), RATE_HZ, "late"), music(LENGTH)
    first = run(slot, samples[:, :9_600], [960])
    slot.leave()
    assert not slot.left
    out = np.concatenate((first, run(slot, samples[:, 9_600:], [960], start=9_600)), axis=1)
    assert slot.left
    assert out.shape[1] == LENGTH, "nothing is held back any more"
    faded = first.shape[1] + FADE
    np.testing.assert_array_equal(out[:, faded:], samples[:, faded:])


def test_one_that_fails_while_it_takes_over_leaves_the_input() -> None:
    old, new = made(100, 0.5), made(2_000, 0.25)
    slot, samples = Slot(old, RATE_HZ, "old"), music(LENGTH)
    first = run(slot, samples[:, :4_800], [960])
    slot.replace(new, "new")
    second = run(slot, samples[:, 4_800:5_760], [960], start=4_800)
    new.ill = True
    out = np.concatenate((first, second, run(slot, samples[:, 5_760:], [960], start=5_760)), axis=1)
    assert (slot.failed, slot.faults, old.closed) == (True, ["it is ill"], True)
    assert out.shape[1] == LENGTH
    np.testing.assert_allclose(out[:, -9_600:], samples[:, -9_600:], atol=1e-6)
    ratio = out[0] / np.where(np.abs(samples[0]) > 0.01, samples[0], np.nan)
    assert np.nanmin(ratio) > 0.2499
