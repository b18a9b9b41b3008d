"""What the session `live` was set to, kept until the next start: prompts, knobs and transport.

    start ─► restore ─► what fits this model ─► live ─ Changed, Transported ─► Keeper ─ a moment ─► the file

The file is written beside its place, brought to the disk, and moved there: whoever is killed at whatever moment leaves
the old one or the new one whole. It holds what differs from the model's own defaults, so that another model begins
with its own; and nothing of the rack, which rack_keeper.py keeps. Of two services on one file the first has it, alone.

Rules: the event loop, the disk in a thread; the music waits for neither. Nothing that goes wrong here keeps the
service from playing: it is one line in the log.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from bridge.disk import home, read_whole, write_whole
from bridge.errors import cannot_be
from bridge.session.events import Block, Changed, Event, PlayerState, Transported
from bridge.session.parameters import Parameters, prompts_of
from bridge.session.session import Session
from streamgen.config import ControlSpec, Value
from streamgen.errors import StreamgenError

__all__ = ["AFTER_SECONDS", "Keeper", "Kept", "held", "restore", "state_file", "state_folder"]

AFTER_SECONDS = 0.25  # from the first change to the file: a knob in motion is written a few times a second at most
AGAIN_SECONDS = 5.0  # until what could not be written is tried again: a full disk may have room then
_TRANSPORTS = ("playing", "paused", "stopped")
_SHOWN = 40  # characters of a prompt, in the line that tells what was restored
_log = logging.getLogger("bridge.state")


def state_folder() -> Path:
    """Return where this program keeps what lasts, in the operator's own folder."""
    own = home()
    if sys.platform == "win32":
        folder = Path(os.environ.get("LOCALAPPDATA") or own / "AppData" / "Local")
    elif sys.platform == "darwin":
        folder = own / "Library" / "Application Support"
    else:  # XDG base directories: a path that is not absolute is to be ignored
        folder = Path(os.environ.get("XDG_STATE_HOME", ""))
        folder = folder if folder.is_absolute() else own / ".local" / "state"
    return folder / "streamgen"


def state_file(port: int) -> Path:
    """Return where the service of a port keeps its state.

    Two services on one machine differ in their port, and must not begin with each other's music.
    """
    return state_folder() / f"live-{port}.json"


@contextlib.contextmanager
def held(path: Path) -> Iterator[bool]:
    """Hold a state file, and the rack's beside it, while the block runs; tells whether no other service has it.

    The system lets go of it when the process ends, however it ends. A place where nothing can be locked counts as ours:
    what cannot be written there is told when it is tried.
    """
    lock, ours = FileLock(path.with_name(f".{path.name}.lock"), timeout=0), True
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        ours = False
        why = "another service that runs keeps its state there"
        remedy = "nothing is restored here, and changes are not kept; choose another --state, or end the other"
        _log.warning("%r: %s: %s", str(path), why, remedy)
    except (OSError, NotImplementedError) as error:
        _log.debug("%r cannot be locked: %s", str(path), error)
    try:
        yield ours
    finally:
        lock.release()


@dataclass(frozen=True)
class Kept:
    """What was kept.

    Attributes:
        values: parameters that fit the table they were read for.
        transport: "playing", "paused" or "stopped".
    """

    values: Mapping[str, Value]
    transport: str = "playing"

    def in_words(self, table: Mapping[str, ControlSpec]) -> str:
        """Return it for people: the strongest prompt, how many play beside it, tempo, transport."""
        values = Parameters(table, self.values).values
        prompts = sorted(prompts_of({**values, "tempo": 0}), key=lambda pair: -pair[1])
        text = " ".join(prompts[0][0].split()) if prompts else ""
        shown = text if len(text) <= _SHOWN else text[: _SHOWN - 1].rstrip() + " …"
        words = [repr(shown) if prompts else "no prompt"]
        words += [f"{len(prompts) - 1} more"] if len(prompts) > 1 else []
        words += [f"{values['tempo']:g} bpm"] if values["tempo"] else []
        return ", ".join([*words, self.transport])


# -- reading -----------------------------------------------------------------------------------------------------------


def restore(path: Path, table: Mapping[str, ControlSpec]) -> Kept | None:
    """Read what was kept and still fits; None where there is nothing to go on with.

    A damaged file is moved aside, a parameter that does not fit is left out; each is said in one line.
    """
    try:
        found = json.loads(read_whole(path))
        values, transport = found["values"], found["transport"]
        if not isinstance(values, dict) or transport not in _TRANSPORTS:
            raise ValueError("it does not hold what this program writes")
    except FileNotFoundError:
        return None
    except OSError as error:
        _log.warning("%s", cannot_be("read", f"what was kept in {str(path)!r}", error, "starting anew"))
        return None
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        _move_aside(path, error)
        return None
    return Kept(_fitting(path, values, table), transport)


def _move_aside(path: Path, error: Exception) -> None:
    aside = path.with_name(path.name + ".damaged")
    with contextlib.suppress(OSError):
        path.replace(aside)
    why = " ".join(str(error).split())[:80]
    _log.warning("what was kept in %r is damaged (%s): moved to %r; starting anew", str(path), why, aside.name)


def _fitting(path: Path, values: Mapping[str, object], table: Mapping[str, ControlSpec]) -> dict[str, Value]:
    fitting: dict[str, Value] = {}
    problems = []
    for name, value in values.items():
        if name not in table:
            problems.append(f"there is no {name!r} any more")
            continue
        try:
            fitting[name] = table[name].check(value)
        except StreamgenError as error:
            problems.append(str(error))
    if problems:
        _log.warning("of what was kept in %r not all fits, and is left out: %s", str(path), "; ".join(problems))
    return fitting


# -- writing -----------------------------------------------------------------------------------------------------------


class Keeper:
    """Keeps a session's state in a file from now on. Event loop; a Listener that takes no audio.

    Args:
        path: the file.
        session: whose.
        drawn: parameters that nobody chose, such as a seed drawn for this start: not kept until somebody sets them.
        named: parameters that a start sets to something else than the table's default: kept whatever they are.
    """

    wants_audio = False

    def __init__(self, path: Path, session: Session, drawn: Iterable[str] = (), named: Iterable[str] = ()) -> None:
        self._path, self._session = path, session
        self._drawn, self._named = set(drawn), set(named)
        self._transport, self._told = "playing", False
        self._saving: asyncio.Task[None] | None = None
        self._again, self._ending = False, asyncio.Event()
        session.add(self)

    def audio(self, block: Block) -> None:
        """Take no notice: what is kept is what was asked for."""

    def event(self, event: Event) -> None:
        """Note that something was changed."""
        if isinstance(event, Changed):
            self._drawn -= event.values.keys()
            self.note()
        elif isinstance(event, Transported):
            self.note()

    def note(self) -> None:
        """Write soon."""
        self._again = True
        if self._saving is None:
            self._saving = asyncio.create_task(self._save())

    async def close(self) -> None:
        """Write what is not written yet, and end; what cannot be written is tried once more."""
        self._session.remove(self)
        self._ending.set()
        if self._saving is not None:
            await self._saving

    async def _save(self) -> None:
        while self._again:
            await asyncio.sleep(AFTER_SECONDS)
            self._again, last = False, self._ending.is_set()
            try:
                await asyncio.to_thread(write_whole, self._path, self._text().encode())
                self._tell(None)
            except OSError as error:
                self._tell(error)
                self._again = self._again or not last
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._ending.wait(), AGAIN_SECONDS)
        self._saving = None

    def _text(self) -> str:
        table = self._session.table
        outside = {name: value for name, value in self._session.values().items() if not name.startswith("plugin/")}
        kept = {name: value for name, value in outside.items() if name not in self._drawn}
        values = {name: value for name, value in kept.items() if name in self._named or value != table[name].default}
        fields = {"model": self._session.model, "transport": self._transport_now(), "values": values}
        return json.dumps(fields, indent=1, ensure_ascii=False) + "\n"

    def _transport_now(self) -> str:
        """What the transport does, as somebody wanted it: a stream that failed was not asked to pause."""
        state = self._session.state()
        if state is not PlayerState.FAILED:
            self._transport = "playing" if state.plays else state.value
        return self._transport

    def _tell(self, error: OSError | None) -> None:
        """Tell when changes are kept no more, and when they are again."""
        if error is not None and not self._told:
            _log.warning("changes are not kept: %s", cannot_be("written", self._path, error, "choose another --state"))
        elif error is None and self._told:
            _log.warning("changes are kept again: %r", str(self._path))
        self._told = error is not None
