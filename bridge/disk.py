"""A file that is written whole or not at all, whoever is killed or runs out of disk meanwhile, or writes it too.

    beside its place, under a name of its own ─► to the disk ─► moved into its place

Rules: the standard library only, for a plugin's child writes so too; waits for the disk.
"""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path

__all__ = ["write_whole"]


def write_whole(path: Path, data: bytes, *, lasting: bool = True) -> None:
    """Write a file; its folder is made where there is none.

    Args:
        path: of the file.
        data: what it shall hold.
        lasting: whether it shall be there after a power cut too, which waits for the disk.

    Raises:
        OSError: it cannot be written; what was there before is there still.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # a name of its own: of two who write one file, the later wins, and neither moves half of the other's
    beside = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.new")
    try:
        with beside.open("wb") as file:
            file.write(data)
            if lasting:
                file.flush()
                os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise
    if lasting:
        _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Bring the move itself to the disk, where folders can be opened."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
