"""audiocraft's names of tensors, as transformers' names, and the other way round.

Rules: renames and splits, never computes; a name that no rule knows is kept, so that the comparison with the settings
can refuse it.

    emb.{k}, linears.{k}                    model.decoder.embed_tokens.{k}, lm_heads.{k}
    out_norm                                model.decoder.layer_norm
    transformer.layers.{i}.norm1, norm2     ….self_attn_layer_norm, ….final_layer_norm
    ….norm_cross, ….cross_attention         ….encoder_attn_layer_norm, ….encoder_attn
    ….linear1, ….linear2                    ….fc1, ….fc2
    ….self_attn.mha.…                       ….self_attn.… (torch's own, wrapped; cross alike)
    ….in_proj_weight [3D, D]                q_proj, k_proj, v_proj, each [D, D]
    encoder.model.{n}.conv.conv             encoder.layers.{n}.conv           (codec; convtr.convtr alike)
    quantizer.vq.layers.{k}._codebook       quantizer.layers.{k}.codebook
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from streamgen.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["CODEC_TO_AUDIOCRAFT", "LM_TO_AUDIOCRAFT", "codec_tensors", "lm_tensors", "rename"]

Rules = tuple[tuple[str, str], ...]
LM_TO_TRANSFORMERS: Rules = (
    (r"^emb\.(\d+)\.", r"model.decoder.embed_tokens.\1."),
    (r"^linears\.(\d+)\.", r"lm_heads.\1."),
    (r"^out_norm\.", "model.decoder.layer_norm."),
    (r"^transformer\.layers\.", "model.decoder.layers."),
    (r"\.norm1\.", ".self_attn_layer_norm."),
    (r"\.norm2\.", ".final_layer_norm."),
    (r"\.norm_cross\.", ".encoder_attn_layer_norm."),
    (r"\.cross_attention\.", ".encoder_attn."),
    (r"\.linear([12])\.", r".fc\1."),
    (r"_attn\.mha\.", "_attn."),
)
CODEC_TO_TRANSFORMERS: Rules = (
    (r"^(encoder|decoder)\.model\.", r"\1.layers."),
    (r"\.(?:conv\.conv|convtr\.convtr)\.", ".conv."),
    (r"\.conv\.norm\.|\.convtr\.norm\.", ".norm."),
    (r"^quantizer\.vq\.layers\.(\d+)\._codebook\.", r"quantizer.layers.\1.codebook."),
)


LM_TO_AUDIOCRAFT: Rules = (
    (r"^model\.decoder\.embed_tokens\.", "emb."),
    (r"^lm_heads\.", "linears."),
    (r"^model\.decoder\.layer_norm\.", "out_norm."),
    (r"^model\.decoder\.layers\.", "transformer.layers."),
    (r"\.encoder_attn_layer_norm\.", ".norm_cross."),
    (r"\.self_attn_layer_norm\.", ".norm1."),
    (r"\.final_layer_norm\.", ".norm2."),
    (r"\.encoder_attn\.", ".cross_attention."),
    (r"\.fc1\.", ".linear1."),
    (r"\.fc2\.", ".linear2."),
)
CODEC_TO_AUDIOCRAFT: Rules = (
    (r"^quantizer\.layers\.(\d+)\.codebook\.", r"quantizer.vq.layers.\1._codebook."),
    (r"\.conv\.parametrizations\.weight\.original0$", ".conv.weight_g"),
    (r"\.conv\.parametrizations\.weight\.original1$", ".conv.weight_v"),
    (r"^(encoder|decoder)\.layers\.", r"\1.model."),
    (r"\.conv\.(weight_g|weight_v|bias)$", r".conv.conv.\1"),
)


def lm_tensors(state: dict[str, Tensor], where: str) -> dict[str, Tensor]:
    """Return the decoder's tensors under transformers' names; conditioners are left out.

    Raises:
        CheckpointError: a fused projection that does not divide into query, key and value.
    """
    own = {name: tensor for name, tensor in state.items() if not name.startswith("condition_provider.")}
    renamed = {rename(LM_TO_TRANSFORMERS, name): tensor for name, tensor in own.items()}
    for fused in [name for name in renamed if name.endswith(".in_proj_weight")]:
        tensor = renamed.pop(fused)
        if tensor.shape[0] % 3:
            raise CheckpointError(
                f"{where}: {fused} has {tensor.shape[0]} rows, not a multiple of 3; download it again"
            )
        stem = fused.removesuffix("in_proj_weight")
        renamed |= {f"{stem}{part}_proj.weight": rows for part, rows in zip("qkv", tensor.chunk(3), strict=True)}
    return renamed


def codec_tensors(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return an EnCodec's tensors under transformers' names."""
    return {rename(CODEC_TO_TRANSFORMERS, name): tensor for name, tensor in state.items()}


def rename(rules: Rules, name: str) -> str:
    """Return a tensor's name after all rules, one after another."""
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name
