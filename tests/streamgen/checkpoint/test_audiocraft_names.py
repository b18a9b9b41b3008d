"""Names and the split of the fused projection, against hand-written pairs."""

from __future__ import annotations

import pytest
import torch

from streamgen.checkpoint.audiocraft_names import codec_tensors, lm_tensors
from streamgen.errors import CheckpointError

LM_PAIRS = {
    "emb.3.weight": "model.decoder.embed_tokens.3.weight",
    "linears.0.weight": "lm_heads.0.weight",
    "out_norm.bias": "model.decoder.layer_norm.bias",
    "transformer.layers.11.norm1.weight": "model.decoder.layers.11.self_attn_layer_norm.weight",
    "transformer.layers.11.norm_cross.bias": "model.decoder.layers.11.encoder_attn_layer_norm.bias",
    "transformer.layers.0.norm2.weight": "model.decoder.layers.0.final_layer_norm.weight",
    "transformer.layers.0.cross_attention.out_proj.weight": "model.decoder.layers.0.encoder_attn.out_proj.weight",
    "transformer.layers.0.linear1.weight": "model.decoder.layers.0.fc1.weight",
    "transformer.layers.0.linear2.weight": "model.decoder.layers.0.fc2.weight",
}
CODEC_PAIRS = {
    "encoder.model.0.conv.conv.weight_g": "encoder.layers.0.conv.weight_g",
    "encoder.model.1.block.3.conv.conv.bias": "encoder.layers.1.block.3.conv.bias",
    "encoder.model.1.shortcut.conv.conv.bias": "encoder.layers.1.shortcut.conv.bias",
    "encoder.model.13.lstm.weight_ih_l1": "encoder.layers.13.lstm.weight_ih_l1",
    "decoder.model.3.convtr.convtr.weight_v": "decoder.layers.3.conv.weight_v",
    "encoder.model.0.conv.norm.weight": "encoder.layers.0.norm.weight",
    "quantizer.vq.layers.2._codebook.embed_avg": "quantizer.layers.2.codebook.embed_avg",
}


def test_lm_names() -> None:
    state = {name: torch.ones(1) for name in (*LM_PAIRS, "condition_provider.conditioners.self_wav.chroma.spec.window")}
    assert set(lm_tensors(state, "x")) == set(LM_PAIRS.values())


def test_codec_names() -> None:
    assert set(codec_tensors({name: torch.ones(1) for name in CODEC_PAIRS})) == set(CODEC_PAIRS.values())


def test_a_fused_projection_is_query_key_value_in_this_order() -> None:
    fused = torch.arange(12.0).view(6, 2)
    split = lm_tensors({"transformer.layers.0.self_attn.in_proj_weight": fused}, "x")
    stem = "model.decoder.layers.0.self_attn."
    assert torch.equal(split[f"{stem}q_proj.weight"], fused[0:2])
    assert torch.equal(split[f"{stem}k_proj.weight"], fused[2:4])
    assert torch.equal(split[f"{stem}v_proj.weight"], fused[4:6])


def test_a_fused_projection_of_another_size_is_refused() -> None:
    with pytest.raises(CheckpointError, match="7 rows, not a multiple of 3"):
        lm_tensors({"transformer.layers.0.self_attn.in_proj_weight": torch.ones(7, 2)}, "x")


def test_torch_s_own_attention_is_wrapped() -> None:
    """As audiocraft names it with `custom` and `memory_efficient` off."""
    stem = "transformer.layers.0"
    state = {
        f"{stem}.self_attn.mha.in_proj_weight": torch.ones(6, 2),
        f"{stem}.cross_attention.mha.out_proj.weight": torch.ones(1),
    }
    assert set(lm_tensors(state, "x")) == {
        *(f"model.decoder.layers.0.self_attn.{part}_proj.weight" for part in "qkv"),
        "model.decoder.layers.0.encoder_attn.out_proj.weight",
    }
