"""What a client of `streamgen.v1` reads, without a connection: frames, values and answers.

Rules: no I/O, and nothing of this package but chunks and errors. What comes may be of a stranger's making: each part is
checked, and kept within a limit; what is wrong raises ValueError and says what.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamgen.audio import AudioChunk
from streamgen.errors import one_line

__all__ = [
    "PROTOCOL",
    "LiveChunk",
    "applied_at",
    "checked_hello",
    "checked_values",
    "read_chunk",
]

PROTOCOL = "streamgen.v1"
_HEADER = struct.Struct("<BBBBIQQII")  # version, codec, channels, flags, sequence, position, time, rate, frames
_DISCONTINUITY, _PROMPT_CHANGE = 1, 2
_KINDS = {0: ("<i2", 32_768), 1: ("<f4", 1)}  # numpy's name of each codec's numbers, and which one is 1
_RATES_HZ = range(1_000, 1_000_001)
_MOST_VALUES, _MOST_TEXT = 5_000, 10_000  # parameters of a session; characters of one: several times what there is


@dataclass(frozen=True, repr=False, eq=False)
class LiveChunk(AudioChunk):
    """A piece of a session's audio.

    Attributes:
        due_seconds: when its first sample is due, Unix seconds by the service's clock.
        discontinuity: it does not follow on from the chunk before.
        prompt_change: other prompts play from a sample in it on.
    """

    due_seconds: float = 0.0
    discontinuity: bool = False
    prompt_change: bool = False


def read_chunk(message: bytes) -> LiveChunk:
    """Read a frame.

    Raises:
        ValueError: it is none, or its samples are no numbers.
    """
    if len(message) < _HEADER.size:
        raise ValueError(f"a frame of {len(message)} bytes")
    version, codec, channels, flags, _, position, time_us, rate_hz, frames = _HEADER.unpack_from(message)
    if (version, channels) != (1, 2) or codec not in _KINDS or rate_hz not in _RATES_HZ or not frames:
        kind = f"version {version}, codec {codec}, {channels} channels, {rate_hz} Hz, {frames} samples"
        raise ValueError(f"a frame of {kind}")
    kind, full = _KINDS[codec]
    pcm: NDArray[np.float32] = np.frombuffer(message, kind, offset=_HEADER.size).astype(np.float32) / np.float32(full)
    samples = np.ascontiguousarray(pcm.reshape(frames, 2).T)
    if codec == 1 and not np.isfinite(samples).all():
        raise ValueError("a frame whose samples are no numbers")
    broken, changed = bool(flags & _DISCONTINUITY), bool(flags & _PROMPT_CHANGE)
    return LiveChunk(samples, position, rate_hz, time_us / 1e6, broken, changed)


def checked_hello(message: object) -> dict[str, Any]:
    """Return a service's first message: of a rate, a state and values.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(message, dict) or message.get("type") != "hello":
        raise ValueError("it says no hello")
    state, rate_hz = message.get("state"), message.get("sample_rate_hz")
    if not isinstance(state, dict) or not isinstance(state.get("state"), str):
        raise ValueError("its hello tells no state")
    if not isinstance(rate_hz, int) or rate_hz not in _RATES_HZ:
        raise ValueError(f"its hello tells of {one_line(rate_hz)} Hz")
    checked_values(state.get("values"))
    return message


def checked_values(values: object) -> Mapping[str, Any]:
    """Return parameters' values by name: numbers, texts and switches.

    Raises:
        ValueError: they are none, too many or too long.
    """
    if not isinstance(values, dict) or len(values) > _MOST_VALUES:
        raise ValueError("what it tells as values is none, or too many")
    for name, value in values.items():
        if not isinstance(value, str | int | float) or len(name) > _MOST_TEXT or len(str(value)) > _MOST_TEXT:
            raise ValueError(f"the value of {one_line(name, 60)} is {one_line(value, 60)}")
    return values


def applied_at(answer: Mapping[str, Any]) -> int:
    """Return the sample at which an answer says that something applies.

    Raises:
        ValueError: it says none.
    """
    sample = answer.get("applied_at_sample")
    if not isinstance(sample, int):
        raise ValueError(f"applied_at_sample is {one_line(sample, 60)}")
    return sample
