"""Golden: our tokens against those of the real audiocraft on the same files, recorded by record_audiocraft.py."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

import streamgen
from streamgen.stream.batch import Batch
from streamgen.testing import tiny_checkpoint
from tests.golden.audio import RATE_HZ, seeded_tune

RECORDED = json.loads((Path(__file__).parent / "audiocraft.json").read_text())


@cache
def model_of(kind: str) -> Any:
    return streamgen.load_model(str(tiny_checkpoint(kind)), device="cpu", precision="fp32")


def name(case: dict[str, Any]) -> str:
    controls = ", ".join(f"{key.split('_')[-1]} {value:g}" for key, value in case["controls"].items())
    return f"{case['kind']}: {case['text']}{' and audio' if case['audio'] else ''}, {controls}"


@pytest.mark.parametrize("case", RECORDED["tokens"], ids=name)
def test_tokens_are_audiocraft_s(case: dict[str, Any]) -> None:
    """Greedy, a second of them; where a tiny checkpoint's weights have changed, record again."""
    batch = Batch(
        model_of(case["kind"]).runtime, [case["text"]], 1.0, seed=case["seed"],
        controls={"temperature": 0.0, **case["controls"]},
    )  # fmt: skip
    if case["audio"]:
        (batch.give_styles if case["kind"] == "style" else batch.give_melodies)([seeded_tune(5.0)], RATE_HZ)
    codes = torch.tensor(case["codes"])
    assert torch.equal(batch.codes()[0], codes)
    assert len(torch.unique(codes)) > 20, "tokens that freeze on one value would prove nothing"


def test_what_was_recorded_differs_where_it_should() -> None:
    """Text, audio, β, codebooks and excerpt each change the tokens; else the comparison above would prove little."""
    styles = [case for case in RECORDED["tokens"] if case["kind"] == "style"]
    assert len({json.dumps(case["codes"]) for case in styles}) >= len(styles) - 4, "β says nothing without a text"


@pytest.mark.parametrize("recorded", RECORDED["windows"], ids=lambda recorded: f"{recorded['seconds']:g} s")
def test_windows_of_an_endless_melody_have_audiocraft_s_chroma(recorded: dict[str, Any]) -> None:
    chroma = model_of("audiocraft-melody").runtime.prompts.chroma
    melody = chroma.melody(seeded_tune(recorded["seconds"], 3), RATE_HZ)
    table = chroma._project(torch.eye(12))[:12]  # of each pitch class its vector
    for window, classes in enumerate(recorded["classes"]):
        prefix = chroma.window(melody, window * recorded["stride_frames"])
        assert torch.equal(prefix, table[torch.tensor(classes)]), window
    assert len({tuple(classes) for classes in recorded["classes"]}) == len(recorded["classes"])
