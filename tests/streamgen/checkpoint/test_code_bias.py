from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from streamgen.checkpoint.code_bias import CODE_BIAS_FILE, read_code_bias
from streamgen.checkpoint.words import Heard
from streamgen.errors import CheckpointError

SHAPE = 4, 10
HEARD = Heard("house", "house", (), 125, "A minor", (), (), 96)


def test_place_and_key_are_added_up(tmp_path: Path) -> None:
    bar, key = torch.randn(6, 4, 10).half(), torch.randn(4, 10).half()
    save_file({"bar.96": bar, "key.house.A minor": key}, tmp_path / CODE_BIAS_FILE)
    bias = read_code_bias(tmp_path, SHAPE)
    assert bias is not None
    found, other = bias.of(HEARD), bias.of(replace(HEARD, key="C minor"))
    assert found is not None
    assert other is not None
    assert torch.equal(found, bar.float() + key.float())
    assert torch.equal(other, bar.float()), "a key that nothing is known of"
    assert bias.of(replace(HEARD, bar_frames=80)) is None


def test_a_checkpoint_without_tables_adds_nothing(tmp_path: Path) -> None:
    assert read_code_bias(tmp_path, SHAPE) is None


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("bar.96", (6, 4, 11)),
        ("bar.96", (4, 10)),
        ("bar.slow", (6, 4, 10)),
        ("bar.²", (6, 4, 10)),
        ("bar.0", (6, 4, 10)),
        ("bar.96", (0, 4, 10)),
        ("mood.sad", (4, 10)),
    ],
)
def test_tables_of_another_checkpoint_are_refused(tmp_path: Path, name: str, shape: tuple[int, ...]) -> None:
    save_file({name: torch.zeros(shape)}, tmp_path / CODE_BIAS_FILE)
    with pytest.raises(CheckpointError, match=r"'\w+\..*' is \[.*belongs to another checkpoint, move it away"):
        read_code_bias(tmp_path, SHAPE)


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / CODE_BIAS_FILE).write_bytes(b"\0" * 20)
    with pytest.raises(CheckpointError, match=CODE_BIAS_FILE):
        read_code_bias(tmp_path, SHAPE)


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
@pytest.mark.parametrize(("name", "shape"), [("bar.96", (6, 4, 10)), ("key.house.A minor", (4, 10))])
def test_what_is_no_number_is_refused_before_it_is_drawn_by(
    tmp_path: Path, name: str, shape: tuple[int, ...], number: float
) -> None:
    save_file({name: torch.full(shape, number)}, tmp_path / CODE_BIAS_FILE)
    with pytest.raises(CheckpointError, match="has what is no number"):
        read_code_bias(tmp_path, SHAPE)
