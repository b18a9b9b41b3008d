"""A client of JACK: two outputs that play what a ring holds, and the transport.

Rules: the only file that imports JACK-Client, and only when asked, for it may be missing. The process callback copies
from the ring and notes where the transport is; the others set a flag. A server is never started, only joined. What
threads other than the device's may ask goes through `_asked`: libjack crashes where a client is used that is closed.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from bridge.doors.device.feeder import Feeder
from bridge.errors import DeviceError, UsageError

__all__ = ["NAME", "JackClient", "Link", "Position", "jack_library"]

_log = logging.getLogger("bridge.jack")

NAME = "streamgen"
_SIDES = ("left", "right")
_PERIODS = 2  # that lie between a callback and the loudspeaker, as servers have it unless they are told otherwise
_BEATS_A_BAR, _BEAT_TYPE, _TICKS_A_BEAT = 4.0, 4.0, 1920.0
_FASTEST_BPM = 1_000.0  # what claims more is no tempo
_CALLBACKS = 200  # a callback comes late by chance, never early: the least late of so many shows the clocks' offset

Link = tuple[int, str]
"""A connection: number of our output, name of the input."""


@dataclass(frozen=True)
class Position:
    """Where the transport is at the beginning of a period.

    Attributes:
        seconds: of the monotonic clock, then.
        rolling: whether it moves.
        beat: from 0; None where nobody says.
        bpm: of the beats.
    """

    seconds: float
    rolling: bool
    beat: float | None
    bpm: float


def jack_library() -> Any:
    """Return the package.

    Raises:
        UsageError: it is not installed, or JACK's own library is not.
    """
    try:
        import jack
    except ImportError as error:
        raise UsageError("--jack needs JACK-Client: `pip install JACK-Client`") from error
    except OSError as error:
        remedy = "install it (Debian, Ubuntu: apt install libjack-jackd2-0; PipeWire: pipewire-jack)"
        raise UsageError(f"--jack needs JACK's library, which is not here; {remedy}") from error
    return jack


class JackClient:
    """A client, an `Output`; use it as a context manager.

    Args:
        make_feeder: makes what fills the ring, for a rate in Hz and a number of channels.
        beat_at: the beat and the tempo at a time of the monotonic clock, to lead the transport's; None leaves it alone.
        now: a monotonic clock.

    Attributes:
        feeder: what fills the ring.
        name: "streamgen", or with a number where that is taken.
        active: whether the server is there, at the rate it had.
        late_callbacks: how many xruns the server told of.
        position: of the transport, as of the newest period; None before the first.

    Raises:
        DeviceError: there is no server, or it refuses.
    """

    def __init__(
        self,
        make_feeder: Callable[[int, int], Feeder],
        beat_at: Callable[[float], tuple[float, float]] | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._jack = jack = jack_library()
        jack.set_error_function(_log.debug)  # lines that name no remedy, else on stderr
        jack.set_info_function(_log.debug)
        try:
            self._client: Any = jack.Client(NAME, no_start_server=True)
        except jack.JackOpenError as error:
            raise DeviceError("no JACK server is running, or none of this user's") from error
        self._now, self._beat_at = now, beat_at
        self._lock, self._closed = threading.RLock(), False
        self._rate_hz = int(self._client.samplerate)
        self.feeder = make_feeder(self._rate_hz, len(_SIDES))
        self.name = str(self._client.name)
        self.active, self.late_callbacks = True, 0
        self.position: Position | None = None
        self._offsets = deque[float](maxlen=_CALLBACKS)
        self._frames = np.zeros((int(self._client.blocksize), len(_SIDES)), np.float32)
        with self._joining():
            self._ports = [self._client.outports.register(side) for side in _SIDES]
            self._set_callbacks()

    @contextmanager
    def _joining(self) -> Iterator[None]:
        try:
            yield
        except self._jack.JackError as error:
            self._close()
            raise DeviceError(f"JACK refuses: {error}") from error

    def _set_callbacks(self) -> None:
        client = self._client
        client.set_process_callback(self._process)
        client.set_xrun_callback(self._note_xrun)
        client.set_shutdown_callback(self._note_shutdown)
        client.set_samplerate_callback(self._note_rate)
        client.set_freewheel_callback(self._note_freewheel)

    # -- callbacks ------------------------------------------------------------------------------------------------

    def _process(self, frames: int) -> None:
        if frames != len(self._frames):
            self._frames = np.zeros((frames, len(_SIDES)), np.float32)
        self.feeder.ring.read_into(self._frames)
        for port, samples in zip(self._ports, self._frames.T, strict=True):
            port.get_array()[:] = samples
        self.position = self._read_position()

    def _read_position(self) -> Position:
        state, position = self._client.transport_query_struct()
        self._offsets.append(self._now() - position.usecs / 1e6)
        seconds = position.usecs / 1e6 + min(self._offsets)
        rolling = state == self._jack.ROLLING
        told = position.valid & self._jack.POSITION_BBT
        if not told or not position.ticks_per_beat > 0 or not 0 < position.beats_per_minute < _FASTEST_BPM:
            return Position(seconds, rolling, None, 0.0)
        beat = (position.bar - 1) * position.beats_per_bar + position.beat - 1 + position.tick / position.ticks_per_beat
        if position.valid & self._jack.POSITION_BBT_FRAME_OFFSET:
            beat += position.bbt_offset / position.frame_rate * position.beats_per_minute / 60
        return Position(seconds, rolling, beat, position.beats_per_minute)

    def _tell_beat(self, _state: int, frames: int, position: Any, _new: bool) -> None:
        """Write into the next period's position which beat it is."""
        assert self._beat_at is not None
        assert self.position is not None
        beat, bpm = self._beat_at(self.position.seconds + frames / self._rate_hz)
        bar, in_bar = divmod(max(0.0, beat), _BEATS_A_BAR)
        position.valid = self._jack.POSITION_BBT
        position.bar, position.beat = int(bar) + 1, int(in_bar) + 1
        position.tick = int(in_bar % 1 * _TICKS_A_BEAT)
        position.bar_start_tick = bar * _BEATS_A_BAR * _TICKS_A_BEAT
        position.beats_per_bar, position.beat_type = _BEATS_A_BAR, _BEAT_TYPE
        position.ticks_per_beat, position.beats_per_minute = _TICKS_A_BEAT, bpm

    def _note_xrun(self, _delay_us: float) -> None:
        self.late_callbacks += 1

    def _note_shutdown(self, _status: Any, reason: str) -> None:
        _log.debug("JACK: %s", reason)
        self.active = False

    def _note_rate(self, rate_hz: int) -> None:
        self.active &= rate_hz == self._rate_hz

    def _note_freewheel(self, begins: bool) -> None:
        """Be silent while a program renders faster than time: there is no music ahead to be had so fast."""
        self.feeder.ring.paused = begins

    # -- an output ------------------------------------------------------------------------------------------------

    @property
    def latency_seconds(self) -> float:
        """Time from the callback to the loudspeaker, as it usually is: the library does not tell."""
        return _PERIODS * len(self._frames) / self._rate_hz

    def __enter__(self) -> Self:
        """Start playing.

        Raises:
            DeviceError: the server has gone again.
        """
        with self._joining():
            self._client.activate()
            if self._beat_at is not None and not self._client.set_timebase_callback(self._tell_beat, conditional=True):
                _log.warning("jack: another program tells the transport's beats already; it goes on to do so")
        return self

    def __exit__(self, *_error: Any) -> None:
        with self._lock:
            if not self._closed:
                self._client.deactivate()
            self._close()

    def abandon(self) -> None:
        """Let go of a server that went away."""
        self._close()

    def _close(self) -> None:
        with self._lock:
            self.active, self._closed = False, True
            self._client.close()

    @contextmanager
    def _asked(self) -> Iterator[None]:
        """Keep the client open meanwhile.

        Raises:
            DeviceError: it is closed, or a port that was asked about has left in this moment.
        """
        with self._lock:
            if self._closed:
                raise DeviceError("this client of JACK is closed")
            try:
                yield
            except self._jack.JackError as error:
                raise DeviceError(f"JACK refuses: {error}") from error

    # -- connections; those that ask raise as `_asked` does -------------------------------------------------------

    def links(self) -> set[Link]:
        """Return what our outputs are connected to."""
        with self._asked():
            return {(number, str(port.name)) for number, own in enumerate(self._ports) for port in own.connections}

    def connect(self, links: Iterable[Link]) -> set[Link]:
        """Make those connections whose input is there; returns what is connected now."""
        with self._asked():
            present = self._inputs()
            for number, name in set(links) - self.links():
                if name in present:
                    with suppress(self._jack.JackError):  # it has left in this moment
                        self._client.connect(self._ports[number], name)
            return self.links()

    def _inputs(self) -> list[str]:
        return [str(port.name) for port in self._client.get_ports(is_audio=True, is_input=True)]

    def found(self, part: str) -> set[Link]:
        """Return the links to the first two inputs whose name has a part, or to the one that there is."""
        with self._asked():
            inputs = self._inputs()
        fitting = [name for name in inputs if part.lower() in name.lower()][: len(_SIDES)]
        return {(number, fitting[min(number, len(fitting) - 1)]) for number in range(len(_SIDES)) if fitting}

    # -- transport ------------------------------------------------------------------------------------------------

    def roll(self, rolls: bool) -> None:
        """Start or stop the transport, for everybody."""
        with self._asked():
            self._client.transport_start() if rolls else self._client.transport_stop()
