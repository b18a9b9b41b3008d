"""Ardour without its window, steered by OSC, records the JACK door of a real service. CI has no Ardour: by hand.

apt install ardour; pytest -m device tests/service/test_ardour.py
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import soundfile

from ..real_parts.jack import RATE_HZ, Jack
from .running import Service
from .test_stage import placed

pytestmark = pytest.mark.device

SECONDS = float(os.environ.get("STREAMGEN_ARDOUR_SECONDS", "30"))
PORT = 3819  # of Ardour's OSC
PROMPTS = ("house, drums and synth bass, 125 bpm", "ambient pad, slow, no drums")
# Ardour's Lua session, its first run: a session with one stereo track at streamgen's outputs.
MAKE = """
AudioEngine:set_backend("JACK", "ardour", "")
local session = create_session("{home}/take", "take", {rate})
local track = session:new_audio_track(2, 2, nil, 1, "take", ARDOUR.PresentationInfo.max_order,
    ARDOUR.TrackMode.Normal, true):front()
for n, side in ipairs({{"left", "right"}}) do
    local port = track:input():audio(n - 1)
    port:disconnect_all()
    assert(port:connect("streamgen:" .. side) == 0, "no streamgen:" .. side)
end
session:save_state("", false, false, false, false, false)
close_session()
quit()
"""
# Its second run: it does what OSC says.
PLAY = """
AudioEngine:set_backend("JACK", "ardour", "")
local session = load_session("{home}/take", "take")
assert(session)
print("ready")
io.stdout:flush()
ARDOUR.LuaAPI.usleep({micros})
session:save_state("", false, false, false, false, false)
close_session()
quit()
"""


def lua_session() -> str:
    for name in ("ardour7-lua", "ardour8-lua", "ardour9-lua"):
        if (found := shutil.which(name)) is not None:
            return found
    pytest.skip("needs ardour")


def osc(port: int, *words: str) -> None:
    subprocess.run(["oscsend", f"osc.udp://127.0.0.1:{port}", *words], check=True)
