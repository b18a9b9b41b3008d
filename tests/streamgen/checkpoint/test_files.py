"""Damaged and hostile bytes end in one CheckpointError, and run nothing."""

from __future__ import annotations

import argparse
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from streamgen.checkpoint.files import explained, read_json, read_package, read_tensors
from streamgen.errors import CheckpointError
from streamgen.testing import tiny_checkpoint


class Trap:
    """Writes a file when unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return (Path.touch, (self.target,))


@pytest.mark.parametrize("legacy", [False, True])
def test_a_pickle_that_would_run_code_is_refused_and_does_not_run(legacy: bool, tmp_path: Path) -> None:
    trap, sprung = tmp_path / "pytorch_model.bin", tmp_path / "sprung"
    torch.save({"a": Trap(sprung)}, trap, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(CheckpointError, match=r"could run code when loaded, so it is refused.*safetensors") as caught:
        read_tensors(tmp_path)
    assert not sprung.exists()
    assert "weights_only" not in str(caught.value), "torch's advice to load it unsafely must not reach a user"


def test_the_refused_object_is_named(tmp_path: Path) -> None:
    torch.save({"a": argparse.Namespace(x=1)}, tmp_path / "x.bin")
    with pytest.raises(CheckpointError, match=r"a Python object \(argparse.Namespace\)"):
        read_package(tmp_path / "x.bin")


def test_a_bare_pickle_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.bin").write_bytes(pickle.dumps({"a": Trap(tmp_path / "sprung")}))
    with pytest.raises(CheckpointError, match=r"x.bin"):
        read_package(tmp_path / "x.bin")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("kept", [0, 1, 7, 8, 100, 1000, 0.5, 0.99])
@pytest.mark.parametrize(("kind", "file"), [("mono", "model.safetensors"), ("audiocraft", "state_dict.bin")])
def test_a_file_cut_short_says_so(kind: str, file: str, kept: float, copy_of: Any, complaint: Any) -> None:
    folder = copy_of(kind)
    whole = (folder / file).read_bytes()
    (folder / file).write_bytes(whole[: int(len(whole) * kept) if kept < 1 else int(kept)])
    text = complaint(folder)
    assert str(folder / file) in text
    assert "download" in text


@pytest.mark.parametrize("text", ["", "{", "[1]", "3", "null", "\x00", '{"a": }'])
def test_json_that_is_no_object_says_so(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"config.json.*download"):
        read_json(tmp_path / "config.json")


def test_deep_json_ends_in_the_same_error(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("[" * 200_000)
    with pytest.raises(CheckpointError, match=r"config.json"):
        read_json(tmp_path / "config.json")


def test_no_weights_says_which_files_would_do(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no weights; one of model.safetensors, .*pytorch_model.bin"):
        read_tensors(tmp_path)


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {"a": "model-1.safetensors"}}')
    with pytest.raises(CheckpointError, match=r"names the shard 'model-1.safetensors', which is not beside it"):
        read_tensors(tmp_path)


def test_an_index_may_not_point_outside_its_folder(tmp_path: Path) -> None:
    save_file({"a": torch.ones(1)}, tmp_path / "secret.safetensors")
    (tmp_path / "inside").mkdir()
    index = tmp_path / "inside/model.safetensors.index.json"
    index.write_text('{"weight_map": {"a": "../secret.safetensors"}}')
    with pytest.raises(CheckpointError, match="not beside it"):
        read_tensors(tmp_path / "inside")


@pytest.mark.parametrize("weight_map", ["null", "[]", '{"a": 3}'])
def test_an_index_without_a_map_says_so(weight_map: str, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(f'{{"weight_map": {weight_map}}}')
    with pytest.raises(CheckpointError, match="no weight_map"):
        read_tensors(tmp_path)


def test_values_that_are_no_tensors_are_refused(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(1), "step": 3}, tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="holds 'step', which is no tensor"):
        read_tensors(tmp_path)


def test_safetensors_win_over_pickles(copy_of: Any) -> None:
    folder = copy_of("mono")
    torch.save({}, folder / "pytorch_model.bin")
    assert len(read_tensors(folder)) == len(read_tensors(tiny_checkpoint("mono"))) > 100


def test_a_long_message_of_a_library_becomes_one_short_line() -> None:
    with pytest.raises(CheckpointError) as caught, explained("it broke", "mend it"):
        raise ValueError("a\nb " * 500)
    assert str(caught.value).startswith("it broke (ValueError: a b a b")
    assert str(caught.value).endswith("…); mend it")
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value.__cause__, ValueError)
