"""The client against the real native door, whose session plays a sine."""

from __future__ import annotations

import asyncio
import gc
import io
import json
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest
import soundfile
from websockets.asyncio.server import ServerConnection, serve
from websockets.typing import Subprotocol

from bridge.session.commands import Transport
from streamgen.client import Disconnected, Live, NoAnswer, Refused, connect
from streamgen.errors import ConfigError

from ..bridge.doors.web_session import RATE_HZ, Open, SineSession, assert_audio_came, serving, sine

EXAMPLE = Path(__file__).parents[2] / "examples" / "live_client.py"


async def heard(live: Live, frames: int, **options: object) -> tuple[int, np.ndarray]:
    parts, start = [], None
    async for chunk in await live.chunks(**options):  # type: ignore[arg-type]
        start = chunk.start_sample if start is None else start
        parts.append(chunk.samples)
        if sum(part.shape[1] for part in parts) >= frames:
            break
    assert start is not None
    return start, np.concatenate(parts, axis=1)


def test_every_sample_comes_in_the_sessions_own_bits() -> None:
    async def go() -> None:
        async with serving() as web, connect(f"127.0.0.1:{web.web.port}") as live:
            pace = asyncio.create_task(web.session.pace(4))
            start, samples = await heard(live, RATE_HZ, codec="f32le")
            np.testing.assert_array_equal(samples, sine(start, start + samples.shape[1]))
            later, samples = await heard(live, RATE_HZ // 2)  # again, on the same connection, in 16 bits
            assert later > start
            assert np.abs(samples - sine(later, later + samples.shape[1])).max() <= 1 / 65_536
            assert live.missed_samples == 0
            async with asyncio.timeout(5):  # who listens no more is sent no more
                while any(getattr(one, "wants_audio", True) for one in web.session.listeners):
                    await asyncio.sleep(0.01)
            pace.cancel()

    asyncio.run(go())


def test_it_closes_with_what_it_asked_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """To be sent no more audio: an answer that nobody takes is told at the end of the program, as a fault."""

    async def go() -> None:
        async with serving() as web, connect(f"127.0.0.1:{web.web.port}") as live:
            pace = asyncio.create_task(web.session.pace(4))
            await heard(live, RATE_HZ // 2)
            monkeypatch.setattr(live._socket, "send", lambda _message: asyncio.sleep(0))  # nobody hears it, nor answers
            async with asyncio.timeout(20):
                while live._quieting is None:
                    await asyncio.sleep(0.01)
            await live.close()
            assert live._quieting.done()
            pace.cancel()

    asyncio.run(go())


def test_it_steers_and_keeps_up_with_what_others_change() -> None:
    async def go() -> None:
        async with serving() as web, connect(f"http://127.0.0.1:{web.web.port}/") as live, connect(web.stream) as other:
            assert (live.sample_rate_hz, live.state, live.hello["model"]) == (RATE_HZ, "playing", "sine")
            events = live.events()
            first = asyncio.ensure_future(anext(events))
            await asyncio.sleep(0)
            assert await other.set({"temperature": 0.5}, at_sample=96_000) == 96_000
            with pytest.raises(ConfigError, match="no keyword 'at_smaple'; did you mean at_sample"):
                await other.set({"temperature": 0.5}, at_smaple=96_000)  # type: ignore[call-arg]
            event = await first
            assert (event["type"], event["values"]) == ("changed", {"temperature": 0.5})
            assert live.values["temperature"] == 0.5
            await live.transport("pause")
            assert isinstance(web.session.commands[-1], Transport)
            assert live.state == "paused"
            assert (await live.ask("get", name="temperature"))["values"] == {"temperature": 0.5}

    asyncio.run(go())


def test_audio_of_each_kind_is_sent_as_a_file_and_a_melody_ends_with_none() -> None:
    async def go() -> None:
        sound = io.BytesIO()
        soundfile.write(sound, np.zeros((4_000, 1)), 16_000, format="FLAC")
        async with serving() as web, connect(web.stream) as live:
            assert live.hello["follows"] == ["melody"]
            files = asyncio.gather(
                live.send_audio("melody", sound.getvalue(), at_sample=96_000),
                live.send_audio("audio_prompt", sound.getvalue()),  # at once: each waits for its turn
            )
            assert all(isinstance(sample, int) for sample in await files)
            await live.send_audio("melody", b"")
            assert_audio_came(web.session.commands)
            with pytest.raises(Refused) as refused:
                await live.send_audio("melody", b"not audio")
            assert refused.value.code == "bad_audio"
            with pytest.raises(Refused):
                await live.send_audio("audio_prompt", b"")
            assert await live.set({"temperature": 1.0}) == web.session.position

    asyncio.run(go())


def test_what_cannot_be_is_refused_with_a_code_and_the_rest_goes_on() -> None:
    async def go() -> None:
        async with serving() as web, connect(web.stream) as live:
            with pytest.raises(Refused, match="temperature") as refused:
                await live.set({"temperature": 99})
            assert refused.value.code == "bad_value"
            assert await live.set({"temperature": 1.0}) == web.session.position

    asyncio.run(go())


@pytest.mark.parametrize("value", [float("nan"), float("inf"), np.float32(0.5), b"rain"])
def test_what_json_has_not_is_refused_before_it_is_sent(value: object) -> None:
    async def go() -> None:
        async with serving() as web, connect(f"127.0.0.1:{web.web.port}") as live:
            with pytest.raises(ConfigError, match=r"set cannot be sent: .*; send texts, switches and finite numbers"):
                await live.set({"temperature": value})
            await live.set({"temperature": 0.5})

    asyncio.run(go())


def test_who_does_not_take_his_chunks_loses_the_oldest_and_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamgen.client._KEPT_SECONDS", 0.2)

    async def go() -> None:
        async with serving() as web, connect(web.stream) as live:
            chunks = await live.chunks(chunk_ms=20)
            first = asyncio.ensure_future(anext(chunks))
            pace = asyncio.create_task(web.session.pace())
            chunk = await first
            async with asyncio.timeout(10):
                while live.missed_samples < RATE_HZ // 10:
                    await asyncio.sleep(0.02)
            pace.cancel()
            after = await anext(chunks)
            assert after.start_sample == chunk.end_sample + live.missed_samples

    asyncio.run(go())


def test_a_lost_connection_ends_everything_that_waits() -> None:
    async def go(web: Open, live: Live) -> None:
        streams = [await live.chunks(), live.events()]
        waiting = [asyncio.ensure_future(anext(stream)) for stream in streams]
        await asyncio.sleep(0.05)
        await web.web.close("the service ends")
        assert (await asyncio.wait_for(waiting[1], 5))["type"] == "goaway"
        with pytest.raises(Disconnected):
            await asyncio.wait_for(waiting[0], 5)
        with pytest.raises(Disconnected):
            await anext(streams[1])
        with pytest.raises(Disconnected):
            await live.set({"temperature": 1.0})

    async def main() -> None:
        async with serving(session=SineSession()) as web, connect(web.stream) as live:
            await go(web, live)

    asyncio.run(main())


@pytest.fixture
def nobody() -> Iterator[str]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{taken.getsockname()[1]}"


def test_where_nobody_is_it_says_so(nobody: str) -> None:
    async def go(url: str) -> None:
        async with connect(url):
            pass

    with pytest.raises(Disconnected, match="no streamgen answers"):
        asyncio.run(go(nobody))
    with pytest.raises(ConfigError, match="must be like"):
        asyncio.run(go("ftp://x"))


HELLO = {"type": "hello", "sample_rate_hz": 48_000, "state": {"values": {}, "state": "playing"}}


@pytest.mark.parametrize("says", ["hello there", "5", "{}", "[" * 20_000, b"\0", '{"state": 5}'])
def test_what_is_no_streamgen_is_told(says: str | bytes) -> None:
    async def go() -> None:
        async with answering(says) as url, connect(url):
            pass

    with pytest.raises(Disconnected, match="no streamgen answers"):
        asyncio.run(go())


@pytest.mark.parametrize("says", ["hello there", "5", '{"type": "changed", "values": 5}', '{"type": "transport"}'])
def test_what_is_none_of_the_protocol_ends_the_connection(says: str) -> None:
    async def go() -> None:
        async with answering(json.dumps(HELLO), says) as url, connect(url) as live:
            await anext(live.events())

    with pytest.raises(Disconnected, match=r"not of streamgen\.v1"):
        asyncio.run(go())


def test_a_server_that_goes_while_it_is_asked_leaves_nothing_behind() -> None:
    """An answer that nobody takes is told by the event loop at the end, as a fault of ours."""
    told: list[object] = []

    async def go() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
        async with answering(json.dumps(HELLO), "hello there") as url, connect(url) as live:
            with pytest.raises(Disconnected):
                await asyncio.gather(*(live.set({"temperature": 1.0}) for _ in range(20)))

    asyncio.run(go())
    gc.collect()
    assert told == []


@pytest.mark.parametrize("answer", [{}, {"applied_at_sample": "x"}, {"applied_at_sample": None}])
def test_an_answer_without_a_sample_is_told(answer: dict[str, object]) -> None:
    async def go() -> None:
        early = json.dumps({"type": "ack", "id": 1, **answer})
        async with answering(json.dumps(HELLO)) as url, connect(url) as live:
            asked = asyncio.ensure_future(live.set({"temperature": 1.0}))
            await asyncio.sleep(0)
            live._told(json.loads(early), len(early))
            await asked

    with pytest.raises(Disconnected, match="applied_at_sample is"):
        asyncio.run(go())


def test_what_nobody_takes_is_kept_within_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamgen.client._EVENTS_KEPT_CHARACTERS", 1_000)

    async def go() -> None:
        async with answering(json.dumps(HELLO)) as url, connect(url) as live:
            events = live.events()
            for number in range(500):
                live._told({"type": "stats", "number": number, "words": "x" * 100}, 150)
            assert (await anext(events))["number"] == 494, "the newest thousand characters"

    asyncio.run(go())


def test_a_service_that_does_not_answer_is_given_up_in_one_line_and_the_connection_stands() -> None:
    async def go() -> None:
        async with serving() as web, connect(web.stream, answer_seconds=0.2) as live:
            web.session.work_seconds = 1.0
            with pytest.raises(NoAnswer, match=r"not answered 'set' within 0\.2 s: it hangs, or has much"):
                await live.set({"temperature": 0.5})
            web.session.work_seconds = 0.0
            async with asyncio.timeout(20):
                while live.values["temperature"] != 0.5:  # it was done after all, and is told
                    await asyncio.sleep(0.01)
            assert await live.set({"temperature": 0.7}) >= 0
            assert not live._asked
        for wrong in (0, -1, float("nan")):
            with pytest.raises(ConfigError, match="answer_seconds is"):
                async with connect("127.0.0.1:1", answer_seconds=wrong):
                    pass
        async with serving() as web, connect(web.stream, answer_seconds=None) as live:
            assert await live.transport("pause") >= 0

    asyncio.run(go())


@asynccontextmanager
async def answering(*messages: str | bytes) -> AsyncIterator[str]:
    """Give the address of somebody who says this to whoever connects."""

    async def say(socket: ServerConnection) -> None:
        for message in messages:
            await socket.send(message)
        await socket.wait_closed()

    async with serve(say, "127.0.0.1", 0, subprotocols=[Subprotocol("streamgen.v1")]) as server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


def test_a_token_is_shown_and_a_wrong_one_told() -> None:
    async def go() -> None:
        async with serving(token="secret") as web:
            place = f"http://127.0.0.1:{web.web.port}"
            for url, token in ((place, "secret"), (f"{place}/#token=secret", None)):
                async with connect(url, token=token) as live:
                    assert live.hello["session"] == "live"
            with pytest.raises(Disconnected, match="token is wrong"):
                async with connect(place, token="no"):
                    pass

    asyncio.run(go())


@pytest.mark.slow
def test_the_example_hears_and_turns_the_prompt(tmp_path: Path) -> None:
    async def go() -> str:
        async with serving() as web:
            pace = asyncio.create_task(web.session.pace(2))
            words = ["--url", f"127.0.0.1:{web.web.port}", "--seconds", "2", "--out", str(tmp_path / "heard.wav")]
            process = await asyncio.create_subprocess_exec(
                sys.executable, str(EXAMPLE), *words, stdout=asyncio.subprocess.PIPE
            )
            said, _ = await asyncio.wait_for(process.communicate(), 30)
            pace.cancel()
            assert process.returncode == 0
            ((at, values),) = web.session.sets
            assert values == {"prompt/1/text": "solo piano, 94 bpm"}
            assert at > RATE_HZ
            return said.decode()

    said = asyncio.run(go())
    assert "set {'prompt/1/text': 'solo piano, 94 bpm'}" in said
    assert "0 samples missed" in said
    assert soundfile.info(tmp_path / "heard.wav").frames >= 2 * RATE_HZ


def test_importing_it_imports_no_torch() -> None:
    code = "import sys, streamgen.client; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
