"""Finding, reading and naming checkpoints.

    find      a name → a folder: shipped, folder, Hub          known    what one can name, and its licence
    files     bytes → JSON and tensors, safely
    transformers_format, audiocraft_format   a folder → Checkpoint
    spiece    sentencepiece's file of a tokenizer
    parts     configs and tensors → codec, text encoder, tokenizer      validate   what can be streamed
    types     what a Checkpoint is                              words    what it hears in people's words
    code_bias    which codes are likelier in a place of the bar, and in a key

Rules: importing this imports no torch; reading a damaged or hostile folder ends in one CheckpointError.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

from streamgen.checkpoint.code_bias import read_code_bias
from streamgen.checkpoint.convert import convert_checkpoint
from streamgen.checkpoint.files import WEIGHTS, read_json
from streamgen.checkpoint.find import AUDIOCRAFT_FILES, find_folder
from streamgen.checkpoint.known import KnownCheckpoint, licence_of, list_checkpoints
from streamgen.checkpoint.types import Checkpoint, DecoderConfig, GenerationDefaults, MelodyConfig
from streamgen.checkpoint.vocabulary import ANY_MODELS_PROMPTS, read_vocabulary
from streamgen.checkpoint.words import Heard
from streamgen.errors import CheckpointError

__all__ = [
    "ANY_MODELS_PROMPTS",
    "Checkpoint",
    "DecoderConfig",
    "GenerationDefaults",
    "Heard",
    "KnownCheckpoint",
    "MelodyConfig",
    "as_filed",
    "convert_checkpoint",
    "find_folder",
    "list_checkpoints",
    "load_checkpoint",
]

_WEIGHT_SUFFIXES = (".safetensors", ".bin")
_log = logging.getLogger("streamgen")


def load_checkpoint(name: str, *, revision: str | None = None) -> Checkpoint:
    """Load a checkpoint into CPU memory.

    Args:
        name: "pocket" (shipped), a folder in transformers' or audiocraft's format, or a Hub id.
        revision: of a Hub id: branch, tag or commit.

    Returns:
        The checkpoint: decoder weights in their stored dtype, codec and text encoder in float32.

    Raises:
        CheckpointError: missing, damaged, of another architecture, or with a codec that cannot be streamed.
    """
    from streamgen.checkpoint.parts import own_settings

    folder = find_folder(name, revision)
    with own_settings():
        found = _read(str(name), folder, licence_of(str(name), folder))
    for note in found.notes:
        _log.info("%s", note)
    return replace(
        found,
        words=read_vocabulary(folder),
        code_bias=read_code_bias(folder, (found.decoder.num_codebooks, found.decoder.vocab_size)),
    )


def as_filed(checkpoint: Checkpoint) -> Checkpoint:
    """Say of a checkpoint which files its weights are: of one that nobody has changed since it was loaded."""
    found = [
        (file.name, file.stat()) for file in sorted(checkpoint.folder.glob("*")) if file.suffix in _WEIGHT_SUFFIXES
    ]
    told = (f"{name} {about.st_size} {about.st_mtime_ns}" for name, about in found)
    return replace(checkpoint, files="\n".join(told))  # not where they lie: a folder may be moved


def _read(name: str, folder: Path, licence: str) -> Checkpoint:
    _check_no_adapter(folder)
    if (folder / "config.json").is_file() and not _only_audiocraft_weights(folder):
        from streamgen.checkpoint.transformers_format import load_transformers

        return load_transformers(name, folder, licence)
    if any((folder / file).is_file() for file in AUDIOCRAFT_FILES):
        from streamgen.checkpoint.audiocraft_format import load_audiocraft

        return load_audiocraft(name, folder, licence)
    raise CheckpointError(
        f"{folder} holds no checkpoint: neither config.json (transformers' format) nor state_dict.bin (audiocraft's); "
        "give the folder that save_pretrained or audiocraft's export wrote"
    )


def _check_no_adapter(folder: Path) -> None:
    """An adapter (LoRA) changes another model's weights: left out without a word, it would be other music."""
    path = folder / "adapter_config.json"
    if path.is_file():
        base = read_json(path).get("base_model_name_or_path")
        beside = " beside its weights" if any((folder / file).is_file() for file in WEIGHTS) else ""
        raise CheckpointError(
            f"{folder} holds a LoRA adapter{beside} (of {base!r:.60}), which is not applied here: merge it "
            "(peft: merge_and_unload, then save_pretrained), and give that folder, without adapter_config.json"
        )


def _only_audiocraft_weights(folder: Path) -> bool:
    """Meta's repositories hold both formats; a partial copy may hold transformers' settings without its weights."""
    return (folder / AUDIOCRAFT_FILES[0]).is_file() and not any((folder / file).is_file() for file in WEIGHTS)
