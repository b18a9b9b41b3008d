from __future__ import annotations

import pytest
import torch

from streamgen.errors import ConfigError
from streamgen.kernels import Kernels, built_for, kernels, library
from streamgen.kernels.library import INSTRUCTION_SETS, address


def test_the_widest_that_was_built_and_that_this_processor_runs_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STREAMGEN_KERNELS", raising=False)
    chosen = kernels()
    if "portable" not in built_for():
        assert chosen is None
        return
    known = INSTRUCTION_SETS[: Kernels("portable").call.processor() + 1]
    assert chosen is not None
    assert chosen.instruction_set == [name for name in known if name in built_for()][-1]


def test_the_environment_may_name_one_or_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMGEN_KERNELS", "torch")
    assert kernels() is None
    monkeypatch.setenv("STREAMGEN_KERNELS", "sse9")
    with pytest.raises(ConfigError, match="STREAMGEN_KERNELS is 'sse9', must be one of torch, portable, avx2, avxvnni"):
        kernels()


@pytest.mark.skipif(not built_for(), reason="the package was installed without a C++ compiler")
def test_what_this_processor_does_not_run_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    portable = Kernels("portable")
    monkeypatch.setattr(portable.call, "processor", lambda: 0)
    monkeypatch.setattr(library, "_load", lambda _: portable)
    monkeypatch.setenv("STREAMGEN_KERNELS", "avx512")
    with pytest.raises(ConfigError, match="STREAMGEN_KERNELS is 'avx512'; here run portable"):
        kernels()


def test_without_a_compiler_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "built_for", list)
    monkeypatch.delenv("STREAMGEN_KERNELS", raising=False)
    assert kernels() is None


def test_threads_are_started_once(library: Kernels) -> None:
    assert library.pool(2) is library.pool(2)
    assert library.pool(2).threads == 2


def test_memory_in_huge_pages_is_memory(library: Kernels) -> None:
    memory = library.empty(5 << 20)
    memory.fill_(7)
    assert memory.shape == (5 << 20,)
    assert memory.sum() == 7 * (5 << 20)


def test_an_address_is_of_one_piece() -> None:
    assert address(None) is None
    tensor = torch.zeros(3, 4)
    assert address(tensor) == tensor.data_ptr()
    with pytest.raises(AssertionError):
        address(tensor.T)


def test_reading_finds_what_is_there(library: Kernels) -> None:
    memory = torch.zeros(64 * 100)
    memory[64 * 57 + 16] = 3.0
    assert library.call.read(library.pool(2).handle, address(memory), len(memory)) == 3.0
