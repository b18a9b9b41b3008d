"""Sound by UDP over real sockets: to a reader of this test's own, and to ffmpeg by its description."""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bridge.doors.udp.door import UdpDoor
from bridge.errors import BridgeError, UsageError
from bridge.session.commands import Action, Transport

from ..web_session import RATE_HZ, Open, SineSessions, serving, sine
from .test_packets import read_reastream, read_rtp


class Receiver(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.came: list[tuple[float, bytes]] = []

    def datagram_received(self, data: bytes, addr: object) -> None:
        self.came.append((asyncio.get_running_loop().time(), data))


@asynccontextmanager
async def sending(**settings: object) -> AsyncIterator[tuple[Open, UdpDoor]]:
    async with serving(token="secret") as web:
        service = web.service
        service.places.update(web.web.places())
        door = UdpDoor(replace(service, settings=replace(service.settings, **settings)))  # type: ignore[arg-type]
        await door.open(SineSessions(web.session))
        playing = asyncio.create_task(web.session.run())
        try:
            yield web, door
        finally:
            playing.cancel()
            await asyncio.gather(playing, return_exceptions=True)
            await door.close("the test is over")
            assert web.session.listeners == []
            assert service.routes.streams == {}


@asynccontextmanager
async def listening() -> AsyncIterator[tuple[Receiver, str]]:
    transport, receiver = await asyncio.get_running_loop().create_datagram_endpoint(
        Receiver, local_addr=("127.0.0.1", 0)
    )
    own = transport.get_extra_info("socket")
    own.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)  # what a busy machine sends at once fits
    try:
        yield receiver, "{}:{}".format(*transport.get_extra_info("sockname"))
    finally:
        transport.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


def test_both_formats_are_the_stream_sent_when_it_is_due_and_not_before() -> None:
    async def go() -> None:
        async with (
            listening() as (rea, rea_place),
            listening() as (rtp, rtp_place),
            sending(reastream=(rea_place,), rtp=rtp_place) as (web, door),
        ):
            session = web.session
            await until(lambda: len(rea.came) > 60)
            assert len(rea.came) * 150 <= session.timeline.due() + 150
            page = web.service.places["page"]
            assert door.places() == {"reastream": rea_place, "rtp": f"{page}rtp.sdp"}
            await session.do(Transport(Action.PAUSE, "test"))
            await until(lambda: len(rtp.came) == session.position // 48)  # what was final is heard, and no more
            await session.do(Transport(Action.PLAY, "test"))
            count = len(rtp.came)
            await until(lambda: len(rtp.came) > count + 50)
            assert door.stats()["receivers"] == 2
            assert door.stats()["packets_total"] >= len(rea.came) + len(rtp.came)  # some are on their way
        heard = np.concatenate([read_reastream(data) for _, data in rea.came], axis=1)
        np.testing.assert_array_equal(heard, sine(0, heard.shape[1]))
        read = [read_rtp(data) for _, data in rtp.came]
        heard = np.concatenate([packet[4] for packet in read], axis=1)
        assert np.abs(heard - sine(0, heard.shape[1])).max() < 2**-23
        assert [packet[1] for packet in read] == [(read[0][1] + n) % 2**16 for n in range(len(read))]

    asyncio.run(go())


def test_the_description_asks_for_the_token() -> None:
    async def go() -> None:
        async with sending(rtp="127.0.0.1") as (web, _):
            assert (await web.http("/rtp.sdp"))[0] == 401
            status, headers, body = await web.http("/rtp.sdp?token=secret")
            assert (status, headers["Content-Type"]) == (200, "application/sdp; charset=utf-8")
            assert b"\r\nm=audio 5004 RTP/AVP 97\r\n" in body
            assert (await web.http("/rtp.sdp2?token=secret"))[0] == 404

    asyncio.run(go())


@pytest.mark.slow
def test_ffmpeg_finds_it_by_its_description_and_hears_the_stream(tmp_path: Path) -> None:
    program = shutil.which("ffmpeg")
    if program is None:
        pytest.skip("needs ffmpeg")
    try:
        assert_ffmpeg_hears_the_stream(program, tmp_path / "heard.raw")
    except AssertionError:  # a packet that comes late on a busy machine is lost to ffmpeg: not twice
        assert_ffmpeg_hears_the_stream(program, tmp_path / "again.raw")


def assert_ffmpeg_hears_the_stream(program: str, out: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    async def go() -> None:
        async with sending(rtp=f"127.0.0.1:{port}") as (web, _):
            url = f"http://127.0.0.1:{web.web.port}/rtp.sdp?token=secret"
            words = [program, "-v", "warning", "-protocol_whitelist", "http,tcp,udp,rtp", "-f", "sdp", "-i", url]
            words += ["-t", "3", "-f", "s32le", str(out)]
            ffmpeg = await asyncio.create_subprocess_exec(*words, stderr=subprocess.PIPE)
            _, said = await asyncio.wait_for(ffmpeg.communicate(), 30)
            assert (ffmpeg.returncode, said) == (0, b"")

    asyncio.run(go())
    heard = np.fromfile(out, "<i4").reshape(-1, 2).T / 2**31
    assert heard.shape[1] == 3 * RATE_HZ
    whole = sine(0, 30 * RATE_HZ)
    period = RATE_HZ // 20  # of both sines together
    starts = [start for start in range(period) if np.abs(heard[:, 0] - whole[:, start]).max() < 2**-20]
    assert any(np.abs(heard - whole[:, start : start + heard.shape[1]]).max() < 2**-20 for start in starts)


def test_what_is_no_place_and_a_host_that_is_not_there_are_told_before_anything_opens() -> None:
    async def go() -> None:
        async with serving() as web:
            service = web.service
            settings = replace(service.settings, rtp="here:port")
            with pytest.raises(UsageError, match="--rtp is 'here:port'"):
                UdpDoor(replace(service, settings=settings))
            settings = replace(service.settings, reastream=("no.such.invalid",))
            with pytest.raises(BridgeError, match=r"--reastream is 'no\.such\.invalid:58710', but there is no way"):
                UdpDoor(replace(service, settings=settings))

    asyncio.run(go())
