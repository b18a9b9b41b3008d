"""Laws that every effect keeps, and the number that follows its target without a corner."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from bridge.audio.catalogue import BUILT_IN
from bridge.audio.chain import EFFECTS
from bridge.audio.effect import Effect, ParameterChange, Pcm, Smoothed, processed_in_pieces

ALL = [*EFFECTS, *BUILT_IN.values()]
UNTOUCHED = [*EFFECTS, BUILT_IN["equalizer"], BUILT_IN["tilt"], BUILT_IN["compressor"]]  # until they are turned
RATE_HZ = 48_000
LENGTH = 30_000


def loud() -> Pcm:
    noise = np.random.default_rng(4).standard_normal(LENGTH)
    return np.stack([(0.9 * np.clip(noise, -3, 3) / 3).astype(np.float32)] * 2)


def turned(effect: Effect) -> list[ParameterChange]:
    """Every parameter at both ends of its range, at odd samples."""
    changes = []
    for number, (name, spec) in enumerate(effect.parameters.items()):
        if spec.choices:
            ends = (spec.choices[-1], spec.choices[0], spec.choices[-1])
        else:
            low, high = spec.limits
            ends = (high, low, spec.default) if spec.type != "bool" else (True, False, True)
        changes += [ParameterChange(1_001 + 7_777 * turn + 13 * number, name, value) for turn, value in enumerate(ends)]
    return sorted(changes, key=lambda change: change.at_sample)


def run(make: Callable[[], Effect], sizes: list[int], start: int = 0) -> Pcm:
    effect, samples, out, at = make(), loud(), [], 0
    effect.prepare(RATE_HZ, 1, LENGTH)
    waiting = [ParameterChange(start + change.at_sample, change.name, change.value) for change in turned(effect)]
    while at < LENGTH:
        size = sizes[len(out) % len(sizes)]
        block = samples[:, at : at + size]
        due = [change for change in waiting if change.at_sample < start + at + block.shape[1]]
        waiting = waiting[len(due) :]
        out.append(effect.process(block, start + at, due))
        at += block.shape[1]
    return np.concatenate(out, axis=1)


@pytest.mark.parametrize("make", ALL)
@pytest.mark.parametrize(
    "sizes", [[1_920], [1, 4_096, 7], [641], [64, 0, 3_000], [128], pytest.param([2, 3, 5], marks=pytest.mark.slow)]
)
def test_any_chunking_gives_the_same_audio_and_changes_are_exact(make: Callable[[], Effect], sizes: list[int]) -> None:
    whole = run(make, [LENGTH])
    assert whole.shape == (2, LENGTH)
    assert whole.dtype == np.float32
    np.testing.assert_allclose(run(make, sizes), whole, rtol=2e-6, atol=1e-6)
    np.testing.assert_allclose(run(make, sizes, start=123_456_789), whole, rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("make", ALL)
def test_reset_is_new_and_the_block_is_not_written_to(make: Callable[[], Effect]) -> None:
    used, fresh, samples = make(), make(), loud()
    for effect in (used, fresh):
        effect.prepare(RATE_HZ, 1, LENGTH)
    before = samples.copy()
    used.process(samples, 0, ())
    used.reset()
    np.testing.assert_array_equal(used.process(samples, 0, ()), fresh.process(samples, 0, ()))
    np.testing.assert_array_equal(samples, before)


@pytest.mark.parametrize("make", UNTOUCHED)
def test_at_rest_quiet_audio_passes_as_it_is(make: Callable[[], Effect]) -> None:
    effect, quiet = make(), (0.05 * loud()).astype(np.float32)
    effect.prepare(RATE_HZ, 1, LENGTH)
    out, late = effect.process(quiet, 0, ()), effect.latency_samples
    np.testing.assert_array_equal(out[:, late:], quiet[:, : LENGTH - late])
    assert not out[:, :late].any()


def test_a_block_is_cut_at_its_changes() -> None:
    told: list[object] = []
    changes = [
        ParameterChange(90, "a", 1),
        ParameterChange(105, "a", 2),
        ParameterChange(105, "b", 3),
        ParameterChange(110, "a", 4),
    ]
    block = np.arange(40, dtype=np.float32).reshape(2, 20)

    def process(piece: Pcm) -> Pcm:
        told.append(piece.shape[1])
        return piece

    out = processed_in_pieces(block, 100, changes, lambda change: told.append(change.value), process)
    assert told == [1, 5, 2, 3, 5, 4, 10]
    np.testing.assert_array_equal(out, block)


def test_a_knob_turned_while_it_moves_never_jumps() -> None:
    rng, level = np.random.default_rng(5), Smoothed(1.0, 96.0)
    values = []
    for _ in range(400):
        level.aim(float(rng.choice([0.0, 0.5, 1.0])))
        values.append(np.broadcast_to(level.next(20), 20))
    path = np.concatenate([np.ones(1), *values])
    assert np.abs(np.diff(path)).max() < 0.01
    assert np.abs(np.diff(path, 2)).max() < 3e-4, "no corner: the speed goes on where it was"
    assert path.min() > -0.2
    assert path.max() < 1.2


def test_a_step_is_99_percent_done_after_20_ms() -> None:
    level = Smoothed.at(0.0, RATE_HZ)
    level.aim(1.0)
    path = np.asarray(level.next(RATE_HZ // 10))
    assert path[RATE_HZ // 50] == pytest.approx(0.99, abs=0.001)
    assert path.max() <= 1.0
    assert path[0] < 0.001
    level.aim(0.3)
    level.settle()
    assert level.next(5) == 0.3
