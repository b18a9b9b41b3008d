"""Songs to sound: FluidSynth through pyfluidsynth, dry, mono, each onset on a codec frame.

Rules: the only file that knows the synthesizer; nothing of it is needed to play the checkpoint. Reverb and chorus are
off and the render steps in whole frames (640 samples are ten of the synthesizer's 64-sample blocks), so a repeated bar
is the same sound from its second time on.
"""

import ctypes
import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import pairwise
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from streamgen.pocket.training.compose import DRUM_CHANNEL, FRAMES_PER_STEP, STEPS_PER_BAR, Loop

SAMPLE_RATE_HZ = 32000
HOP_SAMPLES = 640
SOUNDFONT = os.environ.get("STREAMGEN_SOUNDFONT", "/usr/share/sounds/sf2/FluidR3_GM.sf2")
TARGET_RMS = 0.11  # about -19 dBFS: all genres equally loud, and peaks of the drums stay below full scale
PEAK_LIMIT = 0.95

Event = tuple[bool, int, int, int]  # on?, channel, pitch, velocity


class Synthesizer:
    """One FluidSynth with one soundfont; use it as a context manager."""

    def __init__(self, soundfont: str = SOUNDFONT) -> None:
        """Load the library and the soundfont.

        Raises:
            FileNotFoundError: the library or the soundfont is missing; the message says what to install.
        """
        fluidsynth = _fluidsynth()
        if not os.path.exists(soundfont):
            raise FileNotFoundError(
                f"the soundfont {soundfont} is missing: on Debian install fluid-soundfont-gm, or name a .sf2 in "
                "STREAMGEN_SOUNDFONT"
            )
        dry = {"synth.reverb.active": 0, "synth.chorus.active": 0}
        self._synth = fluidsynth.Synth(gain=0.5, samplerate=float(SAMPLE_RATE_HZ), **dry)
        self._synth.sfload(soundfont, 1)
        self._write_float = _write_float(fluidsynth)

    def __enter__(self) -> "Synthesizer":
        """Return the synthesizer itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Free the library's memory."""
        self._synth.delete()

    def render(self, bars: Sequence[Loop], bpm: int) -> npt.NDArray[np.float32]:
        """Play bars of one palette from silence.

        Returns:
            float32 [bars x frames per bar x 640], mono, at 32 kHz, at one common loudness.
        """
        self._fall_silent()
        for channel, program in bars[0].programs.items():
            self._synth.program_change(channel, program)
        frames = FRAMES_PER_STEP[bpm] * STEPS_PER_BAR * len(bars)
        out = np.zeros((2, frames * HOP_SAMPLES), dtype=np.float32)
        timeline = schedule(bars, FRAMES_PER_STEP[bpm])
        edges = sorted({0, frames, *(frame for frame in timeline if frame < frames)})
        for begin, end in pairwise(edges):
            for event in timeline.get(begin, ()):
                self._send(event)
            self._write(out, begin * HOP_SAMPLES, end * HOP_SAMPLES)
        return _levelled(out.mean(axis=0))

    def _fall_silent(self) -> None:
        """Stop everything and let it ring out: a reset only releases notes, which would sound in the next song."""
        self._synth.system_reset()
        while self._synth.get_active_voice_count():
            self._synth.get_samples(HOP_SAMPLES)

    def _send(self, event: Event) -> None:
        on, channel, pitch, velocity = event
        if on:
            self._synth.noteon(channel, pitch, velocity)
        else:
            self._synth.noteoff(channel, pitch)

    def _write(self, out: npt.NDArray[np.float32], begin: int, end: int) -> None:
        left, right = (row.ctypes.data for row in out)
        self._write_float(self._synth.synth, end - begin, left, begin, 1, right, begin, 1)


def _fluidsynth() -> Any:
    """Import pyfluidsynth late: it looks for the library at once, and most of training needs no sound."""
    try:
        import fluidsynth
    except ImportError as error:
        raise FileNotFoundError(
            f"FluidSynth is missing ({error}): pip install pyfluidsynth, and on Debian install libfluidsynth3 and "
            "fluid-soundfont-gm"
        ) from error
    return fluidsynth


def _write_float(fluidsynth: Any) -> Callable[..., Any]:
    """The library's rendering to float32, which pyfluidsynth leaves out.

    Its `get_samples` gives dithered 16-bit samples. Through the codec a repeated bar was then less often the same
    tokens: .974 of codebook 3 instead of .989, .9987 of codebook 0 instead of .9997 (24 held-out songs).
    """
    number, place = ctypes.c_int, ctypes.c_void_p
    left, right = (((f"{side}out", place), (f"{side}off", number), (f"{side}incr", number)) for side in "lr")
    arguments = ((*pair, 1) for pair in (("synth", place), ("len", number), *left, *right))
    bound: Callable[..., Any] = fluidsynth.cfunc("fluid_synth_write_float", number, *arguments)
    return bound


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
