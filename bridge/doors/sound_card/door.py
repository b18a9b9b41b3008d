"""A session at the sound card: opened, fed, watched, and opened again when it went away.

Rules: `audio` and `event` only queue (a Listener, event loop); one thread of its own does everything that may wait:
PortAudio's opening and scanning, resampling, the ring. The callback copies from the ring and nothing else.

    session ──► queue ──► this thread: Feeder ──► ring ──► callback ──► loudspeaker
                          device silent for 2 s, or gone: close, rescan every 2 s, open again

While there is no device, audio is let go as it would have been heard; when it comes back, the music is where it is now.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from bridge.cli.terminal import say
from bridge.doors.sound_card.card import OutputDevice, SoundCard, output_devices, rescan
from bridge.doors.sound_card.feeder import Feeder
from bridge.errors import DeviceError
from bridge.session.interface import Session
from bridge.session.messages import Block, Event, Gap, Transported

__all__ = ["SoundDoor", "SoundStats"]

MARGIN_SECONDS = 0.05
RETRY_SECONDS = 2.0
STALL_SECONDS = 2.0
FADE_OUT_SECONDS = 0.5  # at most, for the callback that fades out at the end
_QUEUE_BLOCKS = 1_000


@dataclass(frozen=True)
class SoundStats:
    """How the sound card is doing, since the start.

    Attributes:
        device: where it plays; "" while there is none.
        delay_seconds: from due to heard.
        starvations: times that the device found nothing though the session played.
        starved_seconds: silence that came of it.
        late_callbacks: that PortAudio itself told of.
        reopened: times that a device came back.
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


class SoundDoor:
    """Plays a session on a device; `open` and `close` it on the event loop.

    Args:
        session: what to play.
        device: where; when it went away, the one of the same name, or the default if this was it.
        latency_seconds: that the device is asked for.
    """

    def __init__(self, session: Session, device: OutputDevice, *, latency_seconds: float = 0.1) -> None:
        self._session, self._device = session, device
        self._latency_seconds = latency_seconds
        self._queue: queue.SimpleQueue[Block | Gap | Transported] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._tried = threading.Event()
        self._thread = threading.Thread(target=self._run, name="streamgen sound", daemon=True)
        self._feeder: Feeder | None = None
        self._card: SoundCard | None = None
        self._past, self._opened, self._dropped_blocks = _Past(), 0, 0
        self._told = ""

    async def open(self) -> None:
        """Open the device and listen to the session. A device that does not open is told, and tried again and again."""
        self._thread.start()
        await asyncio.to_thread(self._tried.wait, 10.0)
        for block in self._session.add(self):
            self.audio(block)

    async def close(self) -> None:
        """Stop listening and release the device."""
        self._session.remove(self)
        self._stopping.set()
        await asyncio.to_thread(self._thread.join, 5.0)

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

    def stats(self) -> SoundStats:
        """How it is doing."""
        feeder, card, past = self._feeder, self._card, self._past
        playing = feeder is not None and card is not None
        return SoundStats(
            device=f"{self._device.host_api}: {self._device.name}" if playing else "",
            delay_seconds=feeder.delay_seconds if feeder else 0.0,
            starvations=past.starvations + (feeder.starvations if feeder else 0),
            starved_seconds=past.starved_seconds + (feeder.starved_seconds if feeder else 0.0),
            late_callbacks=past.late_callbacks + (card.late_callbacks if card else 0),
            reopened=max(0, self._opened - 1),
            jumps=past.jumps + (feeder.jumps if feeder else 0),
            dropped_blocks=self._dropped_blocks,
            error_ms=feeder.drift.error_seconds * 1e3 if feeder else 0.0,
            drift_ppm=feeder.drift.correction * 1e6 if feeder else 0.0,
        )

    # -- this door's thread ---------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                card = self._open_card()
            except DeviceError as error:
                self._tell(str(error))
                self._tried.set()
                self._wait_for_a_device()
                continue
            self._tried.set()
            lost = self._play(card)
            self._release(card, lost)
            if lost:
                self._wait_for_a_device()

    def _open_card(self) -> SoundCard:
        device = self._device
        feeder = Feeder(
            self._session.sample_rate_hz, device.sample_rate_hz, device.channels, margin_seconds=MARGIN_SECONDS
        )
        card = SoundCard(device, feeder.ring, self._latency_seconds)
        card.__enter__()
        feeder.device_latency_seconds = card.latency_seconds
        self._feeder, self._card = feeder, card
        self._opened += 1
        if self._told:
            say(f"sound: playing on {device.name}")
        self._told = ""
        return card

    def _play(self, card: SoundCard) -> bool:
        """Feed until stopped (False) or the device falls silent (True)."""
        feeder = self._feeder
        assert feeder is not None
        while not self._stopping.is_set():
            if not card.active or time.monotonic() - feeder.ring.last_read[0] > STALL_SECONDS:
                return True
            try:
                item = self._queue.get(timeout=0.2)
            except queue.Empty:
                continue
            if isinstance(item, Block):
                feeder.feed(item)
            elif isinstance(item, Gap) or item.action in ("pause", "stop"):
                feeder.rest()
        return False

    def _release(self, card: SoundCard, lost: bool) -> None:
        feeder, self._feeder, self._card = self._feeder, None, None
        assert feeder is not None
        if lost:
            self._tell(f"device {self._device.name!r} went away")
            card.abandon()
        else:
            feeder.ring.fall_silent()
            _wait_until(lambda: feeder.ring.silent, FADE_OUT_SECONDS)
            card.__exit__(None, None, None)
        past = self._past
        self._past = _Past(
            past.starvations + feeder.starvations,
            past.starved_seconds + feeder.starved_seconds,
            past.late_callbacks + card.late_callbacks,
            past.jumps + feeder.jumps,
        )

    def _wait_for_a_device(self) -> None:
        """Let go what would have been heard, and look for the device until it is back."""
        while not self._stopping.wait(RETRY_SECONDS):
            while not self._queue.empty():
                self._queue.get()
            try:
                rescan()
                self._device = self._same(output_devices())
            except DeviceError as error:
                self._tell(str(error))
            else:
                return

    def _same(self, devices: list[OutputDevice]) -> OutputDevice:
        """The device of the same name, or the default one if it was that; numbers change from scan to scan."""
        old = self._device
        named = [device for device in devices if (device.host_api, device.name) == (old.host_api, old.name)]
        default = [device for device in devices if device.default and old.default]
        if not named and not default:
            raise DeviceError(f"device {old.name!r} is not there")
        return (named or default)[0]

    def _tell(self, problem: str) -> None:
        if not self._told:
            say(f"sound: {problem}; trying again every {RETRY_SECONDS:g} s, everything else plays on")
        self._told = problem


def _wait_until(done: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not done() and time.monotonic() < end:
        time.sleep(0.005)
