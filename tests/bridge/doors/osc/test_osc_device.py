"""The door and real OSC programs: liblo over UDP and TCP, Pd. Needs the packages liblo-tools and puredata-core."""

from __future__ import annotations

import asyncio
import re
import shutil
import socket
import struct
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from bridge.doors.osc.codec import Message, OscError
from bridge.doors.osc.door import OscDoor
from bridge.doors.osc.namespace import Namespace
from bridge.session.parameters import session_table

from .stage import opened

EXAMPLES = Path(__file__).parents[4] / "examples"
pytestmark = pytest.mark.device


def needs(program: str, package: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"{program} is absent: apt install {package}")


liblo = needs("oscsend", "liblo-tools")


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def played(sine_session: Callable[..., Any], test: Callable[[Any, OscDoor], Awaitable[None]]) -> None:
    async def main() -> None:
        session = sine_session()
        run = asyncio.create_task(session.run())
        door = await opened(session)
        try:
            await asyncio.wait_for(test(session, door), 30)
        finally:
            await door.close("the test is over")
            run.cancel()

    asyncio.run(main())


async def oscsend(url: str, *arguments: str) -> None:
    process = await asyncio.create_subprocess_exec("oscsend", url, *arguments)
    assert await process.wait() == 0


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.02)


@liblo
@pytest.mark.parametrize("protocol", ["udp", "tcp"])
def test_oscsend_changes_the_prompt_and_oscdump_sees_it(sine_session, protocol: str) -> None:
    async def test(session: Any, door: OscDoor) -> None:
        url, port = f"osc.{protocol}://127.0.0.1:{door.port}/", free_port()
        dump = await asyncio.create_subprocess_exec("oscdump", "-L", str(port), stdout=subprocess.PIPE)
        assert dump.stdout is not None
        await asyncio.sleep(0.3)
        await oscsend(url, "/streamgen/subscribe", "i", str(port))
        await until(lambda: door.stats()["listeners"] == 1)
        await oscsend(url, "/streamgen/prompt", "s", "techno, 130 bpm")
        await oscsend(url, "/streamgen/guidance_scale", "f", "4.5")
        await oscsend(url, "/streamgen/mute", "T")
        await oscsend(url, "/streamgen/seed", "h", "12")
        await oscsend(url, "/streamgen/top_p", "d", "0.5")
        await oscsend(url, "/streamgen/pause", "I")
        await until(lambda: not session.state().plays and session.values()["top_p"] == 0.5)
        await asyncio.sleep(0.3)
        dump.terminate()
        text = (await dump.stdout.read()).decode()
        assert session.values()["prompt/1/text"] == "techno, 130 bpm"
        assert (session.values()["mute"], session.values()["seed"]) == (True, 12)
        for line in (
            '/streamgen/prompt s "techno, 130 bpm"', "/streamgen/guidance_scale f 4.500000",
            "/streamgen/mute i 1", "/streamgen/seed i 12", "/streamgen/play i 0", "/streamgen/heartbeat i",
            '/streamgen/state s "paused"',
        ):  # fmt: skip
            assert line in text
        assert "/streamgen/meter ff" in text
        await dump.wait()

    played(sine_session, test)


@needs("pd", "puredata-core")
def test_the_pd_example_subscribes_and_sends(sine_session, tmp_path: Path) -> None:
    async def test(session: Any, door: OscDoor) -> None:
        patch = (EXAMPLES / "streamgen.pd").read_text()
        patch = patch.replace("8712;", f"{door.port};").replace("9001;", f"{free_port()};")
        # what a hand would do: 0.4 s after loading, click the second prompt (9) and move the slider (12)
        patch += "#X obj 700 20 delay 400;\n#X msg 700 40 0.25;\n"
        patch += "#X connect 1 0 36 0;\n#X connect 36 0 9 0;\n#X connect 36 0 37 0;\n#X connect 37 0 12 0;\n"
        (tmp_path / "x.pd").write_text(patch)
        pd = await asyncio.create_subprocess_exec(
            "pd", "-nogui", "-noaudio", "-stderr", str(tmp_path / "x.pd"), stderr=subprocess.PIPE
        )
        assert pd.stderr is not None
        await until(lambda: session.values()["guidance_scale"] == 5.0)
        await until(lambda: session.values()["prompt/1/text"] == "techno, 130 bpm")
        await asyncio.sleep(0.5)
        pd.terminate()
        said = (await pd.stderr.read()).decode()
        await pd.wait()
        assert "guidance_scale 5" in said
        assert "unknown tag" not in said
        assert "error" not in said
        assert door.counters.refused == {}

    played(sine_session, test)


def test_the_audio_receiver_saves_what_was_played(sine_session, tmp_path: Path) -> None:
    async def test(session: Any, door: OscDoor) -> None:
        await asyncio.sleep(0.3)
        out = tmp_path / "heard.wav"
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(EXAMPLES / "osc_audio_receiver.py"), "--port", str(door.port), "--seconds", "2",
            "--out", str(out), stdout=subprocess.PIPE,
        )  # fmt: skip
        said, _ = await process.communicate()
        heard, rate = soundfile.read(out, always_2d=True)
        assert rate == 48_000
        assert len(heard) > 1.5 * rate
        assert b" 0 are missing" in said
        # a sine is known by its phase: every frame at its place, none missing or twice
        for channel, hz in ((0, 440), (1, 660)):
            turn = np.exp(2j * np.pi * hz * np.arange(len(heard)) / rate)
            phase = np.angle((heard[:, channel] * turn.conj())[:rate].sum())
            expected = 0.5 * np.cos(2 * np.pi * hz * np.arange(len(heard)) / rate + phase)
            assert np.abs(heard[:, channel] - expected).max() < 2e-3

    played(sine_session, test)


def test_the_receivers_jitter_buffer_orders_and_fills() -> None:
    import importlib.util

    spec = importlib.util.spec_from_file_location("receiver", EXAMPLES / "osc_audio_receiver.py")
    assert spec is not None
    assert spec.loader is not None
    receiver = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(receiver)
    buffer, silence = receiver.JitterBuffer(depth=3), bytes(4)
    assert buffer.pull() == b""
    for sequence in (7, 6, 5, 9, 10):
        buffer.push(sequence, struct.pack("<i", sequence))
    expected = [struct.pack("<i", number) for number in range(5, 11)]
    expected[3] = silence
    assert [buffer.pull() for _ in range(6)] == expected
    assert buffer.lost == 1
    buffer.push(1000, b"far")
    assert buffer.pull() == b"far"


@pytest.mark.parametrize("name", ["streamgen.pd", "streamgen.scd"])
def test_the_examples_name_addresses_that_are_there(name: str) -> None:
    text = (EXAMPLES / name).read_text()
    addresses = {word.replace("@", "1") for word in re.findall(r"/streamgen/[\w/@]+", text)}
    patches = re.findall(r"oscformat streamgen ([\w ]+);", text)
    addresses |= {"/streamgen/" + words.replace(" ", "/") for words in patches}
    assert len(addresses) >= 5
    assert [address for address in addresses if _unknown(address)] == []
    assert len(text.splitlines()) < 100


def _unknown(address: str) -> bool:
    try:
        Namespace(session_table()).interpret(Message(address))
    except OscError as error:
        return error.reason == "unknown_address"
    return False
