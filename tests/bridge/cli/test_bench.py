"""`streamgen bench`: the fields of the contract, and the table."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bridge import comparison
from bridge.cli import bench
from bridge.comparison import SHAPES, DecoderSize
from bridge.speed import RolloverFigures, StreamFigures
from streamgen.testing import tiny_checkpoint

from ..conftest import ToyModel

Run = Callable[..., Any]


def test_a_model_without_a_rollover_says_how_to_see_one(run: Run) -> None:
    answer = run(
        "bench",
        "--model",
        tiny_checkpoint("mono"),
        "--seconds",
        "1",
        "--sessions",
        "2",
        "--precision",
        "fp32",
        "--json",
    )
    assert answer.code == 0
    fields = answer.fields
    assert fields["model"] == str(tiny_checkpoint("mono"))
    assert (fields["stereo"], fields["precision"], fields["device"]) == (False, "fp32", "cpu")
    assert (fields["rollover_ratio"], fields["rollovers"]) == (None, 0)
    assert fields["step_ms"]["median"] <= fields["step_ms"]["p99"]
    assert 0 < fields["codec_share"] < 1
    assert fields["realtime_factor"] > 0
    limit = fields["memory_bytes_per_second"] / fields["weight_bytes_per_step"] / 50
    assert fields["memory_limit_factor"] == pytest.approx(limit, rel=1e-3)
    assert [row["count"] for row in fields["sessions"]] == [1, 2]
    assert "rollover" in answer.err
    assert "raise --seconds" in answer.err


@pytest.mark.slow
def test_a_shape_against_transformers(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SHAPES, "musicgen-small", DecoderSize(64, 2, 4, 96))
    monkeypatch.setattr(
        comparison, "_CODEC", comparison._CODEC | {"num_filters": 4, "hidden_size": 16, "codebook_dim": 16}
    )
    text = {"d_model": 32, "d_ff": 48, "d_kv": 8, "num_layers": 1, "num_heads": 4}
    monkeypatch.setattr(comparison, "_TEXT", comparison._TEXT | text)
    words = (
        "--shape",
        "musicgen-small",
        "--stereo",
        "--precision",
        "fp32",
        "--against",
        "transformers",
        "--seconds",
        "1",
    )
    answer = run("bench", *words, "--json")
    assert answer.code == 0
    fields = answer.fields
    assert "model" not in fields
    assert (fields["shape"], fields["stereo"]) == ("musicgen-small", True)
    assert fields["transformers"]["precision"] == "fp32"
    assert fields["ratio"] == pytest.approx(
        fields["generate_realtime_factor"] / fields["transformers"]["realtime_factor"], rel=0.01
    )
    assert "times as fast" in answer.err


@pytest.mark.parametrize(
    ("kind", "why"),
    [("audiocraft", "is in audiocraft's format, which it does not read"), ("decoder", "has no text encoder")],
)
def test_what_transformers_does_not_play_is_refused_before_anything_is_measured(
    run: Run, kind: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(bench, "_measure")
    answer = run("bench", "--model", tiny_checkpoint(kind), "--against", "transformers")
    assert answer.code == 2
    assert why in answer.err.splitlines()[-1]
    assert "Traceback" not in answer.err


def test_a_decoder_alone_is_measured_without_a_prompt(run: Run) -> None:
    answer = run("bench", "--model", tiny_checkpoint("decoder"), "--seconds", "1", "--json")
    assert answer.code == 0
    assert answer.fields["realtime_factor"] > 0


def test_ended_from_outside_it_leaves_no_gigabyte_behind(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def end(_name: str, _stereo: bool, folder: Path) -> None:
        (folder / "weights").write_bytes(bytes(10))
        assert folder.parent == tmp_path
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(bench, "write_random_checkpoint", end)
    answer = run("bench", "--shape", "musicgen-small")
    assert (answer.code, answer.err.splitlines()[-1]) == (1, "streamgen: interrupted")
    assert list(tmp_path.iterdir()) == []
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_rollover_is_shown_beside_the_machines_own_noise() -> None:
    figures = StreamFigures(4.0, 0.1, 5.0, 6.0, 0.3, RolloverFigures(4, 1.25, 1.5, 1.1))
    model = ToyModel()
    model.weight_bytes = 1_000_000
    fields = bench._fields(model, figures, 1e9) | {"model": "toy", "sessions": []}
    assert (fields["rollover_ratio"], fields["rollover_worst_ratio"], fields["quiet_ratio"]) == (1.25, 1.5, 1.1)
    assert fields["memory_limit_factor"] == 20.0
    line = dict(bench._rows(fields))["rollover"]
    assert line == "longest step 1.25 × the median (worst of 4: 1.50; 1.10 where there is none)"


def test_beyond_eight_listeners_not_every_number_is_tried() -> None:
    assert bench._counts(1) == [1]
    assert bench._counts(8) == [1, 2, 3, 4, 5, 6, 7, 8]
    assert bench._counts(30) == [1, 2, 3, 4, 5, 6, 7, 8, 12, 18, 27, 30]
