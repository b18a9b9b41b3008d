"""generation_config.json, field by field: honoured, refused by name, or named once as without effect here.

    honoured   guidance_scale, temperature, top_k, top_p, do_sample, the padding code's names, and this package's own
    refused    what would change transformers' draws, and is not drawn here
    named      what has no effect on an endless stream

Rules: no tensors. What transformers would do with a value, draw for draw, is what comes of it; where the file is silent
it is MusicGen's own (transformers' is for language: greedy, top_k 50, no guidance), and that is said.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from streamgen.checkpoint.files import read_json
from streamgen.checkpoint.types import GenerationDefaults
from streamgen.checkpoint.xp_cfg import within
from streamgen.config import CONTROLS
from streamgen.errors import CheckpointError

__all__ = ["HONOURED", "NEUTRAL", "OWN", "PADDING", "WITHOUT_EFFECT", "read_generation_settings"]

DAMAGED = "the file is damaged: download it again"
HONOURED = ("guidance_scale", "temperature", "top_k", "top_p", "do_sample")
# transformers reads them, and no more
OWN = ("change_context_seconds", "guard", "audition", "least_movement", "unsupported_controls")
MOST_MOVEMENT = 1.0  # log10: more than any music moves from one quarter of a second to the next
PADDING = ("pad_token_id", "bos_token_id", "decoder_start_token_id")
# Fields that change what transformers draws, with the value that does not. None and empty ones never do.
NEUTRAL: dict[str, float | None] = {
    "num_beams": 1, "num_beam_groups": 1, "diversity_penalty": 0, "penalty_alpha": 0, "dola_layers": None,
    "constraints": None, "force_words_ids": None, "prompt_lookup_num_tokens": None, "assistant_early_exit": None,
    "use_mtp": False, "min_p": 0, "top_h": 1, "typical_p": 1, "epsilon_cutoff": 0, "eta_cutoff": 0,
    "repetition_penalty": 1, "encoder_repetition_penalty": 1, "no_repeat_ngram_size": 0,
    "encoder_no_repeat_ngram_size": 0, "bad_words_ids": None, "suppress_tokens": None, "begin_suppress_tokens": None,
    "sequence_bias": None, "forced_bos_token_id": None, "forced_eos_token_id": None,
    "exponential_decay_length_penalty": None, "watermarking_config": None, "token_healing": False,
}  # fmt: skip
# A stream has no end, one row for each prompt, and a cache of its own; with the values that need no remark.
WITHOUT_EFFECT: dict[str, tuple[Any, ...]] = {
    "max_length": (), "max_new_tokens": (), "min_length": (0,), "min_new_tokens": (), "max_time": (),
    "stop_strings": (), "eos_token_id": (), "early_stopping": (False,), "length_penalty": (1.0,),
    "num_return_sequences": (1,), "renormalize_logits": (False,), "remove_invalid_values": (False,),
    "use_cache": (True,), "cache_implementation": (), "cache_config": (), "max_cache_len": (),
    "output_attentions": (False,), "output_hidden_states": (False,), "output_scores": (False,),
    "output_logits": (False,), "return_dict_in_generate": (False,), "is_assistant": (False,),
    "num_assistant_tokens": (20,), "num_assistant_tokens_schedule": ("constant",),
    "assistant_confidence_threshold": (0.4,), "max_matching_ngram_size": (), "assistant_lookbehind": (10,),
    "target_lookbehind": (10,), "assistant_ensemble_weight": (), "speculation_type": (), "compile_config": (),
    "disable_compile": (False,), "continuous_batching_config": (), "low_memory": (False,), "prefill_chunk_size": (),
}  # fmt: skip
SILENT = ("_from_model_config", "transformers_version")  # who wrote the file


def read_generation_settings(path: Path, padding_code: int) -> tuple[GenerationDefaults, tuple[str, ...]]:
    """Read the defaults of a checkpoint's controls.

    Args:
        path: of generation_config.json, which need not be there.
        padding_code: the code that MusicGen starts and pads with: its vocabulary's size.

    Returns:
        The defaults, and what is to be said of the file: one line each.

    Raises:
        CheckpointError: a damaged value, or a setting that changes transformers' draws and is not drawn here.
    """
    if not path.is_file():
        return GenerationDefaults(), (_absence(path),)
    settings = {name: value for name, value in read_json(path).items() if value is not None}
    _refuse_others(settings, path)
    _check_padding(settings, padding_code, path)
    reading = _NumberReader(settings, path)
    drawing = reading.drawing() if reading.switch("do_sample", True) else _greedy()
    usual = GenerationDefaults()
    defaults = GenerationDefaults(
        guidance_scale=reading.guidance(),
        **drawing,
        change_context_seconds=reading.number("change_context_seconds", usual.change_context_seconds),
        guard=reading.switch("guard", usual.guard),
        audition=reading.whole("audition", usual.audition),
        least_movement=reading.movement(),
        unsupported=reading.controls("unsupported_controls"),
    )
    return defaults, (*reading.notes, *_silences(settings, path), *_without_effect(settings, path))


def _refuse_others(settings: Mapping[str, Any], path: Path) -> None:
    for name, neutral in NEUTRAL.items():
        value = settings.get(name)
        if value in (None, [], {}, (), neutral):
            continue
        raise CheckpointError(
            f"{path}: {name} is {value!r:.60}, which changes what transformers draws and is not drawn here; take it "
            f"out of the file{'' if neutral is None else f', or set it to {neutral!r}'}"
        )


def _check_padding(settings: Mapping[str, Any], padding_code: int, path: Path) -> None:
    for name in PADDING:
        if settings.get(name, padding_code) not in (padding_code, [padding_code]):
            raise CheckpointError(
                f"{path}: {name} is {settings[name]!r:.40}; MusicGen starts and pads with vocab_size, {padding_code}: "
                "correct it"
            )


def _greedy() -> dict[str, Any]:
    return {"temperature": 0.0}  # and transformers looks at no other setting of the draws


class _NumberReader:
    """Numbers of one file, and what is to be said of them.

    Attributes:
        notes: one line each.
    """

    def __init__(self, settings: Mapping[str, Any], path: Path) -> None:
        self._settings, self._path = settings, path
        self.notes: list[str] = []

    def number(self, name: str, default: float) -> float:
        """Return a control's default, within what the control allows."""
        value = self._settings.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
            raise CheckpointError(f"{self._path}: {name} is {value!r:.40}; a number from 0 is needed; {DAMAGED}")
        nearest, notes = within(CONTROLS[name], value, f"{self._path.name}: {name}")
        self.notes += notes
        return nearest

    def whole(self, name: str, default: int) -> int:
        """Return a control's default that is a whole number."""
        found = self.number(name, default)
        if found != int(found):
            raise CheckpointError(f"{self._path}: {name} is {found!r}; a whole number is needed: correct it")
        return int(found)

    def switch(self, name: str, default: bool) -> bool:
        """Return what is on or off."""
        found = self._settings.get(name, default)
        if not isinstance(found, bool):  # 0 is off to transformers, and "false" is on
            raise CheckpointError(f"{self._path}: {name} is {found!r:.40}, must be true or false: correct it")
        return found

    def controls(self, name: str) -> tuple[str, ...]:
        """Return the controls that a list names."""
        found = self._settings.get(name, [])
        if not isinstance(found, list) or not set(map(str, found)) <= set(CONTROLS):
            raise CheckpointError(
                f"{self._path}: {name} is {found!r:.60}, must be a list of these: {', '.join(CONTROLS)}; correct it"
            )
        return tuple(found)

    def movement(self) -> float:
        """Return how much the checkpoint's music moves at least."""
        value = self._settings.get("least_movement", GenerationDefaults().least_movement)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MOST_MOVEMENT:
            raise CheckpointError(
                f"{self._path}: least_movement is {value!r:.40}, must be within 0 … {MOST_MOVEMENT:g}; take it out, or "
                "correct it"
            )
        return float(value)

    def guidance(self) -> float:
        """Return g; transformers guides from 1 on, and leaves lower values alone."""
        return max(self.number("guidance_scale", GenerationDefaults().guidance_scale), 1.0)

    def drawing(self) -> dict[str, Any]:
        """Return how codes are drawn; for top_p, transformers writes 1 for off, and 0 leaves the likeliest alone."""
        usual = GenerationDefaults()
        found = {"temperature": self.number("temperature", usual.temperature)}
        top_k, top_p = self.whole("top_k", usual.top_k), self.number("top_p", 1.0)
        return {**found, "top_k": 1 if top_p == 0 else top_k, "top_p": 0.0 if top_p in (0.0, 1.0) else top_p}


def _absence(path: Path) -> str:
    usual = GenerationDefaults()
    return (
        f"there is no {path.name}: MusicGen's own is taken, sampling among {usual.top_k} codes with guidance "
        f"{usual.guidance_scale:g}; transformers would take the likeliest code, without guidance"
    )


def _silences(settings: Mapping[str, Any], path: Path) -> list[str]:
    """Say what is taken where transformers would take what suits language."""
    usual, greedy = GenerationDefaults(), settings.get("do_sample") is False
    taken = {"do_sample": ("sampling", "the likeliest code"), "guidance_scale": (f"{usual.guidance_scale:g}", "none")}
    taken |= {} if greedy else {"top_k": (f"{usual.top_k}", "50")}
    return [
        f"{path.name} says no {name}: MusicGen's own, {own}, is taken; transformers would take {theirs}"
        for name, (own, theirs) in taken.items()
        if name not in settings
    ]


def _without_effect(settings: Mapping[str, Any], path: Path) -> list[str]:
    known = {*HONOURED, *OWN, *PADDING, *NEUTRAL, *SILENT}
    idle = [name for name, value in settings.items() if name not in known and value not in WITHOUT_EFFECT.get(name, ())]
    return [f"{path.name}: no effect here has {', '.join(idle)}"] if idle else []
