"""A checkpoint in the other format: transformers' folder from audiocraft's, and the other way round.

Rules: loads, then writes what was loaded: tensors as they are stored, nothing computed. What the other format cannot
say is refused by name; what it does not keep is told.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamgen.checkpoint.types import GenerationDefaults
from streamgen.checkpoint.validate import MAX_TRAINED_POSITIONS
from streamgen.checkpoint.write_audiocraft import write_audiocraft
from streamgen.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

    from streamgen.checkpoint.encodec import Codec
    from streamgen.checkpoint.types import Checkpoint

__all__ = ["convert_checkpoint"]

DRAWS = ("temperature", "top_k", "top_p")
OWN = ("change_context_seconds", "guard", "audition", "least_movement", "unsupported")


def convert_checkpoint(checkpoint: Checkpoint, folder: Path) -> list[str]:
    """Write a checkpoint in the format that it does not have.

    Args:
        checkpoint: loaded from either.
        folder: where to: empty, or not there yet.

    Returns:
        What the other format does not keep: one line each.

    Raises:
        CheckpointError: the folder holds something, or the other format cannot say what the checkpoint is.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise CheckpointError(f"{folder} is not empty; name a folder that is not there yet")
    if checkpoint.words is not None:
        raise CheckpointError(
            f"{checkpoint.name} has a vocabulary of its own, which other programs do not read; use it as it is"
        )
    if checkpoint.format == "transformers":
        write_audiocraft(checkpoint, folder)
        return _not_kept_by_audiocraft(checkpoint.defaults)
    _write_transformers(checkpoint, folder)
    scale = checkpoint.defaults.guidance_scale
    return [f"transformers guides from 1 on: guidance_scale {scale:g} is no guidance there"] if scale < 1 else []


def _not_kept_by_audiocraft(defaults: GenerationDefaults) -> list[str]:
    usual = GenerationDefaults()
    lost = {name: getattr(defaults, name) for name in (*DRAWS, *OWN) if getattr(defaults, name) != getattr(usual, name)}
    return [
        f"audiocraft's format keeps no {name}: "
        + (f"give set_generation_params {value:g}" if name in DRAWS else f"it is {value!r}, and must be set anew")
        for name, value in lost.items()
    ]


def _write_transformers(checkpoint: Checkpoint, folder: Path) -> None:
    import transformers
    from safetensors.torch import save_file

    _check_expressible(checkpoint)
    assert checkpoint.text_encoder is not None, "audiocraft's format has a text encoder"
    assert checkpoint.tokenizer is not None, "audiocraft's format has a tokenizer"
    prefix = "Musicgen" if checkpoint.melody is None else "MusicgenMelody"
    codec = _codec(checkpoint).config.given | {"model_type": "encodec"} | {"target_bandwidths": [_kilobits(checkpoint)]}
    chroma = {} if checkpoint.melody is None else {
        "num_chroma": checkpoint.melody.num_chroma, "chroma_length": checkpoint.melody.chroma_length
    }  # fmt: skip
    config = getattr(transformers, f"{prefix}Config")(
        text_encoder=checkpoint.text_encoder.config.given,
        audio_encoder=codec,
        decoder=_decoder(checkpoint),
        **chroma,
    )
    config.architectures = [f"{prefix}ForConditionalGeneration"]
    tensors = _tensors(checkpoint)
    folder.mkdir(parents=True, exist_ok=True)
    config.save_pretrained(folder)
    save_file(
        {name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "model.safetensors", {"format": "pt"}
    )
    checkpoint.tokenizer.whole.save_pretrained(folder)
    _write_settings(checkpoint, folder)


def _check_expressible(checkpoint: Checkpoint) -> None:
    positions, melody, fault = checkpoint.decoder.max_positions, checkpoint.melody, ""
    if checkpoint.style is not None:
        fault = "is a MusicGen-Style; transformers has no class of it"
    elif positions > MAX_TRAINED_POSITIONS:
        fault = f"has windows of {positions} positions; of transformers' format {MAX_TRAINED_POSITIONS} are used"
    elif melody is not None and melody.win_length is not None:
        fault = "has another winlen than nfft, which transformers cannot say"
    elif melody is not None and melody.seconds != int(melody.seconds):
        fault = f"reads {melody.seconds:g} s of a melody; transformers' chunk_length is in whole seconds"
    if fault:
        raise CheckpointError(f"{checkpoint.name} {fault}: use it as it is")


def _decoder(checkpoint: Checkpoint) -> dict[str, Any]:
    decoder = checkpoint.decoder
    positions = 2048 if decoder.max_positions == MAX_TRAINED_POSITIONS else decoder.max_positions  # as Meta's have it
    return {
        "vocab_size": decoder.vocab_size, "hidden_size": decoder.hidden_size, "ffn_dim": decoder.ffn_dim,
        "num_hidden_layers": decoder.num_layers, "num_attention_heads": decoder.num_heads,
        "num_codebooks": decoder.num_codebooks, "audio_channels": decoder.audio_channels,
        "activation_function": decoder.activation, "max_position_embeddings": positions,
        "dropout": 0.0, "pad_token_id": decoder.vocab_size, "bos_token_id": decoder.vocab_size,
    }  # fmt: skip


def _codec(checkpoint: Checkpoint) -> Codec:
    assert checkpoint.codec is not None, "audiocraft's format has a codec"
    return checkpoint.codec


def _kilobits(checkpoint: Checkpoint) -> float:
    """The bandwidth of as many codebooks as there are: half a bit more, for EncodecConfig divides and floors."""
    codec = _codec(checkpoint)
    bits = codec.config.codebook_nbits * codec.codebooks * codec.config.frame_rate
    return (float(bits) + 0.5) / 1000


def _tensors(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """Everything under transformers' names."""
    assert checkpoint.text_encoder is not None, "asked for before"
    text = {name: tensor for name, tensor in checkpoint.text_encoder.tensors.items() if "embed_tokens" not in name}
    tensors = {f"decoder.{name}": tensor for name, tensor in checkpoint.weights.items()}
    tensors |= {f"text_encoder.{name}": tensor for name, tensor in text.items()}
    tensors |= {f"audio_encoder.{name}": tensor for name, tensor in _codec(checkpoint).tensors.items()}
    for name, pair, width in (
        ("enc_to_dec_proj", checkpoint.text_projection, checkpoint.text_encoder.config.d_model),
        ("audio_enc_to_dec_proj", checkpoint.melody_projection, checkpoint.melody and checkpoint.melody.num_chroma),
    ):
        if pair is None:
            continue
        if width == checkpoint.decoder.hidden_size:
            _check_identity(pair, checkpoint.name)
        else:
            tensors |= {f"{name}.weight": pair[0], f"{name}.bias": pair[1]}
    return tensors


def _check_identity(pair: tuple[Tensor, Tensor], name: str) -> None:
    """Refuse a projection between equal widths that does something: transformers has none there."""
    import torch

    weight, bias = pair
    if not torch.equal(weight, torch.eye(len(weight))) or bias.any():
        raise CheckpointError(
            f"{name} projects between equal widths; transformers has no projection there: use it as it is"
        )


def _write_settings(checkpoint: Checkpoint, folder: Path) -> None:
    from transformers import EncodecFeatureExtractor

    defaults, pad = checkpoint.defaults, checkpoint.decoder.vocab_size
    settings = {
        "do_sample": True, "guidance_scale": defaults.guidance_scale, "temperature": defaults.temperature,
        "top_k": defaults.top_k, "max_length": 1500, "pad_token_id": pad, "bos_token_id": pad,
        "decoder_start_token_id": pad,
    }  # fmt: skip
    (folder / "generation_config.json").write_text(json.dumps(settings, indent=2) + "\n")
    melody = checkpoint.melody
    if melody is None:
        rate_hz = checkpoint.sample_rate_hz
        EncodecFeatureExtractor(feature_size=1, sampling_rate=rate_hz, padding_side="left").save_pretrained(folder)
        return
    features = {
        "feature_extractor_type": "MusicgenMelodyFeatureExtractor", "processor_class": "MusicgenMelodyProcessor",
        "feature_size": melody.num_chroma, "num_chroma": melody.num_chroma, "n_fft": melody.n_fft,
        "hop_length": melody.hop_length, "sampling_rate": melody.sample_rate_hz, "chunk_length": int(melody.seconds),
        "n_samples": int(melody.seconds) * melody.sample_rate_hz, "padding_side": "left", "padding_value": 0.0,
        "return_attention_mask": False, "stem_indices": [3, 2],
    }  # fmt: skip
    (folder / "preprocessor_config.json").write_text(json.dumps(features, indent=2) + "\n")
