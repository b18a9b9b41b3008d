"""Numbers that users may set: one range each, checked in one place. Every door (Python, CLI, network) reads this table.

Rules: no torch, no audio; imports nothing of this package but its errors. Units are in the names.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Real

from streamgen.errors import ConfigError

__all__ = [
    "DEFAULT_CONTEXT_SECONDS",
    "DEVICES",
    "PRECISIONS",
    "RANGES",
    "REWIND_SECONDS",
    "THREADS",
    "Range",
    "check",
]

DEFAULT_CONTEXT_SECONDS = 12.0
PRECISIONS = ("auto", "fp32", "bf16", "fp16", "int8")
DEVICES = ("auto", "cpu", "cuda")


@dataclass(frozen=True)
class Range:
    """What a number may be.

    Attributes:
        low, high: limits, both allowed.
        default: value where neither user nor checkpoint says one.
        unit: of the number, "" for none.
        description: one line for users.
        whole: True for integers.
    """

    low: float
    high: float
    default: float
    unit: str
    description: str
    whole: bool = False

    def check(self, name: str, value: object) -> float:
        """Return the number, or say what is wrong with it.

        Raises:
            ConfigError: not a finite number within the limits, or a fraction where a whole number is due.
        """
        number = _as_float(value)
        if not self.low <= number <= self.high:  # NaN fails it
            raise ConfigError(f"{name} is {value!r}, must be within {self.low:g} … {self.high:g}{self._unit()}")
        if self.whole and number != int(number):
            raise ConfigError(f"{name} is {value!r}, must be a whole number")
        return int(number) if self.whole else number

    def _unit(self) -> str:
        return f" {self.unit}" if self.unit else ""


def _as_float(value: object) -> float:
    """Return a number as float; NaN, which no range holds, for what is none or too large for one."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.nan


RANGES: dict[str, Range] = {
    "guidance_scale": Range(0.0, 20.0, 3.0, "", "how closely the prompt is followed; 1 is the model unguided"),
    "temperature": Range(0.0, 5.0, 1.0, "", "how adventurous the draws are; 0 is greedy"),
    "top_k": Range(0, 100_000, 250, "codes", "draw among the k most likely codes; 0 is all", whole=True),
    "top_p": Range(0.0, 1.0, 0.0, "", "draw among the likeliest codes of this total probability; 0 is all"),
    "seed": Range(0, 2**31 - 1, 0, "", "same seed, same music", whole=True),
    "glide_seconds": Range(0.0, 60.0, 0.0, "s", "how long a change of prompts fades"),
    "context_seconds": Range(0.02, 30.0, DEFAULT_CONTEXT_SECONDS, "s", "how much music survives into the next window"),
    "context_start_seconds": Range(0.0, 30.0, 0.0, "s", "position at which the next window reads its context"),
    "change_context_seconds": Range(
        0.0, 30.0, 30.0, "s", "how much music survives when another prompt takes the lead; 0 begins anew, 30 keeps all"
    ),
}


# Fixed when a stream is opened, so it is none of the above. Cached windows are kept that long after a rollover.
REWIND_SECONDS = Range(0.0, 14.0, 0.0, "s", "how far back a stream can rewind")
THREADS = Range(1, 1_024, 1, "", "how many threads torch computes on", whole=True)


def check(name: str, value: object) -> float:
    """Check a number against its range.

    Raises:
        ConfigError: unknown name, or outside its range.
    """
    if name not in RANGES:
        raise ConfigError(f"there is no parameter {name!r}; there are {', '.join(RANGES)}")
    return RANGES[name].check(name, value)
