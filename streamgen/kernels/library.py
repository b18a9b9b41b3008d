"""The built libraries: one for each instruction set, the best that this processor runs, called through ctypes.

    portable ─ asked what the processor knows ─► amx │ avx512 │ avxvnni │ avx2 │ portable

Rules: everything that crosses to C is here or in `packed`; pointers are of tensors that the caller keeps alive.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from streamgen.errors import ConfigError

__all__ = [
    "INSTRUCTION_SETS",
    "Kernels",
    "Matrix",
    "Pool",
    "Shape",
    "Signatures",
    "Stage",
    "address",
    "bound",
    "built_for",
    "kernels",
    "library_file",
    "usable",
    "why_none",
]

INSTRUCTION_SETS = ("portable", "avx2", "avxvnni", "avx512", "amx")  # the bits of what a processor knows; the best last
_VARIABLE = "STREAMGEN_KERNELS"
_REMEDY = f"install streamgen again, or set {_VARIABLE}=torch"
_FOLDER = Path(__file__).parent / "native"
_SUFFIX = {"win32": ".dll", "darwin": ".dylib"}.get(sys.platform, ".so")
Signatures = dict[str, tuple[Any, tuple[Any, ...]]]
_int, _long, _pointer = ctypes.c_int32, ctypes.c_int64, ctypes.c_void_p


class Matrix(ctypes.Structure):
    """A packed matrix as C sees it."""

    _fields_ = [("tiles", _pointer), ("outputs", _int), ("inputs", _int), ("bits", _int)]


class Shape(ctypes.Structure):
    """A decoder's shape as C sees it; `positions` is a multiple of 16."""

    _fields_ = [(name, _int) for name in ("width", "heads", "ffn", "layers", "positions", "relu", "exact")]


class Stage(ctypes.Structure):
    """A stage of the codec as C sees it; `kind` is 0 for a convolution, 1 for an LSTM, 2 for the last of a stack."""

    _fields_ = [
        *((name, Matrix) for name in ("first", "second")),
        *((name, _pointer) for name in ("bias", "second_bias")),
        *((name, _long) for name in ("at", "second_at")),
        *((name, _int) for name in ("kernel", "inputs", "outputs", "stride", "left", "elu", "kind")),
    ]


_SIGNATURES: Signatures = {
    "processor": (_int, ()),
    "pool": (_pointer, (_int,)),
    "pool_end": (None, (_pointer,)),
    "packed_bytes": (_long, (_int, _int, _int)),
    "pack": (None, (_pointer, _pointer, _pointer, _int, _int, _int, _pointer)),
    "use_huge_pages": (None, (_pointer, _long)),
    "decoder": (_pointer, (ctypes.POINTER(Shape),)),
    "decoder_end": (None, (_pointer,)),
    "decoder_layer": (None, (_pointer, _int, ctypes.POINTER(Matrix), ctypes.POINTER(_pointer))),
    "decoder_heads": (None, (_pointer, ctypes.POINTER(Matrix), _pointer, _pointer)),
    "step": (None, (_pointer, _pointer, _pointer, _int, _pointer, _pointer, _int, _pointer, _pointer)),
    "multiply": (
        None,
        (_pointer, ctypes.POINTER(Matrix), _pointer, _long, _int, _pointer, _int, _int, _pointer, _long, _pointer),
    ),
    "elu": (None, (_pointer, _long, _pointer)),
    "chain": (_pointer, ()),
    "chain_end": (None, (_pointer,)),
    "decode": (
        None,
        (_pointer, _pointer, ctypes.POINTER(Stage), _int, _pointer, _int, _int, _pointer, _int, _pointer),
    ),
    "lstm": (None, (_pointer, ctypes.POINTER(Matrix), _pointer, _int, _int, _pointer, _pointer, _pointer)),
    "read": (ctypes.c_float, (_pointer, _pointer, _long)),
}


class Kernels:
    """One loaded library.

    Attributes:
        instruction_set: one of INSTRUCTION_SETS.
        call: its functions without their prefix; what they take is said in `native/step.cpp`.
    """

    def __init__(self, instruction_set: str) -> None:
        """Load it.

        Raises:
            OSError: it was not built, or cannot be loaded.
        """
        self.instruction_set = instruction_set
        self.call = bound(_file(instruction_set), _SIGNATURES)
        self._pools: dict[int, Pool] = {}

    def pool(self, threads: int) -> Pool:
        """Return the threads that compute together; they are started once.

        Raises:
            ConfigError: the system does not start so many.
        """
        if threads not in self._pools:
            self._pools[threads] = Pool(self.call.pool, threads)
        return self._pools[threads]

    def empty(self, size: int) -> Tensor:
        """Allocate bytes, uint8 [size], in huge pages where the system has them."""
        memory = torch.empty(size, dtype=torch.uint8)
        self.call.use_huge_pages(memory.data_ptr(), size)
        return memory


class Pool:
    """Threads that compute one call at a time, the caller among them; asleep while there is nothing to do.

    Args:
        start: starts them, given how many.
        threads: how many, the caller included.

    Attributes:
        threads: as given.

    Raises:
        ConfigError: the system does not start so many.
    """

    def __init__(self, start: Callable[[int], int | None], threads: int) -> None:
        self.threads, self._start = threads, start
        self._handle, self._process = self._started(), os.getpid()

    @property
    def handle(self) -> int:
        """For the library's functions. A forked process has none of its parent's threads, and starts its own."""
        if self._process != os.getpid():
            self._handle, self._process = self._started(), os.getpid()
        return self._handle

    def _started(self) -> int:
        handle = self._start(self.threads)
        if handle is None:
            raise ConfigError(f"threads is {self.threads}, more than the system lets this program start: take fewer")
        return handle


def _file(instruction_set: str) -> Path:
    return library_file(_FOLDER, "step", instruction_set)


def library_file(folder: Path, name: str, instruction_set: str) -> Path:
    """Return where a library for an instruction set lies, if it was built."""
    return folder / f"{name}-{instruction_set}{_SUFFIX}"


def bound(file: Path, signatures: Signatures) -> Any:
    """Load a library; returns its functions, named without their prefix.

    Args:
        file: of the library.
        signatures: result and arguments of each function, as ctypes has them.

    Raises:
        OSError: it was not built, or cannot be loaded.
    """
    library, call = ctypes.CDLL(str(file)), SimpleNamespace()
    for name, (result, arguments) in signatures.items():
        function = getattr(library, f"streamgen_{name}")
        function.restype, function.argtypes = result, arguments
        setattr(call, name, function)
    return call


def built_for() -> list[str]:
    """Return the instruction sets that were built when the package was installed, the widest last."""
    return [name for name in INSTRUCTION_SETS if _file(name).exists()]


def usable() -> list[str]:
    """Return those of them that this processor runs, the best last; none where the portable one is missing.

    Raises:
        ConfigError: what was built cannot be loaded.
    """
    built = built_for()
    if "portable" not in built:
        return []
    try:
        known = _load("portable").call.processor()
    except OSError as error:
        raise ConfigError(f"the native kernels cannot be loaded ({error}): {_REMEDY}") from None
    return [name for place, name in enumerate(INSTRUCTION_SETS) if known >> place & 1 and name in built]


def why_none() -> str:
    """Say why `kernels` finds none here, and what to do: what was asked for, or how this was installed."""
    if os.environ.get(_VARIABLE) == "torch":
        return f"{_VARIABLE} is 'torch': unset it to have them"
    return "this streamgen was installed without a C++ compiler: install one (g++ 11), then streamgen again"


def kernels(instruction_set: str | None = None) -> Kernels | None:
    """Load the library for an instruction set.

    Args:
        instruction_set: one of INSTRUCTION_SETS; None is what the environment's STREAMGEN_KERNELS says, "torch" for
            none at all; else the widest that this processor runs and that was built.

    Returns:
        None where no such library was built, or none is wanted.

    Raises:
        ConfigError: the processor does not run the one that was asked for, there is no such set, or what was built
            cannot be loaded.
    """
    wanted = instruction_set or os.environ.get(_VARIABLE) or None
    if wanted not in (None, "torch", *INSTRUCTION_SETS):
        raise ConfigError(f"{_VARIABLE} is {wanted!r}, must be one of torch, {', '.join(INSTRUCTION_SETS)}")
    known = [] if wanted == "torch" else usable()
    if not known:
        return None
    if wanted is not None and wanted not in known:
        raise ConfigError(f"{_VARIABLE} is {wanted!r}; here run {', '.join(known)}")
    return _load(wanted or known[-1])


@lru_cache
def _load(instruction_set: str) -> Kernels:
    return Kernels(instruction_set)


def address(tensor: Tensor | None) -> int | None:
    """Return where a contiguous tensor lies; None for None."""
    if tensor is None:
        return None
    assert tensor.is_contiguous(), tensor.stride()
    return tensor.data_ptr()
