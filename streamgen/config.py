"""THE table of what a musician sets: name, type, range, default, unit, one line. Everything else is generated from it.

    ControlValues (the types)  ─►  CONTROLS (the rows)  ─►  Python's keywords, CLI, WebSocket, OSC, OSCQuery, page, docs

A control is one annotated line of these TypedDicts: a type checker reads its type, the program its `ControlSpec`. Who
sets controls takes one of the three, each with the names of the one before:

    ClipValues ─ Model.generate      + prompts, seed ─► StreamValues ─ Model.open_stream      + prompt ─► ControlValues

Limits that prompts share with the doors (length of a text, number of prompts) stand here too.

Rules: no torch, no audio; imports nothing of this package but its errors. Units are in the names.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from numbers import Real
from typing import Annotated, Any, TypedDict, get_type_hints

from streamgen.errors import ConfigError, PromptError, quoted

__all__ = [
    "BEGIN_ANEW",
    "CONTROLS",
    "DEVICES",
    "MAX_PROMPTS",
    "MAX_TEXT",
    "PRECISIONS",
    "REWIND_SECONDS",
    "THREADS",
    "ClipValues",
    "ControlSpec",
    "ControlValues",
    "StreamValues",
    "Value",
    "checked",
    "number",
    "switch",
    "text",
]

MAX_TEXT = 2_000  # characters of one prompt
_CLAMPED = 0.001  # of a controller's travel past its ends
MAX_PROMPTS = 8  # sounding together
BEGIN_ANEW = frozenset({"prompt", "prompts", "take"})  # controls with which other music begins
PRECISIONS = ("auto", "fp32", "bf16", "fp16", "int8", "int6", "mixed", "int4")
DEVICES = ("auto", "cpu", "cuda")

Value = str | float | int | bool


@dataclass(frozen=True)
class ControlSpec:
    """One row of the table. Make one with `number`, `switch` or `text`.

    Attributes:
        type: "float", "int", "bool" or "string".
        low, high: limits, both allowed; 0 and 1 for a bool, None for a string.
        default: value where neither user nor checkpoint says one.
        unit: of the number, "" for none.
        description: one line for users.
        choices: the only texts that are allowed; empty allows all.
        name: at every door; set by the table it stands in.
        supported: whether the checkpoint was made for more than the default; pages hide it if not.
        suggestions: values that the checkpoint was made for, for who does not know what to write; others are allowed.
    """

    type: str
    low: float | None
    high: float | None
    default: Value
    unit: str
    description: str
    choices: tuple[str, ...] = ()
    name: str = ""
    supported: bool = True
    suggestions: tuple[Value, ...] = ()

    def check(self, value: object) -> Value:
        """Return the value in the row's type; whole numbers may come as floats, switches as 0 and 1.

        Raises:
            ConfigError: a wrong type, a number outside the limits, a fraction where a whole number is due.
            PromptError: a text that is too long.
        """
        if self.type == "string":
            return self._check_text(value)
        if self.type == "bool":
            return self._check_switch(value)
        return self.check_number(value)

    def check_number(self, value: object) -> float:
        """Return the number, or say what is wrong with it; see `check`.

        Raises:
            ConfigError: not a finite number within the limits, or a fraction where a whole number is due.
        """
        found, (low, high) = _as_float(value), self.limits
        if not low <= found <= high:  # NaN fails it
            if isinstance(value, str):
                raise ConfigError(f"{self.name} is the text {value!r:.60}, must be a number within {self.in_words}")
            raise ConfigError(f"{self.name} is {quoted(value)}, must be within {self.in_words}")
        if self.type != "int":
            return found
        if found != int(found):
            raise ConfigError(f"{self.name} is {quoted(value)}, must be a whole number")
        return int(found)

    def _check_text(self, value: object) -> str:
        if not isinstance(value, str):
            raise ConfigError(f"{self.name} is {quoted(value)}, must be a text")
        if len(value) > MAX_TEXT:
            raise PromptError(f"{self.name} has {len(value):,} characters, the limit is {MAX_TEXT:,}: shorten it")
        if self.choices and value not in self.choices:
            raise ConfigError(f"{self.name} is {quoted(value)}, must be one of {', '.join(self.choices)}")
        return value

    def _check_switch(self, value: object) -> bool:
        if isinstance(value, bool | int | float) and value in (0, 1):
            return bool(value)
        raise ConfigError(f"{self.name} is {quoted(value)}, must be true or false (1 or 0)")

    def read(self, value: object) -> Value:
        """Return the value of a controller, which may know nothing but floats, or nothing but texts.

        A number written as text is read, a fraction is rounded where a whole number is due, and a switch is on from
        the middle of 0 … 1.

        Raises:
            ConfigError, PromptError: as `check`.
        """
        if isinstance(value, str) and self.type != "string":
            return self._read_words(value)
        if self.type == "int" and math.isfinite(found := _as_float(value)):
            return self.check(round(found))
        if self.type == "bool" and 0 <= _as_float(value) <= 1:
            return _as_float(value) >= 0.5
        return self.check(value)

    def _read_words(self, words: str) -> Value:
        try:
            return self.read(float(words))
        except ValueError:  # a ConfigError is one too
            return self.parse(words.strip())

    def parse(self, words: str) -> Value:
        """Read a value that people type.

        Raises:
            ConfigError, PromptError: as `check`.
        """
        if self.type == "string":
            return self._check_text(words)
        if self.type == "bool":
            return self._check_switch(
                {"true": 1, "on": 1, "1": 1, "false": 0, "off": 0, "0": 0}.get(words.lower(), words)
            )
        try:
            found = int(words) if self.type == "int" else float(words)
        except ValueError:
            kind = "whole number" if self.type == "int" else "number"
            raise ConfigError(f"{self.name} is {quoted(words)}, must be a {kind} within {self.in_words}") from None
        return self.check_number(found)

    @property
    def limits(self) -> tuple[float, float]:
        """The range of a number or a switch."""
        assert self.low is not None, self
        assert self.high is not None, self
        return self.low, self.high

    @property
    def has_range(self) -> bool:
        """Whether it is a number or a switch."""
        return self.low is not None

    @property
    def in_words(self) -> str:
        """The range and its unit as people read them, or what texts are allowed."""
        if not self.has_range:
            return ", ".join(self.choices) or f"at most {MAX_TEXT:,} characters"
        low, high = self.limits
        return f"{low:g} … {high:.10g}{self.unit and ' ' + self.unit}"

    def nearest(self, value: float) -> float:
        """Return the allowed number that is nearest."""
        low, high = self.limits
        return min(max(value, low), high)

    def from_unit(self, position: float) -> Value:
        """Map a controller's 0 … 1 to the row's range; what its rounding took just past the ends is the end.

        Raises:
            ConfigError: a text has no range, or the position is outside 0 … 1.
        """
        if not self.has_range:
            raise ConfigError(f"{self.name} is a {self.type} and has no 0 … 1 range; send the value itself")
        if not -_CLAMPED <= position <= 1 + _CLAMPED:
            raise ConfigError(f"{self.name}/norm is {quoted(position)}, must be within 0 … 1")
        low, high = self.limits
        value = low + min(max(position, 0), 1) * (high - low)
        return self.check(value if self.type == "float" else round(value))

    def to_unit(self, value: Value) -> float:
        """Map a value to 0 … 1, the inverse of `from_unit`."""
        low, high = self.limits
        return (float(value) - low) / (high - low)

    def as_dict(self) -> dict[str, Any]:
        """Return the row as doors show it."""
        row: dict[str, Any] = {"name": self.name, "type": self.type, "min": self.low, "max": self.high}
        row |= {"default": self.default, "unit": self.unit, "description": self.description}
        row |= {} if self.supported else {"supported": False}
        row |= {"suggestions": list(self.suggestions)} if self.suggestions else {}
        return row | ({"choices": list(self.choices)} if self.choices else {})


def number(low: float, high: float, default: float, unit: str, description: str, *, whole: bool = False) -> ControlSpec:
    """Make the row of a number."""
    return ControlSpec("int" if whole else "float", low, high, default, unit, description)


def switch(default: bool, description: str) -> ControlSpec:
    """Make the row of something that is on or off."""
    return ControlSpec("bool", 0, 1, default, "", description)


def text(description: str, default: str = "", choices: Iterable[str] = ()) -> ControlSpec:
    """Make the row of a text."""
    return ControlSpec("string", None, None, default, "", description, tuple(choices))


def _as_float(value: object) -> float:
    """Return a number as float; NaN, which no range holds, for what is none or too large for one."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.nan


class ClipValues(TypedDict, total=False):
    """What the clips of `Model.generate` share, by keyword. `None` leaves a number at the checkpoint's default."""

    negative_prompt: Annotated[str | None, text("what to stay away from; empty = nothing")]
    guidance_scale: Annotated[
        float, number(0, 20, 3, "", "how closely the prompt is followed; 1 is the model unguided")
    ]
    guidance_beta: Annotated[
        float, number(0, 10, 1, "", "how much the prompt weighs against melody or style; 1 is as much as they")
    ]
    guidance_interval: Annotated[
        int,
        number(1, 16, 1, "frames", "only every n-th frame is guided, which takes less work; 1 is all", whole=True),
    ]
    eval_q: Annotated[
        int, number(1, 32, 3, "codebooks", "how closely a style is taken on: the codebooks that tell it", whole=True)
    ]
    excerpt_seconds: Annotated[float, number(0.1, 30, 3, "s", "how much of a style's audio is listened to")]
    temperature: Annotated[float, number(0, 5, 1, "", "how adventurous the draws are; 0 is greedy")]
    top_k: Annotated[int, number(0, 2048, 250, "codes", "draw among the k most likely codes; 0 is all", whole=True)]
    top_p: Annotated[float, number(0, 1, 0, "", "draw among the likeliest codes of this total probability; 0 is all")]
    glide_seconds: Annotated[float, number(0, 60, 0, "s", "how long a change of prompts fades")]
    context_seconds: Annotated[float, number(0.02, 30, 12, "s", "how much music survives into the next window")]
    context_start_seconds: Annotated[
        float, number(0, 30, 0, "s", "position at which the next window reads its context")
    ]
    change_context_seconds: Annotated[
        float,
        number(
            0, 30, 30, "s", "how much music survives when another prompt dominates; 0 begins anew, 30 keeps everything"
        ),
    ]


class StreamValues(ClipValues, total=False):
    """What `Model.open_stream` takes by keyword beside its prompt."""

    prompts: Iterable[tuple[str | None, float]]
    seed: Annotated[int, number(0, 2**31 - 1, 0, "", "same seed, same music", whole=True)]
    take: Annotated[
        int,
        number(
            0,
            9_999,
            0,
            "",
            "another number, another beginning under the same prompt; the same, the same again",
            whole=True,
        ),
    ]
    audition: Annotated[
        int, number(1, 16, 1, "", "openings that are tried where the music begins, of which the best plays", whole=True)
    ]
    on_bar: Annotated[
        bool, switch(True, "new prompts and takes wait for the bar line, where the checkpoint tells its bars")
    ]
    guard: Annotated[bool, switch(True, "music that has died (silence, drone, noise, one code for ever) is begun anew")]


class ControlValues(StreamValues, total=False):
    """What `Stream.set` and `Stream.check` take by keyword: every control there is.

    `melody` and `style` are audio, float32 [samples] or [channels, samples], with their samples a second; None is none.
    """

    prompt: str | None
    melody: object
    melody_rate_hz: int
    style: object
    style_rate_hz: int


def _rows(values: type) -> dict[str, ControlSpec]:
    """Read the rows from the annotations."""
    hints = get_type_hints(values, include_extras=True)
    found = {name: spec for name, hint in hints.items() for spec in getattr(hint, "__metadata__", ())}
    return {name: replace(spec, name=name) for name, spec in found.items()}


CONTROLS: dict[str, ControlSpec] = _rows(ControlValues)

# Fixed when a stream is opened, so neither is a control. Cached windows are kept that long after a rollover.
REWIND_SECONDS = replace(number(0, 14, 0, "s", "how far back a stream can rewind"), name="rewind_seconds")
THREADS = replace(number(1, 1_024, 1, "", "how many threads torch computes on", whole=True), name="threads")


def checked(table: Mapping[str, ControlSpec], values: Mapping[str, object]) -> dict[str, Value]:
    """Check values against a table, as controllers and clients send them; see `ControlSpec.read`.

    Raises:
        ConfigError, PromptError: an unknown name, a wrong type or a value outside its limits; none is taken then.
    """
    unknown = [name for name in values if name not in table]
    if unknown:
        raise ConfigError.unknown("parameter", unknown[0], table)
    return {name: table[name].read(value) for name, value in values.items()}
