"""Every field of transformers' feature extractors: honoured, refused by name, or named."""

from __future__ import annotations

import ast
import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from streamgen.checkpoint import load_checkpoint
from streamgen.checkpoint.preprocessor import audio_prompt_notes, melody_config
from streamgen.errors import CheckpointError
from streamgen.testing import tiny_checkpoint
from streamgen.testing.tiny import MELODY_PROCESSOR

MODULES = {
    "melody": "transformers.models.musicgen_melody.feature_extraction_musicgen_melody",
    "mono": "transformers.models.encodec.feature_extraction_encodec",
}
OF_BOTH = ("padding_side", "return_attention_mask", "feature_extractor_type", "processor_class", "colour")


def fields_of(kind: str) -> list[str]:
    """What the installed extractor's `__init__` takes, read from its source: importing melody's wants torchaudio."""
    spec = find_spec(MODULES[kind])
    assert spec is not None
    assert spec.origin is not None
    found = next(
        node
        for node in ast.walk(ast.parse(Path(spec.origin).read_text()))
        if isinstance(node, ast.FunctionDef) and node.name == "__init__"
    )
    names = [argument.arg for argument in found.args.args[1:]]
    assert "sampling_rate" in names, names
    return sorted({*names, *OF_BOTH, *({"n_samples"} if kind == "melody" else ())})


def read(kind: str, folder: Path, features: dict[str, Any]) -> tuple[Any, tuple[str, ...]]:
    (folder / "preprocessor_config.json").write_text(json.dumps(features))
    if kind == "mono":
        return None, audio_prompt_notes(folder, 32_000)
    return melody_config({}, folder)


def usual(kind: str) -> dict[str, Any]:
    if kind == "melody":
        return MELODY_PROCESSOR
    found: dict[str, Any] = json.loads((tiny_checkpoint(kind) / "processor_config.json").read_text())
    return found["feature_extractor"]  # type: ignore[no-any-return]


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind in MODULES for name in fields_of(kind)])
def test_every_field_is_honoured_refused_or_named(kind: str, name: str, tmp_path: Path) -> None:
    plain, _ = read(kind, tmp_path, usual(kind))
    try:
        found, notes = read(kind, tmp_path, {**usual(kind), name: 7})
        outcomes = ["honoured"] * (found != plain) + ["named"] * any(f"{name} (7)" in note for note in notes)
    except CheckpointError as error:
        outcomes = ["refused"] * (f"{name} is 7" in str(error))
    assert len(outcomes) == 1, outcomes


@pytest.mark.parametrize("kind", MODULES)
def test_what_meta_published_needs_no_remark(kind: str, tmp_path: Path) -> None:
    assert read(kind, tmp_path, usual(kind))[1] == ()


@pytest.mark.parametrize(("kind", "file"), [("mono", "processor_config.json"), ("melody", "preprocessor_config.json")])
def test_a_checkpoint_tells_what_its_preprocessor_says_for_nothing(
    kind: str, file: str, copy_of: Any, edit_json: Any
) -> None:
    folder = copy_of(kind)
    edit_json(folder / file, {"feature_extractor.padding_value" if kind == "mono" else "padding_value": 0.5})
    assert f"{file}: no effect here has padding_value (0.5)" in load_checkpoint(str(folder)).notes


def test_audio_prompts_in_chunks_are_refused(copy_of: Any, edit_json: Any, complaint: Any) -> None:
    folder = copy_of("mono")
    edit_json(folder / "processor_config.json", {"feature_extractor.chunk_length_s": 1.0})
    assert "processor_config.json: chunk_length_s is 1.0, audio prompts in chunks" in complaint(folder)
