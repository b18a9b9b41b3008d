from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch

from streamgen.checkpoint import Checkpoint, load_checkpoint
from streamgen.kernels import Kernels, built_for, kernels
from streamgen.lm import rounding
from streamgen.lm.native import PackedWeights
from streamgen.lm.rounding import bits_of, cache_folder, fingerprint, kept, rounded_weights
from streamgen.testing import tiny_checkpoint

needs_kernels = pytest.mark.skipif(not built_for(), reason="the package was installed without a C++ compiler")


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


@needs_kernels
def test_rounded_weights_are_read_back_as_they_were(checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    bits = even_bits(checkpoint, "int6")
    first = rounded_weights(checkpoint, bits, library(), 1)
    with monkeypatch.context() as no_packing:
        no_packing.delattr(rounding, "pack_weights")
        assert same(rounded_weights(checkpoint, bits, library(), 2), first)
    assert [file.suffix for file in cache_folder().iterdir()] == [".safetensors"]
    assert not same(rounded_weights(checkpoint, even_bits(checkpoint, "int4"), library(), 1), first)


@needs_kernels
def test_a_torn_file_is_made_anew(checkpoint: Checkpoint) -> None:
    bits = even_bits(checkpoint, "int8")
    first = rounded_weights(checkpoint, bits, library(), 1)
    (file,) = cache_folder().iterdir()
    file.write_bytes(file.read_bytes()[:1000])
    assert same(rounded_weights(checkpoint, bits, library(), 1), first)
    assert file.stat().st_size > 1000


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
