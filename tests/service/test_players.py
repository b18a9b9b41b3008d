"""Real players at the radio door of a real service: ffmpeg, mpv, Chromium's `<audio>`."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from websockets.sync.client import connect

from ..real_parts import chromium
from .running import Service

SECONDS = 8
CODECS = ("mp3", "ogg", "flac")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with Service(tmp_path_factory.mktemp("radio")) as running:
        yield running


def needs(program: str) -> str:
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"needs Debian's {program}")
    return found


def stream(service: Service, suffix: str) -> str:
    return str(service.ready["page"]) + f"listen.{suffix}"


def say(service: Service, **values: Any) -> None:
    with connect(service.ready["websocket"] + "?enabled=false") as socket:
        socket.send(
            json.dumps({"type": "set", "values": {name.replace("_", "/"): one for name, one in values.items()}})
        )
        while json.loads(socket.recv())["type"] != "changed":
            pass


@pytest.mark.slow
@pytest.mark.parametrize("suffix", CODECS)
def test_ffmpeg_decodes_it_without_a_word(service: Service, suffix: str, tmp_path: Path) -> None:
    out, began = tmp_path / "heard.wav", time.monotonic()
    words = [needs("ffmpeg"), "-v", "warning", "-t", str(SECONDS), "-i", stream(service, suffix), out]
    said = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert (said.returncode, said.stderr) == (0, "")
    heard, rate_hz = soundfile.read(out)
    assert heard.shape == (SECONDS * rate_hz, 2)
    assert SECONDS - 5 < time.monotonic() - began < SECONDS + 5  # after the burst it comes as it is played
    loud = np.abs(heard[2 * rate_hz :, 0]).reshape(-1, rate_hz // 10).max(axis=1)
    assert loud.min() > 1e-4, "a tenth of a second of silence"


@pytest.mark.slow
def test_mpv_shows_the_titles_and_never_waits(service: Service) -> None:
    program = needs("mpv")
    later = threading.Timer(4, lambda: say(service, prompt_1_text="rain, 94 bpm"))
    say(service, prompt_1_text="house, 125 bpm")
    later.start()
    words = [program, "--no-config", "--no-video", "--ao=null", f"--length={SECONDS + 4}", "--msg-level=all=v"]
    said = subprocess.run([*words, stream(service, "mp3")], capture_output=True, text=True, timeout=60)
    later.join()
    titles = re.findall(r"icy-title: (.*)", said.stdout)
    assert titles[0].startswith(("house", "rain"))
    assert "rain, 94 bpm" in titles
    assert "finished playback, success" in said.stdout
    assert "Enter buffering" not in said.stdout


PLAY = """(url) => new Promise((done) => {
  const audio = new Audio(url), told = { waits: 0, began: null };
  audio.onplaying = () => { told.began ??= performance.now(); };
  audio.onwaiting = () => { told.waits += told.began ? 1 : 0; };
  audio.onerror = () => done({ error: audio.error.message });
  audio.ontimeupdate = () => {
    if (audio.currentTime < %s) return;
    audio.ontimeupdate = null;
    audio.src = "";
    done(told);
  };
  audio.play();
})"""


@pytest.mark.slow
def test_chromium_plays_it_as_an_audio_element(service: Service) -> None:
    with chromium.launched() as browser:
        page = browser.new_page()
        page.goto(service.ready["page"] + "healthz")
        for suffix in CODECS:
            told = page.evaluate(PLAY % (SECONDS / 2), stream(service, suffix))
            assert "error" not in told, (suffix, told)
            assert told["waits"] == 0, (suffix, told)
