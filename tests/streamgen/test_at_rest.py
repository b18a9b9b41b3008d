from __future__ import annotations

import logging
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import streamgen
from streamgen import at_rest
from streamgen.at_rest import keep_in_file, trim
from streamgen.testing import tiny_checkpoint

ROWS = 256  # 256 kB each: whole pages
on_linux = pytest.mark.skipif(
    not Path("/proc/self/smaps").exists(), reason="other systems do not tell which memory is a file's"
)


def named(module: nn.Module) -> dict[str, Tensor]:
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


class TwoNames(nn.Module):
    """Two matrices, one of them under two names as T5's table is, and one number."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.matrix = nn.Linear(ROWS, ROWS, bias=False), nn.Linear(ROWS, ROWS, bias=False)
        self.same = nn.Linear(ROWS, ROWS, bias=False)
        self.same.weight.data = self.table.weight.data
        self.register_buffer("number", torch.tensor([3.0]))
        self.requires_grad_(False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.matrix(self.table(x)) + self.same(x) * self.number


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(at_rest, "_LEAST_BYTES", 0)
    return tmp_path / "streamgen"


def resident_kilobytes(file: Path) -> int:
    """How much of a file is in this process's memory."""
    lines = iter(Path("/proc/self/smaps").read_text().splitlines())
    return sum(
        int(next(line for line in lines if line.startswith("Rss:")).split()[1]) for one in lines if str(file) in one
    )


def test_a_module_is_what_it_was_before_and_after_its_memory_was_given_back(cache: Path) -> None:
    module, x = TwoNames(), torch.randn(3, ROWS)
    wanted = module(x)
    rest = keep_in_file(named(module))
    for _ in range(2):
        assert torch.equal(module(x), wanted)
        rest()
    (file,) = cache.iterdir()
    assert len(load_file(file)) == 3, "what has two names is written once"
    assert module.same.weight.data_ptr() == module.table.weight.data_ptr()


def test_a_file_that_is_not_as_it_was_written_is_made_anew(cache: Path) -> None:
    x, module = torch.randn(3, ROWS), TwoNames()
    keep_in_file(named(module))
    (file,) = cache.iterdir()
    written = file.read_bytes()
    tensors = load_file(file)
    others = [b"", written[:5000], written[:-64] + bytes(64)]
    for changed in ({name: tensors[name].half() for name in tensors}, dict(list(tensors.items())[:1])):
        save_file(changed, cache / "changed")
        others.append((cache / "changed").read_bytes())
        (cache / "changed").unlink()
    for content in others:
        wanted = module(x)
        copy = TwoNames()
        copy.load_state_dict(module.state_dict())
        file.unlink()
        file.write_bytes(content)
        keep_in_file(named(copy))
        assert torch.equal(copy(x), wanted)
        assert file.read_bytes() == written


@on_linux
def test_memory_that_was_read_is_given_back(cache: Path) -> None:
    module = TwoNames()
    rest = keep_in_file(named(module))
    (file,) = cache.iterdir()
    assert resident_kilobytes(file) < 64
    module(torch.randn(1, ROWS))
    assert resident_kilobytes(file) > 400
    rest()
    assert resident_kilobytes(file) < 64


def test_the_same_weights_lie_in_the_same_file_and_others_in_another(cache: Path) -> None:
    torch.manual_seed(1)
    keep_in_file(named(TwoNames()))
    torch.manual_seed(1)
    keep_in_file(named(TwoNames()))
    assert len(list(cache.iterdir())) == 1
    keep_in_file(named(TwoNames()))
    assert len(list(cache.iterdir())) == 2


@on_linux
def test_what_lies_in_a_file_already_stays_there(cache: Path, tmp_path: Path) -> None:
    module = TwoNames()
    save_file({"table": module.table.weight, "matrix": module.matrix.weight, "number": module.number}, tmp_path / "own")
    kept = load_file(tmp_path / "own")
    module.table.weight.data = module.same.weight.data = kept["table"]
    module.matrix.weight.data, module.number = kept["matrix"], kept["number"]
    wanted = module(torch.ones(1, ROWS))
    keep_in_file(named(module))()
    assert torch.equal(module(torch.ones(1, ROWS)), wanted)
    assert not cache.exists()


@on_linux
def test_what_was_changed_in_a_files_memory_stays_changed(cache: Path, tmp_path: Path) -> None:
    module = nn.Linear(ROWS, ROWS, bias=False).requires_grad_(False)
    save_file({"weight": module.weight}, tmp_path / "own")
    module.weight.data = load_file(tmp_path / "own")["weight"]
    module.weight.mul_(2)
    wanted = module.weight.clone()
    keep_in_file(named(module))()
    assert torch.equal(module.weight, wanted)


@on_linux
def test_what_is_changed_later_stays_changed_too(cache: Path) -> None:
    module = nn.Linear(ROWS, ROWS, bias=False).requires_grad_(False)
    rest = keep_in_file(named(module))
    module.weight.mul_(2)
    wanted = module.weight.clone()
    rest()
    assert torch.equal(module.weight, wanted)


def test_small_modules_and_those_that_cannot_be_written_stay_in_memory(
    cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    module = TwoNames()
    place, wanted = module.table.weight.data_ptr(), module(torch.ones(1, ROWS))
    with monkeypatch.context() as large:
        large.setattr(at_rest, "_LEAST_BYTES", 1 << 30)
        keep_in_file(named(module))()
    assert not cache.exists()
    cache.write_text("a file in the folder's place")
    with caplog.at_level(logging.WARNING):
        keep_in_file(named(module))()
    assert "nothing can be kept in" in caplog.text
    assert module.table.weight.data_ptr() == place
    assert torch.equal(module(torch.ones(1, ROWS)), wanted)


@on_linux
def test_what_was_freed_is_given_back() -> None:
    """Pieces too small to be the system's own, with one kept behind them, as a long-lived process has them."""

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    pieces = [torch.ones(25_000) for _ in range(600)]  # 60 MB
    kept = torch.ones(25_000)
    pieces.clear()
    before = resident()
    trim()
    assert before - resident() > 40_000_000
    assert bool(kept.all())


def test_one_tensor_may_have_two_names(cache: Path) -> None:
    table = torch.randn(ROWS, ROWS)
    before = table.clone()
    keep_in_file({"shared": table, "encoder": table})
    assert torch.equal(table, before)
    assert len(load_file(next(cache.glob("*.safetensors")))) == 1


def test_a_checkpoint_whose_encoder_is_kept_in_a_file_sounds_the_same(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(at_rest, "_of_files", lambda tensors: None)  # as if it had been widened while it was read
    heard = []
    for least in (0, 1 << 60):
        monkeypatch.setattr(at_rest, "_LEAST_BYTES", least)
        model = streamgen.load_model(str(tiny_checkpoint("mono")), precision="fp32")
        with model.open_stream("piano", seed=1) as stream:
            heard.append(stream.read(16_000).samples)
    np.testing.assert_array_equal(heard[0], heard[1])
    assert list(cache.glob("*.safetensors"))
