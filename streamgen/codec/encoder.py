"""encode_audio: an audio prompt, as the user has it, into the codes that the decoder continues.

Rules: the only place that judges a user's audio. Encoding is transformers' own (a prompt is read once, so it need not
stream). How long a prompt may be is the caller's business.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from streamgen.codec.resample import resample
from streamgen.errors import PromptError

if TYPE_CHECKING:
    from transformers import EncodecModel

__all__ = ["encode_audio"]


def encode_audio(codec: EncodecModel, samples: NDArray[np.float32], rate_hz: int, *, audio_channels: int) -> Tensor:
    """Turn audio into codes.

    Args:
        codec: the EncodecModel; it encodes on its own device.
        samples: floats within about ±1, [channels, n], n >= 1, any number of channels. For a mono model all channels
            are averaged; for a stereo model one channel is doubled, and more than two are averaged first.
        rate_hz: rate of `samples`; converted to the codec's if it differs.
        audio_channels: of the model, 1 or 2.

    Returns:
        int64 [K, frames] on the codec's device, frames = ceil(samples at the codec's rate / hop). With audio_channels
        2 and a mono codec, left and right are encoded on their own and interleaved, as MusicGen reads them.

    Raises:
        PromptError: not audio, empty, or with NaN or infinity in it.
    """
    _check(samples, rate_hz)
    audio = _mix(samples.astype(np.float32, copy=False), audio_channels)
    sound = torch.from_numpy(resample(audio, rate_hz, codec.config.sampling_rate)).to(codec.device, codec.dtype)
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
    """Bring [channels, n] to the model's channels."""
    if samples.shape[0] == audio_channels:
        return samples
    mono = samples.mean(0, dtype=np.float32, keepdims=True)
    return np.repeat(mono, audio_channels, 0)


def _check(samples: Any, rate_hz: int) -> None:
    """Say what is wrong with a user's audio."""
    if not isinstance(samples, np.ndarray) or not np.issubdtype(samples.dtype, np.floating):
        kind = samples.dtype if isinstance(samples, np.ndarray) else type(samples).__name__
        raise PromptError(f"audio prompt is {kind}; give a numpy float32 array [channels, samples] within ±1")
    if samples.ndim != 2 or not samples.shape[0]:
        raise PromptError(f"audio prompt has shape {list(samples.shape)}; give [channels, samples]")
    if not samples.shape[1]:
        raise PromptError("audio prompt is empty; give at least 1 sample, or no audio prompt at all")
    bad = samples.size - int(np.isfinite(samples).sum())
    if bad:
        raise PromptError(f"audio prompt has {bad} samples that are NaN or infinite; clean it with numpy.nan_to_num")
    if isinstance(rate_hz, bool) or not isinstance(rate_hz, int) or rate_hz < 1:
        raise PromptError(f"audio prompt's rate is {rate_hz!r} Hz; give a whole number, 1 or more")
