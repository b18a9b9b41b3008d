"""The MIDI door: the live session by controllers, with lights that show what others do; clock in or out.

    port ─ its thread ─► event loop ─► decoder ─► what was learned ─► session.do        many turns of a knob become one
                                    └► clock ─► timeline.follow, play, pause
    changes made elsewhere ─► lights and motors                  clock out ◄─ a thread that sleeps from clock to clock

What was learned stands in the parameter `midi/map`, what is to be learned next in `midi/learn`: any door can let it
learn, and presets and the kept state have the map.

Rules: event loop, but for what ports call and the clock that goes out. Needs python-rtmidi, the extra `midi`.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from bridge.doors.door import Place, Service, Sessions, Tasks
from bridge.doors.midi.clock import CLOCKS_A_BEAT, ClockIn
from bridge.doors.midi.controllers import MidiParser, Moved, Pickup
from bridge.doors.midi.ports import Ports
from bridge.errors import DeviceError
from bridge.session.beats import BAR_BEATS
from bridge.session.commands import Action, KeepTake, RecallPreset, Set, Transport
from bridge.session.events import Block, Changed, Event, TableChanged
from bridge.session.learning import KEEP, PRESET, PROMPT, read_map, unknown_target, written_map
from bridge.session.parameters import MIDI_LEARN, MIDI_MAP
from bridge.session.session import Session
from bridge.session.timeline import AT_ONCE, Moment
from streamgen.config import MAX_TEXT, ControlSpec, Value

__all__ = ["MidiDoor"]

_log = logging.getLogger("bridge.midi")

NAME = "midi"
_SCAN_SECONDS, _LOST_SECONDS = 2.0, 0.25
_CLOCK, _START, _CONTINUE, _STOP, _SONG_POSITION = 0xF8, 0xFA, 0xFB, 0xFC, 0xF2
_SETTLED_BPM, _SETTLED_SECONDS = 0.2, 1.0
_MOST_WAITING, _IN_A_TURN = 2_048, 16  # messages: half a second of a cable that is full


class MidiDoor:
    """Steers the live session by MIDI; see `bridge.doors.door.Door`.

    Args:
        service: its settings name the ports, and say what clock does.

    Raises:
        UsageError: ports were named, and the extra is not installed.
    """

    name = NAME
    wants_audio = False

    def __init__(self, service: Service) -> None:
        settings = service.settings
        self._clock_mode = settings.midi_clock
        self._ports = Ports(settings.midi) if settings.midi else None
        self._session: Session | None = None
        self._parsers: dict[str, MidiParser] = {}
        self._pickup, self._clock = Pickup(), ClockIn()
        self._map: dict[str, str] = {}
        self._waiting: dict[str, Value] = {}
        self._changed = asyncio.Event()
        self._incoming = _Incoming(self._received)
        self._tasks = Tasks(NAME)
        self._out: ClockOut | None = None
        self._told_bpm, self._told_at = 0.0, 0.0
        self._missing = False
        self._messages = 0

    async def open(self, sessions: Sessions) -> None:
        """Open the ports that there are; others are opened when they come, as is MIDI where a system has none yet."""
        self._session = session = sessions.live
        if self._ports is None:
            session.add(self)  # to say that nothing is learned
            return
        loop = asyncio.get_running_loop()
        self._ports.receive = lambda port, message: self._incoming.put(loop, (port, message, time.monotonic()))
        self._learned(str(session.values()[MIDI_MAP]))
        session.add(self)
        await self._look(self._ports)
        for work in (self._scan(self._ports), self._carry_out(session), self._watch_clock(session)):
            self._tasks.spawn(work)
        if self._clock_mode == "out":
            self._out = ClockOut(session, self._ports.send)

    async def close(self, reason: str) -> None:  # noqa: ARG002 - nobody is there to be told
        """Close the ports."""
        if self._session is None:
            return
        self._session.remove(self)
        if self._ports is None:
            return
        self._session.timeline.unfollow(NAME)
        await self._tasks.close()
        if self._out is not None:
            await asyncio.to_thread(self._out.close)
        await asyncio.to_thread(self._ports.close)

    def places(self) -> Mapping[str, Place]:
        """Return the ports that are open."""
        return {} if self._ports is None else {"midi": ", ".join(self._ports.names) or None}

    def stats(self) -> Mapping[str, float]:
        """Return how many ports are open, and how many messages came."""
        return {
            "midi_ports": 0 if self._ports is None else len(self._ports.names),
            "midi_messages_total": self._messages,
            "midi_lost_messages_total": self._incoming.lost,
        }

    async def _scan(self, ports: Ports) -> None:
        """Open what is plugged in and close what was pulled out, for ever."""
        while True:
            await asyncio.sleep(_SCAN_SECONDS)
            await self._look(ports)

    async def _look(self, ports: Ports) -> None:
        """Open and close ports once; what is missing is told once."""
        try:
            await asyncio.to_thread(ports.scan)
        except DeviceError as error:
            if not self._missing:
                _log.warning("%s; it is looked for every %g s", error, _SCAN_SECONDS)
            self._missing = True
            return
        if self._missing:
            _log.warning("MIDI is here: %s", ", ".join(ports.names) or "no port yet")
        self._missing = False

    # -- what comes in --------------------------------------------------------------------------------------------

    def _received(self, port: str, message: Sequence[int], seconds: float) -> None:
        session = self._session
        if session is None or not message:
            return
        self._messages += 1
        if message[0] >= 0xF0:
            if self._clock_mode == "in":
                self._take_clock(session, message, seconds)
            return
        moved = self._parsers.setdefault(port, MidiParser()).feed(message)
        if moved is None or (moved.is_struck and not moved.value):
            return
        learning = str(session.values()[MIDI_LEARN]).strip()
        if learning:
            self._learn(session, moved, learning)
        elif (target := self._map.get(moved.source)) is not None:
            self._apply(session, moved, target)

    def _learn(self, session: Session, moved: Moved, target: str) -> None:
        """Let a control do what was asked for; it does nothing else any more."""
        told: dict[str, Value] = {MIDI_LEARN: ""}
        text = written_map({**self._map, moved.source: target})
        if (why := unknown_target(target, session.table)) or len(text) > MAX_TEXT:
            _log.warning(
                "midi/learn: %s", why or f"the map would be longer than {MAX_TEXT:,} characters; clear it first"
            )
        else:
            told[MIDI_MAP] = text
            self._learned(text)
        self._tasks.ask(session, Set(told, NAME, AT_ONCE))

    def _learned(self, text: str) -> None:
        self._map, wrong = read_map(text)
        for part in wrong:
            _log.warning("midi/map: %r means nothing; write SOURCE=TARGET, such as cc 1/74=gain_db", part)

    def _apply(self, session: Session, moved: Moved, target: str) -> None:
        spec = session.table.get(target)
        if spec is not None:
            self._turn(session, moved, spec)
        elif moved.value < 0.5 and not moved.is_struck:
            return  # a button's release, or a knob on its way
        elif target.startswith(PROMPT):
            self._waiting |= _alone(target.removeprefix(PROMPT), session.table)
            self._changed.set()
        elif target.startswith(PRESET):
            self._tasks.ask(session, RecallPreset(target.removeprefix(PRESET), NAME))
        elif target == KEEP:
            self._tasks.ask(session, KeepTake(NAME))
        elif target in [*Action]:
            self._tasks.ask(session, Transport(Action(target), NAME))

    def _turn(self, session: Session, moved: Moved, spec: ControlSpec) -> None:
        present = self._waiting.get(spec.name, session.values().get(spec.name, spec.default))
        if spec.type == "bool":
            value: Value = not present if moved.is_struck else moved.value >= 0.5
        elif spec.choices:
            value = spec.choices[round(moved.value * (len(spec.choices) - 1))]
        elif not spec.has_range or not (moved.is_struck or self._pickup.takes(moved, spec.to_unit(present))):
            return
        else:
            value = spec.from_unit(moved.value)
        if value != present:
            self._waiting[spec.name] = value
            self._changed.set()

    async def _carry_out(self, session: Session) -> None:
        """Change what was turned, for ever: all that waits at once."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            values, self._waiting = self._waiting, {}
            if values:
                await self._tasks.do(session, Set(values, NAME))

    # -- clock in -------------------------------------------------------------------------------------------------

    def _take_clock(self, session: Session, message: Sequence[int], seconds: float) -> None:
        kind, clock = message[0], self._clock
        if kind == _CLOCK:
            clock.clock(seconds)
            if (line := clock.line()) is not None:
                session.timeline.follow(NAME, *line)
        elif kind == _SONG_POSITION and len(message) == 3:
            clock.position(message[2] << 7 | message[1])
        elif kind in (_START, _CONTINUE):
            clock.start() if kind == _START else clock.go_on()
            self._tasks.ask(session, Transport(Action.PLAY, NAME, Moment(every=BAR_BEATS)))
        elif kind == _STOP:
            clock.stop()
            self._tasks.ask(session, Transport(Action.PAUSE, NAME, AT_ONCE))

    async def _watch_clock(self, session: Session) -> None:
        """Let go of a clock that has gone, and tell its tempo once it has settled, for ever."""
        while True:
            await asyncio.sleep(_LOST_SECONDS)
            now, line = time.monotonic(), self._clock.line()
            if self._clock.lost(now):
                session.timeline.unfollow(NAME)
            elif line is not None:
                if abs(line[2] - self._told_bpm) > _SETTLED_BPM:
                    self._told_bpm, self._told_at = line[2], now
                elif self._told_at and now - self._told_at > _SETTLED_SECONDS:
                    self._told_at = 0.0
                    tempo = round(session.table["tempo"].nearest(line[2]), 1)
                    await self._tasks.do(session, Set({"tempo": tempo}, NAME))

    # -- lights and motors ----------------------------------------------------------------------------------------

    def audio(self, block: Block) -> None:
        """Take no audio."""

    def event(self, event: Event) -> None:
        """Show what changed, but for what was turned here."""
        if isinstance(event, Changed | TableChanged):
            if self._ports is None:
                if event.values.get(MIDI_LEARN):
                    _log.warning("midi/learn: no MIDI port is heard, nothing is learned: start with --midi all")
                return
            if MIDI_MAP in event.values and event.by != NAME:
                self._learned(str(event.values[MIDI_MAP]))
            if event.by != NAME or isinstance(event, TableChanged):
                self._show(event.values)

    def _show(self, values: Mapping[str, Value]) -> None:
        if self._session is None or self._ports is None:
            return
        for source, target in self._map.items():
            spec = self._session.table.get(target)
            if (
                target in values
                and spec is not None
                and spec.has_range
                and (light := _light(source, spec, values[target]))
            ):
                self._ports.send(light)


class _Incoming:
    """What comes from the ports' threads, on its way to the event loop, which does other things between a few of it.

    Args:
        receive: takes each on the loop: the port, the message and when it came.

    Attributes:
        lost: what came while too much waited.
    """

    def __init__(self, receive: Callable[[str, Sequence[int], float], None]) -> None:
        self._receive = receive
        self._waiting, self._coming, self.lost = deque[tuple[str, Sequence[int], float]](), False, 0

    def put(self, loop: asyncio.AbstractEventLoop, message: tuple[str, Sequence[int], float]) -> None:
        """Take a message; any thread. In a storm clocks are let go first."""
        most = _MOST_WAITING // 2 if message[1][:1] == [_CLOCK] else _MOST_WAITING
        if len(self._waiting) >= most:
            self.lost += 1
            return
        self._waiting.append(message)
        if not self._coming:
            self._coming = True
            loop.call_soon_threadsafe(self._hand_on, loop)

    def _hand_on(self, loop: asyncio.AbstractEventLoop) -> None:
        self._coming = False  # first: what is put from now on asks for another turn
        for _ in range(min(len(self._waiting), _IN_A_TURN)):
            self._receive(*self._waiting.popleft())
        if self._waiting and not self._coming:
            self._coming = True
            loop.call_soon(self._hand_on, loop)


class ClockOut:
    """Sends 24 clocks a beat, from a thread of its own: the event loop is late by milliseconds.

    Args:
        session: whose beats.
        send: sends a message to every port.
    """

    def __init__(self, session: Session, send: Callable[[Sequence[int]], None]) -> None:
        self._session, self._send, self._plays = session, send, False
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="streamgen midi clock", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End it."""
        self._ending.set()
        self._thread.join(2.0)

    def _run(self) -> None:
        """Send each clock when it comes; those that this thread overslept at once, for who follows counts them."""
        timeline, sent = self._session.timeline, None
        while True:
            due = timeline.due()
            at, pace = timeline.beat(due) * CLOCKS_A_BEAT, timeline.bpm(due) / 60 * CLOCKS_A_BEAT
            if sent is None or not 0 <= at - sent <= CLOCKS_A_BEAT:  # another count has begun
                sent = int(at // 1)
            if self._ending.wait(max((sent + 1 - at) / pace, 0.0)):
                return
            if timeline.beat(timeline.due()) * CLOCKS_A_BEAT >= sent + 1:
                sent += 1
                self._tell_transport(sent)
                self._send([_CLOCK])

    def _tell_transport(self, number: int) -> None:
        """Start on a bar, and stop, before a clock."""
        runs = self._session.timeline.running
        if runs and not self._plays and number % (BAR_BEATS * CLOCKS_A_BEAT) == 0:
            self._plays = True
            sixteenths = number // 6 & 0x3FFF
            self._send([_SONG_POSITION, sixteenths & 0x7F, sixteenths >> 7])
            self._send([_CONTINUE])
        elif self._plays and not runs:
            self._plays = False
            self._send([_STOP])


def _alone(number: str, table: Mapping[str, ControlSpec]) -> dict[str, Value]:
    """Return the weights with which one prompt plays alone."""
    names = [name for name in table if name.startswith("prompt/") and name.endswith("/weight")]
    return {name: float(name == f"prompt/{number}/weight") for name in names}


def _light(source: str, spec: ControlSpec, value: Value) -> list[int]:
    """Return the message that lets a control show a value; none where it cannot."""
    kind, _, place = source.partition(" ")
    channel, _, number = place.partition("/")
    unit = round(127 * spec.to_unit(value))
    status = {"cc": 0xB0, "note": 0x90}.get(kind)
    return [] if status is None else [status | int(channel) - 1, int(number), unit]
