"""A session at a device with a clock of its own: opened, fed, watched, and opened again when it went away.

Rules: `audio` and `event` only queue (a Listener, event loop); one thread of its own does everything that may wait:
opening and searching, resampling, the ring. The device's callback copies from the ring and nothing else.

    session ──► queue ──► this thread: Feeder ──► ring ──► callback ──► loudspeaker
                          device silent for 2 s, or gone: close, search every 2 s, open again

While there is no device, audio is let go as it would have been heard; when it comes back, the music is where it is now.
What a device is, and how to find it again, says each door that plays at one.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from bridge.doors.device.feeder import Feeder
from bridge.doors.door import Sessions
from bridge.errors import DeviceError
from bridge.session.events import COMMIT_SECONDS, Block, Event, Gap, Transported
from bridge.session.session import Session

__all__ = ["DeviceDoor", "Output", "SoundStats"]

_BLOCK_SECONDS = 0.04  # of one block; its first sample is due that much before its last
MARGIN_SECONDS, LEFT_SECONDS = 0.08, 0.05  # for blocks that come in bunches, and threads that wait for each other
RETRY_SECONDS = 2.0
STALL_SECONDS = 2.0
FADE_OUT_SECONDS = 0.5  # at most, for the callback that fades out at the end
_FILL_SECONDS = 1.0  # at most, for a device to fill its buffer
_PACE_CALLBACKS, _PACE_SECONDS = 5, 0.4  # that show its pace from then on, and how long they are waited for at most
_QUEUE_BLOCKS, _LOOK_SECONDS = 4_000, 0.2  # that wait at most; how often to look whether the device is still there


class Output(Protocol):
    """A device that is open.

    Attributes:
        late_callbacks: how often the system itself reported that audio came too late.
    """

    late_callbacks: int

    @property
    def latency_seconds(self) -> float:
        """Time from the callback to the loudspeaker."""
        ...

    @property
    def active(self) -> bool:
        """Whether the device still calls back, as far as its system knows."""
        ...

    def abandon(self) -> None:
        """Release a device that went away, without waiting for it."""
        ...

    def __exit__(self, *_error: Any) -> None:
        """Let what the device holds play out, and release it."""
        ...


@dataclass(frozen=True)
class SoundStats:
    """How a device is doing, since the start.

    Attributes:
        device: where it plays; "" while there is none.
        delay_seconds: from due to heard.
        starvations: times that the device found nothing though the session played.
        starved_seconds: silence that came of it.
        late_callbacks: that the sound system itself told of.
        reopened: times that a device came back.
        lost_seconds: of audio that came while there was no device, or that one took along.
        jumps: times that audio was skipped or filled to be on time again.
        dropped_blocks: that found no room.
        error_ms: heard too late, mean of the last 50 blocks.
        drift_ppm: correction now being made to the device's clock.
    """

    device: str
    delay_seconds: float
    starvations: int
    starved_seconds: float
    late_callbacks: int
    reopened: int
    lost_seconds: float
    jumps: int
    dropped_blocks: int
    error_ms: float
    drift_ppm: float


@dataclass
class _Past:
    """Counters of devices that are closed."""

    starvations: int = 0
    starved_seconds: float = 0.0
    late_callbacks: int = 0
    jumps: int = 0


class DeviceDoor(ABC):
    """Plays the live session at a device, if the operator wants that and there is one; see `doors.door.Door`.

    Args:
        name: in metrics, logs and places.
        wanted: whether there is anything to open.
    """

    def __init__(self, name: str, wanted: bool) -> None:
        self.name, self._wanted = name, wanted
        self._log = logging.getLogger(f"bridge.{name}")
        self._queue: queue.SimpleQueue[Block | Gap | Transported | None] = queue.SimpleQueue()  # None wakes it
        self._stopping, self._tried = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"streamgen {name}", daemon=True)
        self._session: Session | None = None
        self._rate_hz, self._lost_seconds = 0, 0.0
        self._playing: tuple[Feeder, Output] | None = None
        self._past, self._opened, self._dropped_blocks = _Past(), 0, 0
        self._told = ""

    # -- what a device is -----------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def device_name(self) -> str:
        """The device's own name."""

    @property
    def place(self) -> str:
        """Where it plays, in words."""
        return self.device_name

    @abstractmethod
    def open_output(self, make_feeder: Callable[[int, int], Feeder]) -> tuple[Feeder, Output]:
        """Open the device and let it play what a feeder's ring holds. This door's thread.

        Args:
            make_feeder: makes one for a rate in Hz and a number of channels.

        Raises:
            DeviceError: it does not open.
        """

    @abstractmethod
    def search(self) -> None:
        """Look for the device after it went away. This door's thread.

        Raises:
            DeviceError: it is not there.
        """

    # -- a door ---------------------------------------------------------------------------------------------------

    async def open(self, sessions: Sessions) -> None:
        """Open the device and listen to the session. A device that does not open is told, and tried again and again."""
        if not self._wanted:
            return
        self._session = session = sessions.live
        await self.start(session.rate_hz)
        for block in session.add(self)[-1:]:  # the others are due before the device could play them
            self.audio(block)

    async def start(self, rate_hz: int) -> None:
        """Open the device for what comes at a rate by `audio`, from whomever."""
        self._rate_hz = rate_hz
        self._thread.start()
        await asyncio.to_thread(self._tried.wait, 10.0)

    async def close(self, reason: str) -> None:  # noqa: ARG002 - nobody is there to be told
        """Stop listening and release the device."""
        if self._session is not None:
            self._session.remove(self)
        if self._thread.is_alive():
            self._stopping.set()
            self._queue.put(None)  # before the device has played all that there is: it shall fade
            await asyncio.to_thread(self._thread.join, 5.0)

    def places(self) -> Mapping[str, str | int | None]:
        """Where it plays now: None without a device, or while it does not open."""
        return {self.name: self.sound_stats().device or None}

    def stats(self) -> Mapping[str, float]:
        """See `Door.stats`; nothing where no device was wanted."""
        if not self._wanted:
            return {}
        stats = self.sound_stats()
        counted: dict[str, float] = {
            "playing": bool(stats.device),
            "reopened_total": stats.reopened,
            "lost_seconds_total": stats.lost_seconds,
            "delay_seconds": stats.delay_seconds,
            "starvations_total": stats.starvations,
            "starved_seconds_total": stats.starved_seconds,
            "late_callbacks_total": stats.late_callbacks,
            "jumps_total": stats.jumps,
            "dropped_blocks_total": stats.dropped_blocks,
            "error_seconds": stats.error_ms / 1e3,
            "drift_ppm": stats.drift_ppm,
        }
        return {f"{self.name}_{what}": value for what, value in counted.items()}

    def audio(self, block: Block) -> None:
        """Queue a block."""
        if self._queue.qsize() >= _QUEUE_BLOCKS:
            self._dropped_blocks += 1
            return
        self._queue.put(block)

    def event(self, event: Event) -> None:
        """Queue what tells of silence to come."""
        if isinstance(event, Gap | Transported):
            self._queue.put(event)

    def sound_stats(self) -> SoundStats:
        """How it is doing."""
        past, playing = self._past, self._playing
        feeder, output = playing or (None, None)
        return SoundStats(
            device=self.place if playing else "",
            delay_seconds=feeder.delay_seconds if feeder else 0.0,
            starvations=past.starvations + (feeder.starvations if feeder else 0),
            starved_seconds=past.starved_seconds + (feeder.starved_seconds if feeder else 0.0),
            late_callbacks=past.late_callbacks + (output.late_callbacks if output else 0),
            reopened=max(0, self._opened - 1),
            lost_seconds=self._lost_seconds,
            jumps=past.jumps + (feeder.jumps if feeder else 0),
            dropped_blocks=self._dropped_blocks,
            error_ms=feeder.drift.error_seconds * 1e3 if feeder else 0.0,
            drift_ppm=feeder.drift.correction * 1e6 if feeder else 0.0,
        )

    # -- this door's thread ---------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                playing = self._open_device()
            except DeviceError as error:
                self._tell(str(error))
                self._tried.set()
                self._wait_for_the_device()
                continue
            self._tried.set()
            lost = self._play(*playing)
            self._release(*playing, lost)
            if lost:
                self._wait_for_the_device()

    def _open_device(self) -> tuple[Feeder, Output]:
        feeder, output = self.open_output(self._feeder)
        feeder.device_latency_seconds = output.latency_seconds
        _wait_until(lambda: feeder.device_filled, _FILL_SECONDS)
        feeder.ring.callbacks.clear()
        _wait_until(lambda: len(feeder.ring.callbacks) >= _PACE_CALLBACKS, _PACE_SECONDS)
        self._playing = feeder, output
        self._opened += 1
        if self._told:
            self._log.warning("%s: playing on %s", self.name, self.device_name)
        self._told = ""
        return feeder, output

    def _feeder(self, device_hz: int, channels: int) -> Feeder:
        return Feeder(
            self._rate_hz,
            device_hz,
            channels,
            margin_seconds=MARGIN_SECONDS,
            left_seconds=LEFT_SECONDS,
            ahead_seconds=COMMIT_SECONDS - _BLOCK_SECONDS,
        )

    def _play(self, feeder: Feeder, output: Output) -> bool:
        """Feed until stopped (False) or the device falls silent (True)."""
        while not self._stopping.is_set():
            if not output.active or time.monotonic() - feeder.ring.last_read[0] > STALL_SECONDS:
                return True
            try:
                item = self._queue.get(timeout=_LOOK_SECONDS)
            except queue.Empty:
                continue
            if isinstance(item, Block) and not feeder.ring.paused:
                feeder.feed(item)
            elif item is not None and (not isinstance(item, Transported) or not item.state.plays):
                feeder.rest()
        return False

    def _release(self, feeder: Feeder, output: Output, lost: bool) -> None:
        self._playing = None
        if lost:
            self._tell(f"device {self.device_name!r} went away")
            self._lost_seconds += feeder.held_seconds
            output.abandon()
        else:
            feeder.ring.fall_silent()
            _wait_until(lambda: feeder.ring.silent, FADE_OUT_SECONDS)
            output.__exit__(None, None, None)
        past = self._past
        self._past = _Past(
            past.starvations + feeder.starvations,
            past.starved_seconds + feeder.starved_seconds,
            past.late_callbacks + output.late_callbacks,
            past.jumps + feeder.jumps,
        )

    def _wait_for_the_device(self) -> None:
        """Let go what would have been heard, and look for the device until it is back."""
        while not self._stopping.wait(RETRY_SECONDS):
            while not self._queue.empty():
                if isinstance(item := self._queue.get(), Block):
                    self._lost_seconds += item.samples.shape[1] / self._rate_hz
            try:
                self.search()
            except DeviceError as error:
                self._tell(str(error))
            else:
                return

    def _tell(self, problem: str) -> None:
        if not self._told:
            self._log.warning(
                "%s: %s; trying again every %g s, everything else plays on", self.name, problem, RETRY_SECONDS
            )
        self._told = problem


def _wait_until(done: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not done() and time.monotonic() < end:
        time.sleep(0.005)
