"""`streamgen models`: the engine's own list, shown."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch

from streamgen.checkpoint import list_checkpoints

Run = Callable[..., Any]


def test_every_checkpoint_is_shown_with_its_licence(run: Run) -> None:
    answer = run("models", "--json")
    assert answer.code == 0
    known = list_checkpoints()
    rows = answer.fields["models"]
    assert [(row["name"], row["licence"], row["cached"]) for row in rows] == [
        (k.name, k.licence, k.cached) for k in known
    ]
    lines = answer.err.splitlines()
    for row in known:
        line = next(line for line in lines if line.startswith(row.name + " "))
        assert row.licence in line
    assert "CC-BY-NC-4.0" in answer.err


def test_melody_and_stereo_are_told_apart(run: Run) -> None:
    lines = {line.split()[0]: line for line in run("models").err.splitlines()}
    assert "300M, mono " in lines["facebook/musicgen-small"]
    assert "3.3B, stereo, follows a melody" in lines["facebook/musicgen-stereo-melody-large"]


def test_what_a_download_takes_is_told(run: Run) -> None:
    """As transformers counts the decoder; T5-base's encoder and EnCodec at 32 kHz come with it."""
    from transformers import MusicgenForCausalLM
    from transformers.models.musicgen.configuration_musicgen import MusicgenDecoderConfig

    config = MusicgenDecoderConfig(
        hidden_size=1024, num_hidden_layers=24, ffn_dim=4096, num_attention_heads=16, vocab_size=2048, audio_channels=1
    )
    with torch.device("meta"):
        weights = sum(weight.numel() for weight in MusicgenForCausalLM(config).parameters())
    rows = {row["name"]: row for row in run("models", "--json").fields["models"]}
    expected = 4 * (weights + 109_628_544 + 58_846_000)
    assert rows["facebook/musicgen-small"]["download_bytes"] == pytest.approx(expected, rel=0.01)
    assert rows["pocket"]["download_bytes"] is None


def test_listing_loads_no_torch() -> None:
    code = (
        "import sys; from bridge.cli.main import main; assert main(['models']) == 0; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
