"""Ardour without its window, steered by OSC, records the JACK door of a real service, at PipeWire in JACK's place.

By hand (CI has no Ardour): apt install ardour pipewire pipewire-jack; pytest -s -m device tests/service/test_ardour.py
(Debian's jackd 1.9.21 falls over Ardour's names of ports, so it is PipeWire.)
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from ..real_parts.pipewire import RATE_HZ, running_pipewire
from .running import Service
from .test_stage import placed

pytestmark = pytest.mark.device

SECONDS = float(os.environ.get("STREAMGEN_ARDOUR_SECONDS", "15"))
OSC_PORT = 3819  # Ardour's own
PROMPTS = ("house, drums and synth bass, 125 bpm", "rock, 120 bpm")
MAKE = """
AudioEngine:set_backend("JACK", "ardour", "")
local session = create_session("{take}", "take", {rate})
session:new_audio_track(2, 2, nil, 1, "take", ARDOUR.PresentationInfo.max_order, ARDOUR.TrackMode.Normal, true)
session:save_state("")
close_session()
quit()
"""
OBEY = """
AudioEngine:set_backend("JACK", "ardour", "")
local session = load_session("{take}", "take")
while not io.open("{take}/end") do ARDOUR.LuaAPI.usleep(100000) end
session:save_state("")
close_session()
quit()
"""


class Ardour:
    """Ardour's Lua session with one stereo track, which does what OSC says.

    Args:
        home: for the session.
        environment: of the server.
    """

    def __init__(self, home: Path, environment: dict[str, str]) -> None:
        self.take, self._environment = home / "ardour", environment
        self._home = home
        self._lua(MAKE).wait(60)
        session = self.take / "take.ardour"
        off = '"Open Sound Control (OSC)" active="0"'
        assert off in session.read_text()
        session.write_text(session.read_text().replace(off, off.replace("0", "1")))
        self._obeying = self._lua(OBEY)

    def _lua(self, text: str) -> subprocess.Popen[bytes]:
        program = next(filter(None, map(shutil.which, ("ardour7-lua", "ardour8-lua", "ardour9-lua"))), None)
        if program is None:
            pytest.skip("needs ardour")
        script = self._home / "script.lua"
        script.write_text(text.format(take=self.take, rate=RATE_HZ))
        return subprocess.Popen([program, script], env=self._environment, stdout=subprocess.DEVNULL)

    def ports(self) -> str:
        return subprocess.run(["jack_lsp", "-c"], env=self._environment, capture_output=True, text=True).stdout

    def connect(self, output: str, number: int) -> None:
        command = ["jack_connect", output, f"ardour:take/audio_in {number}"]
        subprocess.run(command, env=self._environment, check=True)

    def end(self) -> np.ndarray:
        """Save and leave; returns what was recorded, float32 [frames, 2]."""
        (self.take / "end").touch()
        assert self._obeying.wait(60) == 0
        files = [next(self.take.rglob(f"*%{side}.wav")) for side in "LR"]
        return np.stack([soundfile.read(file, dtype="float32")[0] for file in files], axis=1)


def osc(port: int, *words: str) -> None:
    subprocess.run(["oscsend", f"osc.udp://127.0.0.1:{port}", *words], check=True)
    time.sleep(0.5)


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.2)


def test_ardour_records_the_stream_from_a_client_named_streamgen(tmp_path: Path) -> None:
    if shutil.which("oscsend") is None:
        pytest.skip("needs liblo-tools")
    options = ["--prompt", PROMPTS[0], "--no-soundcard", "--jack", "--record", str(tmp_path / "take.flac")]
    with running_pipewire() as environment:
        ardour = Ardour(tmp_path, environment)
        with Service(tmp_path, *options, model="pocket", environment=environment) as service:
            assert service.ready["jack"] == "streamgen"
            until(lambda: "ardour:take/audio_in 2" in ardour.ports())
            ardour.connect("streamgen:left", 1)
            ardour.connect("streamgen:right", 2)
            for words in (("/strip/recenable", "ii", "1", "1"), ("/rec_enable_toggle", "f", "1")):
                osc(OSC_PORT, *words)
            osc(OSC_PORT, "/transport_play", "f", "1")
            time.sleep(SECONDS / 2)
            osc(service.ready["osc_port"], "/streamgen/prompt", "s", PROMPTS[1])
            time.sleep(SECONDS / 2)
            osc(OSC_PORT, "/transport_stop", "f", "1")
            metrics = service.metrics()
            heard = ardour.end()
            assert service.stop() == 0, service.log()
    counted = {name: value for name, value in metrics.items() if name.startswith("jack")}
    print(f"\n{len(heard) / RATE_HZ:.2f} s recorded; {counted}")
    assert metrics["underruns_total"] == 0
    assert len(heard) > SECONDS * RATE_HZ
    stream = soundfile.read(service.ready["recording"], dtype="float32", always_2d=True)[0]
    heard = heard[RATE_HZ // 10 :]
    start = placed(heard[: RATE_HZ // 10], stream, 2**-22)
    off = np.abs(heard - stream[start : start + len(heard)]).max(axis=1)
    print(f"against the stream: {off.max():.1e} at most, {int((off > 2**-22).sum())} of {len(off)} frames off")
    assert off.max() <= 2**-22
