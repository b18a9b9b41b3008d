"""The ES module in Node and in Chromium, against the real native door."""

from __future__ import annotations

import asyncio
import io
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from bridge.audio.conversion import to_s16
from bridge.session.commands import Set

from ...real_parts import chromium
from ...service.running import Service
from ..doors.web_session import RATE_HZ, assert_audio_came, serving, sine

CLIENT = Path(__file__).parents[3] / "bridge" / "web" / "client.js"
EXAMPLES = Path(__file__).parents[3] / "examples"
HEAR = """async (url) => {
  const { connect } = await import(url + "client.js");
  const live = await connect(url);
  const changed = new Promise((done) => live.addEventListener("changed", ({ detail }) => done(detail.values)));
  const refused = await live.set({ temperature: 99 }).catch((error) => error.code);
  const at = await live.set({ "prompt/1/text": "rain" });
  const told = { at, refused, changed: await changed, text: live.values["prompt/1/text"], positions: [] };
  for await (const { position, frames } of live.chunks()) if (told.positions.push([position, frames]) > 20) break;
  const context = new AudioContext();
  const stop = await live.play(context);
  const patience = Date.now() + 60_000; // a sound system takes its time
  while (context.currentTime < 0.5 && Date.now() < patience) await new Promise((done) => setTimeout(done, 20));
  stop();
  told.time = context.currentTime;
  live.close();
  await context.close();
  return told;
}"""

SEND = """
  import { openAsBlob } from "node:fs";
  import { readFile } from "node:fs/promises";
  const [module, url, path] = process.argv.slice(1);
  const { connect } = await import(module);
  const live = await connect(url);
  const bytes = await readFile(path), why = ({ code, message }) => [code, message];
  const sent = await Promise.all([
    live.sendAudio("melody", bytes, { at_sample: 96_000 }), // at once: each waits for its turn
    live.sendAudio("audio_prompt", await openAsBlob(path)),
    live.sendAudio("melody", new Uint8Array()),
  ]);
  const refused = [
    await live.sendAudio("melody", new TextEncoder().encode("not audio")).catch(why),
    await live.sendAudio("audio_prompt", new ArrayBuffer()).catch(why),
    await live.sendAudio("song", bytes).catch(why),
    await live.sendAudio("melody", path).catch(why),
  ];
  const at = await live.set({ temperature: 1 });
  live.close();
  const lost = await live.sendAudio("melody", bytes).catch(why);
  console.log(JSON.stringify({ sent, refused, at, lost }));
"""


HANG = """
  const [module, url] = process.argv.slice(1);
  const { connect } = await import(module);
  const live = await connect(url, { answerSeconds: 0.2 });
  const why = await live.set({ temperature: 0.5 }).catch(({ message }) => message);
  const patience = Date.now() + 20_000;
  while (live.values.temperature !== 0.5 && Date.now() < patience) await new Promise((done) => setTimeout(done, 20));
  live.close();
  const slow = await connect(url, { answerSeconds: Infinity });
  const at = await slow.set({ temperature: 0.7 });
  slow.close();
  const silent = await connect(process.argv[3], { timeoutSeconds: 0.2 }).catch(({ message }) => message);
  console.log(JSON.stringify({ why, done: live.values.temperature, at, silent }));
"""


def node() -> str:
    """Node with a WebSocket of its own, which an older one is told to have."""
    program = shutil.which("node")
    flag = "--experimental-websocket"
    if program is None or subprocess.run([program, flag, "--version"], capture_output=True, check=False).returncode:
        pytest.skip("needs Node 20.10 or newer")
    return program


def test_the_node_example_hears_every_sample_and_turns_the_prompt(tmp_path: Path) -> None:
    program, out = node(), tmp_path / "heard.pcm"

    async def go() -> str:
        async with serving() as web:
            pace = asyncio.create_task(web.session.pace(2))
            words = ["--experimental-websocket", "--no-warnings", str(EXAMPLES / "node_client.mjs")]
            place = f"http://127.0.0.1:{web.web.port}"
            process = await asyncio.create_subprocess_exec(
                program, *words, place, "1", str(out), stdout=asyncio.subprocess.PIPE
            )
            said, _ = await asyncio.wait_for(process.communicate(), 90)
            pace.cancel()
            assert process.returncode == 0
            assert isinstance(web.session.commands[0], Set)
            return said.decode()

    said = asyncio.run(go())
    assert "sine is playing, 48000 Hz" in said
    assert "0 frames missed" in said
    heard = np.frombuffer(out.read_bytes(), "<i2").reshape(-1, 2).T
    assert heard.shape[1] >= RATE_HZ
    # the pieces of one sine: where it begins is not told
    expected = to_s16(sine(0, RATE_HZ // 10 + heard.shape[1]))
    starts = np.flatnonzero((expected[:, : RATE_HZ // 10] == heard[:, :1]).all(axis=0))
    assert any(np.array_equal(expected[:, at : at + heard.shape[1]], heard) for at in starts)


def test_a_service_that_does_not_answer_node_is_given_up_as_from_python() -> None:
    program = node()

    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()  # and never answers
        writer.close()
        await writer.wait_closed()

    async def go() -> dict[str, Any]:
        silent = await asyncio.start_server(hold, "127.0.0.1", 0)
        async with serving() as web:
            web.session.work_seconds = 0.6
            words = ["--experimental-websocket", "--no-warnings", "--input-type=module", "-e", HANG]
            places = [f"http://127.0.0.1:{port}" for port in (web.web.port, silent.sockets[0].getsockname()[1])]
            process = await asyncio.create_subprocess_exec(
                program, *words, CLIENT.as_uri(), *places, stdout=asyncio.subprocess.PIPE
            )
            said, _ = await asyncio.wait_for(process.communicate(), 60)
            silent.close()
            await silent.wait_closed()
            assert process.returncode == 0
            return json.loads(said)

    told = asyncio.run(go())
    assert told["why"] == 'the service has not answered "set" within 0.2 s: it hangs, or has much to do'
    assert told["done"] == 0.5, "it was done after all, and is told"
    assert told["at"] == 0
    assert "nothing came within 0.2 s" in told["silent"]


def test_audio_of_each_kind_is_sent_from_node_as_the_python_client_sends_it(tmp_path: Path) -> None:
    program, file = node(), tmp_path / "tune.flac"
    sound = io.BytesIO()
    soundfile.write(sound, np.zeros((4_000, 1)), 16_000, format="FLAC")
    file.write_bytes(sound.getvalue())

    async def go() -> dict[str, Any]:
        async with serving() as web:
            words = ["--experimental-websocket", "--no-warnings", "--input-type=module", "-e", SEND]
            places = [CLIENT.as_uri(), f"http://127.0.0.1:{web.web.port}", str(file)]
            process = await asyncio.create_subprocess_exec(program, *words, *places, stdout=asyncio.subprocess.PIPE)
            said, _ = await asyncio.wait_for(process.communicate(), 60)
            assert process.returncode == 0
            assert_audio_came(web.session.commands[:-1])
            return json.loads(said)

    told = asyncio.run(go())
    assert told["sent"] == [96_000, 0, 0]
    (bad, why), (empty, _), (unknown, _), (no_code, no_bytes) = told["refused"]
    assert (bad, empty, unknown) == ("bad_audio", "bad_value", "unknown_type"), why
    assert no_code is None
    assert "file is string, must be the bytes of an audio file" in no_bytes
    assert told["at"] == 0, "and the rest goes on"
    assert "the connection ended" in told["lost"][1]


@pytest.mark.slow
def test_a_page_of_ones_own_hears_and_steers(tmp_path: Path) -> None:
    with Service(tmp_path) as service, chromium.launched() as browser:
        page = browser.new_page()
        page.goto(service.ready["page"] + "healthz")
        told = page.evaluate(HEAR, service.ready["page"])
        assert (told["refused"], told["text"]) == ("bad_value", "rain")
        assert told["changed"] == {"prompt/1/text": "rain"}, json.dumps(told)
        ends = [position + frames for position, frames in told["positions"]]
        assert [position for position, _ in told["positions"]][1:] == ends[:-1]
        assert told["time"] >= 0.5
