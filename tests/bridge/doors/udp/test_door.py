"""Sound by UDP over real sockets: to a reader of this test's own, and to ffmpeg by its description."""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator
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


async def listening() -> tuple[asyncio.DatagramTransport, Receiver, int]:
    transport, receiver = await asyncio.get_running_loop().create_datagram_endpoint(
        Receiver, local_addr=("127.0.0.1", 0)
    )
    return transport, receiver, int(transport.get_extra_info("sockname")[1])


def test_both_formats_are_the_stream_sent_as_it_is_due() -> None:
    async def go() -> None:
        one, rea, rea_port = await listening()
        two, rtp, rtp_port = await listening()
        async with sending(reastream=(f"127.0.0.1:{rea_port}",), rtp=f"127.0.0.1:{rtp_port}") as (web, door):
            await asyncio.sleep(0.4)
            due = web.session.timeline.due()
            sent = sum(read_reastream(data).shape[1] for _, data in rea.came)
            assert due - 0.1 * RATE_HZ < sent <= due + 150, "when it is due, not when it is made"
            assert door.places() == {
                "reastream": f"127.0.0.1:{rea_port}", "rtp": f"{web.service.places['page']}rtp.sdp"
            }  # fmt: skip
            await web.session.do(Transport(Action.PAUSE, "test"))
            await asyncio.sleep(0.3)  # what was final is heard
            count = len(rea.came)
            await asyncio.sleep(0.05)
            assert len(rea.came) == count, "a pause is silent"
            await web.session.do(Transport(Action.PLAY, "test"))
            await asyncio.sleep(0.1)
            assert door.stats() == {"receivers": 2, "packets_total": len(rea.came) + len(rtp.came)}
        heard = np.concatenate([read_reastream(data) for _, data in rea.came], axis=1)
        np.testing.assert_array_equal(heard, sine(0, heard.shape[1]))
        read = [read_rtp(data) for _, data in rtp.came]
        heard = np.concatenate([packet[4] for packet in read], axis=1)
        assert np.abs(heard - sine(0, heard.shape[1])).max() < 2**-23
        assert [packet[0] for packet in read].count(True) == 2
        one.close()
        two.close()

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
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    out = tmp_path / "heard.raw"

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


def test_what_is_no_place_is_told_before_anything_opens_and_a_host_that_is_not_there() -> None:
    async def go() -> None:
        async with serving() as web:
            service = web.service
            settings = replace(service.settings, rtp="here:port")
            with pytest.raises(UsageError, match="--rtp is 'here:port'"):
                UdpDoor(replace(service, settings=settings))
            door = UdpDoor(replace(service, settings=replace(service.settings, reastream=("no.such.invalid",))))
            with pytest.raises(BridgeError, match=r"--reastream is 'no\.such\.invalid:58710', but there is no way"):
                await door.open(SineSessions(web.session))
            await door.close("the test is over")

    asyncio.run(go())
