"""A model that plays a sine, for tests of the doors: it obeys the engine's contract, at no cost.

What the engine does is tested in tests/streamgen; here its place is taken so that pitch, length and level are known.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import streamgen
import streamgen.checkpoint.find
from bridge.cli import main as cli
from streamgen.audio import AudioChunk
from streamgen.errors import PromptError
from streamgen.metrics import StreamMetrics

RATE_HZ = 32_000


@dataclass
class SineStream:
    """An endless sine, 440 Hz left and 660 Hz right, half scale; the prompt "loud" doubles it."""

    options: dict[str, Any]
    metrics: StreamMetrics = field(default_factory=StreamMetrics)
    controls: SimpleNamespace = field(default_factory=lambda: SimpleNamespace(context_seconds=6.0))
    closed: bool = False
    position: int = 0
    changes: list[dict[str, Any]] = field(default_factory=list)
    before_chunk: Callable[[SineStream], None] = lambda _stream: None

    def chunks(self, *, seconds: float) -> Iterator[AudioChunk]:
        while True:
            self.before_chunk(self)
            start, self.position = self.position, self.position + round(seconds * RATE_HZ)
            for _ in range(round(seconds * 50)):
                self.metrics.record_step(0.001, 0, self.metrics.steps, 1)
            self.metrics.codec_seconds += 0.001
            yield AudioChunk(self.samples(start, self.position), start, RATE_HZ)

    def samples(self, start: int, stop: int) -> NDArray[np.float32]:
        time = np.arange(start, stop) / RATE_HZ
        level = 1.0 if self.options.get("prompt") == "loud" else 0.5
        return (level * np.sin(2 * np.pi * np.array([[440.0], [660.0]]) * time)).astype(np.float32)

    def set(self, **values: Any) -> int:
        if values.get("prompt") == "refused":
            raise PromptError("prompt is refused")
        self.changes.append(values)
        self.options |= values
        return self.position

    def close(self) -> None:
        self.closed = True


@dataclass
class SineModel:
    """Opens sines and remembers what it was asked."""

    name: str = "sine"
    sample_rate_hz: int = RATE_HZ
    channels: int = 2
    precision: str = "fp32"
    device: str = "cpu"
    weight_bytes: int = 1_000_000
    window_seconds: float = 30.06
    load_note: str = "fp32: as asked"
    loaded_with: dict[str, Any] = field(default_factory=dict)
    streams: list[SineStream] = field(default_factory=list)
    before_chunk: Callable[[SineStream], None] = lambda _stream: None

    def open_stream(self, **options: Any) -> SineStream:
        self.streams.append(SineStream(options, before_chunk=self.before_chunk))
        return self.streams[-1]


@pytest.fixture
def sine_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[SineModel]:
    """Every `load_model` in this test gives this model."""
    model, threads = SineModel(), torch.get_num_threads()

    def load_model(name: str, **options: Any) -> SineModel:
        model.loaded_with = {"name": name, **options}
        return model

    monkeypatch.setitem(vars(streamgen), "load_model", load_model)
    monkeypatch.setattr(streamgen.checkpoint.find, "find_folder", lambda _name: tmp_path)
    yield model
    torch.set_num_threads(threads)


@dataclass(frozen=True)
class Answer:
    """What a command came to."""

    code: int
    out: str
    err: str

    @property
    def fields(self) -> dict[str, Any]:
        """The JSON object, which must be the last line on stdout."""
        return dict(json.loads(self.out.splitlines()[-1]))

    @property
    def error_line(self) -> str:
        """The one line an error may be."""
        lines = self.err.splitlines()
        assert len(lines) == 1, lines
        return lines[0]


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Callable[..., Answer]:
    """Run a command line in this process."""

    def run_words(*words: object) -> Answer:
        try:
            code = cli.main([str(word) for word in words])
        except SystemExit as exit_:
            code = int(exit_.code or 0)
        out, err = capfd.readouterr()
        return Answer(code, out, err)

    return run_words


@pytest.fixture
def parsed() -> Callable[..., argparse.Namespace]:
    """Parse words with the arguments that functions add."""

    def parse(*words: str, of: Callable[[argparse.ArgumentParser], None]) -> argparse.Namespace:
        parser = argparse.ArgumentParser()
        of(parser)
        return parser.parse_args(words)

    return parse
