"""transformers' format: config.json, weights, tokenizer, as `save_pretrained` writes them.

Rules: never builds the composite model; takes tensors by prefix.

    config.json says            decoder's tensors under     besides
    musicgen                    decoder.                    text_encoder. audio_encoder. enc_to_dec_proj.
    musicgen_melody             decoder.                    the same, and audio_enc_to_dec_proj.
    musicgen_decoder            (no prefix)                 its codec in the folder "audio_encoder"; without, it gives
                                                            codes alone. Unconditional, or by text states
    musicgen_melody_decoder     (no prefix)                 the same
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamgen.checkpoint.files import read_json, read_tensors
from streamgen.checkpoint.generation_settings import read_generation_settings
from streamgen.checkpoint.parts import (
    build_codec,
    build_text_encoder,
    projection,
    with_prefix,
)
from streamgen.checkpoint.preprocessor import audio_prompt_notes, melody_config
from streamgen.checkpoint.settings import DecoderSettings, MelodyDecoderSettings, read_settings
from streamgen.checkpoint.tokenizer import load_tokenizer
from streamgen.checkpoint.types import Checkpoint, DecoderConfig, GenerationDefaults
from streamgen.checkpoint.validate import (
    MAX_TRAINED_POSITIONS,
    TEXT_ROOM,
    check_decoder,
    check_not_wrapped,
    check_room,
    decoder_shapes,
    match_tensors,
)
from streamgen.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["load_transformers"]

COMPOSITES = ("musicgen", "musicgen_melody")
ALONE = ("musicgen_decoder", "musicgen_melody_decoder")
CODEC_FOLDER = "audio_encoder"


def load_transformers(name: str, folder: Path, licence: str) -> Checkpoint:
    """Load a folder that `save_pretrained` wrote.

    Raises:
        CheckpointError: damaged, of another architecture, or with a codec that cannot be streamed.
    """
    settings = read_json(folder / "config.json")
    model_type = settings.get("model_type")
    if model_type in COMPOSITES:
        return _load_composite(name, folder, licence, settings)
    if model_type in ALONE:
        return _load_decoder_alone(name, folder, licence, settings)
    raise CheckpointError(
        f"{folder / 'config.json'} is of a {model_type!r:.60} model; streamgen plays "
        f"{', '.join((*COMPOSITES, *ALONE))}: use a MusicGen checkpoint, e.g. 'pocket' or 'facebook/musicgen-small'"
    )


def _load_composite(name: str, folder: Path, licence: str, settings: dict[str, Any]) -> Checkpoint:
    where, melody = str(folder), settings["model_type"] == "musicgen_melody"
    decoder = _decoder_config(settings.get("decoder"), melody, where)
    chroma, of_preprocessor = melody_config(settings, folder) if melody else (None, ())
    if chroma is not None:
        decoder = replace(decoder, prefix_positions=chroma.chroma_length + TEXT_ROOM)
        check_room(decoder, where)
    defaults, notes = _defaults(folder, decoder)
    tensors = read_tensors(folder)
    check_not_wrapped(where, tensors)
    if not any(name.startswith("audio_encoder.") for name in tensors):
        raise CheckpointError(
            f"{where}: the codec is not in the weights (no audio_encoder.…): save the whole model "
            "(MusicgenForConditionalGeneration.save_pretrained), which holds decoder, T5 and EnCodec"
        )
    weights = _decoder_weights(with_prefix(tensors, "decoder."), decoder, where)
    codec = build_codec(settings.get("audio_encoder"), with_prefix(tensors, "audio_encoder."), decoder, where)
    if not melody:
        of_preprocessor = audio_prompt_notes(folder, codec.config.sampling_rate)
    text_encoder = build_text_encoder(settings.get("text_encoder"), with_prefix(tensors, "text_encoder."), where)
    width = text_encoder.config.d_model
    return Checkpoint(
        name=name, folder=folder, format="transformers", licence=licence, decoder=decoder, weights=weights, codec=codec,
        text_encoder=text_encoder, tokenizer=load_tokenizer(folder, text_encoder.config.vocab_size),
        text_projection=projection(tensors, "enc_to_dec_proj", width, decoder.hidden_size, where),
        melody=chroma, melody_projection=None if chroma is None else projection(
            tensors, "audio_enc_to_dec_proj", chroma.num_chroma, decoder.hidden_size, where),
        defaults=defaults, notes=(*notes, *of_preprocessor),
    )  # fmt: skip


def _load_decoder_alone(name: str, folder: Path, licence: str, settings: dict[str, Any]) -> Checkpoint:
    where, codec_folder = str(folder), folder / CODEC_FOLDER
    decoder = _decoder_config(settings, "melody" in settings["model_type"], where)
    if not decoder.cross_attention:
        decoder = replace(decoder, prefix_positions=TEXT_ROOM)
    defaults, notes = _defaults(folder, decoder)
    tensors = read_tensors(folder)
    check_not_wrapped(where, tensors)
    weights = _decoder_weights(tensors, decoder, where)
    codec = None
    if codec_folder.is_dir():
        settings, tensors = read_json(codec_folder / "config.json"), read_tensors(codec_folder)
        codec = build_codec(settings, tensors, decoder, str(codec_folder))
    else:
        notes = (f"no codec lies in {codec_folder}: tokens come of this checkpoint, no sound", *notes)
    return Checkpoint(
        name=name, folder=folder, format="transformers", licence=licence, decoder=decoder, weights=weights, codec=codec,
        defaults=defaults, notes=notes,
    )  # fmt: skip


def _decoder_config(settings: Any, melody: bool, where: str) -> DecoderConfig:
    found = read_settings(MelodyDecoderSettings if melody else DecoderSettings, settings, f"{where}: the decoder")
    if found.pad_token_id not in (None, found.vocab_size):
        raise CheckpointError(
            f"{where}: the decoder's pad_token_id is {found.pad_token_id}; MusicGen pads with vocab_size, "
            f"{found.vocab_size}: correct config.json"
        )
    decoder = DecoderConfig(
        hidden_size=found.hidden_size, num_layers=found.num_hidden_layers, num_heads=found.num_attention_heads,
        ffn_dim=found.ffn_dim, num_codebooks=found.num_codebooks, vocab_size=found.vocab_size,
        audio_channels=found.audio_channels, activation=found.activation_function, cross_attention=not melody,
        max_positions=min(MAX_TRAINED_POSITIONS, found.max_position_embeddings),
    )  # fmt: skip
    check_decoder(decoder, where)
    return decoder


def _decoder_weights(tensors: dict[str, Tensor], decoder: DecoderConfig, where: str) -> dict[str, Tensor]:
    """The decoder's tensors; positions are sines, computed, though some files hold them."""
    weights = {name: tensor for name, tensor in tensors.items() if "embed_positions" not in name}
    match_tensors(f"{where}: the decoder", decoder_shapes(decoder), weights)
    return weights


def _defaults(folder: Path, decoder: DecoderConfig) -> tuple[GenerationDefaults, tuple[str, ...]]:
    return read_generation_settings(folder / "generation_config.json", decoder.vocab_size)
