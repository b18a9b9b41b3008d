"""A terminal as a door: lines that a person types become commands of the session, as at every other door.

    typed line ─► a thread that waits for lines ─► event loop: carry_out ─► live
                                    ◄─ answer ────────────┘

Rules: the thread only reads and prints. What cannot be is one line, and the music goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import textwrap
import threading
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import CancelledError
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bridge.audio.faults import SlotFault
from bridge.cli.terminal import say, typed_lines
from bridge.cli.terminal_rack import RACK_WORDS, rack_line
from bridge.session.commands import Action, Set, Transport
from bridge.session.events import COMMIT_SECONDS, Block, Event, Gap, Notice, PlayerState, Transported
from bridge.session.session import Session
from bridge.session.timeline import Moment
from streamgen.config import MAX_PROMPTS, ControlSpec
from streamgen.errors import ConfigError, StreamgenError

if TYPE_CHECKING:
    from bridge.doors.door import Sessions

__all__ = ["Figures", "TerminalDoor"]

_LIMIT = "the end"  # who ends the music when all that was asked for is played
_HELP = ("h", "help", "?", "")
_SHORT = {"gain": "gain_db", "negative": "negative_prompt"}  # words for what is set most


@dataclass(frozen=True)
class Figures:
    """How it went so far.

    Attributes:
        seconds: of music.
        realtime_factor: audio made a second of work; below 1 there are gaps.
        lead_seconds: made and not yet due.
        gaps, gap_seconds: silence, whether the engine was late or the device found nothing.
        late_callbacks: how often the system asked for audio too late.
        windows: of the model, that have led.
    """

    seconds: float = 0.0
    realtime_factor: float = 0.0
    lead_seconds: float = 0.0
    gaps: int = 0
    gap_seconds: float = 0.0
    late_callbacks: int = 0
    windows: int = 1

    def __str__(self) -> str:
        """One line: speed, what is held ready, gaps so far."""
        gaps = f"{self.gaps} gaps, {self.gap_seconds:.1f} s of silence"
        speed = f"{self.realtime_factor:.2f} × real time, {self.lead_seconds:.1f} s ready"
        return f"{self.seconds:.0f} s made, {speed}, {gaps}"


class TerminalDoor:
    """A door for one person who types: a new prompt, or a command after a colon.

    Args:
        sound: the counters of the sound card's door.
        takes: the folder of what is kept: the person is on this machine, and may know it.

    Attributes:
        ended: set when the person quits, the music has come to its end, or the stream failed.
        finished: whether it came to its end.
        failed: why the stream failed; "" while it did not.
        played: figures at the end.
    """

    name = "terminal"
    wants_audio = False

    def __init__(self, sound: Callable[[], Mapping[str, float]], takes: Path) -> None:
        self._sound, self._takes = sound, takes
        self._session: Session
        self._loop: asyncio.AbstractEventLoop
        self._gap_samples = 0
        self.ended = asyncio.Event()
        self.finished, self.failed = False, ""
        self.played = Figures()

    async def open(self, sessions: Sessions) -> None:
        """See `Door.open`."""
        self._session, self._loop = sessions.live, asyncio.get_running_loop()
        self._session.add(self)

    async def close(self, reason: str) -> None:  # noqa: ARG002 - who typed `:q` need not be told
        """See `Door.close`."""
        if hasattr(self, "_session"):
            self._session.remove(self)

    def places(self) -> Mapping[str, str | int | None]:
        """See `Door.places`."""
        return {}

    def stats(self) -> Mapping[str, float]:
        """See `Door.stats`."""
        return {}

    def audio(self, block: Block) -> None:
        """Take no notice: the sound card's door plays it."""

    def event(self, event: Event) -> None:
        """Count gaps, say what is to be said, and notice the end."""
        if isinstance(event, Gap):
            self._gap_samples += event.samples
        elif isinstance(event, Notice):
            self.tell(event)
        elif isinstance(event, SlotFault):
            say(event.told())
        elif isinstance(event, Transported) and event.state is PlayerState.FAILED:
            self.failed = event.by.removeprefix("engine: ")
            self.ended.set()
        elif isinstance(event, Transported) and event.by == _LIMIT:
            self.finished = True
            self.ended.set()

    def tell(self, notice: Notice) -> None:
        """Say a notice; parts of a scene are none: they come every few bars, told before they are heard."""
        if notice.text and notice.topic != "part":
            say(f"{notice.topic}: {notice.text}" + f", in {self._takes}" * (notice.topic == "kept"))

    async def end_after(self, seconds: float) -> None:
        """Let the music end there."""
        end = Moment(sample=round(seconds * self._session.rate_hz))
        await self._session.do(Transport(Action.PAUSE, _LIMIT, end))

    @property
    def delay_seconds(self) -> float:
        """From a change to where it is heard."""
        return COMMIT_SECONDS + self._sound().get("sound_delay_seconds", 0.0)

    def figures(self, limit_seconds: float | None = None, windows: int = 1) -> Figures:
        """Return how it goes."""
        stats, sound, rate = self._session.stats(), self._sound(), self._session.rate_hz
        seconds = stats.position_samples / rate
        return Figures(
            seconds if limit_seconds is None else min(seconds, limit_seconds),
            stats.realtime_factor,
            stats.lead_seconds,
            stats.underruns + int(sound.get("sound_starvations_total", 0)),
            self._gap_samples / rate + sound.get("sound_starved_seconds_total", 0.0),
            int(sound.get("sound_late_callbacks_total", 0)),
            windows,
        )

    # -- lines ----------------------------------------------------------------------------------------------------

    def read_lines(self, terminal: bool) -> None:
        """Begin to take lines, until their end: that means quit on a terminal, and play on from a pipe."""
        if terminal:
            say("type a new prompt and Enter; :h lists what else can be typed; :q quits")
        threading.Thread(target=self._read_lines, args=(terminal,), name="streamgen lines", daemon=True).start()

    def _read_lines(self, terminal: bool) -> None:
        for line in typed_lines() if terminal else sys.stdin or ():
            answer = self._ask(self.carry_out(line.strip()))
            if answer is None:
                return
            if answer:
                say(answer)
        if terminal:
            with contextlib.suppress(RuntimeError):  # it has ended already
                self._loop.call_soon_threadsafe(self.ended.set)

    def _ask(self, work: Coroutine[Any, Any, str]) -> str | None:
        """Do something on the event loop and wait for its answer; None if the loop has ended."""
        try:
            return asyncio.run_coroutine_threadsafe(work, self._loop).result()
        except (RuntimeError, CancelledError):
            work.close()
            return None

    @property
    def help(self) -> str:
        """What can be typed, a line for each kind."""
        names = ", ".join(name for name in self._session.table if "/" not in name)
        lines = (
            "PROMPT                plays it and no other",
            ":prompt 2 TEXT        plays another beside it; without TEXT it ends",
            ":set NAME VALUE       " + textwrap.fill(names, 90, subsequent_indent=" " * 22),
            ":negative TEXT        what to keep away from",
            ":gain DB              louder or softer",
            *RACK_WORDS.values(),
            ":pause, :play, :s (status), :q (quit)",
        )
        return "\n".join(lines)

    async def carry_out(self, line: str) -> str:
        """Do what one line asks; returns what to say, "" for nothing."""
        word, _, rest = line[1:].partition(" ") if line.startswith(":") else ("", "", "")
        try:
            if not line.startswith(":"):
                return await self._prompt(line) if line else ""
            if word in ("q", "quit"):
                self.ended.set()
                return ""
            if word in ("s", "status"):
                return str(self.figures())
            if word in RACK_WORDS:
                return await rack_line(self._session, self.name, word, rest.strip())
            if word in ("pause", "play"):
                await self._session.do(Transport(Action(word), self.name))
                return "paused" if word == "pause" else "playing"
            if word in _SHORT:
                return await self._set(_SHORT[word], rest)
            if word == "prompt" and rest.strip():
                return await self._slot(*rest.split(maxsplit=1))
            if word == "set" and rest.strip():
                return await self._set(*rest.split(maxsplit=1))
            return self.help if word in _HELP else f"{line!r} is no command, or lacks something: :h lists them"
        except StreamgenError as error:  # what cannot be is told; the music goes on
            return str(error)

    async def _prompt(self, text: str) -> str:
        """Play this prompt, and no other."""
        values = self._session.values()
        others = {name: 0.0 for name in values if name.endswith("/weight") and values[name]}
        await self._session.do(Set(others | {"prompt/1/text": text, "prompt/1/weight": 1.0}, self.name))
        return f"prompt: {text}"

    async def _slot(self, number: str, text: str = "") -> str:
        """Write a slot's text, and let it be heard beside the others."""
        name, weight = f"prompt/{number}/text", f"prompt/{number}/weight"
        if name not in self._session.table:
            raise ConfigError(f"there is no prompt {number!r}: there are 1 … {MAX_PROMPTS}")
        await self._session.do(Set({name: text, weight: self._session.values()[weight] or 1.0}, self.name))
        return f"prompt {number}: {text}"

    async def _set(self, name: str, words: str = "") -> str:
        value = _row(self._session.table, name).parse(words)
        await self._session.do(Set({name: value}, self.name))
        shown = ("off", "on")[value] if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else value
        return f"{name}: {shown}"


def _row(table: Mapping[str, ControlSpec], name: str) -> ControlSpec:
    if name not in table:
        raise ConfigError.unknown("parameter", name, table)
    return table[name]
