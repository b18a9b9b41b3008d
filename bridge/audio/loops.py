"""The loops of native/effects.cpp, called through ctypes; None where they were not built, and numpy does the same.

Rules: chosen with the engine's kernels, by what the processor knows and STREAMGEN_KERNELS says (`torch` is numpy here).
Everything that crosses to C is here: arrays that lie whole, of the types that C reads.
"""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["CompressorState", "EnvelopeState", "loops", "place", "pulsed"]

_FOLDER = Path(__file__).parent / "native"
Pcm = NDArray[np.float32]
_int, _long, _float, _double, _pointer = (
    ctypes.c_int32, ctypes.c_int64, ctypes.c_float, ctypes.c_double, ctypes.c_void_p,
)  # fmt: skip


class CompressorState(ctypes.Structure):
    """A compressor's parameters and memory as C sees them; the last two are its memory."""

    _fields_ = [
        (name, _double)
        for name in ("threshold_db", "ratio", "knee_db", "makeup_db", "attack", "release", "held_db", "reduction_db")
    ]


class EnvelopeState(ctypes.Structure):
    """A limiter's smoothing and memory as C sees them."""

    _fields_ = [
        *((name, _pointer) for name in ("released", "held", "averaged")),
        *((name, _long) for name in ("released_log", "release", "hold", "width")),
    ]


_SIGNATURES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "sections": (None, (_pointer, _int, _pointer, _int, _pointer, _long)),
    "power": (_double, (_pointer, _int, _long, _double)),
    "pulses": (None, (_pointer, _int, _long, _pointer, _pointer, _int, _pointer, _long)),
    "without_bass": (None, (_pointer, _long, _int, _pointer)),
    "network": (None, (_pointer, _long, _pointer, _pointer, _float, _pointer, _pointer, _long)),
    "compress": (_double, (ctypes.POINTER(CompressorState), _pointer, _pointer, _long)),
    "ramp": (None, (_pointer, _long, _int, _double, _double, _long, _pointer, _long)),
    "true_peaks": (_int, (_pointer, _long, _int, _long, _pointer, _float, _float, _pointer)),
    "envelope": (_int, (ctypes.POINTER(EnvelopeState), _pointer, _double, _pointer, _long)),
}


@cache
def loops() -> Any:
    """Load the library for this processor: its functions without their prefix; None where there is none.

    What they take is said in native/effects.cpp.
    """
    from streamgen.kernels import bound, kernels, library_file  # torch: not before audio is processed

    chosen = kernels()
    if chosen is None:
        return None
    file = library_file(_FOLDER, "effects", chosen.instruction_set)
    return bound(file, _SIGNATURES) if file.exists() else None


def place(array: NDArray[Any], at: int = 0) -> Any:
    """Return where an array that lies whole begins, or `at` bytes on; whoever calls C with it keeps the array."""
    if not array.flags.writeable or not array.size:
        assert array.flags.c_contiguous, array.strides
        return array.ctypes.data + at
    memory: Any = array  # quicker than to ask numpy where that is
    return ctypes.byref(ctypes.c_char.from_buffer(memory), at)


def pulsed(audio: Pcm, delays: NDArray[np.int64], sizes: Pcm, count: int) -> Pcm:
    """Sum a few taps of signals, far apart: the newest [rows, count] of float32 [rows, n].

    Args:
        audio: that lies whole.
        delays: in samples, [rows, pulses].
        sizes: what each is multiplied by, [rows, pulses].
        count: how many samples.
    """
    rows, length = audio.shape
    newest, found = length - count, loops()
    if found is not None:
        out = np.empty((rows, count), np.float32)
        found.pulses(place(audio), rows, newest, place(delays), place(sizes), delays.shape[1], place(out), count)
        return out
    out = np.zeros((rows, count), np.float32)
    for row in range(rows):
        for delay, size in zip(delays[row], sizes[row], strict=True):
            start = newest - int(delay)
            out[row] += size * audio[row, start : start + count]
    return out
