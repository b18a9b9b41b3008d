"""Songs to sound: libfluidsynth through ctypes, dry, mono, each onset on a codec frame.

Rules: the only file that knows the synthesizer; nothing of it is needed to play the checkpoint. Reverb and chorus are
off and the render steps in whole frames (640 samples are ten of the synthesizer's 64-sample blocks), so a repeated bar
is the same sound from its second time on.
"""

import ctypes
import ctypes.util
import os
from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise
from types import TracebackType

import numpy as np
import numpy.typing as npt

from streamgen.pocket.training.compose import DRUM_CHANNEL, FRAMES_PER_STEP, STEPS_PER_BAR, Loop

SAMPLE_RATE_HZ = 32000
HOP_SAMPLES = 640
LIBRARY = os.environ.get("STREAMGEN_FLUIDSYNTH") or ctypes.util.find_library("fluidsynth")
SOUNDFONT = os.environ.get("STREAMGEN_SOUNDFONT", "/usr/share/sounds/sf2/FluidR3_GM.sf2")
TARGET_RMS = 0.11  # about -19 dBFS: all genres equally loud, and peaks of the drums stay below full scale
PEAK_LIMIT = 0.95

Event = tuple[bool, int, int, int]  # on?, channel, pitch, velocity


class Synthesizer:
    """One libfluidsynth instance with one soundfont; use it as a context manager."""

    def __init__(self, soundfont: str = SOUNDFONT) -> None:
        """Load the library and the soundfont.

        Raises:
            FileNotFoundError: the library or the soundfont is missing; the message says what to install.
        """
        if LIBRARY is None or not os.path.exists(soundfont):
            raise FileNotFoundError(
                f"libfluidsynth ({LIBRARY}) or the soundfont {soundfont} is missing: on Debian install libfluidsynth3 "
                "and fluid-soundfont-gm, or name a library in STREAMGEN_FLUIDSYNTH, a .sf2 in STREAMGEN_SOUNDFONT"
            )
        self._lib = ctypes.CDLL(LIBRARY)
        for name in ("new_fluid_settings", "new_fluid_synth"):
            getattr(self._lib, name).restype = ctypes.c_void_p
        self._settings = ctypes.c_void_p(self._lib.new_fluid_settings())
        self._set_number("synth.sample-rate", SAMPLE_RATE_HZ)
        self._set_number("synth.gain", 0.5)
        for effect in ("reverb", "chorus"):
            self._lib.fluid_settings_setint(self._settings, f"synth.{effect}.active".encode(), 0)
        self._synth = ctypes.c_void_p(self._lib.new_fluid_synth(self._settings))
        self._lib.fluid_synth_sfload(self._synth, soundfont.encode(), 1)

    def __enter__(self) -> "Synthesizer":
        """Return the synthesizer itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Free the library's memory."""
        self._lib.delete_fluid_synth(self._synth)
        self._lib.delete_fluid_settings(self._settings)

    def render(self, bars: Sequence[Loop], bpm: int) -> npt.NDArray[np.float32]:
        """Play bars of one palette from silence.

        Returns:
            float32 [bars x frames per bar x 640], mono, at 32 kHz, at one common loudness.
        """
        self._lib.fluid_synth_system_reset(self._synth)
        for channel, program in bars[0].programs.items():
            self._lib.fluid_synth_program_change(self._synth, channel, program)
        frames = FRAMES_PER_STEP[bpm] * STEPS_PER_BAR * len(bars)
        out = np.zeros((2, frames * HOP_SAMPLES), dtype=np.float32)
        timeline = schedule(bars, FRAMES_PER_STEP[bpm])
        edges = sorted({0, frames, *(frame for frame in timeline if frame < frames)})
        for begin, end in pairwise(edges):
            for event in timeline.get(begin, ()):
                self._send(event)
            self._write(out, begin * HOP_SAMPLES, end * HOP_SAMPLES)
        return _levelled(out.mean(axis=0))

    def _set_number(self, name: str, value: float) -> None:
        self._lib.fluid_settings_setnum(self._settings, name.encode(), ctypes.c_double(value))

    def _send(self, event: Event) -> None:
        on, channel, pitch, velocity = event
        if on:
            self._lib.fluid_synth_noteon(self._synth, channel, pitch, velocity)
        else:
            self._lib.fluid_synth_noteoff(self._synth, channel, pitch)

    def _write(self, out: npt.NDArray[np.float32], begin: int, end: int) -> None:
        left, right = (row.ctypes.data_as(ctypes.c_void_p) for row in out)
        self._lib.fluid_synth_write_float(self._synth, end - begin, left, begin, 1, right, begin, 1)


def schedule(bars: Sequence[Loop], frames_per_step: int) -> dict[int, list[Event]]:
    """Events by codec frame, releases before onsets, so a repeated pitch is struck again."""
    timeline: dict[int, list[Event]] = defaultdict(list)
    for bar, loop in enumerate(bars):
        for note in loop.notes:
            begin = (bar * STEPS_PER_BAR + note.start) * frames_per_step
            timeline[begin].append((True, note.channel, note.pitch, note.velocity))
            if note.channel != DRUM_CHANNEL:  # drums ring out by themselves
                timeline[begin + note.length * frames_per_step].append((False, note.channel, note.pitch, 0))
    return {frame: sorted(events) for frame, events in timeline.items()}


def _levelled(audio: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    loudness, peak = max(float(np.sqrt(np.mean(audio**2))), 1e-6), max(float(np.abs(audio).max()), 1e-6)
    gain = min(TARGET_RMS / loudness, PEAK_LIMIT / peak)
    return np.asarray(audio * gain, dtype=np.float32)
