"""A plugin's parameters, 0 … 1 each, as rows of the session's table: in its own units, with its own words.

    texts at evenly spaced values           row                          a value becomes
    "20 Hz" … "1.2 kHz" … "20 kHz"          number 20 … 20,000 Hz        its place on the plugin's own curve
    "Zero", "PoppySnare", "VocalLeveller"   text with these choices      the choice's place
    "Off", "On"                             switch                       0 or 1
    anything else                           number 0 … 1                 itself

Rules: plain arithmetic on what a plugin tells; the plugin itself is not asked.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bridge.audio.plugins.engine import ParameterInfo
from bridge.audio.slot_mix import MIX
from streamgen.config import ControlSpec, Value, number, switch, text

__all__ = ["PluginParameter", "plugin_parameters"]

_NUMBER = re.compile(r"\s*([-+−]?\d+(?:[.,]\d+)?(?:[eE][-+]?\d+)?)\s*(.*?)\s*")
_FACTORS = {"khz": (1e3, "Hz"), "hz": (1.0, "Hz"), "ms": (1.0, "ms"), "s": (1e3, "ms"), "sec": (1e3, "ms")}
_RESERVED = frozenset({*MIX, "tempo"})  # each means something else to every slot or plugin
_ON, _OFF = {"on", "1", "true", "yes", "enabled"}, {"off", "0", "false", "no", "disabled"}


@dataclass(frozen=True)
class PluginParameter:
    """One parameter.

    Attributes:
        index: by which the plugin knows it.
        spec: its row.
        curve: values in the row's unit at evenly spaced places from 0 to 1, rising or falling; None for a text.
    """

    index: int
    spec: ControlSpec
    curve: NDArray[np.float64] | None

    def to_unit(self, value: Value) -> float:
        """Return the plugin's 0 … 1 for a value of the row."""
        if self.curve is None:
            return self.spec.choices.index(str(value)) / max(len(self.spec.choices) - 1, 1)
        places = np.linspace(0, 1, len(self.curve))
        if self.curve[0] > self.curve[-1]:
            return float(np.interp(float(value), self.curve[::-1], places[::-1]))
        return float(np.interp(float(value), self.curve, places))

    def from_unit(self, place: float) -> Value:
        """Return the row's value for the plugin's 0 … 1."""
        if self.curve is None:
            return self.spec.choices[round(place * (len(self.spec.choices) - 1))]
        value = float(np.interp(place, np.linspace(0, 1, len(self.curve)), self.curve))
        if self.spec.type == "bool":
            return value >= 0.5
        return round(value) if self.spec.type == "int" else self.spec.nearest(value)


def plugin_parameters(infos: Iterable[ParameterInfo]) -> dict[str, PluginParameter]:
    """Return a plugin's parameters by names that are addresses: `Input Gain` is `input_gain`."""
    found: dict[str, PluginParameter] = {}
    for info in infos:
        found[_free(_address(info.name), found)] = _parameter(info)
    return found


def _address(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_") or "parameter"


def _free(name: str, taken: Iterable[str]) -> str:
    used, count, free = {*taken, *_RESERVED}, 1, name
    while free in used:
        count += 1
        free = f"{name}_{count}"
    return free


def _parameter(info: ParameterInfo) -> PluginParameter:
    words = [one.lower() for one in info.texts]
    numbers = _numbers(info.texts)
    if info.steps == 2 and (numbers is None or set(numbers[0]) <= {0.0, 1.0} or (words[0] in _OFF and words[1] in _ON)):
        if numbers is not None or (words[0] in _OFF and words[1] in _ON):
            return PluginParameter(info.index, switch(info.value >= 0.5, info.name), np.array([0.0, 1.0]))
        return _with_choices(info)
    if numbers is None:
        return _with_choices(info) if info.steps else _plain(info)
    curve, unit = numbers
    if not (np.all(np.diff(curve) >= 0) or np.all(np.diff(curve) <= 0)) or curve[0] == curve[-1]:
        return _plain(info)
    if not info.steps:
        curve = _straightened(curve, info.texts)
    return _with_numbers(info, curve, unit or info.unit)


def _with_choices(info: ParameterInfo) -> PluginParameter:
    choices: list[str] = []
    for one in info.texts:
        choices.append(_free_text(one or "–", choices))
    default = choices[round(info.value * (len(choices) - 1))]
    return PluginParameter(info.index, text(info.name, default, choices), None)


def _free_text(one: str, taken: list[str]) -> str:
    count, free = 1, one
    while free in taken:
        count += 1
        free = f"{one} {count}"
    return free


def _plain(info: ParameterInfo) -> PluginParameter:
    return PluginParameter(info.index, number(0, 1, float(f"{info.value:.6g}"), "", info.name), np.array([0.0, 1.0]))


def _with_numbers(info: ParameterInfo, curve: NDArray[np.float64], unit: str) -> PluginParameter:
    whole = bool(info.steps) and all(value == int(value) for value in curve)
    low, high = float(curve.min()), float(curve.max())
    now = float(np.interp(info.value, np.linspace(0, 1, len(curve)), curve))
    default = round(now) if whole else min(max(float(f"{now:.6g}"), low), high)  # the plugin's is a float32
    return PluginParameter(info.index, number(low, high, default, unit, info.name, whole=whole), curve)


def _numbers(texts: tuple[str, ...]) -> tuple[NDArray[np.float64], str] | None:
    """Read texts as numbers of one unit; None if they are not all that."""
    values, units = [], set()
    for one in texts:
        found = _NUMBER.fullmatch(one)
        if found is None:
            return None
        factor, unit = _FACTORS.get(found[2].lower(), (1.0, found[2]))
        values.append(float(found[1].replace(",", ".").replace("−", "-")) * factor)
        units.add(unit)
    return (np.array(values), units.pop()) if len(units) == 1 and np.all(np.isfinite(values)) else None


def _straightened(curve: NDArray[np.float64], texts: tuple[str, ...]) -> NDArray[np.float64]:
    """Return a line for what is one but for the rounding of its texts: exact then, at every value."""
    decimals = max(len(found[1]) if (found := re.search(r"\.(\d+)", one)) else 0 for one in texts)
    line = np.linspace(curve[0], curve[-1], len(curve))
    near = np.abs(curve - line).max() <= 0.51 * 10.0**-decimals + 1e-6 * np.ptp(curve)
    return line[[0, -1]] if near else curve
