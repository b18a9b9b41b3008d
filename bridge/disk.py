"""Small files that are read whole, and written whole or not at all, whoever is killed meanwhile, or writes them too.

    beside its place, under a name of its own ─► to the disk ─► moved into its place

Rules: the standard library only, for a plugin's child writes so too; waits for the disk.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import threading
import tomllib
from pathlib import Path
from typing import Any

__all__ = ["MOST_MB", "home", "read_toml", "read_whole", "write_whole"]

MOST_MB = 64  # of a file that is read into memory


def read_whole(path: Path) -> str:
    """Read a text in UTF-8, without the mark that some editors begin it with.

    Raises:
        OSError: it cannot be read, is no file (a pipe would keep whoever reads it waiting), or is too big.
        ValueError: it is no UTF-8.
    """
    about = path.stat()
    if not stat.S_ISREG(about.st_mode):
        raise OSError(errno.EINVAL, "it is no file")
    if about.st_size > MOST_MB * 1_000_000:
        raise OSError(errno.EFBIG, f"it holds {about.st_size / 1e6:,.0f} MB, the limit is {MOST_MB}")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError("it is no text in UTF-8") from None


def read_toml(path: Path) -> dict[str, Any]:
    """Read a file in TOML.

    Raises:
        OSError: see `read_whole`.
        ValueError: it is no TOML.
    """
    try:
        return tomllib.loads(read_whole(path))
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def write_whole(path: Path, data: bytes, *, lasting: bool = True) -> None:
    """Write a file; its folder is made where there is none.

    Args:
        path: of the file.
        data: what it shall hold.
        lasting: whether it shall be there after a power cut too, which waits for the disk.

    Raises:
        OSError: it cannot be written; what was there before is there still.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):  # a move would put a file in /dev/null's place
        raise OSError(errno.EEXIST, "what is there is no file")
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


def home() -> Path:
    """Return the operator's own folder; of a user whom the system does not know, one in which nothing can be."""
    try:
        return Path.home()
    except RuntimeError:
        return Path(os.devnull)
