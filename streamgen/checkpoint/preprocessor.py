"""preprocessor_config.json, field by field: honoured, refused by name, or named as without effect here.

              MusicGen Melody                                  MusicGen
    honoured  n_fft, hop_length, sampling_rate, chunk_length
    refused   num_chroma, feature_size unlike the model's      chunk_length_s: audio prompts in chunks
    named     padding, stems, and whatever else there is       the rest, where it is not the usual

Rules: knows no tensors. transformers may keep the same in processor_config.json, under "feature_extractor".
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from streamgen.checkpoint.files import read_json
from streamgen.checkpoint.types import MelodyConfig
from streamgen.errors import CheckpointError

__all__ = ["audio_prompt_notes", "melody_config"]

DAMAGED = "the file is damaged: download it again"
FILES = (("preprocessor_config.json", None), ("processor_config.json", "feature_extractor"))
HONOURED = ("num_chroma", "feature_size", "n_fft", "hop_length", "sampling_rate", "chunk_length")
# With the values that need no remark: as published, and as transformers writes them by default.
USUAL: dict[str, tuple[Any, ...]] = {
    "padding_side": ("left", "right"), "padding_value": (0,), "return_attention_mask": (True, False),
}  # fmt: skip
OF_MELODY: dict[str, tuple[Any, ...]] = {
    **USUAL, "feature_extractor_type": ("MusicgenMelodyFeatureExtractor",), "stem_indices": ([3, 2],),
    "processor_class": ("MusicgenMelodyProcessor",),
}  # fmt: skip
OF_AUDIO_PROMPTS: dict[str, tuple[Any, ...]] = {
    **USUAL, "feature_extractor_type": ("EncodecFeatureExtractor",), "processor_class": ("MusicgenProcessor",),
    "feature_size": (1, 2),
}  # fmt: skip


def melody_config(settings: dict[str, Any], folder: Path) -> tuple[MelodyConfig, tuple[str, ...]]:
    """Read how melodies become chroma: that from the model's settings, its spectrogram from the preprocessor's.

    Returns:
        The settings, and what is to be said of them: one line each.

    Raises:
        CheckpointError: damaged, or unlike the model's.
    """
    file, features = _read(folder)
    num_chroma = _positive(settings, "num_chroma", 12, folder)
    for name in ("num_chroma", "feature_size"):
        if features.get(name, num_chroma) != num_chroma:
            raise CheckpointError(
                f"{folder}: {name} is {features[name]!r:.40} in the preprocessor, num_chroma {num_chroma} in the "
                "model; they must be equal: correct the preprocessor's"
            )
    found = MelodyConfig(
        num_chroma=num_chroma,
        chroma_length=_positive(settings, "chroma_length", 235, folder),
        n_fft=_positive(features, "n_fft", 16384, folder),
        hop_length=_positive(features, "hop_length", 4096, folder),
        sample_rate_hz=_positive(features, "sampling_rate", 32000, folder),
        seconds=_positive(features, "chunk_length", 30, folder),
    )
    samples = (int(found.seconds) * found.sample_rate_hz,)  # transformers computes it too, and reads none
    return found, _notes(features, {**OF_MELODY, "n_samples": samples}, HONOURED, file)


def audio_prompt_notes(folder: Path, sample_rate_hz: int) -> tuple[str, ...]:
    """Return what is to be said of how transformers would prepare an audio prompt: one line each.

    Args:
        folder: of the checkpoint.
        sample_rate_hz: of the codec, at which audio is read here.

    Raises:
        CheckpointError: it would cut it into chunks.
    """
    file, features = _read(folder)
    seconds = features.get("chunk_length_s")
    if seconds is not None:
        raise CheckpointError(
            f"{folder / file}: chunk_length_s is {seconds!r:.40}, audio prompts in chunks; a stream has one endless "
            "frame: take it out of the file"
        )
    return _notes(features, {**OF_AUDIO_PROMPTS, "sampling_rate": (sample_rate_hz,)}, (), file)


def _read(folder: Path) -> tuple[str, dict[str, Any]]:
    for file, place in FILES:
        if (folder / file).is_file():
            found: Any = read_json(folder / file)
            found = found if place is None else found.get(place)
            return file, found if isinstance(found, dict) else {}
    return FILES[0][0], {}


def _notes(
    features: Mapping[str, Any], usual: Mapping[str, tuple[Any, ...]], honoured: tuple[str, ...], file: str
) -> tuple[str, ...]:
    idle = [
        f"{name} ({value!r:.40})"
        for name, value in features.items()
        if value is not None and name not in honoured and value not in usual.get(name, ())
    ]
    return (f"{file}: no effect here has {', '.join(idle)}",) if idle else ()


def _positive(settings: Mapping[str, Any], name: str, default: int, folder: Path) -> int:
    value = settings.get(name, default)
    if not isinstance(value, int) or not 1 <= value <= 1_000_000:
        raise CheckpointError(f"{folder}: {name} is {value!r:.40}; a whole number from 1 is needed; {DAMAGED}")
    return value
