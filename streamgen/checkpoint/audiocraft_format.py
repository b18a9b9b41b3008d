"""audiocraft's own format, read without audiocraft: state_dict.bin and compression_state_dict.bin.

Rules: builds the same Checkpoint as transformers' format from the same weights; a setting that would change the
arithmetic and is not MusicGen's is refused by name, never ignored.

Each file is a torch.save of {"best_state": tensors, "xp.cfg": the training's YAML, "version", "exported"}; the second
may instead be {"pretrained": "facebook/encodec_32khz"}. The T5 is only named: it is looked for in the checkpoint's
folder, then as a path, then in the Hub's cache and on the Hub; where it was trained with the decoder (t5.finetune), its
weights are those beside the decoder's.
Source: github.com/facebookresearch/audiocraft, models/loaders.py, models/builders.py, utils/export.py.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamgen.checkpoint.audiocraft_fields import CODEC_FIELDS, LM_FIELDS, notes_of
from streamgen.checkpoint.audiocraft_names import codec_tensors, lm_tensors
from streamgen.checkpoint.audiocraft_settings import (
    codec_settings,
    decoder_config,
    generation_defaults,
    melody_config,
    owns_text_encoder,
    segment_seconds,
    text_encoder_name,
)
from streamgen.checkpoint.audiocraft_style import features_name, style_config, style_defaults, style_weights
from streamgen.checkpoint.files import in_its_words, read_json, read_package, read_tensors
from streamgen.checkpoint.find import hub_folder
from streamgen.checkpoint.parts import (
    build_codec,
    build_mert,
    build_text_encoder,
    projection,
    with_prefix,
)
from streamgen.checkpoint.tokenizer import Tokenizer, load_tokenizer
from streamgen.checkpoint.types import Checkpoint, DecoderConfig, StyleConfig
from streamgen.checkpoint.validate import (
    STYLE_ROOM,
    TEXT_ROOM,
    check_decoder,
    check_windows,
    decoder_shapes,
    match_tensors,
)
from streamgen.checkpoint.xp_cfg import Settings, parse_settings
from streamgen.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import HubertModel

    from streamgen.checkpoint.encodec import Codec
    from streamgen.checkpoint.t5 import T5Encoder

__all__ = ["load_audiocraft", "with_windows"]

LM_FILE, CODEC_FILE = "state_dict.bin", "compression_state_dict.bin"
TEXT_ENCODER = "condition_provider.conditioners.description.t5."
TEXT_PROJECTION = "condition_provider.conditioners.description.output_proj"
MELODY_PROJECTION = "condition_provider.conditioners.self_wav.output_proj"


def load_audiocraft(name: str, folder: Path, licence: str) -> Checkpoint:
    """Load a folder that audiocraft's export wrote.

    Raises:
        CheckpointError: damaged, not MusicGen, with a codec that cannot be streamed, or its T5 is not to be found.
    """
    where = str(folder / LM_FILE)
    state, settings = _read(folder / LM_FILE)
    decoder = decoder_config(settings, where)
    check_decoder(decoder, where)
    chroma = melody_config(settings, where)
    weights = lm_tensors(state, where)
    match_tensors(f"{where}: the decoder", decoder_shapes(decoder), weights)
    codec, codec_settings = _load_codec(folder, decoder)
    style = style_config(settings, decoder, where)
    read_first = chroma.chroma_length if chroma else STYLE_ROOM if style else None
    decoder = with_windows(decoder, segment_seconds(settings, where), codec, read_first)
    check_windows(decoder, where)
    trained = with_prefix(state, TEXT_ENCODER) if owns_text_encoder(settings, where) else None
    text_encoder, tokenizer = _load_text_encoder(text_encoder_name(settings, where), folder, trained, where)
    width = text_encoder.config.d_model
    defaults, notes = generation_defaults(settings, where)
    found = Checkpoint(
        name=name, folder=folder, format="audiocraft", licence=licence, decoder=decoder, weights=weights,
        codec=codec, text_encoder=text_encoder, tokenizer=tokenizer,
        text_projection=_output_projection(state, TEXT_PROJECTION, width, decoder, where), melody=chroma,
        melody_projection=None if chroma is None else _output_projection(
            state, MELODY_PROJECTION, chroma.num_chroma, decoder, where),
        defaults=defaults,
        notes=(*notes, *notes_of(settings, LM_FIELDS, LM_FILE), *notes_of(codec_settings, CODEC_FIELDS, CODEC_FILE)),
    )  # fmt: skip
    return found if style is None else _with_style(found, style, state, settings)


def _with_style(found: Checkpoint, style: StyleConfig, state: dict[str, Tensor], settings: Settings) -> Checkpoint:
    folder, decoder, where = found.folder, found.decoder, str(found.folder / LM_FILE)
    defaults, notes = style_defaults(settings, style, found.defaults, where)
    return replace(
        found,
        style=style,
        style_weights=style_weights(state, style, decoder.hidden_size, where),
        style_features=_load_features(features_name(settings, style, where), style, folder, decoder),
        defaults=defaults,
        notes=(*notes, *found.notes),
    )


def with_windows(decoder: DecoderConfig, seconds: float, codec: Codec, read_first: int | None) -> DecoderConfig:
    """Return it with windows as long as the music that it was trained on, and its delays; a prefix stands beside them.

    Args:
        decoder: without them.
        seconds: of that music.
        codec: says how many frames these are.
        read_first: positions of a melody or style; None where nothing is read first.
    """
    frames = round(seconds * codec.config.sampling_rate / codec.config.hop_length)
    prefix = 0 if read_first is None else read_first + TEXT_ROOM
    return replace(decoder, max_positions=frames + decoder.channel_codebooks - 1, prefix_positions=prefix)


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and settings of one exported file."""
    package = read_package(path)
    return _best_state(package, path), parse_settings(package.get("xp.cfg"), str(path))


def _best_state(package: dict[str, Any], path: Path) -> dict[str, Tensor]:
    from torch import Tensor

    state = package.get("best_state")
    if isinstance(state, dict) and isinstance(state.get("model"), dict):
        state = state["model"]  # a training checkpoint that was not exported
    if not isinstance(state, dict) or not state or not all(isinstance(tensor, Tensor) for tensor in state.values()):
        keys = ", ".join(map(repr, list(package)[:5])) or "nothing"
        raise CheckpointError(
            f"{path} has no best_state of tensors (found {keys}); export it with audiocraft.utils.export"
        )
    return state


def _output_projection(
    state: dict[str, Tensor], name: str, width: int, decoder: DecoderConfig, where: str
) -> tuple[Tensor, Tensor] | None:
    """Audiocraft projects even between equal widths, where transformers has no projection."""
    if f"{name}.weight" in state and width == decoder.hidden_size:
        match_tensors(f"{where}: {name}", {"weight": (width, width), "bias": (width,)}, with_prefix(state, f"{name}."))
        return state[f"{name}.weight"].float(), state[f"{name}.bias"].float()
    return projection(state, name, width, decoder.hidden_size, where)


def _load_codec(folder: Path, decoder: DecoderConfig) -> tuple[Codec, dict[str, Any]]:
    """Return the codec, and its settings where audiocraft wrote them."""
    path = folder / CODEC_FILE
    if not path.is_file():
        raise CheckpointError(
            f"{folder} has no codec ({CODEC_FILE}), which audiocraft exports beside {LM_FILE}: download it too, or "
            "name one (audiocraft.utils.export.export_pretrained_compression_model)"
        )
    package = read_package(path)
    if "pretrained" in package:
        return _load_named_codec(package["pretrained"], folder, decoder)
    state, settings = _best_state(package, path), parse_settings(package.get("xp.cfg"), str(path))
    return build_codec(codec_settings(settings, str(path)), codec_tensors(state), decoder, str(path)), settings


def _load_named_codec(name: Any, folder: Path, decoder: DecoderConfig) -> tuple[Codec, dict[str, Any]]:
    """A codec by name, e.g. "facebook/encodec_32khz": transformers' or audiocraft's format."""
    if not isinstance(name, str) or not name:
        raise CheckpointError(f"{folder / CODEC_FILE} names the codec {name!r:.60}; a name or a path is needed")
    found = _named_folder(name.removeprefix("//pretrained/"), folder)
    if not (found / "config.json").is_file() and (found / CODEC_FILE).is_file() and found.resolve() != folder.resolve():
        return _load_codec(found, decoder)
    return build_codec(read_json(found / "config.json"), read_tensors(found), decoder, str(found)), {}


def _load_features(name: str, style: StyleConfig, folder: Path, decoder: DecoderConfig) -> Codec | HubertModel:
    """What hears a style: an EnCodec or MERT, by name."""
    if style.features == "encodec":
        as_many = replace(decoder, num_codebooks=style.feature_codebooks * decoder.audio_channels)
        return _load_named_codec(name, folder, as_many)[0]
    found = _named_folder(name, folder)
    return build_mert(read_json(found / "config.json"), read_tensors(found), str(found))


def _load_text_encoder(
    name: str, folder: Path, trained: dict[str, Tensor] | None, where: str
) -> tuple[T5Encoder, Tokenizer]:
    """The T5 of that name, or its settings with the weights that were trained with the decoder."""
    found = _named_folder(name, folder)
    settings = read_json(found / "config.json")
    if trained is None:
        encoder = build_text_encoder(settings, read_tensors(found), str(found))
    else:
        encoder = build_text_encoder(settings, trained, where)
    return encoder, load_tokenizer(found, encoder.config.vocab_size)


def _named_folder(name: str, folder: Path) -> Path:
    """Beside the weights (whole name, then its last part), then a path, then the Hub."""
    for candidate in (folder / name, folder / name.rsplit("/", 1)[-1], Path(name).expanduser()):
        if candidate.is_dir() and candidate.resolve() != folder.resolve():
            return candidate
    try:
        return hub_folder(name)
    except CheckpointError as error:
        reason = in_its_words(error.__cause__ or error)
        raise CheckpointError(
            f"{folder} needs {name!r}, which is neither in {folder / name} nor to be had from the Hub ({reason}); "
            "copy its folder there"
        ) from error
