"""A checkpoint in audiocraft's own format, as its export writes it.

Rules: the inverse of audiocraft_format.py, written from the format's side: fused in_proj_weight, convolutions under
`conv.conv` with weight_g and weight_v, the solver's configuration as YAML with `${…}` references in it.
Source: github.com/facebookresearch/audiocraft, utils/export.py, config/model and config/conditioner.
"""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamgen.checkpoint.audiocraft_format import with_windows
from streamgen.checkpoint.audiocraft_names import CODEC_TO_AUDIOCRAFT, LM_TO_AUDIOCRAFT, rename
from streamgen.checkpoint.audiocraft_settings import codec_settings, decoder_config, melody_config, segment_seconds
from streamgen.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

    from streamgen.checkpoint.encodec import Codec
    from streamgen.checkpoint.t5 import T5Encoder
    from streamgen.checkpoint.types import Checkpoint

__all__ = ["write_audiocraft", "write_yaml"]

TEXT_ENCODER_NAME = "t5"


def write_audiocraft(checkpoint: Checkpoint, folder: Path, text_encoder_name: str = TEXT_ENCODER_NAME) -> None:
    """Write state_dict.bin, compression_state_dict.bin and the text encoder's folder.

    Args:
        checkpoint: of text, or of text and melody.
        folder: where to; made if it is not there.
        text_encoder_name: of the folder beside them that xp.cfg names.

    Raises:
        CheckpointError: audiocraft's format cannot say what the checkpoint is.
    """
    import torch

    _check_expressible(checkpoint)
    assert checkpoint.codec is not None, "a text encoder without a codec"
    lm_config, codec_config = _lm_config(checkpoint, text_encoder_name), _codec_config(checkpoint.codec)
    _check_read_back(checkpoint, lm_config, codec_config)
    folder.mkdir(parents=True, exist_ok=True)
    lm = {"best_state": _lm_state(checkpoint), "xp.cfg": write_yaml(lm_config), "version": "1.3.0", "exported": True}
    torch.save(lm, folder / "state_dict.bin")
    codec = {"best_state": _codec_state(checkpoint.codec), "xp.cfg": write_yaml(codec_config)}
    torch.save({**codec, "version": "1.3.0", "exported": True}, folder / "compression_state_dict.bin")
    assert checkpoint.text_encoder is not None, "checked above"
    assert checkpoint.tokenizer is not None, "a text encoder without a tokenizer"
    _write_text_encoder(checkpoint.text_encoder, folder / text_encoder_name)
    checkpoint.tokenizer.whole.save_pretrained(folder / text_encoder_name)


def _write_text_encoder(encoder: T5Encoder, folder: Path) -> None:
    """As `T5EncoderModel.save_pretrained` does."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    settings = {**encoder.config.given, "model_type": encoder.config.model_type, "architectures": ["T5EncoderModel"]}
    (folder / "config.json").write_text(json.dumps(settings, indent=2) + "\n")
    own = {name: tensor.contiguous() for name, tensor in encoder.tensors.items() if "embed_tokens" not in name}
    save_file(own, folder / "model.safetensors", {"format": "pt"})


def _check_expressible(checkpoint: Checkpoint) -> None:
    decoder, where = checkpoint.decoder, checkpoint.name
    if checkpoint.text_encoder is None:
        raise CheckpointError(f"{where} is a decoder alone; audiocraft's format needs a text encoder: use it as it is")
    if decoder.activation not in ("gelu", "relu"):
        raise CheckpointError(f"{where}: the activation is {decoder.activation}; audiocraft knows gelu and relu alone")
    if int(decoder.hidden_size * (decoder.ffn_dim / decoder.hidden_size)) != decoder.ffn_dim:
        raise CheckpointError(f"{where}: ffn_dim {decoder.ffn_dim} is no product of {decoder.hidden_size} in floats")
    if checkpoint.melody is not None and checkpoint.melody.n_fft & (checkpoint.melody.n_fft - 1):
        raise CheckpointError(f"{where}: n_fft is {checkpoint.melody.n_fft}; audiocraft's is a power of 2")


def _check_read_back(checkpoint: Checkpoint, lm: dict[str, Any], codec: dict[str, Any]) -> None:
    """Read the settings as their reader does: the format derives some from others, which must be what they were.

    Windows follow from the seconds that a melody has, and chroma's frames from those, their rate and hop.
    """
    where, encodec = checkpoint.name, checkpoint.codec
    assert encodec is not None, "asked for before"
    melody = melody_config(lm, where)
    plain, seconds = decoder_config(lm, where), segment_seconds(lm, where)
    decoder = with_windows(plain, seconds, encodec, None if melody is None else melody.chroma_length)
    pairs: list[tuple[str, Any, Any]] = []
    for was, becomes in ((checkpoint.melody, melody), (checkpoint.decoder, decoder)):
        if was is not None:
            pairs += [(one.name, getattr(was, one.name), getattr(becomes, one.name)) for one in fields(was)]
    read = codec_settings(codec, where)
    pairs += [(name, getattr(encodec.config, name), read[name]) for name in read if name != "target_bandwidths"]
    for name, before, after in pairs:
        if before != after:
            raise CheckpointError(
                f"{where}: {name} is {before!r:.40}, and would be {after!r:.40} in audiocraft's format, which derives "
                "it from other settings: use it as it is"
            )


def _lm_state(checkpoint: Checkpoint) -> dict[str, Tensor]:
    import torch

    named = {rename(LM_TO_AUDIOCRAFT, name): tensor for name, tensor in checkpoint.weights.items()}
    for query in [name for name in named if name.endswith("q_proj.weight")]:
        parts = [named.pop(query.replace("q_proj", f"{part}_proj")) for part in "qkv"]
        named[query.replace("q_proj.weight", "in_proj_weight")] = torch.cat(parts)
    width = checkpoint.decoder.hidden_size
    projections = {"description": checkpoint.text_projection, "self_wav": checkpoint.melody_projection}
    for name, pair in projections.items():
        if name == "self_wav" and checkpoint.melody is None:
            continue
        weight, bias = (torch.eye(width), torch.zeros(width)) if pair is None else pair
        place = f"condition_provider.conditioners.{name}.output_proj"
        named |= {f"{place}.weight": weight, f"{place}.bias": bias}
    if checkpoint.melody is not None:
        length = checkpoint.melody.win_length or checkpoint.melody.n_fft
        named["condition_provider.conditioners.self_wav.chroma.spec.window"] = torch.hann_window(length)
    return named


def _codec_state(codec: Codec) -> dict[str, Tensor]:
    """Transposed convolutions have names of their own: every third layer from 3 on, one per ratio."""
    named = {rename(CODEC_TO_AUDIOCRAFT, name): tensor for name, tensor in codec.tensors.items()}
    for layer in range(3, 3 + 3 * len(codec.config.upsampling_ratios), 3):
        for leaf in ("weight_g", "weight_v", "bias"):
            named[f"decoder.model.{layer}.convtr.convtr.{leaf}"] = named.pop(f"decoder.model.{layer}.conv.conv.{leaf}")
    return named


def write_yaml(config: dict[str, Any]) -> str:
    """Return a configuration as the text of an xp.cfg."""
    import yaml  # type: ignore[import-untyped]

    return str(yaml.safe_dump(config, sort_keys=False))


def _lm_config(checkpoint: Checkpoint, text_encoder_name: str) -> dict[str, Any]:
    decoder, melody, stereo = checkpoint.decoder, checkpoint.melody, checkpoint.decoder.audio_channels == 2
    codebooks, scale = decoder.num_codebooks, decoder.ffn_dim / decoder.hidden_size
    seconds = (decoder.max_positions - decoder.channel_codebooks + 1) / checkpoint.frame_rate_hz
    conditioners: dict[str, Any] = {
        "description": {"model": "t5", "t5": {"name": text_encoder_name, "finetune": False, "normalize_text": False}}
    }
    if melody is not None:
        seconds = melody.seconds
        chroma = {"sample_rate": melody.sample_rate_hz, "n_chroma": melody.num_chroma, "argmax": True,
                  "radix2_exp": (melody.win_length or melody.n_fft).bit_length() - 1, "nfft": melody.n_fft,
                  "winlen": melody.win_length or melody.n_fft, "winhop": melody.hop_length,
                  "match_len_on_eval": False}  # fmt: skip
        conditioners["self_wav"] = {"model": "chroma_stem", "chroma_stem": chroma}
    return {
        "solver": "musicgen", "sample_rate": checkpoint.sample_rate_hz, "channels": decoder.audio_channels,
        "lm_model": "transformer_lm", "interleave_stereo_codebooks": {"use": stereo, "per_timestep": False},
        "codebooks_pattern": {"modeling": "delay", "delay": {
            "delays": [k // decoder.audio_channels for k in range(codebooks)], "flatten_first": 0, "empty_initial": 0}},
        "transformer_lm": {
            "dim": decoder.hidden_size, "num_heads": decoder.num_heads, "num_layers": decoder.num_layers,
            "hidden_scale": int(scale) if scale == int(scale) else scale, "n_q": codebooks, "card": decoder.vocab_size,
            "activation": decoder.activation, "norm_first": True, "bias_ff": False, "bias_attn": False,
            "bias_proj": False, "causal": True, "layer_scale": None, "positional_embedding": "sin",
            "norm": "layer_norm", "cross_attention": decoder.cross_attention, "qk_layer_norm": False,
            "qk_layer_norm_cross": False, "kv_repeat": 1},
        "classifier_free_guidance": {"training_dropout": 0.3, "inference_coef": checkpoint.defaults.guidance_scale},
        "fuser": {"sum": [], "prepend": [] if melody is None else ["self_wav", "description"],
                  "cross": ["description"] if melody is None else [], "input_interpolate": []},
        "conditioners": conditioners,
        "dataset": {"segment_duration": int(seconds) if seconds == int(seconds) else seconds},
        "generate": {"lm": {"use_sampling": True, "temp": 1.0, "top_k": 250, "top_p": 0.0}},
    }  # fmt: skip


def _codec_config(encodec: Codec) -> dict[str, Any]:
    codec = encodec.config
    return {
        "solver": "compression", "sample_rate": codec.sampling_rate, "channels": codec.audio_channels,
        "compression_model": "encodec",
        "encodec": {"autoencoder": "seanet", "quantizer": "rvq", "sample_rate": "${sample_rate}",
                    "channels": "${channels}", "causal": codec.use_causal_conv, "renormalize": codec.normalize},
        "seanet": {
            "dimension": codec.hidden_size, "channels": "${channels}", "causal": "${encodec.causal}",
            "n_filters": codec.num_filters, "n_residual_layers": codec.num_residual_layers,
            "ratios": list(codec.upsampling_ratios), "activation": "ELU", "activation_params": {"alpha": 1.0},
            "norm": codec.norm_type, "norm_params": {}, "kernel_size": codec.kernel_size,
            "residual_kernel_size": codec.residual_kernel_size, "last_kernel_size": codec.last_kernel_size,
            "dilation_base": codec.dilation_growth_rate, "pad_mode": codec.pad_mode,
            "true_skip": not codec.use_conv_shortcut, "compress": codec.compress,
            "lstm": codec.num_lstm_layers, "disable_norm_outer_blocks": 0,
            "decoder": {"trim_right_ratio": codec.trim_right_ratio, "final_activation": None}, "encoder": {}},
        "rvq": {"n_q": encodec.codebooks, "bins": codec.codebook_size, "q_dropout": False},
    }  # fmt: skip
