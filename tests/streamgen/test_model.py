from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import streamgen
from streamgen.checkpoint import load_checkpoint
from streamgen.errors import CheckpointError, ConfigError, PromptError
from streamgen.testing import tiny_checkpoint

Twins = Callable[[str], Any]


def test_a_model_says_in_which_precision_it_runs_and_why() -> None:
    model = streamgen.load_model(str(tiny_checkpoint("mono")), device="cpu", precision="fp32")
    assert (model.precision, model.load_note) == ("fp32", "fp32, as asked")


def test_bfloat16_plays() -> None:
    model = streamgen.load_model(str(tiny_checkpoint("mono")), device="cpu", precision="bf16")
    clip = model.generate(["piano"], 1.0, seed=1)[0]
    assert clip.samples.shape == (2, 32_000)
    assert np.isfinite(clip.samples).all()
    assert clip.samples.std() > 0.01
    assert model.weight_bytes * 2 == twin_bytes()


def twin_bytes() -> int:
    return streamgen.load_model(str(tiny_checkpoint("mono")), device="cpu", precision="fp32").weight_bytes


def test_a_decoder_alone_plays_unconditionally_and_refuses_texts() -> None:
    model = streamgen.load_model(str(tiny_checkpoint("decoder")), device="cpu")
    with model.open_stream(seed=1) as stream:
        assert stream.read(32_000).samples.std() > 0.01
    with pytest.raises(PromptError, match="text"):
        model.open_stream("piano")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"precision": "int9"}, "precision is 'int9', must be one of auto, fp32, bf16, fp16, int8"),
        ({"device": "tpu"}, "device is 'tpu', must be one of auto, cpu, cuda"),
    ],
)
def test_unknown_options_are_refused_before_anything_is_read(options: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        streamgen.load_model("no/such/checkpoint", **options)


def test_cuda_without_a_gpu_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="no CUDA GPU here; use device='cpu'"):
        streamgen.load_model(str(tiny_checkpoint("mono")), device="cuda")


def test_a_missing_checkpoint_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError) as caught:
        streamgen.load_model(str(tmp_path / "nothing"))
    assert "\n" not in str(caught.value)


def test_a_melody_for_a_model_without_one_is_refused(twin: Twins) -> None:
    with pytest.raises(PromptError, match="takes no melody"):
        twin("mono").model.open_stream("piano", melody=np.zeros(32_000, np.float32), melody_rate_hz=32_000)


def test_from_checkpoint_plays_what_load_model_plays(twin: Twins) -> None:
    folder = str(tiny_checkpoint("mono"))
    model = streamgen.Model.from_checkpoint(load_checkpoint(folder), device="cpu", precision="fp32")
    ours, theirs = (one.generate(["piano"], 0.5, seed=2)[0].samples for one in (model, twin("mono").model))
    assert np.array_equal(ours, theirs)


def test_the_masked_form_gives_the_same_tokens(short_twin: Twins) -> None:
    """What a GPU runs, on the CPU: a batch, through rollovers."""
    model = short_twin("mono").model
    results = []
    for masked in (False, True):
        model.runtime.engine._masked = masked
        options = {"temperature": 0.0, "context_seconds": 1.0, "context_start_seconds": 2.0}
        clips = model.generate(["piano", None, "rock"], 7.0, seed=1, **options)
        results.append(np.stack([clip.samples for clip in clips]))
    model.runtime.engine._masked = False
    assert np.abs(results[0] - results[1]).max() < 1e-4


def test_importing_streamgen_needs_only_four_packages_and_starts_nothing() -> None:
    """Other packages are hidden, as on a machine that lacks them."""
    code = """
import sys
for absent in ("soundfile", "soxr", "sounddevice", "websockets", "pythonosc", "scipy", "librosa", "bridge"):
    sys.modules[absent] = None
import streamgen
assert "torch" not in sys.modules
import streamgen.model, streamgen.testing, streamgen.pocket
import threading
assert threading.active_count() == 1
"""
    subprocess.run([sys.executable, "-c", code], check=True)
