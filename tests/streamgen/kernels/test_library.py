from __future__ import annotations

import os
import signal
import time
import warnings
from pathlib import Path

import pytest
import torch

from streamgen.errors import ConfigError
from streamgen.kernels import Kernels, Pool, built_for, kernels, library, usable, why_none
from streamgen.kernels.library import INSTRUCTION_SETS, address


def test_the_widest_that_was_built_and_that_this_processor_runs_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STREAMGEN_KERNELS", raising=False)
    chosen = kernels()
    if "portable" not in built_for():
        assert chosen is None
        return
    assert chosen is not None
    assert chosen.instruction_set == usable()[-1]


def test_the_environment_may_name_one_or_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMGEN_KERNELS", "torch")
    assert kernels() is None
    monkeypatch.setenv("STREAMGEN_KERNELS", "sse9")
    with pytest.raises(ConfigError, match="STREAMGEN_KERNELS is 'sse9', must be one of torch, portable, avx2, avxvnni"):
        kernels()


@pytest.mark.skipif(not built_for(), reason="the package was installed without a C++ compiler")
def test_what_this_processor_does_not_run_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    portable = Kernels("portable")
    monkeypatch.setattr(portable.call, "processor", lambda: 1)
    monkeypatch.setattr(library, "_load", lambda _: portable)
    monkeypatch.setenv("STREAMGEN_KERNELS", "avx512")
    with pytest.raises(ConfigError, match="STREAMGEN_KERNELS is 'avx512'; here run portable"):
        kernels()


@pytest.mark.skipif(not built_for(), reason="the package was installed without a C++ compiler")
def test_a_processor_may_know_the_wider_set_and_not_the_narrower(monkeypatch: pytest.MonkeyPatch) -> None:
    """As Ice Lake and Zen 4, with AVX-512 VNNI and without AVX-VNNI."""
    portable = Kernels("portable")
    monkeypatch.setattr(portable.call, "processor", lambda: 0b1011)
    monkeypatch.setattr(library, "_load", lambda _: portable)
    monkeypatch.setattr(library, "built_for", lambda: list(INSTRUCTION_SETS))
    assert usable() == ["portable", "avx2", "avx512"]
    monkeypatch.setenv("STREAMGEN_KERNELS", "avxvnni")
    with pytest.raises(ConfigError, match="STREAMGEN_KERNELS is 'avxvnni'; here run portable, avx2, avx512"):
        kernels()


def test_a_library_that_cannot_be_loaded_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in INSTRUCTION_SETS:
        library.library_file(tmp_path, "step", name).write_bytes(b"of another system")
    monkeypatch.setattr(library, "_FOLDER", tmp_path)
    monkeypatch.setattr(library, "_load", Kernels)
    monkeypatch.delenv("STREAMGEN_KERNELS", raising=False)
    with pytest.raises(ConfigError, match=r"cannot be loaded .*: install streamgen again, or set STREAMGEN_KERNELS=t"):
        kernels()


def test_more_threads_than_the_system_starts_are_refused() -> None:
    with pytest.raises(ConfigError, match="threads is 700, more than the system lets this program start: take fewer"):
        Pool(lambda _: None, 700)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_process_computes_on_threads_of_its_own(library: Kernels) -> None:
    memory, pool = torch.zeros(64 * 100), library.pool(3)
    memory[64 * 57] = 3.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # from Python 3.12 on it is said of every fork beside threads
        child = os.fork()
    if not child:
        os._exit(int(library.call.read(pool.handle, address(memory), len(memory)) == 3.0))
    patience = time.monotonic() + 60
    while (ended := os.waitpid(child, os.WNOHANG))[0] == 0:
        if time.monotonic() > patience:
            os.kill(child, signal.SIGKILL)
        time.sleep(0.01)
    assert os.waitstatus_to_exitcode(ended[1]) == 1


def test_why_there_are_none_is_what_one_can_change(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMGEN_KERNELS", "torch")
    assert why_none() == "STREAMGEN_KERNELS is 'torch': unset it to have them"
    monkeypatch.delenv("STREAMGEN_KERNELS")
    assert "installed without a C++ compiler: install one" in why_none()


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
