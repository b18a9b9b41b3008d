"""Weights that are seldom used lie in a file: text and audio encoder, which a stream needs once a prompt.

    checkpoint's file, if it holds them as they are ─┐
    else a copy in the user's cache folder ──────────┴─ mapped ─ read while a prompt is encoded ─ given back

Their memory is the system's to take back, for the file has it all. Where no file can be written they stay in memory.

A copy goes by its names, shapes and numbers, and is made anew if it does not hold them.

Rules: the values stay, bit for bit; what was written to is no file's any more. Linux tells which memory is; elsewhere
the system takes it back when it needs it.
"""

from __future__ import annotations

import ctypes
import hashlib
import mmap
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from streamgen.lm.rounding import cache_folder, mark_used, put_whole, summed

__all__ = ["keep_in_file", "trim"]

_LEAST_BYTES = 64 << 20  # below it a file is not worth its name
_MAPS, _PAGES = Path("/proc/self/smaps"), Path("/proc/self/pagemap")
_IN_MEMORY, _OF_A_FILE = np.uint64(3 << 62), np.uint64(1 << 61)  # bits of a page: present or swapped; the file's own
_DONT_NEED = 4  # madvise's, in Linux


def keep_in_file(named: Mapping[str, Tensor]) -> Callable[[], None]:
    """Let weights, on the CPU, lie in a file.

    Args:
        named: tensors by name, which get other memory with the same numbers.

    Returns:
        To be called after they were used: gives the memory back that was read for it. Any thread may.
    """
    tensors = {name: tensor for name, tensor in named.items() if tensor.numel() and tensor.is_contiguous()}
    pieces = {tensor.data_ptr(): name for name, tensor in tensors.items()}  # some have two names
    if sum(tensors[name].nbytes for name in pieces.values()) < _LEAST_BYTES:
        return lambda: None
    if _of_files(tensors) is None:
        _move(tensors, pieces)
    spans = _of_files(tensors) or []
    _give_back(spans)
    if spans:
        trim()
    return lambda: _give_back([span for span in spans if _is_unchanged(*span)])


def _move(tensors: dict[str, Tensor], pieces: dict[int, str]) -> None:
    """Give tensors the memory of a file, one for each piece."""
    digest, content = hashlib.sha256(), {name: tensors[name].detach() for name in pieces.values()}
    sums = {name: _sum_of(tensor) for name, tensor in content.items()}
    for name, told in sums.items():
        digest.update(f"{name} {told}".encode())
    file = cache_folder() / f"{digest.hexdigest()[:32]}.safetensors"
    kept = _read(file, sums)
    if kept is None:
        put_whole(file, lambda draft: save_file(content, draft))
        kept = _read(file, sums)
    if kept is not None:
        homes = [(tensor, kept[pieces[tensor.data_ptr()]]) for tensor in tensors.values()]  # before any has moved
        for tensor, home in homes:
            tensor.data = home.view(tensor.shape)


def _read(file: Path, sums: dict[str, str]) -> dict[str, Tensor] | None:
    """Map a file; None if there is none, or it holds anything but tensors of these sums."""
    with suppress(OSError, SafetensorError):
        kept = load_file(file)
        if {name: _sum_of(tensor) for name, tensor in kept.items()} == sums:
            mark_used(file)
            return kept
    return None


def _sum_of(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)} {tensor.dtype} {summed(tensor).hex()}"


def _of_files(tensors: dict[str, Tensor]) -> list[tuple[int, int]] | None:
    """Return the pieces of files, start and stop, that hold some tensors, if all of them lie in files; else None.

    Beside them lies what else was read of a checkpoint while it was loaded, and is not needed any more.
    """
    files, spans = list(_unchanged_files()), set()
    for tensor in tensors.values():
        start, stop = tensor.data_ptr(), tensor.data_ptr() + tensor.nbytes
        within = [(first, last) for first, last in files if first <= start and stop <= last]
        if not within:
            return None
        spans.update(within)
    return sorted(spans)


def _unchanged_files() -> Iterator[tuple[int, int]]:
    """Where this process has files in its memory that it has not written to, as the system tells."""
    span: tuple[int, int] | None = None
    for line in _MAPS.read_text().splitlines() if _MAPS.exists() else ():
        name, *values = line.split(maxsplit=5)
        if not name.endswith(":"):
            first, last = (int(end, 16) for end in name.split("-"))
            span = (first, last) if values[3] != "0" and values[4:] and values[4].startswith("/") else None
        elif name == "Anonymous:" and values[0] == "0" and span is not None:
            yield span


def _is_unchanged(start: int, stop: int) -> bool:
    """Tell whether nothing there was written to since, and is no other memory by now, as the system tells of each page.

    Reading `_MAPS` again would tell the same of the whole process, a hundred times slower.
    """
    first, last = start // mmap.PAGESIZE, -(-stop // mmap.PAGESIZE)
    try:
        with _PAGES.open("rb", buffering=0) as file:
            pages = np.frombuffer(os.pread(file.fileno(), 8 * (last - first), 8 * first), np.uint64)
    except OSError:
        return False
    own = (pages & _IN_MEMORY != 0) & (pages & _OF_A_FILE == 0)
    return len(pages) == last - first and not own.any()


def _give_back(spans: list[tuple[int, int]]) -> None:
    for start, stop in spans:
        ctypes.CDLL(None).madvise(ctypes.c_void_p(start), ctypes.c_size_t(stop - start), _DONT_NEED)


def trim() -> None:
    """Give back the holes that freed tensors left in the heap, where the system's C library keeps such."""
    if sys.platform == "linux" and (malloc_trim := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None:
        malloc_trim(0)
