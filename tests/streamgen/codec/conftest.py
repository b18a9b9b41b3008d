"""Random EnCodecs of every shape of the family, and what transformers makes of codes with them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import EncodecConfig, EncodecModel

from streamgen.testing.tiny_weights import fill_codec

CODES = 64
CAUSAL = {"use_causal_conv": True}
SHAPES: dict[str, dict[str, Any]] = {
    "meta's": {"upsampling_ratios": [8, 5, 4, 4], "num_filters": 2, "num_lstm_layers": 2, "use_conv_shortcut": False},
    "zeros around": {"pad_mode": "constant"},
    "edges repeated": {"pad_mode": "replicate"},
    "causal, zeros": {**CAUSAL, "pad_mode": "constant"},
    "causal, mirrored": {**CAUSAL, "pad_mode": "reflect"},
    "causal, half trimmed left": {**CAUSAL, "trim_right_ratio": 0.5},
    "causal, all trimmed left": {**CAUSAL, "trim_right_ratio": 0.0, "pad_mode": "constant"},
    "odd ratios": {"upsampling_ratios": [3, 1, 5], "use_conv_shortcut": False},
    "even kernels": {"kernel_size": 4, "last_kernel_size": 2, "residual_kernel_size": 2},
    "pointwise kernels": {"kernel_size": 1, "last_kernel_size": 1, "residual_kernel_size": 1},
    "long first kernel": {"kernel_size": 31},
    "dilated": {"num_residual_layers": 3, "dilation_growth_rate": 3, "residual_kernel_size": 5},
    "no residual layers": {"num_residual_layers": 0},
    "three LSTMs": {"num_lstm_layers": 3},
    "wide enough to be packed": {"num_filters": 24, "hidden_size": 32, "num_lstm_layers": 2},
}
USUAL = ("meta's", "causal, half trimmed left", "odd ratios", "dilated", "three LSTMs", "wide enough to be packed")


class Lab:
    """Makes codecs and codes, and has transformers decode them."""

    @staticmethod
    def make(seed: int = 0, *, lstm: bool = True, codebooks: int = 4, **settings: Any) -> EncodecModel:
        """A seeded random EnCodec whose audio is of order 0.1; 20 samples a frame unless told otherwise.

        Args:
            seed: of the weights.
            lstm: False takes the LSTM out, as audiocraft's lstm=0 does; transformers' config cannot say that.
            codebooks: of one channel.
            settings: EncodecConfig's.
        """
        config = EncodecConfig(
            **{
                "sampling_rate": 32_000, "num_filters": 4, "hidden_size": 16, "codebook_size": CODES,
                "num_lstm_layers": 1, "upsampling_ratios": [5, 4], "use_causal_conv": False, "pad_mode": "reflect",
                **settings,
            }
        )  # fmt: skip
        config.target_bandwidths = [(codebooks * config.frame_rate * config.codebook_nbits + 1) / 1000]
        codec = EncodecModel(config).eval()
        with torch.no_grad():
            fill_codec(codec, torch.Generator().manual_seed(seed))
        if not lstm:
            codec.decoder.layers[1] = nn.Identity()
        return codec

    @staticmethod
    @torch.no_grad()
    def whole(codec: EncodecModel, codes: Tensor, audio_channels: int = 1) -> Tensor:
        """Let transformers decode all codes at once, as MusicGen does: [B, audio_channels, samples]."""
        parts = [codes] if audio_channels == codec.config.audio_channels else [codes[:, 0::2], codes[:, 1::2]]
        return torch.cat([codec.decode(part[None], [None]).audio_values for part in parts], 1)

    @staticmethod
    def codes(batch: int, books: int, frames: int, seed: int = 0) -> Tensor:
        """Seeded codes [B, K, frames]."""
        return torch.randint(0, CODES, (batch, books, frames), generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="session")
def lab() -> type[Lab]:
    """What tests make codecs with: pytest's importlib mode lets them import nothing from here."""
    return Lab


@pytest.fixture(
    scope="session",
    params=[shape if shape in USUAL else pytest.param(shape, marks=pytest.mark.slow) for shape in SHAPES],
)
def codec(request: pytest.FixtureRequest) -> EncodecModel:
    """Every shape of the family in turn, those that are seen less often in slow tests; not to be changed."""
    return Lab.make(**SHAPES[request.param])
