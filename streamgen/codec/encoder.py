"""encode_audio: an audio prompt, as the user has it, into the codes that the decoder continues.

Rules: encoding is transformers' own (a prompt is read once, so it need not stream). How long a prompt may be is the
caller's business.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from streamgen.audio import check_audio
from streamgen.codec.resample import resample

if TYPE_CHECKING:
    from transformers import EncodecModel

__all__ = ["encode_audio"]


def encode_audio(
    codec: EncodecModel,
    samples: NDArray[np.float32],
    rate_hz: int,
    *,
    audio_channels: int,
    last_seconds: float | None = None,
) -> Tensor:
    """Turn audio into codes.

    Args:
        codec: the EncodecModel; it encodes on its own device.
        samples: floats within about ±1, [n] or [channels, n]. For a mono model all channels are averaged; for a stereo
            model one channel is doubled, and of more than two the first two are taken, as audiocraft takes them.
        rate_hz: rate of `samples`; converted to the codec's if it differs.
        audio_channels: of the model, 1 or 2.
        last_seconds: only so much of its end.

    Returns:
        int64 [K, frames] on the codec's device, frames = ceil(samples at the codec's rate / hop). With audio_channels
        2 and a mono codec, left and right are encoded on their own and interleaved, as MusicGen reads them.

    Raises:
        PromptError: see `streamgen.audio.check_audio`.
    """
    part, rate = check_audio("the audio prompt", samples, rate_hz, last_seconds=last_seconds)
    audio = _mix(part.astype(np.float32, copy=False), audio_channels)
    sound = torch.from_numpy(resample(audio, rate, codec.config.sampling_rate)).to(codec.device, codec.dtype)
    parts = sound.split(codec.config.audio_channels)
    return torch.stack([_encode(codec, part) for part in parts], 1).flatten(0, 1)


@torch.no_grad()
def _encode(codec: EncodecModel, part: Tensor) -> Tensor:
    """Codes [K of one part, frames] with all of the codec's codebooks: its highest bandwidth."""
    encoded: Any = codec.encode(part[None], bandwidth=codec.config.target_bandwidths[-1], return_dict=True)
    codes: Tensor = encoded.audio_codes
    assert codes.shape[:2] == (1, 1), codes.shape
    return codes[0, 0]


def _mix(samples: NDArray[np.float32], audio_channels: int) -> NDArray[np.float32]:
    """Bring [channels, n] to the model's channels.

    Source: audiocraft, data/audio_utils.py, convert_audio_channels.
    """
    if audio_channels == 1:
        mono: NDArray[np.float32] = samples.mean(0, dtype=np.float32, keepdims=True)
        return mono
    return np.repeat(samples, audio_channels, 0) if len(samples) == 1 else samples[:audio_channels]
