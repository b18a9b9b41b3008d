"""Servers that are none, broken or hostile, by the hundred, against our clients: `listen`, Python, Icecast's source.

More of them, drawn from another seed: STREAMGEN_TORMENT_SERVERS=340 STREAMGEN_TORMENT_SEED=7.
"""

from __future__ import annotations

import asyncio
import base64
import gc
import hashlib
import json
import os
import random
import re
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from types import SimpleNamespace
from typing import Any

import pytest

from bridge.doors.access import Limits
from bridge.doors.native.client import ListenClient, Received, stream_url
from bridge.doors.native.frames import AudioHeader
from bridge.doors.radio.icecast import IcecastSource, mount_of
from bridge.errors import BridgeError
from bridge.metrics import Metrics
from streamgen.client import connect
from streamgen.errors import StreamgenError

from ..bridge.doors.mutations import WRONG

pytestmark = pytest.mark.slow

COUNT, SEED = (
    int(os.environ.get(f"STREAMGEN_TORMENT_{name}", usual)) for name, usual in (("SERVERS", 60), ("SEED", 0))
)
ESCAPES = "\x1b]0;owned\x07\x1b[2J\nstreamgen: forged\u202e"
HELLO = {
    "type": "hello", "protocol": "streamgen.v1", "session": "live", "model": "sine", "sample_rate_hz": 48_000,
    "state": {"state": "playing", "values": {"temperature": 1.0}}, "parameters": [{"name": "temperature"}],
}  # fmt: skip
MESSAGES: list[dict[str, Any]] = [
    HELLO,
    {"type": "gap", "samples": 100, "rate_hz": 48_000, "reason": "underrun"},
    {"type": "changed", "values": {"temperature": 0.5}},
    {"type": "transport", "state": "paused"},
    {"type": "error", "code": "bad_value", "message": ESCAPES, "id": 1},
    {"type": "ack", "applied_at_sample": 5, "id": 1},
    {"type": "goaway", "reason": ESCAPES},
]
HEADS = ["101 Switching Protocols"] * 6 + [
    "200 OK",
    "302 Found",
    f"401 {ESCAPES}",
    "503 " + "A" * 9_000,
    "A" * 70_000,
    "",
]
HEADERS = [
    "Location: ws://127.0.0.1:1/",
    f"Upgrade: {ESCAPES}",
    "Content-Length: 99999999999",
    "X: " + "y" * 9_000,
    "no",
]
BODIES = [
    b"\x82\x7f" + (2**40).to_bytes(8, "big"), b"\x81\x7e\xff\xff" + b"{" * 65_535, b"\x01\x01{" * 3_000,
    b"\x89\x00" * 9_000,
    b"\xf1\x00", b"\x88\x16\x03\xf0\x1b[2J\nstreamgen: forged",
]  # fmt: skip
FRAME = AudioHeader(0, 2, 0, 0, 0, 0, 48_000, 100).pack() + bytes(400)


def message(draw: random.Random) -> str | bytes:
    """What a server says: right, with a wrong value somewhere, or broken."""
    if draw.random() < 0.3:
        data = bytearray(FRAME)
        data[draw.randrange(32)] = draw.randrange(256)
        return bytes(data[: draw.choice([len(data), len(data), draw.randrange(len(data))])])
    said = place = json.loads(json.dumps(draw.choice(MESSAGES)))
    while isinstance(inside := place[key := draw.choice([*place])], dict) and inside:
        place = inside
    place[key] = draw.choice([inside, *WRONG])
    text = json.dumps(said)
    return text if draw.random() < 0.8 else text[: draw.randrange(len(text))]


def websocket(data: str | bytes) -> bytes:
    """Put a message into one frame."""
    raw = data if isinstance(data, bytes) else data.encode(errors="replace")
    return bytes([0x82 if isinstance(data, bytes) else 0x81, 126]) + len(raw).to_bytes(2, "big") + raw


def answer(draw: random.Random, request: bytes) -> bytes:
    """A server's whole answer to a request."""
    found = re.search(rb"Sec-WebSocket-Key: (\S+)", request)
    key = hashlib.sha1((found[1] if found else b"") + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
    right = ["Upgrade: websocket", "Connection: Upgrade", f"Sec-WebSocket-Accept: {base64.b64encode(key).decode()}"]
    lines = [f"HTTP/1.1 {draw.choice(HEADS)}", *right, "Sec-WebSocket-Protocol: streamgen.v1"]
    if draw.random() < 0.4:
        lines = [*draw.sample(lines, draw.randrange(1, 5)), *draw.sample(HEADERS, 2)]
    told = [json.dumps(HELLO)] * (draw.random() < 0.7) + [message(draw) for _ in range(draw.randrange(6))]
    body = b"".join(map(websocket, told)) if draw.random() < 0.7 else draw.choice(BODIES)
    return "\r\n".join(lines).encode(errors="replace") + b"\r\n\r\n" * (draw.random() < 0.9) + body


@asynccontextmanager
async def hostile(draw: random.Random) -> AsyncIterator[str]:
    """Give the place of a server that answers everybody alike, and then goes in one way or another."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError, TimeoutError):
            async with asyncio.timeout(1):
                data = answer(draw, await reader.readuntil(b"\r\n\r\n"))
            for start in range(0, len(data), step := draw.choice([len(data), len(data), len(data) // 9 + 1])):
                writer.write(data[start : start + step])
                await asyncio.sleep(0.01)
            await asyncio.sleep(draw.choice([0.0, 0.1]))
            if draw.random() < 0.2:
                writer.write_eof()
        writer.transport.abort() if draw.random() < 0.5 else writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    server.close()


class Sink:
    def write(self, samples: Any, rate_hz: int) -> None:
        assert samples.shape[0] == 2
        assert rate_hz


async def listen(place: str, told: list[str]) -> None:
    url = stream_url(place, {"token": "sesame"})
    with suppress(TimeoutError):
        async with asyncio.timeout(1):
            await ListenClient(url, {}, Sink(), Received(1.0), False, told.append).listen()


async def follow(place: str, _told: list[str]) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(1), connect(place, token="sesame", timeout_seconds=0.8) as live:
            await live.set({"temperature": 0.5})
            async for chunk in await live.chunks():
                assert chunk.samples.size


async def send(place: str, _told: list[str]) -> None:
    async def leave(*_: object) -> None: ...

    station = SimpleNamespace(join=lambda _codec, listener: listener.begin(b"ID3", []), leave=leave)
    mount = mount_of(f"http://source:sesame@{place}/live.mp3")
    source = asyncio.create_task(IcecastSource(mount, station, 48_000, Limits(), Metrics()).run())  # type: ignore[arg-type]
    done, _ = await asyncio.wait([source], timeout=0.3)
    assert not done, "it is tried again for ever"
    source.cancel()
    await asyncio.gather(source, return_exceptions=True)


@pytest.mark.parametrize("client", [listen, follow, send])
def test_a_hostile_server_is_one_line_and_no_fault_of_ours(client: Any, caplog: pytest.LogCaptureFixture) -> None:
    draw, score, told, faults = random.Random(SEED), Counter[str](), list[str](), list[object]()

    async def go() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
        for _ in range(COUNT):
            async with hostile(draw) as place:
                try:
                    await client(place, told)
                    score["ended or cut off"] += 1
                except (BridgeError, StreamgenError) as error:
                    score[type(error).__name__] += 1
                    told.append(str(error))

    asyncio.run(go(), debug=False)
    gc.collect()
    lines = [*told, *(one.getMessage() for one in caplog.records if one.name in ("bridge.doors", "bridge.client"))]
    print(client.__name__, COUNT, dict(score), len(lines), "lines")
    assert faults == []
    assert lines
    for line in lines:
        assert line.isprintable(), line
        assert len(line) < 1_100
        assert "sesame" not in line
