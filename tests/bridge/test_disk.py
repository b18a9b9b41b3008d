"""A file is there whole or as it was, whoever writes it at the same time and however full the disk is."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bridge.disk import home, read_toml, read_whole, write_whole


def test_what_was_there_stays_where_it_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "new folder" / "a"
    write_whole(path, b"before")

    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_whole(path, b"after")
    assert path.read_bytes() == b"before"
    assert list(path.parent.iterdir()) == [path], "nothing is left beside it"
    write_whole(path, b"after", lasting=False)
    assert path.read_bytes() == b"after"


def test_of_many_who_write_at_once_one_wins_and_none_fails(tmp_path: Path) -> None:
    texts = [bytes([number]) * 100_000 for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(10):
            list(pool.map(lambda text: write_whole(tmp_path / "a", text, lasting=False), texts))
            assert (tmp_path / "a").read_bytes() in texts


def test_what_is_no_file_is_neither_read_nor_replaced(tmp_path: Path) -> None:
    """An operator who wants nothing kept says /dev/null, and a move would put a file into its place."""
    os.mkfifo(tmp_path / "pipe")
    for place, why in ((tmp_path / "pipe", "no file"), (tmp_path, "Is a directory")):
        with pytest.raises(OSError, match="no file"):
            read_whole(place)
        with pytest.raises(OSError, match=why):
            write_whole(place, b"x")
    assert (tmp_path / "pipe").is_fifo()


def test_a_text_is_read_as_editors_write_it(tmp_path: Path) -> None:
    (tmp_path / "marked").write_bytes(b"\xef\xbb\xbfport = 0\r\n")
    assert read_toml(tmp_path / "marked") == {"port": 0}
    deep = b"a = " + b"[" * 5_000
    for text, why in ((b"\xff", "no text in UTF-8"), (deep, "nested too deeply|Invalid"), (b"=", "Invalid")):
        (tmp_path / "wrong").write_bytes(text)
        with pytest.raises(ValueError, match=why):
            read_toml(tmp_path / "wrong")


def test_a_user_whom_the_system_does_not_know_has_no_home_and_nothing_is_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def unknown() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", unknown)
    with pytest.raises(OSError, match="directory"):
        write_whole(home() / "folder" / "file", "text")
