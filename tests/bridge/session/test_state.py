"""What is kept: written soon and whole, restored as far as it fits, and never in the way of a start."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pytest

from bridge.session import state
from bridge.session.events import Changed, PlayerState, TransportCause, Transported
from bridge.session.parameters import session_table
from bridge.session.session import Listener, Session
from bridge.session.state import AFTER_SECONDS, Keeper, Kept, held, restore, state_file
from streamgen.config import Value

TABLE = session_table()


class Desk:
    """A session that only has values, and tells of changes."""

    model = "desk"

    def __init__(self, **values: Value) -> None:
        self.table, self.listeners = TABLE, list[Listener]()
        self.now: dict[str, Value] = {name: spec.default for name, spec in TABLE.items()} | values
        self.player = PlayerState.PLAYING

    def values(self) -> Mapping[str, Value]:
        return dict(self.now)

    def state(self) -> PlayerState:
        return self.player

    def add(self, listener: Listener) -> list[Any]:
        self.listeners.append(listener)
        return []

    def remove(self, listener: Listener) -> None:
        self.listeners.remove(listener)

    def set(self, values: Mapping[str, Value]) -> None:
        self.now |= values
        for listener in self.listeners:
            listener.event(Changed(values, "test", 0))

    def transport(self, player: PlayerState) -> None:
        self.player = player
        for listener in self.listeners:
            listener.event(Transported(TransportCause.PAUSE, player, "test", 0))


def keeper(path: Path, desk: Desk, *drawn: str) -> Keeper:
    return Keeper(path, cast(Session, desk), drawn)


def test_what_was_set_comes_back_and_what_nobody_set_does_not(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "live.json"

    async def play() -> None:
        desk = Desk(**{"prompt/1/text": "techno", "seed": 77})
        one = keeper(path, desk, "seed")
        desk.set({"tempo": 128.0, "mute": True, "temperature": 0.5})
        desk.set({"temperature": 1.0})
        desk.transport(PlayerState.PAUSED)
        await one.close()
        assert desk.listeners == []

    asyncio.run(play())
    kept = restore(path, TABLE)
    assert kept == Kept({"prompt/1/text": "techno", "tempo": 128.0, "mute": True}, "paused")
    assert kept is not None
    assert kept.in_words(TABLE) == "'techno', 128 bpm, paused"


def test_a_seed_that_somebody_set_is_kept(tmp_path: Path) -> None:
    async def play() -> None:
        desk = Desk(seed=77)
        one = keeper(tmp_path / "a.json", desk, "seed")
        desk.set({"seed": 78})
        await one.close()

    asyncio.run(play())
    assert restore(tmp_path / "a.json", TABLE) == Kept({"seed": 78})


def test_where_nothing_changes_nothing_is_written(tmp_path: Path) -> None:
    async def play() -> None:
        await keeper(tmp_path / "a.json", Desk()).close()

    asyncio.run(play())
    assert list(tmp_path.iterdir()) == []


def test_a_stream_that_failed_was_not_asked_to_pause(tmp_path: Path) -> None:
    async def play() -> None:
        desk = Desk()
        one = keeper(tmp_path / "a.json", desk)
        desk.transport(PlayerState.FAILED)
        await one.close()

    asyncio.run(play())
    assert restore(tmp_path / "a.json", TABLE) == Kept({}, "playing")


def test_a_knob_in_motion_is_written_a_few_times_a_second_and_its_end_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[float] = []
    write = state.write_whole
    monkeypatch.setattr(state, "write_whole", lambda path, data: (written.append(time.monotonic()), write(path, data)))

    async def play() -> float:
        desk, path = Desk(), tmp_path / "a.json"
        one = keeper(path, desk)
        for turn in range(100):
            desk.set({"temperature": turn / 100})
            await asyncio.sleep(0.01)
        set_at = time.monotonic()
        while not path.exists() or json.loads(path.read_text())["values"].get("temperature") != 0.99:
            await asyncio.sleep(0.01)
        took = time.monotonic() - set_at
        await one.close()
        return took

    assert asyncio.run(play()) < 1.0
    assert 2 <= len(written) <= 1.5 / AFTER_SECONDS + 2


_KEEP = """
import asyncio, sys
from pathlib import Path
from typing import Any
sys.path.insert(0, {here!r})
from test_state import Desk, keeper

async def play() -> None:
    desk = Desk()
    keeper(Path({path!r}), desk)
    turn = 0
    while True:
        turn += 1
        desk.set({{"prompt/1/text": str(turn) * 200, "seed": turn}})
        print(turn, flush=True)
        await asyncio.sleep(0.05)

asyncio.run(play())
"""


@pytest.mark.slow
def test_killed_at_any_moment_the_file_is_whole_and_a_second_old_at_most(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    code = _KEEP.format(here=str(Path(__file__).parent), path=str(path))
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    newest = 0
    while newest < 45:
        newest = int(process.stdout.readline())
    process.send_signal(signal.SIGKILL)
    process.communicate()
    kept = restore(path, TABLE)
    assert kept is not None
    seed = int(kept.values["seed"])
    assert kept.values["prompt/1/text"] == str(seed) * 200
    assert newest - seed <= 1.0 / 0.05


def test_nothing_kept_is_no_news(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert restore(tmp_path / "none.json", TABLE) is None
    assert caplog.messages == []


@pytest.mark.parametrize(
    "text",
    ["", "{", '{"values": {}}', '{"values": [], "transport": "playing"}', "[1]", '{"values": {}, "transport": "x"}',
     "\udcff", "[" * 100_000],
)  # fmt: skip
def test_a_damaged_file_is_moved_aside_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture, text: str) -> None:
    path = tmp_path / "live.json"
    path.write_bytes(text.encode(errors="surrogateescape"))
    assert restore(path, TABLE) is None
    (line,) = caplog.messages
    assert f"what was kept in {str(path)!r} is damaged" in line
    assert line.endswith("moved to 'live.json.damaged'; starting anew")
    assert [file.name for file in tmp_path.iterdir()] == ["live.json.damaged"]


def test_what_fits_no_more_is_left_out_in_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "live.json"
    values = {"context_seconds": 25, "sparkle": 1, "temperature": 0.5, "top_k": "many", "mute": float("nan")}
    path.write_text(json.dumps({"values": values, "transport": "stopped"}))
    shorter = TABLE | {"context_seconds": session_table()["context_seconds"].__class__("float", 0.02, 7.52, 7, "s", "")}
    assert restore(path, shorter) == Kept({"temperature": 0.5}, "stopped")
    (line,) = caplog.messages
    for part in ("within 0.02 … 7.52 s", "no 'sparkle' any more", "top_k is the text 'many'", "mute is nan"):
        assert part in line


@pytest.mark.skipif(not hasattr(os, "geteuid") or sys.platform == "win32", reason="folders are closed elsewise")
def test_a_place_that_takes_nothing_is_said_once_and_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")

    async def play() -> None:
        desk = Desk()
        one = keeper(tmp_path / "file" / "live.json", desk)
        for seed in (1, 2):
            desk.set({"seed": seed})
            await asyncio.sleep(AFTER_SECONDS + 0.1)
        await one.close()

    with caplog.at_level(logging.WARNING):
        asyncio.run(play())
    (line,) = caplog.messages
    assert line.startswith("changes are not kept: ")
    assert line.endswith("choose another --state")


class Disk:
    """One that is full for so many writes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, full: int) -> None:
        self.tries, self._full, self._write = 0, full, state.write_whole
        monkeypatch.setattr(state, "write_whole", self._try)
        monkeypatch.setattr(state, "AFTER_SECONDS", 0.01)

    def _try(self, path: Path, data: bytes) -> None:
        self.tries += 1
        if self.tries <= self._full:
            raise OSError(28, "No space left on device")
        self._write(path, data)


def test_what_could_not_be_written_is_tried_again_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path, disk = tmp_path / "live.json", Disk(monkeypatch, full=3)
    monkeypatch.setattr(state, "AGAIN_SECONDS", 0.01)

    async def play() -> None:
        desk = Desk()
        one = keeper(path, desk)
        desk.set({"seed": 5})
        async with asyncio.timeout(20):
            while not path.exists():
                await asyncio.sleep(0.01)
        await one.close()

    asyncio.run(play())
    assert restore(path, TABLE) == Kept({"seed": 5})
    assert disk.tries == 4
    assert caplog.messages == [
        f"changes are not kept: {str(path)!r} cannot be written: No space left on device; choose another --state",
        f"changes are kept again: {str(path)!r}",
    ]


def test_the_end_tries_once_more_and_waits_for_no_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(monkeypatch, full=1_000_000)

    async def play() -> None:
        desk = Desk()
        one = keeper(tmp_path / "live.json", desk)
        desk.set({"seed": 5})
        async with asyncio.timeout(20):
            while not disk.tries:
                await asyncio.sleep(0.01)
        await asyncio.wait_for(one.close(), 20)

    monkeypatch.setattr(state, "AGAIN_SECONDS", 3600)
    asyncio.run(play())
    assert disk.tries == 2


def test_of_two_services_on_one_file_the_first_has_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "deep" / "live.json"
    with held(path) as first, held(path) as second:
        assert (first, second) == (True, False)
    (line,) = caplog.messages
    assert line.startswith(f"{str(path)!r}: another service that runs keeps its state there")
    assert line.endswith("choose another --state, or end the other")
    with held(path) as again, held(tmp_path / "deep" / "other.json") as other:
        assert again
        assert other


def test_where_nothing_can_be_locked_it_counts_as_ours(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("in the way")
    with caplog.at_level(logging.WARNING), held(tmp_path / "file" / "live.json") as ours:
        assert ours
    assert caplog.messages == []


def test_the_strongest_prompt_is_told_in_short() -> None:
    values = {"prompt/1/text": "piano", "prompt/2/text": "x" * 60, "prompt/2/weight": 2.0}
    assert Kept(values).in_words(TABLE) == f"'{'x' * 39} …', 1 more, playing"
    assert Kept({}, "stopped").in_words(TABLE) == "no prompt, stopped"


def test_the_operators_own_folder_one_file_a_port(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    assert state_file(8711) == tmp_path / "xdg" / "streamgen" / "live-8711.json"
    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    assert state_file(8712) == tmp_path / ".local" / "state" / "streamgen" / "live-8712.json"
