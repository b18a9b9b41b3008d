"""AudioChunk: the only PCM type that crosses a public edge; and the check of what comes in over it.

    ├─ chunk ───────────┤├─ chunk ─────┤├─ chunk ───────────┤      one's end_sample is the next one's start_sample
    start_sample        end_sample

Rules: numpy float32, `[channels, samples]`, nominally within ±1; a chunk knows where it starts in its stream.
Chunks of any length follow each other without a gap, so any of them may be joined with `numpy.concatenate(…, axis=1)`.
What a caller gives is never guessed at: what could mean two things is refused, with what to write instead.
"""

from __future__ import annotations

import base64
import html
import io
import wave
from dataclasses import dataclass
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamgen.errors import PromptError

__all__ = ["MAX_CHANNELS", "MAX_PEAK", "AudioChunk", "check_audio", "check_no_lone_rate", "check_rate", "wav_bytes"]

MIN_RATE_HZ, MAX_RATE_HZ = 1_000, 384_000
MAX_CHANNELS = 64
MAX_PEAK = 16.0  # 24 dB over full scale: a hot mix is below it, integer PCM that was only cast to float far above


@dataclass(frozen=True, repr=False, eq=False)
class AudioChunk:
    """A piece of a stream's audio.

    Attributes:
        samples: float32 [2, n]; a mono checkpoint's one channel is in both. They are the holder's own: nothing in this
            package writes into them later.
        start_sample: position of `samples[:, 0]` in the stream, in samples at `sample_rate_hz`.
        sample_rate_hz: samples a second.
    """

    samples: NDArray[np.float32]
    start_sample: int
    sample_rate_hz: int

    def __repr__(self) -> str:
        """Say how much sound it is, where it starts and how loud it gets."""
        channels, samples = self.samples.shape
        peak = float(np.abs(self.samples).max()) if samples else 0.0
        shape = f"{channels} × {samples:,} samples at {self.sample_rate_hz} Hz"
        return f"<AudioChunk {shape} ({self.seconds:.2f} s) from sample {self.start_sample:,}, peak {peak:.3f}>"

    def _repr_html_(self) -> str:
        """Show a player, as notebooks do with the last line of a cell."""
        wav = base64.b64encode(wav_bytes(self.samples, self.sample_rate_hz)).decode()
        return f'<audio controls src="data:audio/wav;base64,{wav}"></audio> {html.escape(repr(self))}'

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return int(self.samples.shape[1]) / self.sample_rate_hz

    @property
    def end_sample(self) -> int:
        """Position of the first sample after this chunk."""
        return self.start_sample + int(self.samples.shape[1])


def wav_bytes(samples: NDArray[np.floating[Any]], rate_hz: int) -> bytes:
    """A wav file of 16 bits, whole, from samples [channels, n] of full scale 1; what is louder is cut off there."""
    written = io.BytesIO()
    with wave.open(written, "wb") as file:
        file.setnchannels(samples.shape[0])
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes((np.clip(samples, -1, 1) * 32_767).astype("<i2").T.tobytes())
    return written.getvalue()


def check_audio(
    what: str, audio: object, rate_hz: object, *, first_seconds: float | None = None, last_seconds: float | None = None
) -> tuple[NDArray[np.floating[Any]], int]:
    """Let usable audio through: the part of it that counts, [channels, samples] in its own dtype, and its rate.

    No more is looked at than can count: an hour costs what a minute does.

    Args:
        what: its name in messages: "the melody".
        audio: floats [samples] or [channels, samples], within about ±1.
        rate_hz: its samples a second.
        first_seconds: only so much of its beginning.
        last_seconds: only so much of its end.

    Raises:
        PromptError: something else than such an array; empty; more channels than samples; not finite or out of range;
            no rate or an impossible one.
    """
    array = _floats(what, audio)
    rate = check_rate(what, rate_hz)
    _check_shape(what, array.shape)
    part = np.atleast_2d(array)
    if first_seconds is not None:
        part = part[:, : round(first_seconds * rate)]
    if last_seconds is not None:
        part = part[:, -round(last_seconds * rate) :]
    peak = float(np.abs(part).max())
    if not peak <= MAX_PEAK:  # also true of NaN
        raise PromptError(
            f"{what}'s peak is {peak:g}: samples are finite and within ±1; divide integers by their range"
        )
    return part, rate


def _floats(what: str, audio: object) -> NDArray[np.floating[Any]]:
    if isinstance(audio, np.ndarray) and np.issubdtype(audio.dtype, np.floating):
        return audio
    wanted = "a numpy array of float32 within ±1"
    if isinstance(audio, AudioChunk):
        remedy = "give its .samples, with its .sample_rate_hz"
    elif isinstance(audio, str | bytes | PathLike):
        remedy = "samples, rate_hz = soundfile.read(path, dtype='float32'), then samples.T"
    elif hasattr(audio, "detach"):
        remedy = "tensor.detach().cpu().numpy()"
    else:
        remedy = "convert it (int16: x / 32768)"
    found = f"an array of {audio.dtype}" if isinstance(audio, np.ndarray) else type(audio).__name__
    raise PromptError(f"{what} is {wanted}, not {found}: {remedy}")


def check_rate(what: str, rate_hz: object) -> int:
    """Let a usable sample rate through.

    Raises:
        PromptError: none, no whole number, or out of range.
    """
    if rate_hz is None:
        raise PromptError(f"{what}'s sample rate is missing: give it in Hz, in the argument that ends in rate_hz")
    limits = f"a whole number of Hz, {MIN_RATE_HZ:,} to {MAX_RATE_HZ:,}"
    if isinstance(rate_hz, bool) or not isinstance(rate_hz, int | np.integer):
        raise PromptError(f"{what}'s sample rate is a {type(rate_hz).__name__}; give {limits}")
    number = int(rate_hz)
    if not MIN_RATE_HZ <= number <= MAX_RATE_HZ:
        shown = f"{number:,}" if abs(number) < 10**15 else "far"  # Python prints no very long integers
        raise PromptError(f"{what}'s sample rate is {shown}, outside its limits; give {limits}")
    return number


def check_no_lone_rate(name: str, audio: object, rate_hz: object) -> None:
    """Check that a rate comes with its audio: alone it says nothing, and audio was meant to be there.

    Raises:
        PromptError: it does not.
    """
    if audio is None and rate_hz is not None:
        article = "an" if name.startswith("a") else "a"
        raise PromptError(f"{name}_rate_hz is given without {article} {name}: give both, or neither")


def _check_shape(what: str, shape: tuple[int, ...]) -> None:
    if len(shape) not in (1, 2):
        raise PromptError(f"{what} has shape {list(shape)}; it is [samples] or [channels, samples]")
    if 0 in shape:
        raise PromptError(f"{what} is empty (shape {list(shape)}): give at least one sample, or None for none")
    if len(shape) == 2 and shape[0] > min(MAX_CHANNELS, shape[1]):
        remedy = (
            "transpose it (x.T)" if shape[0] > shape[1] else f"mix it to {MAX_CHANNELS} or fewer, or transpose it (x.T)"
        )
        raise PromptError(
            f"{what} has {shape[0]:,} channels of {shape[1]:,} samples; it is [channels, samples]: {remedy}"
        )
