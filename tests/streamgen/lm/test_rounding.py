from __future__ import annotations

import json
import logging
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from streamgen.checkpoint import Checkpoint, as_filed, load_checkpoint
from streamgen.checkpoint.encodec import Codec
from streamgen.kernels import Kernels, kernels
from streamgen.lm import rounding
from streamgen.lm.native import PackedWeights
from streamgen.lm.rounding import bits_of, cache_folder, fingerprint, kept, put_whole, rounded_weights, sketched
from streamgen.testing import tiny_checkpoint

needs_kernels = pytest.mark.skipif(
    kernels() is None, reason="no native kernels: built without a compiler, or not wanted"
)


@pytest.fixture
def checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkpoint:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return load_checkpoint(str(tiny_checkpoint("mono")))


def library() -> Kernels:
    loaded = kernels()
    assert loaded is not None
    return loaded


def same(a: PackedWeights, b: PackedWeights) -> bool:
    return list(a.matrices) == list(b.matrices) and all(
        torch.equal(a.matrices[name].tiles, b.matrices[name].tiles) for name in a.matrices
    )


def even_bits(checkpoint: Checkpoint, precision: str) -> dict[str, int]:
    bits, note = bits_of(checkpoint, precision, library(), 1)
    assert not note
    return bits


@needs_kernels
def test_every_matrix_has_the_same_bits_but_for_the_heads(checkpoint: Checkpoint) -> None:
    bits = even_bits(checkpoint, "int4")
    assert bits.pop("heads") == 8
    assert set(bits.values()) == {4}
    assert len(bits) == 6 * checkpoint.decoder.num_layers


def test_other_weights_have_another_fingerprint(checkpoint: Checkpoint) -> None:
    assert fingerprint(checkpoint) == fingerprint(load_checkpoint(str(tiny_checkpoint("mono"))))
    assert fingerprint(checkpoint) != fingerprint(load_checkpoint(str(tiny_checkpoint("mono", seed=1))))


def test_a_sketch_tells_weights_apart_wherever_they_lie(tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_checkpoint("mono"), tmp_path / "elsewhere")
    one, same, other = (
        sketched(load_checkpoint(str(path)))
        for path in (tiny_checkpoint("mono"), folder, tiny_checkpoint("mono", seed=1))
    )
    assert one == same != other
    made = load_checkpoint(str(folder))
    assert made.codec is not None
    changed = {name: tensor + 1 for name, tensor in made.codec.tensors.items()}
    codec = Codec(made.codec.config, changed, made.codec.codebooks)
    assert sketched(replace(made, codec=codec)) != one, "its codes are other sounds"


def test_one_number_that_was_changed_in_memory_makes_another_fingerprint(checkpoint: Checkpoint) -> None:
    before = fingerprint(checkpoint)
    for at in (0, 1, 777, -1):
        weight = checkpoint.weights["lm_heads.2.weight"].clone()
        weight.view(-1)[at] += 0.5
        changed = replace(checkpoint, weights=checkpoint.weights | {"lm_heads.2.weight": weight})
        assert fingerprint(changed) != before, at


def test_a_file_that_was_changed_makes_another_fingerprint(tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_checkpoint("mono"), tmp_path / "mono")

    def now() -> str:
        return fingerprint(as_filed(load_checkpoint(str(folder))))

    before = now()
    assert now() == before
    file = folder / "model.safetensors"
    weights = load_file(file)
    weights["decoder.lm_heads.2.weight"][3, 5] += 0.5
    save_file(weights, file, {"format": "pt"})
    assert now() != before


def test_a_folder_that_was_moved_is_the_same_checkpoint(tmp_path: Path) -> None:
    here, there = tiny_checkpoint("mono"), tmp_path / "there"
    shutil.copytree(here, there)  # with the files' times
    one, two = (fingerprint(as_filed(load_checkpoint(str(folder)))) for folder in (here, there))
    assert one == two


def test_what_nobody_has_used_for_long_goes_when_another_comes(checkpoint: Checkpoint) -> None:
    folder, ago = cache_folder(), time.time() - 61 * 86_400
    made = list[Path]()
    for name in ("unused", "used", "young"):
        kept(name, lambda: 1)
        made += [file for file in folder.iterdir() if file not in made]
    unused, used, young = made
    others = folder / "notes.json"
    others.write_text("somebody's")
    for file in (unused, used, others):
        os.utime(file, (ago, ago))
    assert kept("used", lambda: 2) == 1
    assert kept("another", lambda: 3) == 3
    assert not unused.exists()
    assert all(file.exists() for file in (used, young, others))


@needs_kernels
def test_rounded_weights_are_read_back_as_they_were(checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    bits = even_bits(checkpoint, "int6")
    first = rounded_weights(checkpoint, bits, library(), 1)
    with monkeypatch.context() as no_packing:
        no_packing.delattr(rounding, "pack_weights")
        assert same(rounded_weights(checkpoint, bits, library(), 2), first)
    assert [file.suffix for file in cache_folder().iterdir()] == [".safetensors"]
    assert not same(rounded_weights(checkpoint, even_bits(checkpoint, "int4"), library(), 1), first)


def remade(change: Callable[[dict[str, Tensor], dict[str, str]], Any]) -> Callable[[Path], bytes]:
    """Return what makes the bytes of a file whose tensors or notes were changed."""

    def bytes_of(file: Path) -> bytes:
        with safe_open(file, "pt") as kept:
            tensors, told = load_file(file), dict(kept.metadata())
        change(tensors, told)
        save_file(tensors, file, told or None)
        return file.read_bytes()

    return bytes_of


BROKEN: dict[str, Callable[[Path], bytes]] = {
    "empty": lambda _: b"",
    "torn": lambda file: file.read_bytes()[:1000],
    "zeros": lambda file: bytes(file.stat().st_size),
    "one byte": lambda file: file.read_bytes()[:-9] + bytes([file.read_bytes()[-9] ^ 1]) + file.read_bytes()[-8:],
    "nothing told": remade(lambda _, told: told.clear()),
    "other things told": remade(lambda _, told: told.update(matrices="[1]")),
    "a matrix less": remade(lambda tensors, _: tensors.pop("heads")),
    "short tiles": remade(lambda tensors, _: tensors.update(heads=tensors["heads"][:64].clone())),
    "other numbers": remade(lambda tensors, _: tensors.update(heads=tensors["heads"].float())),
}


@needs_kernels
@pytest.mark.parametrize("broken", BROKEN)
def test_a_file_that_is_not_as_it_was_written_is_made_anew(
    checkpoint: Checkpoint, broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bits = even_bits(checkpoint, "int8")
    first = rounded_weights(checkpoint, bits, library(), 1)
    (file,) = cache_folder().iterdir()
    file.write_bytes(BROKEN[broken](file))
    assert same(rounded_weights(checkpoint, bits, library(), 1), first)
    monkeypatch.delattr(rounding, "pack_weights")
    assert same(rounded_weights(checkpoint, bits, library(), 1), first)


@needs_kernels
def test_a_folder_that_cannot_be_written_costs_a_line(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with caplog.at_level(logging.WARNING):
        rounded_weights(checkpoint, even_bits(checkpoint, "int8"), library(), 1)
    (record,) = caplog.records
    assert "nothing can be kept in" in record.getMessage()


def test_a_full_disk_keeps_no_half_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def write(draft: str) -> None:
        Path(draft).write_bytes(bytes(1000))
        raise OSError("no space left on device")

    put_whole(tmp_path / "folder" / "file", write)
    assert not list((tmp_path / "folder").iterdir())
    assert "no space left on device" in caplog.text


@pytest.mark.parametrize("told", ["", "relative", "~"])
def test_without_a_home_nothing_is_kept_and_nothing_is_written_elsewhere(
    told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", told)
    monkeypatch.setattr("os.path.expanduser", lambda path: path)  # as of a user whom the system does not know
    assert kept("speed", lambda: 1.5) == 1.5
    assert "nothing can be kept in" in caplog.text
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_named_relatively_is_not_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "streamgen"


@needs_kernels
@pytest.mark.parametrize("found", ["null", "5", "[]", '{"a": 1}', '[{"heads": 8}, 0.1]', "bits 5", "no number"])
def test_a_plan_that_cannot_have_been_measured_is_measured_anew(checkpoint: Checkpoint, found: str) -> None:
    plan, note = bits_of(checkpoint, "mixed", library(), 1)
    (file,) = cache_folder().iterdir()
    odd = {"bits 5": [plan | {"0.qkv": 5}, 0.1], "no number": [plan, "x"]}
    file.write_text(json.dumps(odd[found]) if found in odd else found)
    assert bits_of(checkpoint, "mixed", library(), 1) == (plan, note)


def test_what_was_measured_is_not_measured_again(checkpoint: Checkpoint) -> None:
    assert kept("speed", lambda: ["int6", 1.5]) == ["int6", 1.5]
    assert kept("speed", lambda: pytest.fail("measured again")) == ["int6", 1.5]
    assert kept("another machine's", lambda: 2) == 2


@needs_kernels
def test_what_mixed_takes_is_measured_once(checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    bits, note = bits_of(checkpoint, "mixed", library(), 1)
    assert set(bits) == set(even_bits(checkpoint, "int8"))
    assert note.startswith("KL 0.0")
    monkeypatch.delattr(rounding, "choose_bits")
    assert bits_of(checkpoint, "mixed", library(), 2) == (bits, note)
