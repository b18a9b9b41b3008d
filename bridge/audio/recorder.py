"""A session's output into a WAV or FLAC file, in a thread of its own, so that nothing waits for a disk.

Rules: `write` only queues; the thread alone touches the file. A slow disk costs
memory up to QUEUE_SECONDS, then blocks, whose place in the file is filled with silence, so that times still hold. A
full disk is told once; the stream goes on.

A kill −9 leaves a file that opens: both encoders hand every finished piece to the system at once (FLAC in frames of
4096 samples), and what they would write at the very end, the length in the header, is written four times a second:

    FLAC   36 bits of STREAMINFO, bytes 21 … 25     without: "0 = unknown", which libsndfile reads as 2^63
    WAV    RIFF size, bytes 4 … 7, and the size before the samples     without: 0, which players show as empty

so that what is lost is what came after the last of these; and beside them what the recording tells of itself, whose
room markers.py keeps. No file is written over: F-2.flac follows F.flac.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import struct
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from bridge.audio.files import in_bits
from bridge.audio.markers import ROOM_BYTES, HeaderSpace, Mark, wav_chunks
from bridge.errors import FileError, cannot_be, reason

__all__ = ["FORMATS", "QUEUE_SECONDS", "Recorder", "check_recording"]

_log = logging.getLogger("bridge.recorder")

FORMATS = {".flac": ("FLAC", "PCM_24"), ".wav": ("WAV", "PCM_24")}
QUEUE_SECONDS = 30.0
HEADER_SECONDS = 0.25
_MOST_MARKS = 1_000  # of a part; fewer have room

_WAV_LIMIT_BYTES = 2**32 - 2 * 65536  # the head is a part of it
_HEAD_BYTES = ROOM_BYTES + 128
_FLAC_LIMIT_SAMPLES = 2**36 - 1
_SILENCE_SAMPLES = 32_768  # lost time is filled in pieces of this

Pcm = NDArray[np.float32]


class Recorder:
    """Writes blocks to a file until closed; add it to a session as a listener.

    Attributes:
        path: where it really goes.
        error: why it stopped; None while all is well.
        written_samples: in the file so far, silence for lost blocks included.
        lost_samples: that a slow disk cost.
    """

    def __init__(
        self,
        path: Path,
        sample_rate_hz: int,
        channels: int = 2,
        *,
        tags: Mapping[str, str] | None = None,
        report: Callable[[str], None] = _log.warning,
    ) -> None:
        """Open the file, so that a wrong place is refused before anything plays.

        Args:
            path: where to.
            sample_rate_hz: of what comes.
            channels: of what comes.
            tags: what the file tells of itself, such as `title`.
            report: takes a line for people.

        Raises:
            FileError: another suffix than .flac or .wav, no such folder, no right to write; one line.
        """
        self.path = _free(path)
        self.error: str | None = None
        self.written_samples = 0
        self.lost_samples = 0
        self._report = report
        self._rate_hz, self._channels = sample_rate_hz, channels
        self._part_start = 0  # where in the recording this file begins
        self._limit_samples = _limit_samples(self.path, channels)
        self._file = _opened(self.path, sample_rate_hz, channels)
        self._tags, self._marks = dict(tags or {}), list[Mark]()
        self._room: HeaderSpace | None = None
        self._told_marks = -1  # how many the file tells of; -1: not even the tags
        self._queue: queue.SimpleQueue[Pcm | int | None] = queue.SimpleQueue()
        self._queued_samples = 0  # both threads change it, under the lock
        self._owed_samples = 0  # silence to write before the next block
        self._lock = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="streamgen recorder", daemon=True)
        self._thread.start()

    @property
    def seconds(self) -> float:
        """Length of the file so far."""
        return self.written_samples / self._rate_hz

    def write(self, samples: Pcm) -> None:
        """Queue float32 [channels, n]; returns at once."""
        count = samples.shape[1]
        if self._closed or self.error is not None or not count:
            return
        with self._lock:
            if self._queued_samples + count > QUEUE_SECONDS * self._rate_hz:
                self._owed_samples += count
                self.lost_samples += count
                return
            owed, self._owed_samples = self._owed_samples, 0
            self._queued_samples += count
        if owed:
            self._queue.put(owed)
        self._queue.put(samples)

    def mark(self, at_sample: int, text: str) -> None:
        """Let the file tell that something begins at a sample of the recording; what has no room is told at the end."""
        with self._lock:
            if len(self._marks) < _MOST_MARKS:
                self._marks.append(Mark(at_sample, text))

    def close(self, timeout_seconds: float = 10.0) -> None:
        """Write what is queued and finish the file; waits for that. Call it again at will."""
        if not self._closed:
            self._closed = True
            self._queue.put(self._owed_samples)
            self._queue.put(None)
        self._thread.join(timeout_seconds)
        if self._thread.is_alive():
            self._report(f"recording {str(self.path)!r}: the disk did not take the rest within {timeout_seconds:g} s")

    def _run(self) -> None:
        """The recorder's thread: write until told to end; after an error only empty the queue."""
        header_due = time.monotonic() + HEADER_SECONDS
        while (piece := self._queue.get()) is not None:
            if self.error is None:
                self._try(self._append, piece)
            if not isinstance(piece, int):
                with self._lock:
                    self._queued_samples -= piece.shape[1]
            if self.error is None and time.monotonic() >= header_due:
                self._try(self._write_head)
                header_due = time.monotonic() + HEADER_SECONDS
        self._finish()

    def _try(self, work: Callable[..., None], *arguments: Any) -> None:
        """Do it; a failure ends the recording, is told once, and leaves what was written before."""
        try:
            work(*arguments)
        except (soundfile.LibsndfileError, OSError, AssertionError) as error:  # soundfile asserts that all was written
            self.error = "the disk took only a part" if isinstance(error, AssertionError) else reason(error)
            self._report(f"recording stopped after {self.seconds:.1f} s: {str(self.path)!r}: {self.error}; playing on")
            self._finish()

    def _append(self, piece: Pcm | int) -> None:
        left = piece if isinstance(piece, int) else piece.shape[1]
        while left:
            count = min(left, _SILENCE_SAMPLES) if isinstance(piece, int) else left
            samples = np.zeros((count, self._channels), np.float32) if isinstance(piece, int) else piece.T
            if self.written_samples - self._part_start + count > self._limit_samples:
                self._next_part()
            self._file.write(in_bits(samples))
            self.written_samples += count
            left -= count

    def _write_head(self) -> None:
        """Write into the head what is known by now."""
        _write_length(self.path, self.written_samples - self._part_start, self._channels)
        self._write_marks()

    def _write_marks(self, *, again: bool = False) -> None:
        """Write the marks of this part, and the tags; the encoder writes over a WAV's when it closes."""
        with self._lock:
            marks = sorted(self._marks)
        start, end = self._part_start, self.written_samples
        before = [Mark(0, mark.text) for mark in marks if mark.at_sample <= start][-1:]
        own = before + [Mark(mark.at_sample - start, mark.text) for mark in marks if start < mark.at_sample < end]
        self._room = self._room or HeaderSpace.found(self.path)
        if self._room is None or (len(own) == self._told_marks and not again):
            return
        found_room = self._room.write(self.path, own, self._tags, self._rate_hz)
        self._told_marks = len(own)
        if found_room < len(own) and again:
            self._report(f"recording {str(self.path)!r} tells of {found_room} prompts, and has no room for more")

    def _next_part(self) -> None:
        """Go on in another file: this format's length field ends here."""
        self._close_file()
        self.path = _free(self.path)
        self._file = _opened(self.path, self._rate_hz, self._channels)
        self._part_start, self._room, self._told_marks = self.written_samples, None, -1
        with self._lock:
            told = sorted(mark for mark in self._marks if mark.at_sample <= self._part_start)
            self._marks = told[-1:] + [mark for mark in self._marks if mark.at_sample > self._part_start]
        self._report(f"recording goes on in {str(self.path)!r}: the file before is as long as its format allows")

    def _finish(self) -> None:
        """Close; if the disk takes no more, the header at least says what is there. A second time does nothing."""
        try:
            self._close_file()
        except (soundfile.LibsndfileError, OSError) as error:
            self.error = self.error or reason(error)
        if self.error is not None:
            with contextlib.suppress(OSError):  # it was told already
                self._write_head()

    def _close_file(self) -> None:
        if not self._file.closed:
            self._file.close()
            self._write_marks(again=True)


def _free(path: Path) -> Path:
    """The path itself, or with the first number from 2 that no file has yet."""
    number, free = 2, path
    while free.is_file() and free.stat().st_size:
        free = path.with_stem(f"{path.stem}-{number}")
        number += 1
    return free


def check_recording(path: Path) -> None:
    """Check a recording's name and place before any work is done for it.

    Raises:
        FileError: another suffix than .flac or .wav, no such folder, no right to write; one line.
    """
    if path.suffix.lower() not in FORMATS:
        raise FileError(f"recording {str(path)!r}: its suffix must be .flac or .wav")
    if not os.path.isdir(path.parent):  # Path.is_dir() raises where the way there is closed, or too long
        raise FileError(f"recording {str(path)!r}: there is no folder {str(path.parent)!r}; make it first")
    if not os.access(path.parent, os.W_OK):
        raise FileError(f"recording {str(path)!r}: no right to write there; choose another folder")


def _opened(path: Path, sample_rate_hz: int, channels: int) -> Any:
    check_recording(path)
    kind, subtype = FORMATS[path.suffix.lower()]
    try:
        path.open("ab").close()  # libsndfile's own words for a missing folder are "System error"
        file = soundfile.SoundFile(
            path, "w", samplerate=sample_rate_hz, channels=channels, format=kind, subtype=subtype
        )
        file.comment = " " * ROOM_BYTES
        return file
    except (soundfile.LibsndfileError, OSError) as error:
        raise FileError(cannot_be("written", f"the recording {str(path)!r}", error, "choose another place")) from error


def _limit_samples(path: Path, channels: int) -> int:
    return _WAV_LIMIT_BYTES // (3 * channels) if path.suffix.lower() == ".wav" else _FLAC_LIMIT_SAMPLES


def _write_length(path: Path, samples: int, channels: int) -> None:
    """Tell the header of an unfinished file how long it is; the encoder writes it again when it closes."""
    with path.open("r+b", buffering=0) as file:
        head = file.read(_HEAD_BYTES)
        if head.startswith(b"fLaC"):
            _write_flac_length(file, head, samples)
        elif data := next((at for name, at, _ in wav_chunks(head) if name == b"data"), 0):
            size = samples * channels * 3
            _put(file, data + 4, struct.pack("<I", size))
            _put(file, 4, struct.pack("<I", data + size))


def _write_flac_length(file: Any, head: bytes, samples: int) -> None:
    """The encoder holds back its last frame until one sample more comes (RFC 9639, section 8.2 for the field)."""
    frame = int.from_bytes(head[8:10], "big")
    complete = max(0, samples - 1) // frame * frame
    field = int.from_bytes(head[21:26], "big") >> 36 << 36 | complete
    _put(file, 21, field.to_bytes(5, "big"))


def _put(file: Any, at: int, what: bytes) -> None:
    file.seek(at)
    file.write(what)
