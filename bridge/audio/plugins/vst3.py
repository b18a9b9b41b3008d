"""The class of a VST3 plugin: the number that a `.vstpreset` file names it by, asked of the plugin itself.

    module ─ GetPluginFactory ─► factory ─ countClasses, getClassInfo ─► the class whose category is an audio module

Rules: for a plugin's child, once the plugin is loaded there; the standard library only. Newer bundles have the same in
a file, `moduleinfo.json`; most have not.
"""

from __future__ import annotations

import ctypes
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

__all__ = ["class_id"]

_AUDIO = b"Audio Module Class"
# places in the table of IPluginFactory's functions
_RELEASE, _COUNT_CLASSES, _GET_CLASS_INFO = 2, 4, 5


class _ClassInfo(ctypes.Structure):
    """PClassInfo of the VST3 interfaces."""

    _fields_ = [
        ("id", ctypes.c_ubyte * 16),
        ("cardinality", ctypes.c_int32),
        ("category", ctypes.c_char * 32),
        ("name", ctypes.c_char * 64),
    ]


def class_id(path: Path) -> str:
    """Return the id of a plugin's first class that processes audio: 32 hexadecimal digits; "" if none is found."""
    for module in _modules(path):
        try:
            get_factory = ctypes.CDLL(str(module)).GetPluginFactory  # what is loaded is not loaded again
        except (OSError, AttributeError):  # no library, or none of a plugin
            continue
        get_factory.restype = ctypes.c_void_p
        factory = get_factory()
        if factory:
            found = next((one for one in _classes(factory) if one.category == _AUDIO), None)
            _function(factory, _RELEASE, ctypes.c_uint32)(factory)
            if found is not None:
                return _in_words(bytes(found.id))
    return ""


def _modules(path: Path) -> Iterator[Path]:
    """The libraries of a bundle, or the file that is one."""
    if path.is_file():
        yield path
    yield from sorted(one for one in path.glob("Contents/*/*") if one.is_file())


def _classes(factory: int) -> Iterator[_ClassInfo]:
    for number in range(_function(factory, _COUNT_CLASSES, ctypes.c_int32)(factory)):
        info = _ClassInfo()
        get = _function(factory, _GET_CLASS_INFO, ctypes.c_int32, ctypes.c_int32, ctypes.POINTER(_ClassInfo))
        if get(factory, number, ctypes.byref(info)) == 0:
            yield info


def _function(thing: int, place: int, result: type, *arguments: type) -> Callable[..., Any]:
    """A function of an object, by its place in the table that the object begins with."""
    table = ctypes.cast(thing, ctypes.POINTER(ctypes.POINTER(ctypes.c_void_p))).contents
    return ctypes.CFUNCTYPE(result, ctypes.c_void_p, *arguments)(table[place] or 0)


def _in_words(raw: bytes) -> str:
    """Windows keeps the first half of these ids in its own order of bytes."""
    return (uuid.UUID(bytes_le=raw) if os.name == "nt" else uuid.UUID(bytes=raw)).hex.upper()
