from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch

from streamgen.checkpoint import Checkpoint, load_checkpoint
from streamgen.kernels import Kernels, built_for, kernels
from streamgen.lm import rounding
from streamgen.lm.native import PackedWeights
from streamgen.lm.rounding import cache_folder, even_bits, fingerprint, rounded_weights
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


def test_every_matrix_has_the_same_bits_but_for_the_heads(checkpoint: Checkpoint) -> None:
    bits = even_bits(checkpoint.decoder, "int4")
    assert bits.pop("heads") == 8
    assert set(bits.values()) == {4}
    assert len(bits) == 6 * checkpoint.decoder.num_layers


def test_other_weights_have_another_fingerprint(checkpoint: Checkpoint) -> None:
    assert fingerprint(checkpoint) == fingerprint(load_checkpoint(str(tiny_checkpoint("mono"))))
    assert fingerprint(checkpoint) != fingerprint(load_checkpoint(str(tiny_checkpoint("mono", seed=1))))


@needs_kernels
def test_rounded_weights_are_read_back_as_they_were(checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    bits = even_bits(checkpoint.decoder, "int6")
    first = rounded_weights(checkpoint, bits, library(), 1)
    with monkeypatch.context() as no_packing:
        no_packing.delattr(rounding, "pack_weights")
        assert same(rounded_weights(checkpoint, bits, library(), 2), first)
    assert [file.suffix for file in cache_folder().iterdir()] == [".safetensors"]
    assert not same(rounded_weights(checkpoint, even_bits(checkpoint.decoder, "int4"), library(), 1), first)


@needs_kernels
def test_a_torn_file_is_made_anew(checkpoint: Checkpoint) -> None:
    bits = even_bits(checkpoint.decoder, "int8")
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
        rounded_weights(checkpoint, even_bits(checkpoint.decoder, "int8"), library(), 1)
    (record,) = caplog.records
    assert "rounded weights could not be kept in" in record.getMessage()
