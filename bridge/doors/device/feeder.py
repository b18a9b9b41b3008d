"""From a session's blocks to a device's ring: resampled, on time, and kept on time.

Rules: one thread feeds; the clock is given; no PortAudio here. A block that is due at T by the session's clock is heard
at T + delay by this one. `delay` is what the device holds, plus a margin in the ring, less what the session commits
ahead of time, for that waits in the ring anyway; and what lateness has taught, which is forgotten slowly. Which frame
is heard when is known from the newest callbacks, each of which comes up to its own length early or late:

    their median ──► + frames taken ──► + frames in the ring ──► + the device's latency = when the next one is heard

A callback takes all its frames at once, the last one as long before its turn as they all last: where that is much, the
margin is more. Through PortAudio it is a quarter of the latency that was asked for.

The first block after a rest is put in its place by silence before it, or by skipping what is past. So is the first one
after a starvation: the hole is there, and behind it the beat goes on as at every other door. But from there on all is
played a little later, twice as much each time that this comes again soon, and sooner again by and by. Small errors are
stretched away (drift.py), and one beyond JUMP_SECONDS (a machine that slept) is skipped or filled once. Every skip is
cross-faded and every silence faded, so that nothing clicks.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from statistics import median

import numpy as np
from numpy.typing import NDArray

from bridge.audio.conversion import resampler
from bridge.audio.ring import FADE_FRAMES, Ring
from bridge.doors.device.drift import DriftControl, Stretcher
from bridge.session.events import Block

__all__ = ["ClockedRing", "Feeder"]

Frames = NDArray[np.float32]

JUMP_SECONDS = 0.05
CAPACITY_SECONDS = 4.0
_CALLBACKS = 15  # whose median is the device's pace
_STOOD_STILL_SECONDS = 0.05  # behind that pace, and the newest callback alone tells where the device is
_LATER_SECONDS, _LATEST_SECONDS = 0.03, 1.0  # after the first starvation, and at most
_FORGOTTEN = 1.5e-3  # of a second, each second: within what drift.py corrects unheard
_FALL = np.linspace(1.0, 0.0, FADE_FRAMES, endpoint=False, dtype=np.float32)[:, None]


class ClockedRing(Ring):
    """A ring that remembers when it was last read.

    Attributes:
        last_read: time of the newest callback, frames that all of them took, silence too, and frames read.
        most_at_once: frames that a callback took, at most.
        callbacks: time of each of the newest, and frames taken before it.
        silent: whether it has fallen silent for good.
        paused: whether its device takes no sound for now; set by who knows.
    """

    def __init__(
        self, capacity_frames: int, channels: int, resume_frames: int, now: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(capacity_frames, channels, resume_frames)
        self._now = now
        self.last_read, self.most_at_once = (now(), 0, 0), 0
        self.callbacks = deque[tuple[float, int]](maxlen=_CALLBACKS)
        self._falling = False
        self.silent = self.paused = False

    def fall_silent(self) -> None:
        """Fade out over the next callback and stay silent; `silent` tells when that is done. Writer's thread."""
        self._falling = True

    def read_into(self, out: Frames) -> None:
        """Fill the callback's frames."""
        if self.paused:
            out[:] = 0.0
        else:
            super().read_into(out)
        if self._falling:
            out *= 0.0 if self.silent else np.linspace(1.0, 0.0, len(out), dtype=np.float32)[:, None]
            self.silent = True
        (_, taken, _), now = self.last_read, self._now()
        self.most_at_once = max(self.most_at_once, len(out))
        self.callbacks.append((now, taken))
        self.last_read = (now, taken + len(out), self._read)  # one assignment: the feeder sees all three or none

    def next_read(self, rate_hz: int) -> float:
        """When a frame written now will be taken by a callback; one that is overdue counts as now."""
        at, taken, read = self.last_read
        began = [when - before / rate_hz for when, before in self.callbacks.copy()] or [at]  # as if it had run always
        usual = median(began)
        began_at = began[-1] if began[-1] - usual > _STOOD_STILL_SECONDS else usual
        return max(began_at + taken / rate_hz, self._now()) + (self._written - read) / rate_hz


class Feeder:
    """Feeds one device from one session.

    Args:
        source_hz, device_hz: rates of the session and the device.
        channels: of the device, 1 or 2.
        margin_seconds: audio that waits in the ring, at least.
        left_seconds: of it, at least, when a callback has taken its frames.
        ahead_seconds: how long before it is due a block comes, at least.
        now, wall: a monotonic clock, and the time of day.

    Attributes:
        ring: what the device's callback reads.
        drift: how far the clocks are apart.
        jumps: how often audio had to be skipped or filled while it played.
        overflow_frames: that the ring had no room for.
    """

    def __init__(
        self,
        source_hz: int,
        device_hz: int,
        channels: int,
        *,
        margin_seconds: float,
        left_seconds: float = 0.0,
        ahead_seconds: float = 0.0,
        now: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.device_latency_seconds = 0.0
        self.jumps = 0
        self.overflow_frames = 0
        self.drift = DriftControl()
        self._source_hz, self._device_hz, self._channels = source_hz, device_hz, channels
        self._margin_seconds, self._left_seconds, self._ahead_seconds = margin_seconds, left_seconds, ahead_seconds
        self._now, self._wall = now, wall
        resume = max(1, round(margin_seconds * device_hz / 2))
        self.ring = ClockedRing(round(CAPACITY_SECONDS * device_hz), channels, resume, now)
        self._convert = resampler(source_hz, device_hz, 2)
        self._stretch = Stretcher(channels)
        self._begun = False
        self._later_seconds = 0.0  # than a device that is never starved would need
        self._fresh = True  # after a rest: place the next block
        self._answered = 0  # starvations that were
        self._skip_frames = 0
        self._passing: Frames | None = None  # what a skip fades out
        self._last = np.zeros((1, channels), np.float32)
        self._next_due: float | None = None  # for sessions that stamp no time
        self._resting_since: tuple[int, int] | None = (0, 0)  # starvations and starved frames when the rest began
        self._excused = (0, 0)

    @property
    def delay_seconds(self) -> float:
        """From due to heard."""
        waiting = max(self._margin_seconds, self._left_seconds + self.ring.most_at_once / self._device_hz)
        needed = self.device_latency_seconds + waiting - self._ahead_seconds
        return max(0.0, needed) + self._later_seconds

    @property
    def device_filled(self) -> bool:
        """Whether the device has filled its own buffer: meanwhile it takes in a moment what is meant to last."""
        return self.ring.last_read[1] > self.device_latency_seconds * self._device_hz + self.ring.most_at_once / 2

    @property
    def held_seconds(self) -> float:
        """In the ring, not yet taken by the device."""
        return self.ring.filled_frames / self._device_hz

    @property
    def starvations(self) -> int:
        """How often the device found nothing to play though the session was playing."""
        return self._faults()[0]

    @property
    def starved_seconds(self) -> float:
        """Silence that came of it."""
        return self._faults()[1] / self._device_hz

    def _faults(self) -> tuple[int, int]:
        seen = self._resting_since or (self.ring.starvations, self.ring.starved_frames)
        return seen[0] - self._excused[0], seen[1] - self._excused[1]

    def rest(self) -> None:
        """Nothing will come for a while, so that running empty is no fault."""
        if self._resting_since is None:
            self._resting_since = (self.ring.starvations, self.ring.starved_frames)

    def feed(self, block: Block) -> None:
        """Convert a block and put it into the ring, in time."""
        if not self._begun:
            self._begun, block = True, self._on_grid(block)
        frames = self._convert.process(block.samples).T
        frames = frames if self._channels == 2 else frames.mean(axis=1, keepdims=True)
        self._later_seconds = max(0.0, self._later_seconds - _FORGOTTEN * len(frames) / self._device_hz)
        resting = self._resting_since is not None
        self._fresh |= resting and not self._skip_frames  # a skip under way has placed what follows it
        starved = not resting and self.starvations > self._answered
        self._answered = self.starvations
        due = self._due(block)
        error = self.ring.next_read(self._device_hz) + self.device_latency_seconds - (due + self.delay_seconds)
        frames = self._placed(frames, error, starved)
        if len(frames):
            self._last = frames[-1:].copy()
            self.overflow_frames += len(frames) - self.ring.write(frames)
            self._end_rest()

    def _on_grid(self, block: Block) -> Block:
        """Leave out what comes before both rates meet, so that whenever a device comes it is given the same samples."""
        before = -block.start_sample % (self._source_hz // math.gcd(self._source_hz, self._device_hz))
        if not 0 < before < block.samples.shape[1]:
            return block
        at, later_us = block.start_sample + before, round(1e6 * before / self._source_hz)
        time_us = block.time_us and block.time_us + later_us
        return replace(block, samples=block.samples[:, before:], start_sample=at, time_us=time_us)

    def _due(self, block: Block) -> float:
        """When the block is due, on this clock; a session that does not say plays from its first block on."""
        if block.time_us:
            return block.time_us / 1e6 - self._wall() + self._now()
        due = self._now() if self._next_due is None or self._fresh else self._next_due
        self._next_due = due + block.samples.shape[1] / self._source_hz
        return due

    def _end_rest(self) -> None:
        """Excuse what ran empty; only now, for a callback may have come while the first block was converted."""
        if self._resting_since is not None:
            faults = self._faults()
            self._excused = self.ring.starvations - faults[0], self.ring.starved_frames - faults[1]
            self._resting_since = None

    def _placed(self, frames: Frames, error: float, starved: bool) -> Frames:
        if self._skip_frames:
            return self._skipped(frames)
        if self._fresh or starved:
            return self._aligned(frames, error if self._fresh else error - self._play_later())
        off = self.drift.stood_still_seconds or self.drift.error_seconds
        if abs(off) > JUMP_SECONDS:
            self.jumps += 1
            return self._aligned(frames, off)
        drop = self.drift.update(error, len(frames))
        return self._stretch.process(frames, drop)

    def _play_later(self) -> float:
        """Play later from now on; returns by how much."""
        before = self._later_seconds
        self._later_seconds = min(2 * before + _LATER_SECONDS, _LATEST_SECONDS)
        return self._later_seconds - before

    def _aligned(self, frames: Frames, error: float) -> Frames:
        """Put the block where it belongs: silence before it if it is early, skip what is past if it is late."""
        self._fresh = False
        self.drift.begin()
        off = round(error * self._device_hz)
        frames = self._stretch.process(frames)
        if off <= 0:
            return self._delayed(frames, -off)
        self._skip_frames = off
        return self._skipped(frames, begun=True)

    def _delayed(self, frames: Frames, count: int) -> Frames:
        if not count:
            return frames
        silence = np.zeros((min(count, self.ring.capacity_frames), self._channels), np.float32)
        sinking = min(len(silence), FADE_FRAMES)
        if self.ring.filled_frames:  # else the ring has sunk to zero by itself
            silence[:sinking] = self._last * _FALL[:sinking]
        rising = min(len(frames), FADE_FRAMES)
        frames = frames.copy()
        frames[:rising] *= 1 - _FALL[:rising]
        return np.concatenate((silence, frames))

    def _skipped(self, frames: Frames, begun: bool = False) -> Frames:
        """Leave out `_skip_frames`, fading from what would have come to what comes instead."""
        frames = frames if begun else self._stretch.process(frames)
        if self._passing is None:
            self._passing = frames[:FADE_FRAMES] if self.ring.filled_frames else np.zeros_like(frames[:FADE_FRAMES])
        count = min(self._skip_frames, len(frames))
        self._skip_frames -= count
        frames = frames[count:].copy()
        if len(frames):
            fade = min(len(frames), len(self._passing))
            fall = _FALL[:: max(1, FADE_FRAMES // max(1, fade))][:fade]
            frames[:fade] = fall * self._passing[:fade] + (1 - fall) * frames[:fade]
            self._passing = None
        return frames
