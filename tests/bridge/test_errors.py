"""What an error says: one wording, in one line."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import soundfile

import bridge
from bridge.errors import cannot_be, reason, without_folder


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/a/file"), "No space left on device"),
        (OSError(errno.EINVAL, "it is no file"), "it is no file"),
        (ValueError("line 3:\n  no key."), "line 3: no key"),
        (soundfile.LibsndfileError(2, "Error opening 'a.wav': "), "System error"),
        (OSError(), "OSError"),
    ],
)
def test_a_reason_is_the_systems_words_without_number_and_path(error: Exception, says: str) -> None:
    assert reason(error) == says


def test_what_cannot_be_is_said_in_one_line() -> None:
    error = PermissionError(errno.EACCES, "Permission denied", "/a/b")
    assert cannot_be("read", Path("/a/b"), error) == "'/a/b' cannot be read: Permission denied"
    said = cannot_be("written", "the scene 'x'", error, "choose another place")
    assert said == "the scene 'x' cannot be written: Permission denied; choose another place"
    assert (
        without_folder(OSError(cannot_be("read", Path("/a/b"), error)), Path("/a"))
        == "'b' cannot be read: Permission denied"
    )


def test_nobody_words_it_anew() -> None:
    """`os.strerror` alone is asked elsewhere, for what asyncio says in many words."""
    folder = Path(bridge.__file__).parent
    texts = {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*.py")}
    own = {name for name, text in texts.items() if "strerror" in text.replace("os.strerror", "")}
    assert own == {"errors.py"}
