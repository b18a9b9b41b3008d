"""What a recording tells of itself: where other prompts begin, and of which model and seed it is. Bytes, and one file.

The head of a file is written first and what it should tell is known last. So room is kept there, which any reader takes
for a long comment, and is written over in place as often as there is news: a kill −9 leaves the newest of it.

    FLAC   STREAMINFO │ VORBIS_COMMENT ─ TITLE, MODEL, CHAPTER001=00:00:00.000, CHAPTER001NAME=… ─ │ PADDING │ frames
    WAV    fmt │ cue  │ LIST adtl ─ a label for each cue ─ │ LIST INFO ─ INAM, ICMT ─ │ JUNK │ data

Rules: knows no session; what stands in the way is an OSError, as with any write.
Source: RFC 9639 section 8 (blocks), Multimedia Programming Interface and Data Specifications 1.0 (cue, adtl, INFO), the
chapters of xiph.org's Ogg comments, which ffmpeg, mpv and VLC read in FLAC too.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["ROOM_BYTES", "Mark", "HeaderSpace", "wav_chunks"]

ROOM_BYTES = 48_000  # libsndfile doubles what it is asked for, up to 100 kB, and then writes nothing
MOST_TEXT = 400  # characters of a mark's words
_VORBIS_COMMENT, _PADDING = 4, 1
_BLOCK_HEAD, _CHUNK_HEAD = 4, 8
_HEAD_BYTES = ROOM_BYTES + 1_000


@dataclass(frozen=True, order=True)
class Mark:
    """A place in a recording: a sample of the file, and what begins there."""

    at_sample: int
    text: str


@dataclass(frozen=True)
class HeaderSpace:
    """Where a file's head has room.

    Attributes:
        start: the first byte that may be written over.
        size: how many may, all of them at once.
        vendor: who encoded a FLAC, as it says; None in a WAV.
    """

    start: int
    size: int
    vendor: bytes | None

    @classmethod
    def found(cls, path: Path) -> HeaderSpace | None:
        """Find the room that a comment of `ROOM_BYTES` made; None where there is none, or not yet."""
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
        return _flac_room(head) if head.startswith(b"fLaC") else _wav_room(head)

    def write(self, path: Path, marks: Sequence[Mark], tags: Mapping[str, str], rate_hz: int) -> int:
        """Write marks, in their order, and tags; returns how many of the marks found room, the first ones.

        Raises:
            OSError: it cannot be written.
        """
        count = len(marks)
        while (content := self._content(marks[:count], tags, rate_hz)) is None and count:
            count -= max(1, count // 16)
        if content is not None:
            with path.open("r+b", buffering=0) as file:
                file.seek(self.start)
                file.write(content)
        return count

    def _content(self, marks: Sequence[Mark], tags: Mapping[str, str], rate_hz: int) -> bytes | None:
        """Return what fills the room exactly; None if it is more."""
        if self.vendor is not None:
            body = _comments(self.vendor, [*_named(tags), *_chapters(marks, rate_hz)])
            left = self.size - 2 * _BLOCK_HEAD - len(body)
            return None if left < 0 else _block(_VORBIS_COMMENT, body) + _block(_PADDING, bytes(left), last=True)
        chunks = _cues(marks) + _info(tags)
        left = self.size - _CHUNK_HEAD - len(chunks)
        return None if left < 0 else chunks + _chunk(b"JUNK", bytes(left))


# -- FLAC --------------------------------------------------------------------------------------------------------------


def _flac_room(head: bytes) -> HeaderSpace | None:
    """The room is what follows on STREAMINFO, to the end of the blocks."""
    at, last, vendor, start = 4, False, None, 0
    while not last and at + _BLOCK_HEAD <= len(head):
        kind, size = head[at] & 0x7F, int.from_bytes(head[at + 1 : at + 4], "big")
        last = bool(head[at] & 0x80)
        if kind == _VORBIS_COMMENT:
            start, (count,) = at, struct.unpack_from("<I", head, at + _BLOCK_HEAD)
            vendor = head[at + _BLOCK_HEAD + 4 :][:count]
        at += _BLOCK_HEAD + size
    return HeaderSpace(start, at - start, vendor) if last and vendor is not None and at - start > ROOM_BYTES else None


def _block(kind: int, body: bytes, *, last: bool = False) -> bytes:
    return bytes([kind | 0x80 * last]) + len(body).to_bytes(3, "big") + body


def _comments(vendor: bytes, lines: Sequence[str]) -> bytes:
    words = [vendor, *(line.encode() for line in lines)]
    sized = [struct.pack("<I", len(word)) + word for word in words]
    return sized[0] + struct.pack("<I", len(lines)) + b"".join(sized[1:])


def _named(tags: Mapping[str, str]) -> Iterator[str]:
    for name, text in tags.items():
        yield f"{name.upper()}={text}"


def _chapters(marks: Sequence[Mark], rate_hz: int) -> Iterator[str]:
    for number, mark in enumerate(marks, 1):
        ms = round(1_000 * mark.at_sample / rate_hz)
        minutes, seconds = divmod(ms / 1_000, 60)
        yield f"CHAPTER{number:03}={minutes // 60:02.0f}:{minutes % 60:02.0f}:{seconds:06.3f}"
        yield f"CHAPTER{number:03}NAME={mark.text[:MOST_TEXT]}"


# -- WAV ---------------------------------------------------------------------------------------------------------------


def wav_chunks(head: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield name, first byte and size of each chunk, up to the samples'."""
    at, name = 12, b""  # behind RIFF, size, WAVE
    while at + _CHUNK_HEAD <= len(head) and name != b"data":
        name, size = head[at : at + 4], int.from_bytes(head[at + 4 : at + 8], "little")
        yield name, at, size
        at += _CHUNK_HEAD + size + size % 2


def _wav_room(head: bytes) -> HeaderSpace | None:
    """The room is from the comment, or from what was written over it, to the samples."""
    found = {name: at for name, at, _ in reversed([*wav_chunks(head)]) if name in (b"LIST", b"cue ", b"data")}
    start, end = min(found.values(), default=0), found.get(b"data", 0)
    return HeaderSpace(start, end - start, None) if end - start > ROOM_BYTES else None


def _chunk(name: bytes, body: bytes) -> bytes:
    return name + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)


def _cues(marks: Sequence[Mark]) -> bytes:
    if not marks:
        return b""
    points = [
        struct.pack("<II4sIII", number, mark.at_sample, b"data", 0, 0, mark.at_sample)
        for number, mark in enumerate(marks, 1)
    ]
    labels = [
        _chunk(b"labl", struct.pack("<I", number) + mark.text[:MOST_TEXT].encode() + b"\0")
        for number, mark in enumerate(marks, 1)
    ]
    count = struct.pack("<I", len(marks))
    return _chunk(b"cue ", count + b"".join(points)) + _chunk(b"LIST", b"adtl" + b"".join(labels))


def _info(tags: Mapping[str, str]) -> bytes:
    """Title and all else as one comment: INFO has no names for a model and a seed."""
    named = {b"INAM": tags.get("title", ""), b"ICMT": ", ".join(f"{k} {v}" for k, v in tags.items() if k != "title")}
    parts: list[Any] = [_chunk(name, text.encode() + b"\0") for name, text in named.items() if text]
    return _chunk(b"LIST", b"INFO" + b"".join(parts)) if parts else b""
