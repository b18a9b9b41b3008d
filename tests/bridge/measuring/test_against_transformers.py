"""The comparison's terms: same work on both sides, in turns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import streamgen
from bridge.measuring import against_transformers
from bridge.measuring.against_transformers import Comparison, compare
from streamgen.testing import tiny_checkpoint


def test_both_make_the_same_length_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[str, float]] = []
    model = streamgen.load_model(str(tiny_checkpoint("stereo")), precision="fp32")
    ours = model.generate

    def remembered(*words: Any, **options: Any) -> Any:
        clips = ours(*words, **options)
        made.append(("ours", clips[0].seconds))
        assert options["guidance_scale"] == 3.0
        return clips

    monkeypatch.setattr(model, "generate", remembered)
    their_job = against_transformers._their_job

    def remembered_job(folder: str, model: Any) -> Callable[[float], None]:
        job = their_job(folder, model)
        return lambda seconds: made.append(("theirs", job(seconds).shape[-1] / 32_000))

    monkeypatch.setattr(against_transformers, "_their_job", remembered_job)
    lines: list[str] = []
    result = compare(model, str(tiny_checkpoint("stereo")), 0.4, lines.append)
    assert made == [("ours", 0.2), ("theirs", 0.2), ("ours", 0.4), ("theirs", 0.4), ("ours", 0.4), ("theirs", 0.4)]
    assert len(lines) == 2
    assert result.precision == "fp32"
    assert result.ours > 0
    assert result.theirs > 0


def test_the_ratio_is_ours_over_theirs() -> None:
    assert Comparison("fp32", ours=3.0, theirs=1.5).ratio == 2.0


def test_beside_int8_they_run_in_bf16() -> None:
    model = streamgen.load_model(str(tiny_checkpoint("mono")), precision="int8")
    result = compare(model, str(tiny_checkpoint("mono")), 0.1, lambda line: None)
    assert result.precision == "bf16"
