"""The files a prompt crosses from the WebSocket to the logits: traced, and as docs/topics/architecture.md draws them.

A file hands the prompt on if one of its functions has it in hand, and is waiting for the next one, when it reaches a
place where it stays: the session's command, the stream's control state, the decoder's rows.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect

import streamgen
from bridge.app import App, Running, service_of
from bridge.doors.native.door import NativeDoor
from bridge.session.live_session import LiveSession
from bridge.settings import Settings
from streamgen.conditioning.rows import TextRows
from streamgen.stream.control_state import ControlState
from streamgen.testing import tiny_checkpoint

ROOT = Path(__file__).parent.parent
MOST_FILES = 8
TEXT = "a bassoon that nobody else asks for"
PLACES = (LiveSession.do, ControlState.ask, TextRows.of)


def holds(value: object, depth: int = 6) -> bool:
    """Whether plain data has the text in it; objects with methods of their own are not looked into."""
    if isinstance(value, str):
        return TEXT in value
    if not depth:
        return False
    if is_dataclass(value) and not isinstance(value, type):
        value = vars(value)
    if isinstance(value, Mapping):
        value = list(value.values())
    return isinstance(value, list | tuple | set | frozenset) and any(holds(one, depth - 1) for one in value)


def in_hand() -> Iterator[str]:
    """The project's files on the stack whose functions have the text, the outermost last."""
    frame = sys._getframe(2)
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(ROOT) and not path.is_relative_to(ROOT / "tests") and holds(frame.f_locals):
            yield str(path.relative_to(ROOT))
        frame = frame.f_back  # type: ignore[assignment]


def watched(place: Callable[..., Any], crossed: list[str]) -> Callable[..., Any]:
    """The function, which notes who brings it the text."""
    own = str(Path(inspect.getfile(place)).relative_to(ROOT))

    def call(self: object, *arguments: Any, **named: Any) -> Any:
        if holds(arguments) or holds(named):
            crossed.extend(reversed([own, *in_hand()]))
        return place(self, *arguments, **named)

    return call


def test_a_prompt_crosses_few_files_from_the_websocket_to_the_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    crossed: dict[str, list[str]] = {place.__qualname__: [] for place in PLACES}
    for place in PLACES:
        kind, name = place.__qualname__.split(".")
        owner = {"LiveSession": LiveSession, "ControlState": ControlState, "TextRows": TextRows}[kind]
        monkeypatch.setattr(owner, name, watched(place, crossed[place.__qualname__]))

    async def send_a_prompt(running: Running) -> None:
        async with connect(str(running.places()["websocket"])) as socket:
            await socket.send(json.dumps({"type": "set", "values": {"prompt/1/text": TEXT}}))
            stream = running.live.player.generator._stream
            async with asyncio.timeout(20):
                while stream.controls.mix.dominant != TEXT:
                    await asyncio.sleep(0.01)

    model = streamgen.load_model(str(tiny_checkpoint("mono")), device="cpu", precision="fp32")
    service = service_of(Settings.of({"port": 0}))
    App(service, [NativeDoor(service)], {"prompt/1/text": "piano"}).run(model, 5.0, send_a_prompt)
    assert all(crossed.values()), crossed
    way = list(dict.fromkeys(path for paths in crossed.values() for path in paths))
    drawn = re.findall(r"^.{15}\s+\d+  (\S+\.py)", (ROOT / "docs/topics/architecture.md").read_text(), re.MULTILINE)
    assert way == drawn
    assert len(way) <= MOST_FILES
