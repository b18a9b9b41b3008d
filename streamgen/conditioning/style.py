"""Style prompts: a few seconds of audio → a handful of coarse tokens → the prefix that MusicGen-Style's decoder reads.

    mono ─ resampled ─ excerpt ─ features ─ transformer ─ batch norm ─ RVQ, first q ─ every n-th ─ projected
                       3 s       50 or 75 Hz  both ways                 codebooks      ≈ 5 Hz

Features are EnCodec's codes, embedded, or MERT's last hidden states. What of the audio is excerpted follows from the
seed, as in audiocraft from Python's own generator. No style is one zero vector for each token of a style beside it.

Rules: owns the check of a style and its tokens; knows no text, no stream. Runs and answers on the CPU, in float32.
Source: arXiv:2407.12563; audiocraft, modules/conditioners.py, StyleConditioner (in eval mode).
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from streamgen.codec import encode
from streamgen.conditioning.melody import check_melody, mono_at_rate
from streamgen.errors import ConfigError, PromptError

if TYPE_CHECKING:
    from streamgen.checkpoint.types import Checkpoint

__all__ = ["LONGEST_STYLE_SECONDS", "Style", "StyleConditioner"]

LONGEST_STYLE_SECONDS = 600
MERT_RATE_HZ = 24_000


@dataclass(frozen=True, eq=False)
class Style:
    """Audio whose style music takes on.

    Attributes:
        samples: float32 [n], mono at the model's rate.
    """

    samples: Tensor


class StyleConditioner:
    """Turns audio into the first part of the decoder's prefix.

    Args:
        checkpoint: gives settings and weights. Without a style part it takes no style.

    Attributes:
        width: D, of a token.
        codebooks: of the bottleneck; 0 without a style part.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.width = checkpoint.decoder.hidden_size
        self.codebooks = 0 if checkpoint.style is None else checkpoint.style.codebooks
        self._name, self._config = checkpoint.name, checkpoint.style
        self._audio_channels = checkpoint.decoder.audio_channels
        self._features: Any = checkpoint.style_features
        self._weights: Mapping[str, Tensor] = checkpoint.style_weights or {}

    def style(self, audio: object, rate_hz: int | None) -> Style:
        """Prepare audio for `tokens`, at most 10 minutes of it.

        Raises:
            PromptError: it cannot be used, or the checkpoint takes none.
        """
        if self._config is None:
            raise PromptError(f"checkpoint {self._name} takes no style: use one that does (facebook/musicgen-style)")
        mono = check_melody(audio, rate_hz, LONGEST_STYLE_SECONDS, "style", audio_channels=self._audio_channels)
        return Style(mono_at_rate(mono, int(rate_hz or 0), self._config.sample_rate_hz, LONGEST_STYLE_SECONDS))

    def positions(self, style: Style | None, excerpt_seconds: float) -> int:
        """Return how many tokens a style gives, at least the one of no style.

        Raises:
            PromptError: it is shorter than the excerpt.
        """
        if self._config is None or style is None:
            return 1
        return -(-self._frames(self._excerpt_samples(style, excerpt_seconds)) // self._config.every)

    def check_codebooks(self, codebooks: int) -> None:
        """Check that the bottleneck has so many codebooks.

        Raises:
            ConfigError: it has fewer.
        """
        has = self.codebooks
        if codebooks > has:
            raise ConfigError(f"eval_q is {codebooks}, the style of {self._name} has {has} codebooks: set 1 to {has}")

    def tokens(self, style: Style, codebooks: int, excerpt_seconds: float, seed: int) -> Tensor:
        """Return a style's tokens, float32 [S, D].

        Args:
            style: of `style`.
            codebooks: q, how many of the bottleneck: the fewer, the freer the music.
            excerpt_seconds: how much of the audio is listened to.
            seed: of where.

        Raises:
            PromptError: it is shorter than the excerpt.
        """
        assert self._config is not None, "a style's tokens of a checkpoint without a style part"
        size, config = self._excerpt_samples(style, excerpt_seconds), self._config
        spare = len(style.samples) - size
        start = int(spare / 2) if config.centred else random.Random(seed).randint(0, spare)
        with torch.inference_mode():
            states = self._transformed(self._heard(style.samples[start : start + size]))
            states = self._quantized(self._normed(states), codebooks)
            projected = F.linear(states[:: config.every], *self._projection)
        return projected.clone()

    def _excerpt_samples(self, style: Style, seconds: float) -> int:
        assert self._config is not None, "an excerpt for a checkpoint without a style part"
        size = int(seconds * self._config.sample_rate_hz)
        if len(style.samples) < size:
            has = len(style.samples) / self._config.sample_rate_hz
            raise PromptError(
                f"the style has {has:.2f} s, excerpt_seconds is {seconds:g}: give longer audio, or a shorter excerpt"
            )
        return size

    def _frames(self, samples: int) -> int:
        """Frames of features that an excerpt has."""
        assert self._config is not None, "features of a checkpoint without a style part"
        if self._config.features == "encodec":
            return -(-samples // int(self._features.config.hop_length))
        frames = samples * MERT_RATE_HZ // self._config.sample_rate_hz
        for width, stride in zip(self._features.config.conv_kernel, self._features.config.conv_stride, strict=True):
            frames = (frames - width) // stride + 1
        return frames

    # -- features → transformer → batch norm → bottleneck ---------------------------------------------------------

    def _heard(self, samples: Tensor) -> Tensor:  # [n] → [T, width]
        assert self._config is not None, "features of a checkpoint without a style part"
        if self._config.features == "encodec":
            codes = encode(self._features, samples[None])
            tables = [self._weights[f"embed.{k}.weight"] for k in range(self._config.feature_codebooks)]
            return torch.stack([F.embedding(codes[k], table) for k, table in enumerate(tables)]).sum(0)
        mono = mono_at_rate(samples.numpy(), self._config.sample_rate_hz, MERT_RATE_HZ, LONGEST_STYLE_SECONDS)
        states: Tensor = self._features(mono[None]).last_hidden_state[0]
        return F.linear(states, self._weights["embed.weight"], self._weights["embed.bias"])

    def _transformed(self, x: Tensor) -> Tensor:  # [T, width]
        assert self._config is not None, "a transformer of a checkpoint without a style part"
        x = x + _sines(len(x), self._config.width) if self._config.layers else x
        for layer in range(self._config.layers):
            name = f"transformer.layers.{layer}"
            x = x + self._attended(self._layer_norm(x, f"{name}.norm1"), f"{name}.self_attn")
            inner = F.gelu(F.linear(self._layer_norm(x, f"{name}.norm2"), self._weights[f"{name}.linear1.weight"]))
            x = x + F.linear(inner, self._weights[f"{name}.linear2.weight"])
        return x

    def _layer_norm(self, x: Tensor, name: str) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], self._weights[f"{name}.weight"], self._weights[f"{name}.bias"])

    def _attended(self, x: Tensor, name: str) -> Tensor:
        assert self._config is not None, "attention of a checkpoint without a style part"
        qkv = F.linear(x, self._weights[f"{name}.in_proj_weight"]).view(len(x), 3, self._config.heads, -1)
        q, k, v = qkv.permute(1, 2, 0, 3)[:, None]  # each [1, heads, T, head_dim]
        out = F.scaled_dot_product_attention(q, k, v)[0].transpose(0, 1).reshape(x.shape)
        return F.linear(out, self._weights[f"{name}.out_proj.weight"])

    def _normed(self, x: Tensor) -> Tensor:
        if "batch_norm.running_mean" not in self._weights:
            return x
        mean, variance = self._weights["batch_norm.running_mean"], self._weights["batch_norm.running_var"]
        return F.batch_norm(x, mean, variance)

    def _quantized(self, x: Tensor, codebooks: int) -> Tensor:
        """Replace each frame by the sum of its nearest codes, each of what those before it left."""
        if self._config is None or not self._config.codebooks:
            return x
        rest, found = x, torch.zeros_like(x)
        for k in range(codebooks):
            table = self._weights[f"rvq.vq.layers.{k}._codebook.embed"]
            distance = rest.pow(2).sum(1, keepdim=True) - 2 * rest @ table.t() + table.t().pow(2).sum(0, keepdim=True)
            code = F.embedding(distance.argmin(-1), table)
            rest, found = rest - code, found + code
        return found

    @property
    def _projection(self) -> tuple[Tensor, Tensor]:
        return self._weights["output_proj.weight"], self._weights["output_proj.bias"]


def _sines(length: int, width: int) -> Tensor:
    """Positions as audiocraft computes them, float32 [length, width]."""
    half = width // 2
    rates = torch.full([], 10_000.0) ** (torch.arange(half) / (half - 1))
    phase = torch.arange(length)[:, None] / rates
    return torch.cat([phase.cos(), phase.sin()], dim=-1)
