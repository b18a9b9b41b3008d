from __future__ import annotations

import asyncio
import importlib.util
import json
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from bridge.doors.access import Access
from bridge.doors.door import Service
from bridge.doors.link import wire
from bridge.doors.link.door import LinkDoor
from bridge.doors.link.peer import LinkPeer
from bridge.errors import BridgeError
from bridge.metrics import Metrics
from bridge.session.commands import Action, Set, Transport
from bridge.settings import Settings

from ..web_session import SineSession

ALONE = ["unshare", "--user", "--map-root-user", "--net", "sh", "-c",
         'ip link set lo up multicast on && ip route add 224.0.0.0/4 dev lo && exec "$@"', "alone"]  # fmt: skip


def made(**settings: object) -> LinkDoor:
    return LinkDoor(Service(Settings(**settings), Access("127.0.0.1"), Metrics()))  # type: ignore[arg-type]


def test_it_is_off_unless_it_is_asked_for() -> None:
    async def go() -> None:
        door = made()
        await door.open(SimpleNamespace(live=SineSession()))
        assert door.places() == {}
        assert door.peer is None
        await door.close("the test is over")

    asyncio.run(go())


def test_an_interface_that_is_not_here_is_one_line_before_anything_opens() -> None:
    with pytest.raises(BridgeError, match=r"Link cannot be joined at 192\.0\.2\.7: .*--link-interface"):
        made(link=True, link_interface="192.0.2.7")
    made(link=False, link_interface="192.0.2.7")


def test_the_session_goes_with_the_room_and_the_room_with_the_session(monkeypatch: pytest.MonkeyPatch) -> None:
    """The room is a peer on a socket of its own, that answers the door's messages as a group would."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setattr(wire, "PORT", free.getsockname()[1])  # where nobody else's Link is heard

    async def go() -> None:
        session, loop = SineSession(), asyncio.get_running_loop()
        session.timeline.start(0)
        door = made(link=True, link_interface="127.0.0.1")
        await door.open(SimpleNamespace(live=session))
        own = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        own.bind(("127.0.0.1", 0))
        own.setblocking(False)
        port = door.places()["link_port"]

        def send(data: bytes, place: wire.Place | None) -> None:
            own.sendto(data, place or ("127.0.0.1", port))

        room = LinkPeer(lambda: 1e6 * session.timeline.now(), send, own.getsockname(), 133.7)
        room._answers = True
        loop.add_reader(own, lambda: room.received(*own.recvfrom(2_000)))

        async def until(condition, *, there: bool = True) -> None:
            async with asyncio.timeout(20):
                while not condition():
                    if there:
                        room.announce()  # the answer says what the group is told
                    await asyncio.sleep(0.02)

        await until(lambda: session.timeline.source == "link")
        assert session.timeline.bpm(0) == pytest.approx(133.7, abs=0.001)
        await until(lambda: session.sets)
        assert session.sets == [(0, {"tempo": 133.7})], "the words follow once it has settled"
        assert session.commands[0].by == "link"
        await session.do(Set({"tempo": 90.0}, "osc"))
        await until(lambda: abs(room.tempo.bpm - 90) < 0.01)
        assert session.timeline.bpm(0) == pytest.approx(90, abs=0.001)
        room.set_playing(True)
        await until(lambda: len(session.commands) == 3)
        assert session.commands[-1].action is Action.PLAY
        assert session.commands[-1].at.every == 4, "on a bar"
        room.set_playing(False)
        await until(lambda: len(session.commands) == 4)
        assert session.commands[-1].action is Action.PAUSE
        await session.do(Transport(Action.PLAY, "osc"))
        await until(lambda: room.play.playing)
        counted = {"link_peers": 1, "link_tempo_changes_total": 2, "link_audio_messages_total": 0}
        assert door.stats() == counted
        room.close()
        await until(lambda: session.timeline.source == "internal", there=False)
        await door.close("the test is over")
        loop.remove_reader(own)
        own.close()
        assert session.listeners == []

    asyncio.run(go())


@pytest.mark.slow
def test_with_ableton_s_own_library() -> None:
    """Joins within half a second, brings no tempo, counts the same beats within a millisecond from 60 to 180 bpm."""
    if importlib.util.find_spec("link") is None:
        pytest.skip("needs LinkPython-extern, of the extra `test`")
    if shutil.which("unshare") is None or subprocess.run([*ALONE, "true"], check=False, capture_output=True).returncode:
        pytest.skip("needs a network namespace of its own: `unshare --user --net`, and `ip`")
    try:
        assert_plays_with_the_library()
    except AssertionError:  # a busy machine is late once: not twice
        assert_plays_with_the_library()


def assert_plays_with_the_library() -> None:
    scene = Path(__file__).with_name("guest.py")
    done = subprocess.run([*ALONE, sys.executable, scene], check=False, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["joined_seconds"] < 0.5
    assert found["tempo_after_joining"] == pytest.approx(133.7, abs=0.001)
    assert max(found["errors_ms"]) < 1
    assert (found["tempo_here"], found["tempo_there"]) == (180, pytest.approx(77, abs=0.001))
    assert (found["play"], found["stop"], found["peers"]) == ("playing", "paused", 1)
    assert found["tempo_alone"] == pytest.approx(77, abs=0.001)
    numbers = [beat for _, beat in found["beats"]]
    assert numbers == list(range(numbers[0], numbers[-1] + 1)), "each is told once"
