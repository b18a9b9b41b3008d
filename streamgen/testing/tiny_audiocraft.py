"""The same weights in audiocraft's own format, as its export writes them.

Rules: the inverse of streamgen.checkpoint's reader, written from the format's side: fused in_proj_weight, convolutions
under `conv.conv` with weight_g and weight_v, the solver's configuration as YAML with `${…}` references in it.
Source: github.com/facebookresearch/audiocraft, utils/export.py, config/model and config/conditioner.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamgen.testing.tiny_vocabulary import copy_tokenizer

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["write_audiocraft", "write_yaml"]

TEXT_ENCODER_NAME = "t5-tiny"
LM_NAMES = (
    (r"^decoder\.model\.decoder\.embed_tokens\.", "emb."),
    (r"^decoder\.lm_heads\.", "linears."),
    (r"^decoder\.model\.decoder\.layer_norm\.", "out_norm."),
    (r"^decoder\.model\.decoder\.layers\.", "transformer.layers."),
    (r"\.encoder_attn_layer_norm\.", ".norm_cross."),
    (r"\.self_attn_layer_norm\.", ".norm1."),
    (r"\.final_layer_norm\.", ".norm2."),
    (r"\.encoder_attn\.", ".cross_attention."),
    (r"\.fc1\.", ".linear1."),
    (r"\.fc2\.", ".linear2."),
    (r"^enc_to_dec_proj\.", "condition_provider.conditioners.description.output_proj."),
    (r"^audio_enc_to_dec_proj\.", "condition_provider.conditioners.self_wav.output_proj."),
)
CODEC_NAMES = (
    (r"^audio_encoder\.", ""),
    (r"^quantizer\.layers\.(\d+)\.codebook\.", r"quantizer.vq.layers.\1._codebook."),
    (r"\.conv\.parametrizations\.weight\.original0$", ".conv.weight_g"),
    (r"\.conv\.parametrizations\.weight\.original1$", ".conv.weight_v"),
    (r"^(encoder|decoder)\.layers\.", r"\1.model."),
    (r"\.conv\.(weight_g|weight_v|bias)$", r".conv.conv.\1"),
)


def write_audiocraft(source: Path, folder: Path) -> None:
    """Write state_dict.bin, compression_state_dict.bin and the text encoder's folder from a transformers checkpoint."""
    import torch
    from safetensors.torch import load_file

    state = load_file(source / "model.safetensors")
    config = json.loads((source / "config.json").read_text())
    folder.mkdir(parents=True, exist_ok=True)
    lm = {
        "best_state": _lm_state(state),
        "xp.cfg": write_yaml(_lm_config(config)),
        "version": "1.3.0",
        "exported": True,
    }
    torch.save(lm, folder / "state_dict.bin")
    codec = {"best_state": _codec_state(state, config["audio_encoder"]), "xp.cfg": write_yaml(_codec_config(config))}
    torch.save({**codec, "version": "1.3.0", "exported": True}, folder / "compression_state_dict.bin")
    _write_text_encoder(state, config, source, folder / TEXT_ENCODER_NAME)


def _lm_state(state: dict[str, Tensor]) -> dict[str, Tensor]:
    import torch

    keep = ("decoder.", "enc_to_dec_proj.", "audio_enc_to_dec_proj.")
    named = {_rename(name, LM_NAMES): tensor for name, tensor in state.items() if name.startswith(keep)}
    for query in [name for name in named if name.endswith("q_proj.weight")]:
        parts = [named.pop(query.replace("q_proj", f"{part}_proj")) for part in "qkv"]
        named[query.replace("q_proj.weight", "in_proj_weight")] = torch.cat(parts)
    if any("self_wav" in name for name in named):
        named["condition_provider.conditioners.self_wav.chroma.spec.window"] = torch.hann_window(16384)
    return {name: tensor for name, tensor in named.items() if "embed_positions" not in name}


def _codec_state(state: dict[str, Tensor], config: dict[str, Any]) -> dict[str, Tensor]:
    """Transposed convolutions have names of their own: every third layer from 3 on, one per ratio."""
    named = {_rename(name, CODEC_NAMES): t for name, t in state.items() if name.startswith("audio_encoder.")}
    for layer in range(3, 3 + 3 * len(config["upsampling_ratios"]), 3):
        for leaf in ("weight_g", "weight_v", "bias"):
            named[f"decoder.model.{layer}.convtr.convtr.{leaf}"] = named.pop(f"decoder.model.{layer}.conv.conv.{leaf}")
    return named


def _rename(name: str, rules: tuple[tuple[str, str], ...]) -> str:
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name


def _write_text_encoder(state: dict[str, Tensor], config: dict[str, Any], source: Path, folder: Path) -> None:
    """A T5 beside it: audiocraft's configuration names one, and a folder of that name here is found first."""
    from transformers import T5Config, T5EncoderModel

    model = T5EncoderModel(T5Config(**config["text_encoder"]))
    prefix = "text_encoder."
    own = {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
    model.load_state_dict({**own, "encoder.embed_tokens.weight": own["shared.weight"]})
    model.save_pretrained(folder)
    copy_tokenizer(source, folder)


def write_yaml(config: dict[str, Any]) -> str:
    """Return a configuration as the text of an xp.cfg."""
    import yaml  # type: ignore[import-untyped]

    return str(yaml.safe_dump(config, sort_keys=False))


def _lm_config(config: dict[str, Any]) -> dict[str, Any]:
    decoder, melody, stereo = config["decoder"], "num_chroma" in config, config["decoder"]["audio_channels"] == 2
    codebooks = decoder["num_codebooks"]
    conditioners: dict[str, Any] = {
        "description": {"model": "t5", "t5": {"name": TEXT_ENCODER_NAME, "finetune": False, "normalize_text": False}}
    }
    if melody:
        chroma = {"sample_rate": "${sample_rate}", "n_chroma": config["num_chroma"], "radix2_exp": 14, "argmax": True,
                  "match_len_on_eval": False}  # fmt: skip
        conditioners["self_wav"] = {"model": "chroma_stem", "chroma_stem": chroma}
    return {
        "solver": "musicgen", "sample_rate": 32000, "channels": decoder["audio_channels"], "lm_model": "transformer_lm",
        "interleave_stereo_codebooks": {"use": stereo, "per_timestep": False},
        "codebooks_pattern": {"modeling": "delay", "delay": {
            "delays": [k // 2 for k in range(codebooks)] if stereo else list(range(codebooks)),
            "flatten_first": 0, "empty_initial": 0}},
        "transformer_lm": {
            "dim": decoder["hidden_size"], "num_heads": decoder["num_attention_heads"],
            "num_layers": decoder["num_hidden_layers"], "hidden_scale": decoder["ffn_dim"] // decoder["hidden_size"],
            "n_q": codebooks, "card": decoder["vocab_size"], "activation": "gelu", "norm_first": True,
            "bias_ff": False, "bias_attn": False, "bias_proj": False, "causal": True, "layer_scale": None,
            "positional_embedding": "sin", "norm": "layer_norm", "cross_attention": not melody,
            "qk_layer_norm": False, "qk_layer_norm_cross": False, "kv_repeat": 1},
        "classifier_free_guidance": {"training_dropout": 0.3, "inference_coef": 3.0},
        "fuser": {"sum": [], "prepend": ["self_wav", "description"] if melody else [],
                  "cross": [] if melody else ["description"], "input_interpolate": []},
        "conditioners": conditioners, "dataset": {"segment_duration": 30},
        "generate": {"lm": {"use_sampling": True, "temp": 1.0, "top_k": 250, "top_p": 0.0}},
    }  # fmt: skip


def _codec_config(config: dict[str, Any]) -> dict[str, Any]:
    codec = config["audio_encoder"]
    return {
        "solver": "compression", "sample_rate": codec["sampling_rate"], "channels": codec["audio_channels"],
        "compression_model": "encodec",
        "encodec": {"autoencoder": "seanet", "quantizer": "rvq", "sample_rate": "${sample_rate}",
                    "channels": "${channels}", "causal": codec["use_causal_conv"], "renormalize": codec["normalize"]},
        "seanet": {
            "dimension": codec["hidden_size"], "channels": "${channels}", "causal": "${encodec.causal}",
            "n_filters": codec["num_filters"], "n_residual_layers": codec["num_residual_layers"],
            "ratios": list(codec["upsampling_ratios"]), "activation": "ELU", "activation_params": {"alpha": 1.0},
            "norm": codec["norm_type"], "norm_params": {}, "kernel_size": codec["kernel_size"],
            "residual_kernel_size": codec["residual_kernel_size"], "last_kernel_size": codec["last_kernel_size"],
            "dilation_base": codec["dilation_growth_rate"], "pad_mode": codec["pad_mode"],
            "true_skip": not codec["use_conv_shortcut"], "compress": codec["compress"],
            "lstm": codec["num_lstm_layers"], "disable_norm_outer_blocks": 0,
            "decoder": {"trim_right_ratio": 1.0, "final_activation": None}, "encoder": {}},
        "rvq": {"n_q": config["decoder"]["num_codebooks"] // config["decoder"]["audio_channels"],
                "bins": codec["codebook_size"], "q_dropout": False},
    }  # fmt: skip
