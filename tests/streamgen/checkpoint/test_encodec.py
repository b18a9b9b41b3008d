"""The names and shapes of an EnCodec's tensors against transformers' EncodecModel."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import EncodecConfig, EncodecModel

from streamgen.checkpoint.encodec import STATISTICS, Codec, codec_shapes
from streamgen.checkpoint.settings import EncodecSettings, read_settings

SHAPES: dict[str, dict[str, Any]] = {
    "the usual one": {},
    "musicgen's": {"upsampling_ratios": [8, 5, 4, 4], "hidden_size": 128, "sampling_rate": 32_000, "num_filters": 8,
                   "use_conv_shortcut": False, "target_bandwidths": [2.2]},
    "more of everything": {"num_residual_layers": 3, "dilation_growth_rate": 3, "compress": 4, "num_lstm_layers": 1,
                           "kernel_size": 5, "last_kernel_size": 3, "residual_kernel_size": 5, "audio_channels": 2},
    "no residual layers": {"num_residual_layers": 0, "upsampling_ratios": [4]},
}  # fmt: skip


def config(shape: str) -> EncodecConfig:
    return EncodecConfig(**{"num_filters": 4, "hidden_size": 16, **SHAPES[shape]})


@pytest.mark.parametrize("shape", SHAPES)
def test_tensors_and_numbers_are_transformers(shape: str) -> None:
    theirs = config(shape)
    ours = read_settings(EncodecSettings, theirs.to_dict(), "here")
    with torch.device("meta"):
        tensors = EncodecModel(theirs).state_dict()
    assert codec_shapes(ours) == {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    for name in ("hop_length", "frame_rate", "codebook_nbits", "num_quantizers", "codebook_dim"):
        assert getattr(ours, name) == getattr(theirs, name), name


def test_codebooks_that_are_not_used_are_not_kept() -> None:
    ours = read_settings(EncodecSettings, config("the usual one").to_dict(), "here")
    tensors = {name: torch.zeros(shape) for name, shape in codec_shapes(ours).items()}
    kept = Codec(ours, tensors, 2).state_dict()
    assert {name.split(".")[2] for name in kept if name.startswith("quantizer")} == {"0", "1"}
    assert ours.num_quantizers > 10, "else a 1 is not told from a 10"
    assert sum(bool(STATISTICS.fullmatch(name)) for name in kept) == 6
