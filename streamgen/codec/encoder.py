"""encode_audio: an audio prompt, as the user has it, into the codes that the decoder continues.

Rules: a prompt is read once, so it need not stream: each layer sees all of it, in transformers' order of operations, so
that no code differs. How long a prompt may be is the caller's business.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from streamgen.audio import check_audio
from streamgen.checkpoint.encodec import CodecLayer, encoder_layers
from streamgen.codec.resample import resample
from streamgen.codec.weights import Encodec, Weights

__all__ = ["encode", "encode_audio"]


def encode_audio(
    codec: Encodec,
    samples: NDArray[np.float32],
    rate_hz: int,
    *,
    audio_channels: int,
    last_seconds: float | None = None,
) -> Tensor:
    """Turn audio into codes.

    Args:
        codec: the EnCodec; it encodes where its tensors are.
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
    sound = torch.from_numpy(resample(audio, rate, codec.config.sampling_rate))
    parts = sound.split(codec.config.audio_channels)
    return torch.stack([encode(codec, part) for part in parts], 1).flatten(0, 1)


@torch.no_grad()
def encode(codec: Encodec, sound: Tensor) -> Tensor:
    """Return the codes, int64 [K, frames], of float [codec's channels, samples] at its rate, with all its codebooks."""
    tensors = codec.state_dict()
    weights = Weights(codec.config, tensors, next(iter(tensors.values())))
    x = sound[None].to(weights.like)
    for layer in encoder_layers(codec.config):
        x = _run(layer, weights.of(layer.name), F.elu(x) if layer.elu else x)
    return _quantise(weights, x[0].transpose(0, 1))


def _run(layer: CodecLayer, weights: Weights, x: Tensor) -> Tensor:
    """Run one layer on all of [1, C, T]."""
    if layer.kind == "lstm":
        return _lstm(weights.of("lstm"), x)
    if layer.kind == "residual":
        inner = _convolved(weights.of("block.1"), F.elu(x), dilation=layer.dilation)
        inner = _convolved(weights.of("block.3"), F.elu(inner))
        return (_convolved(weights.of("shortcut"), x) if weights.has("shortcut") else x) + inner
    return _convolved(weights, x, stride=layer.stride)


def _convolved(weights: Weights, x: Tensor, stride: int = 1, dilation: int = 1) -> Tensor:
    """Convolve, padded so that `stride` samples give one; the last ones too, if they are fewer."""
    weight, bias = weights.convolution()
    total = (weight.shape[2] - 1) * dilation + 1 - stride
    more = -x.shape[2] % stride
    right = 0 if weights.config.use_causal_conv else total // 2
    return F.conv1d(_padded(x, total - right, right + more, weights.config.pad_mode), weight, bias, stride, 0, dilation)


def _padded(x: Tensor, left: int, right: int, mode: str) -> Tensor:
    """Pad; what is too short to be mirrored gets zeros to mirror, which are taken away again."""
    short = max(0, max(left, right) - x.shape[2] + 1) if mode == "reflect" else 0
    padded = F.pad(F.pad(x, (0, short)), (left, right), mode)
    return padded[..., : padded.shape[2] - short]


def _lstm(weights: Weights, x: Tensor) -> Tensor:
    """Add what a stack of LSTMs makes of [1, C, T]."""
    with torch.device("meta"):
        stack = nn.LSTM(x.shape[1], x.shape[1], weights.config.num_lstm_layers)
    stack.load_state_dict({name: weights(name) for name in stack.state_dict()}, assign=True)
    steps = x.permute(2, 0, 1)
    out: Tensor = stack(steps)[0]
    return (out + steps).permute(1, 2, 0)


def _quantise(weights: Weights, x: Tensor) -> Tensor:
    """Return the nearest entry of each codebook, to what those before it left of [T, C]."""
    codes: list[Tensor] = []
    for table in weights.codebooks():
        entries = table.t()
        squares = x.pow(2).sum(1, keepdim=True) - 2 * x @ entries + entries.pow(2).sum(0, keepdim=True)
        codes.append((-squares).max(dim=-1).indices)
        x = x - F.embedding(codes[-1], table)
    return torch.stack(codes)


def _mix(samples: NDArray[np.float32], audio_channels: int) -> NDArray[np.float32]:
    """Bring [channels, n] to the model's channels.

    Source: audiocraft, data/audio_utils.py, convert_audio_channels.
    """
    if audio_channels == 1:
        mono: NDArray[np.float32] = samples.mean(0, dtype=np.float32, keepdims=True)
        return mono
    return np.repeat(samples, audio_channels, 0) if len(samples) == 1 else samples[:audio_channels]
