"""Plugins through minihost: VST3, LV2, on macOS AU.

Rules: the child alone imports this file, for minihost is GPL and what it loads may do anything. minihost is used as it
is, through its Python interface.

A plugin with one output runs twice, left and right; further inputs than it needs (a side chain) get silence.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import minihost
import numpy as np

from bridge.audio.plugins.engine import NO_EFFECT, ParameterInfo, Pcm, PluginInfo, Reference, Turn, Unsuitable
from bridge.audio.plugins.memory import MAX_PARAMETERS
from bridge.audio.plugins.vst3 import class_id

__all__ = ["MinihostEngine"]

_TEXTS = 65  # of a parameter with any value: enough to follow a curve of frequencies
_MOST_STEPS = 64  # more, and it is as good as any value
_NO_TEMPO_BPM = 120.0


class MinihostEngine:
    """One plugin in minihost; see `Engine`."""

    def __init__(self, reference: Reference, rate_hz: int, max_block: int) -> None:
        first = _opened(reference, rate_hz, max_block)
        inputs, outputs = first.num_input_channels, first.num_output_channels
        if inputs < 1 or outputs < 1:
            raise Unsuitable(f"it has {inputs} inputs and {outputs} outputs: {NO_EFFECT}")
        self._plugins = [first] if outputs > 1 else [first, _opened(reference, rate_hz, max_block)]
        self._rate_hz, self._path = rate_hz, Path(reference.path)
        parameters = tuple(_parameters(first))[:MAX_PARAMETERS]
        self._indices = [one.index for one in parameters]
        name, vendor, kind = _names(reference)
        self.info = PluginInfo(name, vendor, kind, first.latency_samples, inputs, outputs, parameters)

    @property
    def latency_samples(self) -> int:
        """See `Engine`."""
        return int(self._plugins[0].latency_samples)

    def process(self, block: Pcm, out: Pcm, turns: Sequence[Turn]) -> None:
        """See `Engine.process`."""
        count = block.shape[1]
        channels = [block] if len(self._plugins) == 1 else [block[:1], block[1:]]
        for row, (plugin, part) in enumerate(zip(self._plugins, channels, strict=True)):
            made = np.empty((self.info.outputs, count), np.float32)
            plugin.process_auto(self._arranged(part), made, [], list(turns))
            out[row : row + 2] = made[:2]

    def _arranged(self, part: Pcm) -> Pcm:
        """Lay channels out on the plugin's inputs."""
        inputs = self.info.inputs
        if inputs < len(part):
            part = part.mean(axis=0, keepdims=True)
        given = np.zeros((inputs, part.shape[1]), np.float32)
        given[: len(part)] = part
        return given

    def transport(self, tempo_bpm: float, start_sample: int) -> None:
        """See `Engine.transport`."""
        bpm = tempo_bpm or _NO_TEMPO_BPM
        beats = start_sample / self._rate_hz * bpm / 60
        for plugin in self._plugins:
            plugin.set_transport(bpm, position_samples=start_sample, position_beats=beats, is_playing=True)

    def reset(self) -> None:
        """See `Engine.reset`."""
        for plugin in self._plugins:
            plugin.reset()

    def state(self) -> bytes:
        """See `Engine.state`."""
        return bytes(self._plugins[0].get_state())

    def set_state(self, state: bytes) -> None:
        """See `Engine.set_state`."""
        for plugin in self._plugins:
            plugin.set_state(state)

    def values(self) -> list[float]:
        """See `Engine.values`."""
        return [float(self._plugins[0].get_param(index)) for index in self._indices]

    def load_preset(self, path: str) -> None:
        """See `Engine.load_preset`."""
        self._check_presets()
        for plugin in self._plugins:
            minihost.load_vstpreset(path, plugin)

    def save_preset(self, path: str) -> None:
        """See `Engine.save_preset`."""
        self._check_presets()
        minihost.save_vstpreset(path, self._plugins[0], class_id(self._path) or None)

    def _check_presets(self) -> None:
        if self._path.suffix.lower() != ".vst3":
            raise Unsuitable("only VST3 plugins have preset files of their own; save the set instead")


def _opened(reference: Reference, rate_hz: int, max_block: int) -> Any:
    if not reference.uri:
        return minihost.Plugin(reference.path, sample_rate=rate_hz, max_block_size=max_block)
    description = f'<PLUGIN format="LV2" name="" file={quoteattr(reference.uri)} uniqueId="0" uid="0"/>'
    return minihost.Plugin.from_descriptor(description, sample_rate=rate_hz, max_block_size=max_block)


def _names(reference: Reference) -> tuple[str, str, str]:
    """Name, vendor and format."""
    if reference.uri:
        return re.split(r"[/:]", reference.uri)[-1].replace("#", " "), "", "LV2"
    found = minihost.probe(reference.path)
    return found["name"] or Path(reference.path).stem, found["vendor"], found["format"]


def _parameters(plugin: Any) -> list[ParameterInfo]:
    rows = ((index, plugin.get_param_info(index)) for index in range(plugin.num_params))
    return [_parameter(plugin, index, row) for index, row in rows if row["is_automatable"]]


def _parameter(plugin: Any, index: int, row: dict[str, Any]) -> ParameterInfo:
    steps = 2 if row["is_boolean"] else int(row["num_steps"])
    if not 2 <= steps <= _MOST_STEPS:
        steps = 0
    places = np.linspace(0, 1, steps or _TEXTS)
    texts = tuple(str(plugin.param_to_text(index, float(place))).strip() for place in places)
    return ParameterInfo(index, row["name"], row["label"].strip(), float(plugin.get_param(index)), steps, texts)
