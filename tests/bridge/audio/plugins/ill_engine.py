"""A host for plugins that obeys the child's interface and falls ill on command, for tests; runs in the child.

Its path names a file: a word written there is done once, at the next block; `on-load WORD`, `on-state WORD` and
`latency N` stay. It doubles what it gets, and its gain and latency can be turned.
"""

from __future__ import annotations

import ctypes
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bridge.audio.plugins.engine import ParameterInfo, Pcm, PluginInfo, Reference, Turn

GAINS = tuple(f"{gain:.2f}" for gain in np.linspace(0, 4, 65))


class IllEngine:
    def __init__(self, reference: Reference, rate_hz: int, max_block: int) -> None:
        self._orders, self._hoard = Path(reference.path), list[bytearray]()
        words = self._orders.read_text().split() if self._orders.exists() else []
        if "on-load" in words:
            self._do(words[-1], np.zeros((2, 1), np.float32))
        self._gain, self._latency, self._held = 0.5, 0, np.zeros((2, 0), np.float32)
        self._restless = False
        parameters = (
            ParameterInfo(0, "Gain", "x", 0.5, 0, GAINS),
            ParameterInfo(1, "Latency", "samples", 0.0, 3, ("0", "100", "200")),
            ParameterInfo(2, "Crash", "", 0.0, 2, ("Off", "On")),
        )
        self.info = PluginInfo("Ill", "tests", "fake", 0, 2, 2, parameters)
        self._resize(int(words[words.index("latency") + 1]) if "latency" in words else 0)
        self.info = PluginInfo("Ill", "tests", "fake", self._latency, 2, 2, parameters)

    @property
    def latency_samples(self) -> int:
        return self._latency

    def _resize(self, latency: int) -> None:
        if latency != self._latency:
            self._latency, self._held = latency, np.zeros((2, latency), np.float32)

    def process(self, block: Pcm, out: Pcm, turns: Sequence[Turn]) -> None:
        done, pieces = 0, []
        for at, index, value in turns:
            pieces.append(block[:, done:at] * np.float32(4 * self._gain))
            done = at
            if index == 0:
                self._gain = value
            elif index == 1:
                self._resize(round(200 * value))
            elif value:
                os.kill(os.getpid(), 11)
        pieces.append(block[:, done:] * np.float32(4 * self._gain))
        audio = np.concatenate([self._held, *pieces], axis=1)
        out[:] = audio[:, : block.shape[1]]
        self._held = audio[:, block.shape[1] :]
        if self._orders.exists():
            word = self._orders.read_text()
            if not word.startswith(("on-load", "on-state", "latency")):
                self._orders.unlink()
                self._do(word, out)
        if self._restless:
            self._resize(100 - self._latency)

    def _do(self, word: str, out: Pcm) -> None:
        if word == "raise":
            raise RuntimeError("asked to raise")
        if word == "segfault":
            ctypes.string_at(0)
        elif word == "exit":
            os._exit(3)
        elif word == "hang":
            time.sleep(1_000)
        elif word == "spin":
            while True:
                pass
        elif word == "late":
            time.sleep(0.3)
        elif word == "memory":
            while True:
                self._hoard.append(bytearray(64 << 20))
        elif word == "nan":
            out[1, out.shape[1] // 2] = np.nan
        elif word == "inf":
            out[0, 0] = -np.inf
        elif word == "runaway":
            out[:] = 1e9
        elif word == "denormal":
            out[:] = 1e-40
        elif word == "hang up":
            os.closerange(3, 64)
            time.sleep(1_000)
        elif word == "restless":
            self._restless = True
        elif word.startswith("later"):
            self._resize(int(word.split()[1]))

    def transport(self, tempo_bpm: float, start_sample: int) -> None:
        self.told = tempo_bpm, start_sample

    def reset(self) -> None:
        self._held = np.zeros((2, self._latency), np.float32)

    def state(self) -> bytes:
        words = self._orders.read_text().split() if self._orders.exists() else []
        if "on-state" in words:
            self._do(words[-1], np.zeros((2, 1), np.float32))
        return json.dumps({"gain": self._gain}).encode()

    def set_state(self, state: bytes) -> None:
        self._gain = json.loads(state)["gain"]

    def values(self) -> list[float]:
        return [self._gain, self._latency / 200, 0.0]

    def load_preset(self, path: str) -> None:
        self.set_state(Path(path).read_bytes())

    def save_preset(self, path: str) -> None:
        Path(path).write_bytes(self.state())


class OddEngine(IllEngine):
    """Tells of itself what no plugin should."""

    def __init__(self, reference: Reference, rate_hz: int, max_block: int) -> None:
        super().__init__(reference, rate_hz, max_block)
        nan, words = float("nan"), ("1", "2", "3", "4")
        parameters = (
            ParameterInfo(0, "In/Out\x1b[31m ü\n\nname", "x", nan, 0, GAINS),
            ParameterInfo(1, "", "", nan, 4, words),
            ParameterInfo(2, "Tempo", "bpm", float("inf"), 4, ("a", "b", "c", "d" * 5_000)),
            ParameterInfo(3, "tempo", "", -7.0, 0, ("1e999", "2", "3")),
            ParameterInfo(4, "Bypass", "", nan, 2, ("Off", "On")),
            ParameterInfo(5, "音量", "", 0.5, 2, ("no", "yes")),
        )
        self.info = PluginInfo("Odd\nplugin \x00/ ü", "a\tvendor", "fake", 0, 2, 2, parameters)

    def values(self) -> list[float]:
        return [float("nan"), float("inf"), -1.0, 2.0, 0.5, 0.5]


class LyingEngine(IllEngine):
    """Has fewer values than parameters."""

    def values(self) -> list[float]:
        return [0.5]
