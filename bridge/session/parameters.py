"""THE table of parameters, from which every door is generated.

Python checks, CLI flags, WebSocket `hello`, OSC addresses, OSCQuery ranges and the page's controls never spell a range
twice.

Rules: plain data and its checks; no I/O, no torch. What the engine knows comes from `streamgen.config.RANGES`; the rest
(prompt slots, output, tempo words) is added here. Names are OSC paths below /streamgen/: `prompt/1/text`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from streamgen.config import RANGES, Range
from streamgen.errors import ConfigError, PromptError

__all__ = ["LIVE", "PARAMETERS", "SLOTS", "TABLE", "Parameter", "Value", "checked", "defaults", "in_words", "parse"]

PARAMETERS = RANGES
# what `play` may change while music plays
LIVE = ("guidance_scale", "temperature", "top_k", "top_p", "glide_seconds", "change_context_seconds")
SLOTS = 8
MAX_TEXT = 2000

Value = str | float | int | bool


@dataclass(frozen=True)
class Parameter:
    """One row of the table.

    Attributes:
        name: its name at every door, and its path below /streamgen/ in OSC.
        type: "string", "float", "int" or "bool".
        min, max: limits, both allowed; None for strings and bools.
        default: value of a new session.
        unit: of the number, "" for none.
        description: one line for users.
    """

    name: str
    type: str
    min: float | None
    max: float | None
    default: Value
    unit: str
    description: str

    def check(self, value: object) -> Value:
        """Return the value in the parameter's type; numbers may come as int, float or bool alike.

        Raises:
            ConfigError: a wrong type or a number outside the limits.
            PromptError: a text that is too long.
        """
        if self.type == "string":
            return self._check_text(value)
        if self.type == "bool":
            return self._check_switch(value)
        assert self.min is not None, self
        assert self.max is not None, self
        number = float(value) if isinstance(value, bool) else value
        return Range(self.min, self.max, 0, self.unit, "", self.type == "int").check(self.name, number)

    def _check_text(self, value: object) -> str:
        if not isinstance(value, str):
            raise ConfigError(f"{self.name} is {value!r}, must be a text")
        if len(value) > MAX_TEXT:
            raise PromptError(f"{self.name} has {len(value):,} characters, the limit is {MAX_TEXT:,}: shorten it")
        return value

    def _check_switch(self, value: object) -> bool:
        if isinstance(value, bool | int | float) and value in (0, 1):
            return bool(value)
        raise ConfigError(f"{self.name} is {value!r}, must be true or false (1 or 0)")

    def nearest(self, number: float) -> float:
        """Return the allowed number that is nearest."""
        assert self.min is not None, self
        assert self.max is not None, self
        return min(max(number, self.min), self.max)

    def from_unit(self, position: float) -> Value:
        """Map a controller's 0 … 1 to the parameter's range (OSC `…/norm`).

        Raises:
            ConfigError: a text has no range, or the position is outside 0 … 1.
        """
        if self.min is None or self.max is None:
            raise ConfigError(f"{self.name} is a {self.type} and has no 0 … 1 range; send the value itself")
        if not 0 <= position <= 1:
            raise ConfigError(f"{self.name}/norm is {position!r}, must be within 0 … 1")
        value = self.min + position * (self.max - self.min)
        return self.check(round(value) if self.type == "int" else value)

    def to_unit(self, value: Value) -> float:
        """Map a value to 0 … 1, the inverse of `from_unit`."""
        assert self.min is not None, self
        assert self.max is not None, self
        return (float(value) - self.min) / (self.max - self.min)

    def as_dict(self) -> dict[str, Any]:
        """Return the row as `hello` shows it."""
        return asdict(self)


def _slots() -> list[Parameter]:
    rows = []
    for slot in range(1, SLOTS + 1):
        text = f"what slot {slot} plays; empty = silent slot"
        rows.append(Parameter(f"prompt/{slot}/text", "string", None, None, "", "", text))
        weight = f"share of slot {slot} in the mix"
        rows.append(Parameter(f"prompt/{slot}/weight", "float", 0.0, 2.0, 1.0 if slot == 1 else 0.0, "", weight))
    return rows


def _engine(name: str, low: float | None = None, high: float | None = None) -> Parameter:
    row = RANGES[name]
    kind = "int" if row.whole else "float"
    low, high = row.low if low is None else low, row.high if high is None else high
    return Parameter(name, kind, low, high, row.default, row.unit, row.description)


TABLE: dict[str, Parameter] = {
    row.name: row
    for row in [
        *_slots(),
        Parameter("negative_prompt", "string", None, None, "", "", "what to stay away from; empty = nothing"),
        Parameter("tempo", "float", 0.0, 300.0, 0.0, "bpm", "words of tempo added to every prompt; 0 = none"),
        _engine("guidance_scale"),
        _engine("temperature"),
        _engine("top_k", high=2048),
        _engine("top_p"),
        _engine("seed"),
        _engine("glide_seconds"),
        _engine("context_seconds", low=1.0, high=15.0),
        _engine("change_context_seconds"),
        Parameter(
            "lead_seconds", "float", 0.2, 10.0, 2.0, "s", "audio made ahead, against stalls; a change revokes it"
        ),
        Parameter("gain_db", "float", -60.0, 12.0, 0.0, "dB", "output level, before the limiter"),
        Parameter("mute", "bool", 0, 1, False, "", "silence the output; the music goes on"),
        Parameter("width", "float", 0.0, 1.0, 0.0, "", "widens mono checkpoints; the sum of both channels stays mono"),
    ]
}


def defaults() -> dict[str, Value]:
    """Return the values of a new session."""
    return {name: row.default for name, row in TABLE.items()}


def checked(values: Mapping[str, object]) -> dict[str, Value]:
    """Check values by name.

    Raises:
        ConfigError, PromptError: an unknown name, a wrong type or a value outside its limits; none is taken then.
    """
    unknown = [name for name in values if name not in TABLE]
    if unknown:
        raise ConfigError(
            f"there is no parameter {unknown[0]!r}; `hello` lists them, e.g. guidance_scale, prompt/1/text"
        )
    return {name: TABLE[name].check(value) for name, value in values.items()}


def parse(name: str, row: Range, text: str) -> float:
    """Read a value of a parameter.

    Raises:
        ConfigError: not a number, or outside the range; one line with the name, the value and the limits.
    """
    try:
        value = int(text) if row.whole else float(text)
    except ValueError:
        kind = "whole number" if row.whole else "number"
        raise ConfigError(f"{name} is {text!r}, must be a {kind} within {in_words(row)}") from None
    return row.check(name, value)


def in_words(row: Range) -> str:
    """Give a range and its unit as people read it."""
    return f"{row.low:g} … {row.high:.10g}{row.unit and ' ' + row.unit}"
