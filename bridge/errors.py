"""The bridge's error tree. The text is one line: what, the value, what to do.

BridgeError
├── UsageError    the command was asked wrongly: exit code 2
├── FileError     an audio file cannot be read or written
├── DeviceError   there is no sound device, or it refused
└── WireError     a message from the network cannot be understood or done; has a code for programs
"""

from __future__ import annotations

import os
from pathlib import Path

__all__ = [
    "BridgeError",
    "DeviceError",
    "FileError",
    "UsageError",
    "WireError",
    "cannot_be",
    "reason",
    "without_folder",
]


class BridgeError(Exception):
    """Base of every error this package raises on purpose."""


class UsageError(BridgeError):
    """The command line asks for something that cannot be: says the option, the value and what is possible."""


class FileError(BridgeError):
    """An audio file cannot be read or written: says which, why and what to do."""


class DeviceError(BridgeError):
    """There is no usable sound device: says what was found and what to do instead."""


class WireError(BridgeError):
    """A message from the network cannot be understood or done.

    Attributes:
        code: one word for programs, such as `bad_json`; the text is for people.
        id: the message's own id, echoed in the answer; None if it had none.
    """

    def __init__(self, code: str, text: str, id: str | float | None = None) -> None:
        super().__init__(text)
        self.code = code
        self.id = id


def reason(error: Exception) -> str:
    """Return why the system or a library refused, in its own words: one line, without a number or a path."""
    text = getattr(error, "error_string", None) or getattr(error, "strerror", None) or str(error)  # soundfile's, or not
    return " ".join(str(text).split()).rstrip(". ") or type(error).__name__


def cannot_be(deed: str, what: Path | str, error: Exception, remedy: str = "") -> str:
    """Say in one line what cannot be read, written or whatever else, why, and what to do about it.

    Args:
        deed: "read", "written" …
        what: a file's path, which is quoted; or more words, with whatever they quote.
        error: what was raised.
        remedy: what to do.
    """
    named = repr(str(what)) if isinstance(what, Path) else what
    return f"{named} cannot be {deed}: {reason(error)}" + (f"; {remedy}" if remedy else "")


def without_folder(error: Exception, folder: Path | None) -> str:
    """Return an error's text for clients: where a folder lies is the operator's business."""
    return str(error).replace(f"{folder}{os.sep}", "")
