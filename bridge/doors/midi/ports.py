"""MIDI ports by a part of their name: opened when they are there, closed when they go, opened again when they are back.

Where the system has such, a port of streamgen's own is there as well, for programs to connect to. A system without
MIDI may have some later: JACK is started, a module loaded.

Rules: threads may call; nothing here knows what messages mean. python-rtmidi is imported when ports are wanted.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bridge.doors.door import without_stderr
from bridge.errors import DeviceError, UsageError

__all__ = ["Ports"]

_log = logging.getLogger("bridge.midi")
_CLIENT = "streamgen"
_SEQUENCER = Path("/dev/snd/seq")


class Ports:
    """The ports that are wanted.

    Args:
        wanted: parts of names, in whatever case; "all" is every one.

    Attributes:
        receive: called with a port's name and each message, on a thread of the port's.

    Raises:
        UsageError: the extra is not installed.
    """

    def __init__(self, wanted: Sequence[str]) -> None:
        self._wanted = [part.lower() for part in wanted]
        self.receive: Callable[[str, Sequence[int]], object] | None = None
        self._lock = threading.Lock()
        self._inputs: dict[str, Any] = {}
        self._outputs: dict[str, Any] = {}
        self._rtmidi = _library()
        self._api: int | None = None  # of the system's MIDI; None while it has none
        self._seen_inputs: Any = None
        self._seen_outputs: Any = None

    def _made(self, kind: str) -> Any:
        jack = self._api == self._rtmidi.API_UNIX_JACK  # there sound and MIDI share their names
        return getattr(self._rtmidi, kind)(self._api, name=f"{_CLIENT} midi" if jack else _CLIENT)

    @property
    def names(self) -> list[str]:
        """Of the inputs that are open."""
        return list(self._inputs)

    def scan(self) -> None:
        """Open what has come, close what has gone.

        Raises:
            DeviceError: the system has no MIDI now.
        """
        with self._lock:
            if self._api is None:
                self._api = _working_api(self._rtmidi)
                self._seen_inputs, self._seen_outputs = self._made("MidiIn"), self._made("MidiOut")
                if sys.platform != "win32":
                    self._open_own()
            self._bring("MidiIn", self._inputs, self._seen_inputs.get_ports())
            self._bring("MidiOut", self._outputs, self._seen_outputs.get_ports())

    def _open_own(self) -> None:
        source, target = self._made("MidiIn"), self._made("MidiOut")
        source.open_virtual_port("in")
        self._listen(source, _CLIENT)
        target.open_virtual_port("out")
        self._inputs[_CLIENT], self._outputs[_CLIENT] = source, target

    def _bring(self, kind: str, opened: dict[str, Any], there: Sequence[str]) -> None:
        for name in [name for name in opened if name != _CLIENT and name not in there]:
            opened.pop(name).close_port()
            _log.info("the MIDI port %r has gone", name)
        for number, name in enumerate(there):
            if name in opened or name.lower().startswith(_CLIENT) or not self._wants(name):
                continue
            port = self._made(kind)
            port.open_port(number)
            if kind == "MidiIn":
                self._listen(port, name)
                _log.info("the MIDI port %r is open", name)
            opened[name] = port

    def _wants(self, name: str) -> bool:
        return any(part == "all" or part in name.lower() for part in self._wanted)

    def _listen(self, port: Any, name: str) -> None:
        port.ignore_types(sysex=True, timing=False, active_sense=True)
        port.set_callback(lambda event, _: self.receive and self.receive(name, event[0]))

    def send(self, message: Sequence[int]) -> None:
        """Send a message to every output."""
        with self._lock:
            for port in self._outputs.values():
                port.send_message(message)

    def close(self) -> None:
        """Close all."""
        with self._lock:
            seen = () if self._api is None else (self._seen_inputs, self._seen_outputs)
            for port in (*self._inputs.values(), *self._outputs.values(), *seen):
                port.close_port()
                port.delete()
            self._inputs.clear()
            self._outputs.clear()


def _library() -> Any:
    """Return python-rtmidi."""
    try:
        import rtmidi
    except ImportError as error:
        raise UsageError("--midi needs python-rtmidi: `pip install python-rtmidi`") from error
    return rtmidi


def _working_api(rtmidi: Any) -> int:
    """Return the first of python-rtmidi's ways to the system that works here."""
    why = "python-rtmidi was built for none"
    for api in rtmidi.get_compiled_api():
        if api == rtmidi.API_LINUX_ALSA and not _SEQUENCER.exists():  # its library would complain on our stderr
            why = "no ALSA sequencer"
            continue
        try:
            with without_stderr():  # the JACK that the wheel brings along has no way to be told not to
                rtmidi.MidiIn(api, name=_CLIENT).delete()
        except rtmidi.SystemError as error:
            why = str(error)
            continue
        return int(api)
    raise DeviceError(f"there is no MIDI on this system ({why}): `modprobe snd-seq` or start JACK on Linux")
