"""What an effect is: audio in, as much audio out, changed by parameters at their samples.

    prepare ─► process ─► process ─► … ─► reset ─► process …

Positions are the music's: sample p of a block is the music of position p, whatever the effects before it hold back.

Rules: numpy only, no I/O, no thread; any chunking of the same audio gives the same output (a law that tests hold every
effect to). A new effect is one class here or beside, and one line in `chain.EFFECTS`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from streamgen.config import ControlSpec, Value

__all__ = ["SMOOTHING_SECONDS", "Effect", "ParameterChange", "Pcm", "Smoothed", "processed_in_pieces"]

Pcm = NDArray[np.float32]

SMOOTHING_SECONDS = 0.02
"""A step of a smoothed parameter is 99 % done after this."""

_STEP_CONSTANTS = 6.64  # time constants until a critically damped step is 99 % done
_SETTLED_CONSTANTS = 40  # … until what is left is below 1e-15


@dataclass(frozen=True)
class ParameterChange:
    """A parameter's value, in force from a sample of the music on.

    Attributes:
        at_sample, name, value: as above.
        glides: whether it is a step of a glide, which whatever is set next ends.
        glide_samples: over which it goes there, of a change whose sample has not come.
        glide_from: from where; None is from where the parameter will be then.
    """

    at_sample: int
    name: str
    value: Value
    glides: bool = False
    glide_samples: int = 0
    glide_from: float | None = None


class Effect(Protocol):
    """One stage of a session's signal path.

    Attributes:
        parameters: what it can be told, by name; names are unique in a chain.
        latency_samples: how much later audio comes out; constant once prepared, but for the rack's.
    """

    @property
    def parameters(self) -> Mapping[str, ControlSpec]: ...  # noqa: D102 - see above

    @property
    def latency_samples(self) -> int: ...  # noqa: D102 - see above

    def prepare(self, rate_hz: int, channels: int, max_block: int) -> None:
        """Make ready to process.

        Args:
            rate_hz: samples a second.
            channels: of the source: 1 if both rows of every block are the same.
            max_block: the longest block that will come, in samples.
        """
        ...

    def process(self, block: Pcm, start_sample: int, changes: Sequence[ParameterChange]) -> Pcm:
        """Take the next block and give as much.

        Args:
            block: float32 [2, n]; not to be written to.
            start_sample: position of its first sample.
            changes: of this effect's parameters, in order, each within the block or due at its first sample.

        Returns:
            float32 [2, n], `latency_samples` late.
        """
        ...

    def reset(self) -> None:
        """Forget the audio so far; parameters stay as they are, and settle at once."""
        ...


def processed_in_pieces(
    block: Pcm,
    start_sample: int,
    changes: Sequence[ParameterChange],
    aim: Callable[[ParameterChange], None],
    run: Callable[[Pcm], Pcm],
) -> Pcm:
    """Process a block that is cut at its changes, so that each is exact to the sample."""
    if not changes:
        return run(block)
    pieces = list(_pieces(block, start_sample, changes, aim, run))
    return pieces[0] if len(pieces) == 1 else np.concatenate(pieces, axis=1)


def _pieces(
    block: Pcm,
    start_sample: int,
    changes: Sequence[ParameterChange],
    aim: Callable[[ParameterChange], None],
    run: Callable[[Pcm], Pcm],
) -> Iterator[Pcm]:
    done = 0
    for change in changes:
        cut = max(change.at_sample - start_sample, done)
        if cut > done:
            yield run(block[:, done:cut])
        aim(change)
        done = cut
    yield run(block[:, done:])


@dataclass
class Smoothed:
    """A number that follows its target without a corner: critically damped, in closed form, so exact in any chunking.

    Attributes:
        target: where it goes.
        time_constant_samples: of the damping; see `SMOOTHING_SECONDS`.
        offset, slope: distance from the target and its growth a sample, scaled by the decay, when it was set.
        age_samples: samples since then.
    """

    target: float
    time_constant_samples: float = 1.0
    offset: float = 0.0
    slope: float = 0.0
    age_samples: int = 0

    @classmethod
    def at(cls, target: float, rate_hz: int) -> Smoothed:
        """Begin at a value."""
        return cls(target, SMOOTHING_SECONDS * rate_hz / _STEP_CONSTANTS)

    def aim(self, target: float) -> None:
        """Go to another target, from here and with the speed of now."""
        if target == self.target:
            return
        age, rate = self.age_samples, 1.0 / self.time_constant_samples
        decay = math.exp(-age * rate)
        distance = (self.offset + self.slope * age) * decay
        speed = self.slope * decay - rate * distance
        offset = self.target + distance - target
        self.target, self.offset, self.slope, self.age_samples = target, offset, speed + rate * offset, 0

    def settle(self) -> None:
        """Be there."""
        self.offset = self.slope = 0.0

    def next(self, count: int) -> float | NDArray[np.float64]:
        """Give the next samples' values: one number once it has arrived."""
        settled = _SETTLED_CONSTANTS * self.time_constant_samples
        if self.age_samples >= settled or not (self.offset or self.slope):
            return self.target
        age = np.arange(self.age_samples + 1, self.age_samples + count + 1)
        self.age_samples += count
        distance = (self.offset + self.slope * age) * np.exp(-age / self.time_constant_samples)
        return np.where(age < settled, self.target + distance, self.target)

    def scaled(self, piece: Pcm) -> Pcm:
        """Give the next samples of a piece times this; where it has arrived at 1, the piece itself."""
        factor = self.next(piece.shape[1])
        return piece if isinstance(factor, float) and factor == 1.0 else piece * np.asarray(factor, np.float32)
