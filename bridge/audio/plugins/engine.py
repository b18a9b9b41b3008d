"""What a child needs of a host for plugins, and what a plugin tells of itself.

Rules: plain data and an interface; imported by parent and child, so neither streamgen nor torch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["NO_EFFECT", "Engine", "ParameterInfo", "PluginInfo", "Reference", "Turn", "Unsuitable", "one_line", "place"]

NO_EFFECT = "it is no effect for audio"  # how the reason ends, of what is well and of no use here
_MOST_CHARACTERS = 120  # of a name or a value's text: people read it in a line

Pcm = NDArray[np.float32]

Turn = tuple[int, int, float]
"""A parameter turned: sample of the block, index, value 0 … 1."""


class Unsuitable(Exception):
    """A plugin is well, but no effect: says why."""


def one_line(words: object, characters: int = _MOST_CHARACTERS) -> str:
    """Return what a plugin says as one line that can be printed: it may say anything."""
    line = " ".join("".join(one if one.isprintable() else " " for one in str(words)).split())
    return line if len(line) <= characters else line[: characters - 1] + "…"


def place(value: float) -> float:
    """Return a value that a plugin tells as one from 0 to 1; what is infinite or no number is 0."""
    return min(max(float(value), 0.0), 1.0) if math.isfinite(value) else 0.0


@dataclass(frozen=True)
class Reference:
    """Which plugin.

    Attributes:
        path: its file or bundle.
        uri: of an LV2 plugin; a bundle may have many.
    """

    path: str
    uri: str = ""


@dataclass(frozen=True)
class ParameterInfo:
    """A parameter as its plugin tells of it.

    Attributes:
        index: by which it is turned.
        name: as people read it.
        unit: as the plugin says, "" for none.
        value: 0 … 1, as it is now.
        steps: how many values it has; 0 for any.
        texts: what the plugin shows at evenly spaced values from 0 to 1.
    """

    index: int
    name: str
    unit: str
    value: float
    steps: int
    texts: tuple[str, ...]


@dataclass(frozen=True)
class PluginInfo:
    """A plugin as it tells of itself once it is loaded.

    Attributes:
        name, vendor, format: as people read them.
        latency_samples: how much it holds back.
        inputs, outputs: channels.
        parameters: those that can be automated.
    """

    name: str
    vendor: str
    format: str
    latency_samples: int
    inputs: int
    outputs: int
    parameters: tuple[ParameterInfo, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON's types."""
        return asdict(self)

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> PluginInfo:
        """Read what `as_dict` gave; names that no line could hold and values that are no numbers are mended."""
        words = {name: one_line(row[name]) for name in ("name", "vendor", "format")}
        return cls(**{**row, **words, "parameters": tuple(map(_parameter, row["parameters"]))})


def _parameter(row: Mapping[str, Any]) -> ParameterInfo:
    texts = tuple(map(one_line, row["texts"]))
    words = {"name": one_line(row["name"]), "unit": one_line(row["unit"]), "texts": texts}
    return ParameterInfo(**{**row, **words, "value": place(row["value"])})


class Engine(Protocol):
    """One loaded plugin. Everything is called on the child's only thread that computes.

    Attributes:
        info: of the plugin.
        latency_samples: as it is now; turning a parameter may change it.
    """

    info: PluginInfo

    @property
    def latency_samples(self) -> int: ...  # noqa: D102 - see above

    def process(self, block: Pcm, out: Pcm, turns: Sequence[Turn]) -> None:
        """Fill `out`, float32 [2, n], from `block`, turning parameters at their samples."""
        ...

    def transport(self, tempo_bpm: float, start_sample: int) -> None:
        """Tell where in the music the next block begins, and its tempo; 0 for none."""
        ...

    def reset(self) -> None:
        """Forget the audio so far."""
        ...

    def state(self) -> bytes:
        """Return everything it is set to."""
        ...

    def set_state(self, state: bytes) -> None:
        """Set everything as `state` gave it."""
        ...

    def values(self) -> list[float]:
        """Return the value of every parameter of `info`, 0 … 1."""
        ...

    def load_preset(self, path: str) -> None:
        """Read a preset file of the plugin's own format."""
        ...

    def save_preset(self, path: str) -> None:
        """Write one."""
        ...
