"""From complete frames to samples: what is decoded and not read yet.

    frames ─ codec ─ leave out the audio prompt's ─ buffer ─ take() ─► AudioChunk
           └ pass_over(): read as tokens, no sound is made of them

Rules: knows the codec and codes; no control, no window, no clock.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from streamgen.audio import AudioChunk
from streamgen.codec import CodecCopy, StreamingDecoder
from streamgen.errors import ConfigError, NumericError

__all__ = ["DECODE_FRAMES", "PcmBuffer", "PcmMemory"]

DECODE_FRAMES = 25  # decoded in one go at most, so that a long read stays bounded in memory


@dataclass(frozen=True)
class PcmMemory:
    """What a buffer remembers; the codec's state is a clone, the samples are never written in place."""

    codec: CodecCopy
    samples: Tensor
    position_samples: int
    decoded_frames: int
    skip_samples: int
    silent: bool = False


class PcmBuffer:
    """The samples of one stream.

    Args:
        codec: the model's.
        skip_frames: length of the audio prompt: decoded, so that new audio goes on from it without a seam, and left
            out.

    Attributes:
        position_samples: position of the next sample to take.
        decoded_frames: frames decoded so far, the audio prompt's included.
        silent: whether frames were passed over: there is no sound then, before or after.
    """

    def __init__(self, codec: StreamingDecoder, skip_frames: int = 0) -> None:
        self._codec = codec
        self._state = codec.new_state(1)
        self._samples = torch.zeros(2, 0, dtype=torch.float32)
        self._skip_samples = skip_frames * codec.hop_samples
        self.position_samples = self.decoded_frames = 0
        self.silent = False

    def missing_frames(self, samples: int) -> int:
        """Return how many more frames it takes, as far as is known, until `samples` can be taken.

        Raises:
            ConfigError: frames were passed over.
            CheckpointError: there is no codec.
        """
        self._codec.check_makes_sound()
        if self.silent:
            raise ConfigError("this stream is read as tokens, so it has no sound: open another one to hear it")
        return max(math.ceil((samples - self._samples.shape[1]) / self._codec.hop_samples), 0)

    @staticmethod
    def decode_together(buffers: Sequence[PcmBuffer], codes: Sequence[Tensor]) -> list[Tensor | NumericError]:
        """Decode the next frames of some buffers of one codec.

        Args:
            buffers: whose, each another.
            codes: int64 [K, n] of each.

        Returns:
            For each float32 [2, samples], what came out of it, without an audio prompt's: a codec that looks ahead
            holds some back. Or the fault that the codec made no numbers; until another beginning it makes no sound.
        """
        decoded = buffers[0]._codec.decode_together([one[None] for one in codes], [one._state for one in buffers])
        fetched = _fetched([pcm[0] for pcm in decoded])
        return [buffer._take_in(pcm, one.shape[1]) for buffer, pcm, one in zip(buffers, fetched, codes, strict=True)]

    def _take_in(self, pcm: Tensor, frames: int) -> Tensor | NumericError:
        if not pcm.sum().isfinite():
            return NumericError("the codec's sound is NaN or infinite: its weights are damaged, download them again")
        self.decoded_frames += frames
        skipped = min(self._skip_samples, pcm.shape[1])
        self._skip_samples -= skipped
        new = pcm[:, skipped:].expand(2, -1)
        self._samples = torch.cat([self._samples, new], dim=1)
        return new

    def check_silent(self) -> None:
        """Check that no sound was made, so that frames can be passed over.

        Raises:
            ConfigError: some was.
        """
        if not self.silent and (self.position_samples or self._samples.shape[1]):
            raise ConfigError("this stream is read as sound, so it gives no tokens: open another one for them")

    def pass_over(self, frames: int) -> None:
        """Move on by some frames without their sound."""
        self.silent = True
        self.decoded_frames += frames
        self.position_samples += frames * self._codec.hop_samples

    def take(self, samples: int) -> AudioChunk:
        """Take the next samples out; as many must be decoded."""
        assert samples <= self._samples.shape[1], (samples, self._samples.shape)
        out, self._samples = self._samples[:, :samples], self._samples[:, samples:].clone()
        chunk = AudioChunk(_to_numpy(out), self.position_samples, self._codec.sample_rate_hz)
        self.position_samples += samples
        return chunk

    def snapshot(self) -> PcmMemory:
        """Clone what `restore` needs to go on from here."""
        return PcmMemory(
            self._state.copy_out(),
            self._samples,
            self.position_samples,
            self.decoded_frames,
            self._skip_samples,
            self.silent,
        )

    def check(self, memory: PcmMemory, frames: int, *, endless: bool) -> None:
        """Refuse numbers that no buffer of so many frames comes to, and an end where there is none: of a changed file.

        Raises:
            ValueError: they are.
        """
        most = frames * self._codec.hop_samples
        told = (memory.decoded_frames * self._codec.hop_samples, memory.position_samples, memory.skip_samples)
        if min(told) < 0 or max(told) > most or memory.samples.shape[1] > most:
            raise ValueError(f"{memory.decoded_frames} of {frames} frames are decoded, at {memory.position_samples}")
        if memory.codec.finished and endless:
            raise ValueError("its sound has ended")

    def restore(self, memory: PcmMemory) -> None:
        """Go back; the memory stays valid."""
        self._state.copy_in(memory.codec)
        self._samples = memory.samples
        self.position_samples, self.decoded_frames = memory.position_samples, memory.decoded_frames
        self._skip_samples, self.silent = memory.skip_samples, memory.silent


def _fetched(pieces: Sequence[Tensor]) -> list[Tensor]:
    """Bring pieces of sound to the CPU in one go: a GPU is waited for once, not for each."""
    flat = torch.cat([piece.flatten() for piece in pieces]).cpu().split([piece.numel() for piece in pieces])
    return [one.view(piece.shape) for one, piece in zip(flat, pieces, strict=True)]


def _to_numpy(pcm: Tensor) -> NDArray[np.float32]:
    samples: NDArray[np.float32] = np.ascontiguousarray(pcm.numpy(), dtype=np.float32)
    return samples
