"""A model whose sound is known, for tests of commands; and a command line in this process.

What the engine does is tested in tests/streamgen; here its place is taken by `streamgen.testing.FakeModel`, which obeys
the same contract at no cost: pitch, length and level are formulas.
"""

from __future__ import annotations

import argparse
import gc
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import streamgen
from bridge import app
from bridge.cli import main as cli
from streamgen.stream.stream import Stream
from streamgen.testing import FakeClock, FakeModel, fake_pitch_hz
from streamgen.testing.fake import AMPLITUDE


class ToyModel(FakeModel):
    """A FakeModel that remembers what was asked of it, and lets a test step in.

    Attributes:
        loaded_with: arguments of `load_model`.
        opened: its streams, and what they were opened with.
        before_step: called with the number of steps so far, before each.
    """

    def __init__(self, clock: FakeClock | None = None, step_seconds: float = 0.0, **options: Any) -> None:
        super().__init__(clock, step_seconds, name="toy", **options)
        self.loaded_with: dict[str, Any] = {}
        self.opened: list[tuple[Stream, dict[str, Any]]] = []
        self.steps = 0
        self.before_step: Callable[[int], None] = lambda _steps: None
        sing = self.runtime.engine.step

        def step(steps: Sequence[Any]) -> list[Any]:
            self.before_step(self.steps)
            self.steps += 1
            return sing(steps)

        self.runtime.engine.step = step  # type: ignore[method-assign]

    def open_stream(self, prompt: str | None = None, **options: Any) -> Stream:
        stream = super().open_stream(prompt, **options)
        self.opened.append((stream, options))
        return stream

    @property
    def all_closed(self) -> bool:
        return bool(self.opened) and all(stream._sound.closed for stream, _ in self.opened)


@pytest.fixture(scope="session", autouse=True)
def frozen_once() -> Iterator[None]:
    """Let an application that ends thaw nothing: what all tests have loaded is frozen for the session."""
    within = SimpleNamespace(collect=gc.collect, freeze=lambda: None, unfreeze=lambda: None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(app, "gc", within)
        yield


def sung(prompt: str | None, frames: int, rate_hz: int) -> NDArray[np.float64]:
    """What a ToyModel sings, float64 [2, frames]."""
    wave = AMPLITUDE * np.sin(2 * np.pi * fake_pitch_hz(prompt) * np.arange(frames) / rate_hz)
    return np.stack([wave, wave])


@pytest.fixture
def toy_model(monkeypatch: pytest.MonkeyPatch) -> ToyModel:
    """Every `load_model` in this test gives this model."""
    model = ToyModel()

    def load_model(name: str, **options: Any) -> ToyModel:
        model.loaded_with = {"name": name, **options}
        return model

    monkeypatch.setitem(vars(streamgen), "load_model", load_model)
    return model


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
