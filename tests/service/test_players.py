"""Real players at the radio door of a real service, all at once: what they decode lies where it lay in the stream.

ffmpeg, mpv, Icecast's relay, Chromium's `<audio>`. CI plays eight seconds of a tiny checkpoint; a minute of the shipped
one is the same test with STREAMGEN_RADIO_SECONDS=60 STREAMGEN_RADIO_MODEL=pocket.
"""

from __future__ import annotations

import json
import os
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

from bridge.doors.radio.station import BURST_SECONDS

from ..real_parts import chromium
from ..real_parts.comparison import followed_snrs_db, found
from ..real_parts.icecast import running_icecast
from .running import SAMPLE_RATE_HZ, Processors, Service

SECONDS = float(os.environ.get("STREAMGEN_RADIO_SECONDS", "8"))
MODEL = os.environ.get("STREAMGEN_RADIO_MODEL", "")
CODECS = ("mp3", "ogg", "flac")
RELAYED = ("mp3", "ogg", "oga")
FIRST, THEN = "house, 125 bpm", "rock, 120 bpm"
PLAY = """({ urls, seconds, limit }) => Promise.all(urls.map((url) => new Promise((done) => {
  const audio = new Audio(url), told = { url, waits: [], began: null };
  audio.onplaying = () => { told.began ??= performance.now(); told.first ??= audio.currentTime; };
  audio.onwaiting = () => { if (told.began) told.waits.push(audio.currentTime); };
  audio.onerror = () => done({ ...told, error: audio.error.message });
  audio.ontimeupdate = () => {
    if (!(audio.currentTime - told.first >= seconds)) return;  // not a number before it plays
    audio.ontimeupdate = audio.onerror = null;
    done({ ...told, seconds: (performance.now() - told.began) / 1000 });
    audio.src = "";
  };
  setTimeout(() => done({ ...told, error: "never" }), 1000 * limit);
  audio.play();
})))"""
CROWDED = 0.2


@pytest.fixture
def relay() -> Iterator[int]:
    with running_icecast() as port:
        yield port


@pytest.fixture
def service(tmp_path: Path, relay: int) -> Iterator[Service]:
    mounts = [f"--icecast=http://source:secret@127.0.0.1:{relay}/live.{suffix}" for suffix in RELAYED]
    options = ["--prompt", FIRST, "--record", str(tmp_path / "take.flac"), *mounts]
    with Service(tmp_path, *options, model=MODEL) as running:
        yield running


def say(service: Service, **values: Any) -> None:
    with connect(service.ready["websocket"] + "?enabled=false") as socket:
        told = {name.replace("_", "/"): one for name, one in values.items()}
        socket.send(json.dumps({"type": "set", "values": told}))
        while json.loads(socket.recv())["type"] != "changed":
            pass


def ffmpeg(url: str, out: Path) -> subprocess.Popen[str]:
    words = ["ffmpeg", "-v", "warning", "-i", url, "-c:a", "pcm_f32le"]
    words += ["-af", "asetpts=N/SR/TB", "-t", str(SECONDS), str(out)]  # of sound: FLAC in Ogg counts from its beginning
    return subprocess.Popen(words, stderr=subprocess.PIPE, text=True)


def mpv(url: str) -> subprocess.Popen[str]:
    words = ["mpv", "--no-config", "--no-video", "--ao=null", f"--length={SECONDS + 4}", "--msg-level=all=v", url]
    return subprocess.Popen(words, stdout=subprocess.PIPE, text=True)


def wait_for_the_relay(service: Service) -> None:
    """Until every mount is on air, which is tried again while Icecast starts, and a burst has no silence before it."""
    until = time.monotonic() + 60
    while (now := service.metrics())["radio_sources"] < len(RELAYED):
        assert time.monotonic() < until, service.log()
        time.sleep(0.1)
    enough = now["position_samples"] + (BURST_SECONDS + 1) * SAMPLE_RATE_HZ
    while service.metrics()["position_samples"] < enough:
        assert time.monotonic() < until, service.log()
        time.sleep(0.1)


@pytest.mark.slow
def test_every_player_hears_every_stream_without_a_gap_and_sees_the_titles(
    service: Service, relay: int, tmp_path: Path
) -> None:
    for program in ("ffmpeg", "mpv"):
        if shutil.which(program) is None:
            pytest.skip(f"needs Debian's {program}")
    page, processors = service.ready["page"], Processors(service)
    with chromium.launched() as browser:
        tab = browser.new_page()
        tab.goto(page + "healthz")
        wait_for_the_relay(service)
        urls = {f"{suffix}": f"{page}listen.{suffix}" for suffix in CODECS}
        relayed = {f"relay.{suffix}": f"http://127.0.0.1:{relay}/live.{suffix}" for suffix in RELAYED}
        decoding = {name: ffmpeg(url, tmp_path / f"{name}.wav") for name, url in (urls | relayed).items()}
        watching = {suffix: mpv(url) for suffix, url in urls.items()}
        later = threading.Timer(SECONDS / 2, lambda: say(service, prompt_1_text=THEN))
        later.start()
        waits = tab.evaluate(PLAY, {"urls": list(urls.values()), "seconds": SECONDS, "limit": SECONDS + 40})
        words = {name: player.communicate(timeout=60)[1] for name, player in decoding.items()}
        seen = {name: player.communicate(timeout=60)[0] for name, player in watching.items()}
        later.join()
        others = processors.others()  # while the browser is there: what it used is nobody's later
    metrics = service.metrics()
    assert service.stop() == 0, service.log()
    print(f"\n{SECONDS:g} s: Chromium {waits}\n{service.log()}")
    print(f"underruns {metrics['underruns_total']:g}, other programs {others:.0%}")
    if metrics["underruns_total"]:
        pytest.skip(
            f"the engine was late {metrics['underruns_total']:g} times: this machine has no room for nine players"
        )
    try:
        assert_nothing_was_missing(words, waits, seen)
        for name in decoding:
            assert_lies_in_the_stream(name, tmp_path / f"{name}.wav", service.ready["recording"])
    except AssertionError as fault:
        if others > CROWDED:
            pytest.skip(f"other programs took {others:.0%} of the processors: {fault}")
        raise


def assert_nothing_was_missing(words: dict[str, str], waits: list[dict[str, Any]], seen: dict[str, str]) -> None:
    """In what ffmpeg, Chromium and mpv said."""
    assert words == dict.fromkeys(words, ""), "ffmpeg has nothing to say"
    assert [one.get("error", one["waits"]) for one in waits] == [[], [], []]
    for name, said in seen.items():
        assert "finished playback, success" in said
        assert "Enter buffering" not in said, name
    titles = re.findall(r"icy-title: (.*)", seen["mp3"])
    shown = [title for title, before in zip(titles, ["", *titles], strict=False) if title != before]
    assert shown[-2:] == [FIRST, THEN], "each where it sounds"


def assert_lies_in_the_stream(name: str, decoded: Path, recording: str) -> None:
    """Half second by half second it is the stream, and nowhere earlier or later than at first."""
    stream = soundfile.read(recording, dtype="float32", always_2d=True)[0]
    heard, rate_hz = soundfile.read(decoded, dtype="float32", always_2d=True)
    assert rate_hz == SAMPLE_RATE_HZ
    assert abs(len(heard) - SECONDS * rate_hz) <= 1
    heard = heard[rate_hz // 2 :]  # a codec's first frames have no neighbours
    start = found(heard, stream)  # music repeats itself: two seconds may be found elsewhere
    fits = followed_snrs_db(heard, stream[start:], rate_hz // 2, reach=rate_hz // 200)
    shifts, worst = {shift for shift, _ in fits}, min(fit for _, fit in fits)
    print(f"{name}: {len(fits)} half seconds, apart by {sorted(shifts)} frames, {worst:.1f} dB at the least")
    assert shifts <= {-1, 0, 1}
    if name in ("flac", "relay.oga"):
        assert np.abs(heard - stream[start : start + len(heard)]).max() <= 1 / 32_768, "of 16 bits the last"
    else:
        assert worst > 3  # a tiny checkpoint sings noise, of which a codec keeps little
