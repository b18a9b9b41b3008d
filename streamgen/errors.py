"""The error tree. A caller's mistake raises one of these; the text says what, the value, the limit and the remedy.

    StreamgenError
    ├── CheckpointError   a checkpoint is missing, damaged, of another architecture, or needs a codec we cannot stream
    ├── ConfigError       a number or name outside its range
    ├── PromptError       a text, audio or melody prompt that cannot be used
    ├── CapacityError     no room for another session or row
    ├── NumericError      the model's results are no numbers: a precision too narrow, or damaged weights
    └── SessionClosed     the stream was closed

An impossible internal state is an `assert cond, value`; late audio is a counter, never an exception.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

__all__ = [
    "CapacityError",
    "CheckpointError",
    "ConfigError",
    "NumericError",
    "PromptError",
    "SessionClosed",
    "StreamgenError",
    "one_line",
    "quoted",
]

_STEERING = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]+")


def quoted(value: object, most: int = 100) -> str:
    """Return a value as an error quotes it: its beginning, where it is long; a line shall stay one."""
    words = repr(value)
    return words if len(words) <= most else words[: most - 1] + "…"


def one_line(words: object, most: int = 200) -> str:
    """Return words that came from elsewhere as one line, not longer than `most`, that steers no terminal."""
    line = " ".join(_STEERING.sub(" ", str(words)[: 4 * most]).split())
    return line if len(line) <= most else line[: most - 1] + "…"


class StreamgenError(Exception):
    """Base of every error this package raises on purpose."""


class CheckpointError(StreamgenError):
    """A checkpoint cannot be loaded: says what was found, what is needed, what to do."""


_MOST_NAMED = 100  # in one line; plugins may have hundreds of parameters


class ConfigError(StreamgenError, ValueError):
    """A parameter is outside its range: says its name, the value and the limit."""

    @classmethod
    def unknown(cls, kind: str, name: object, known: Iterable[str]) -> ConfigError:
        """Make the error for a name that does not exist: says which was probably meant, or else all there are.

        Args:
            kind: of thing: "control", "parameter".
            name: what was given.
            known: every name there is.
        """
        names = list(known)
        longer = [known for known in names if known.startswith(str(name))]
        near = longer or difflib.get_close_matches(str(name), names, n=1)
        if near:
            return cls(f"there is no {kind} {name!r}; did you mean {near[0]}?")
        there = f"{len(names)} of them" if len(names) > _MOST_NAMED else ", ".join(names) or "none"
        return cls(f"there is no {kind} {name!r}; there are {there}")


class PromptError(StreamgenError, ValueError):
    """A text, audio or melody prompt cannot be used: says why and what can."""


class CapacityError(StreamgenError):
    """No free slot or row is left: says the limit and what would free one."""


class NumericError(StreamgenError):
    """The model's results are NaN or infinite: says in which precision, and what to load it in."""


class SessionClosed(StreamgenError):
    """The stream was closed; open a new one."""
