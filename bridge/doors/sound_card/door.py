"""A session at the sound card: opened, fed, watched, and opened again when it went away.

Rules: `audio` and `event` only queue (a Listener, event loop); one thread of its own does everything that may wait:
PortAudio's opening and scanning, resampling, the ring. The callback copies from the ring and nothing else.

    session ──► queue ──► this thread: Feeder ──► ring ──► callback ──► loudspeaker
                          device silent for 2 s, or gone: close, rescan every 2 s, open again

While there is no device, audio is let go as it would have been heard; when it comes back, the music is where it is now.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bridge.doors.door import Service, Sessions
from bridge.doors.sound_card.card import OutputDevice, SoundCard, choose_device, output_devices, rescan
from bridge.doors.sound_card.feeder import Feeder
from bridge.errors import DeviceError
from bridge.session.events import COMMIT_SECONDS, Block, Event, Gap, Transported
from bridge.session.session import Session
from bridge.settings import Settings

__all__ = ["SoundCardDoor", "SoundStats"]

_log = logging.getLogger("bridge.sound")

_BLOCK_SECONDS = 0.04  # of one block; its first sample is due that much before its last
MARGIN_SECONDS = 0.08  # callbacks come in bunches, blocks too
RETRY_SECONDS = 2.0
STALL_SECONDS = 2.0
FADE_OUT_SECONDS = 0.5  # at most, for the callback that fades out at the end
_QUEUE_BLOCKS = 4_000


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


class SoundCardDoor:
    """Plays the live session on a device, if the operator wants that and there is one.

    Args:
        service: its settings name the device and the latency to ask for.

    Raises:
        DeviceError: a device was named, and none fits.
    """

    name = "sound"

    def __init__(self, service: Service) -> None:
        self._latency_seconds = service.settings.latency
        self._device = _chosen(service.settings) if service.settings.soundcard else None
        self._queue: queue.SimpleQueue[Block | Gap | Transported] = queue.SimpleQueue()
        self._stopping, self._tried = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="streamgen sound", daemon=True)
        self._session: Session | None = None
        self._rate_hz, self._lost_seconds = 0, 0.0
        self._feeder: Feeder | None = None
        self._card: SoundCard | None = None
        self._past, self._opened, self._dropped_blocks = _Past(), 0, 0
        self._told = ""

    async def open(self, sessions: Sessions) -> None:
        """Open the device and listen to the session. A device that does not open is told, and tried again and again."""
        if self._device is None:
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
            await asyncio.to_thread(self._thread.join, 5.0)

    def places(self) -> Mapping[str, str | int | None]:
        """Where it plays now: None without a device, or while it does not open."""
        return {"sound": self.sound_stats().device or None}

    def stats(self) -> Mapping[str, float]:
        """See `Door.stats`; nothing where no device was wanted."""
        if self._device is None:
            return {}
        stats = self.sound_stats()
        return {
            "sound_playing": bool(stats.device),
            "sound_reopened_total": stats.reopened,
            "sound_lost_seconds_total": stats.lost_seconds,
            "sound_delay_seconds": stats.delay_seconds,
            "sound_starvations_total": stats.starvations,
            "sound_starved_seconds_total": stats.starved_seconds,
            "sound_late_callbacks_total": stats.late_callbacks,
            "sound_jumps_total": stats.jumps,
            "sound_dropped_blocks_total": stats.dropped_blocks,
            "sound_error_seconds": stats.error_ms / 1e3,
            "sound_drift_ppm": stats.drift_ppm,
        }

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
        feeder, card, past = self._feeder, self._card, self._past
        playing = feeder is not None and card is not None
        return SoundStats(
            device=f"{self._device.host_api}: {self._device.name}" if playing and self._device else "",
            delay_seconds=feeder.delay_seconds if feeder else 0.0,
            starvations=past.starvations + (feeder.starvations if feeder else 0),
            starved_seconds=past.starved_seconds + (feeder.starved_seconds if feeder else 0.0),
            late_callbacks=past.late_callbacks + (card.late_callbacks if card else 0),
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
        assert device is not None, "the thread runs for a device"
        feeder = Feeder(
            self._rate_hz,
            device.sample_rate_hz,
            device.channels,
            margin_seconds=MARGIN_SECONDS,
            ahead_seconds=COMMIT_SECONDS - _BLOCK_SECONDS,
        )
        card = SoundCard(device, feeder.ring, self._latency_seconds)
        card.__enter__()
        feeder.device_latency_seconds = card.latency_seconds
        self._feeder, self._card = feeder, card
        self._opened += 1
        if self._told:
            _log.warning("sound: playing on %s", device.name)
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
            elif isinstance(item, Gap) or not item.state.plays:
                feeder.rest()
        return False

    def _release(self, card: SoundCard, lost: bool) -> None:
        feeder, self._feeder, self._card = self._feeder, None, None
        assert feeder is not None
        if lost:
            self._tell(f"device {self._name!r} went away")
            self._lost_seconds += feeder.held_seconds
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
                if isinstance(item := self._queue.get(), Block):
                    self._lost_seconds += item.samples.shape[1] / self._rate_hz
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
        assert old is not None, "it was lost"
        named = [device for device in devices if (device.host_api, device.name) == (old.host_api, old.name)]
        default = [device for device in devices if device.default and old.default]
        if not named and not default:
            raise DeviceError(f"device {old.name!r} is not there")
        return (named or default)[0]

    def _tell(self, problem: str) -> None:
        if not self._told:
            _log.warning("sound: %s; trying again every %g s, everything else plays on", problem, RETRY_SECONDS)
        self._told = problem

    @property
    def _name(self) -> str:
        return "" if self._device is None else self._device.name


def _wait_until(done: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not done() and time.monotonic() < end:
        time.sleep(0.005)


def _chosen(settings: Settings) -> OutputDevice | None:
    """Choose where to play; None is nowhere. The service does not depend on it unless a device was named."""
    try:
        return choose_device(settings.output)
    except DeviceError as error:
        if settings.output is not None:
            raise
        _log.warning("no sound here: %s", error)
        return None
