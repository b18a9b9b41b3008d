"""What OSC addresses mean: messages become requests, values become messages. Sans-I/O.

Everything about parameters is generated from a session's table; an address is /streamgen/ and a parameter's name.

    /streamgen/tempo            query                         /streamgen/tempo f          set
    /streamgen/tempo f f        go there over so many seconds, where it is an effect's
    /streamgen/tempo/norm f     set, 0 … 1 over its range     /streamgen/prompt s         slot 1 alone, weight 1
    /streamgen/play             also pause, stop, reset; 0 is a button's release
    /streamgen/transport/play i also pause, stop: a light of a program's transport, on or off
    /streamgen/subscribe [i:port [i:ms]]   unsubscribe   audio/subscribe   audio/unsubscribe
    /streamgen/ping   version   playing   state   refresh   token s
    /streamgen/rack             query: how many slots, then number and name of each, in the order of the signal
    /streamgen/rack/add s [i:index]   remove i:slot   replace i:slot s   move i:slot i:index   effects
    /streamgen/rack/save i:slot s     load i:slot s                 a plugin's own preset, by name
    /streamgen/preset/save s          recall s [f:seconds]          presets
    /streamgen/keep [f:seconds]       of what was heard last
A pattern means parameters only: /streamgen/* must not stop the music.

Rules: knows no socket and no session; a refusal is an OscError. What this door itself sends is not answered when it
comes back: two servers would talk to each other for ever.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bridge.audio.rack import MAX_SLOTS
from bridge.doors.osc.address import AddressBook, is_pattern
from bridge.doors.osc.codec import IMPULSE, Argument, Message, OscError, encode
from bridge.session.commands import (
    GLIDE_SECONDS,
    KEEP_SECONDS,
    MORPH_SECONDS,
    Action,
    EditRack,
    KeepTake,
    RackAction,
    RecallPreset,
    SavePreset,
    Transport,
)
from streamgen.config import ControlSpec, Value
from streamgen.errors import StreamgenError

__all__ = [
    "EFFECTS", "HEARD", "PREFIX", "PRESETS", "RACK", "STATES", "SessionRequest", "Assign", "AtOnce", "Ignored", "Light",
    "Login", "Namespace", "Query", "Request", "Subscribe", "SubscribeAudio",
]  # fmt: skip

PREFIX = "/streamgen/"
STATES = (f"{PREFIX}playing", f"{PREFIX}play", f"{PREFIX}state")
"""Addresses that show what the player does."""
HEARD = f"{PREFIX}heard"
"""Shows what the model understands of the prompts."""
RACK, EFFECTS, PRESETS = f"{PREFIX}rack", f"{PREFIX}rack/effects", f"{PREFIX}presets"
_PROMPT, _FIRST_TEXT = f"{PREFIX}prompt", "prompt/1/text"
_MIN_INTERVAL_MS, _MAX_INTERVAL_MS = 10, 10_000
_NOTICES = ("guard", "part", "unsupported", "kept")
_SENT_ONLY = (
    "error", "heartbeat", "meter", "bands", "onset", "beat", "pong", "audio", "subscribed", "unsubscribed", "goaway",
    "rack/fault", *_NOTICES,
)  # fmt: skip
_MIDI_ON = 127  # what a button sends that knows MIDI's range alone
_NUMBER = int | float | bool
_ACTIONS = {str(action): action for action in Action}
_LIGHTS = {f"transport/{action}": action for action in (Action.PLAY, Action.PAUSE, Action.STOP)}


@dataclass(frozen=True)
class Assign:
    """Set parameters, over so many seconds; `addresses` are those used, for the echo."""

    values: Mapping[str, Value]
    addresses: tuple[str, ...]
    glide_seconds: float = 0.0

    def goes_with(self, later: Assign) -> bool:
        """Whether both can be one: they take the same time."""
        return self.glide_seconds == later.glide_seconds

    def merged(self, later: Assign) -> Assign:
        """Return both as one; the later value holds."""
        addresses = dict.fromkeys(self.addresses + later.addresses)
        return Assign({**self.values, **later.values}, tuple(addresses), later.glide_seconds)


@dataclass(frozen=True)
class Query:
    """Answer: the reading of an address, or "ping", "version" or "refresh"."""

    what: str
    arguments: tuple[Argument, ...] = ()


@dataclass(frozen=True)
class Subscribe:
    """Begin or end feedback: to a UDP port of the sender's host, None = to where the message came from."""

    on: bool
    port: int | None = None
    interval_ms: int | None = None


@dataclass(frozen=True)
class SubscribeAudio:
    """Begin or end audio packets; see `Subscribe`."""

    on: bool
    port: int | None = None


@dataclass(frozen=True)
class Login:
    """Prove the right to be here."""

    token: str


@dataclass(frozen=True)
class Light:
    """A light of the sender's own transport, which the session's follows."""

    action: Action
    on: bool


@dataclass(frozen=True)
class Ignored:
    """Nothing to do, and nothing wrong."""


AtOnce = EditRack | SavePreset | RecallPreset | KeepTake
SessionRequest = Assign | Transport | AtOnce
"""Of the session; commands name nobody yet: the handler knows who asks."""
Request = SessionRequest | Light | Query | Subscribe | SubscribeAudio | Login | Ignored


@dataclass(frozen=True)
class _ParameterAddress:
    spec: ControlSpec
    norm: bool


# -- parameters --------------------------------------------------------------------------------------------------------


class Namespace:
    """The addresses of a session.

    Args:
        table: its parameters, by name.

    Attributes:
        readable: every address that shows a parameter.
    """

    def __init__(self, table: Mapping[str, ControlSpec]) -> None:
        self.rebuild(table)

    def rebuild(self, table: Mapping[str, ControlSpec]) -> None:
        """Take another table, in which parameters have come or gone."""
        self._table = dict(table)
        places = {PREFIX + name: _ParameterAddress(spec, False) for name, spec in table.items()}
        norms = {
            f"{PREFIX}{name}/norm": _ParameterAddress(spec, True) for name, spec in table.items() if spec.has_range
        }
        self._places = places | norms
        self._book = AddressBook(self._places)
        self._weights = [name for name in table if name.startswith("prompt/") and name.endswith("/weight")]
        self.readable = (_PROMPT, *self._places)

    def interpret(self, message: Message) -> list[Request]:
        """Tell what a message asks for.

        Raises:
            OscError: an unknown address, a wrong argument, or a value outside its range; with the message's address.
        """
        try:
            return self._interpret(message.address, message.arguments)
        except OscError as error:
            raise OscError(f"{error}", error.reason, message.address) from None
        except StreamgenError as error:
            raise OscError(f"{error}", "value", message.address) from None

    def _interpret(self, address: str, arguments: tuple[Argument, ...]) -> list[Request]:
        if is_pattern(address):
            return self._by_pattern(address, arguments)
        if address in self._places:
            return [self._at_place(address, arguments)]
        if address == _PROMPT:
            return [self._prompt(arguments)]
        if not address.startswith(PREFIX):
            raise _unknown(address)
        word = address.removeprefix(PREFIX)
        if word in _ACTIONS:
            return [_action(_ACTIONS[word], arguments)]
        if word in _LIGHTS:
            return [Light(_LIGHTS[word], _pressed(word, arguments))]
        return [_service(word, address, arguments)]

    def _by_pattern(self, pattern: str, arguments: tuple[Argument, ...]) -> list[Request]:
        found = self._book.match(pattern)
        if not found:
            raise OscError("no parameter has an address like this; /streamgen/refresh lists all", "unknown_address")
        requests = [self._at_place(address, arguments) for address in found]
        sets = [request for request in requests if isinstance(request, Assign)]
        if not sets:
            return list(requests)
        values = {name: value for request in sets for name, value in request.values.items()}
        return [Assign(values, tuple(found), sets[-1].glide_seconds)]

    def _at_place(self, address: str, arguments: tuple[Argument, ...]) -> Assign | Query:
        if _is_bare(arguments):
            return Query(address)
        spec, norm = self._places[address].spec, self._places[address].norm
        glides = spec.has_range and len(arguments) == 2
        glide = _number(arguments[1], GLIDE_SECONDS) if glides else 0.0
        value = _only(arguments[:1] if glides else arguments) if spec.has_range or spec.choices else _words(arguments)
        if not norm:
            return Assign({spec.name: spec.read(value)}, (address,), glide)
        try:
            position = float(value)
        except ValueError:
            text = f"{spec.name}/norm is the text {value!r:.40}, must be a number within 0 … 1"
            raise OscError(text, "type") from None
        return Assign({spec.name: spec.from_unit(position)}, (address,), glide)

    def _prompt(self, arguments: tuple[Argument, ...]) -> Assign | Query:
        if _is_bare(arguments):
            return Query(_PROMPT)
        text = self._table[_FIRST_TEXT].check(_words(arguments))
        weights = {name: 1.0 if name == "prompt/1/weight" else 0.0 for name in self._weights}
        return Assign({_FIRST_TEXT: text, **weights}, (_PROMPT,))

    def addresses_of(self, name: str) -> tuple[str, ...]:
        """Return every address that shows a parameter: native, norm where it has a range, and the short form."""
        native = PREFIX + name
        shown = tuple(address for address in (native, f"{native}/norm") if address in self._places)
        return (*shown, _PROMPT) if name == _FIRST_TEXT else shown

    def reading(self, address: str, values: Mapping[str, Value]) -> bytes | None:
        """Encode what an address shows; None if there is no such address any more."""
        if address == _PROMPT:
            return encode(address, values[_FIRST_TEXT])
        place = self._places.get(address)
        if place is None or place.spec.name not in values:
            return None
        value = values[place.spec.name]
        if place.norm:
            return encode(address, place.spec.to_unit(value))
        return encode(address, float(value) if place.spec.type == "float" else value)


# -- what is not in the table ------------------------------------------------------------------------------------------


def _action(action: Action, arguments: tuple[Argument, ...]) -> Request:
    return Transport(action, "") if _is_bare(arguments) or _pressed(action, arguments) else Ignored()


def _pressed(word: str, arguments: tuple[Argument, ...]) -> bool:
    value = _only(arguments)
    if isinstance(value, str) or not (value == 0 or 1 <= value <= _MIDI_ON):  # NaN fails it
        raise OscError(f"{word} is {value!r:.40}, must be 0 (released, off) or 1 (up to {_MIDI_ON})", "type")
    return bool(value)


def _service(word: str, address: str, arguments: tuple[Argument, ...]) -> Request:
    if word == "subscribe":
        return _subscribe(arguments)
    if word == "unsubscribe":
        return Subscribe(False, _port(arguments[:1]))
    if word in ("audio/subscribe", "audio/unsubscribe"):
        return SubscribeAudio(word == "audio/subscribe", _port(arguments[:1]))
    if word == "token":
        return _login(arguments)
    if word == "refresh":
        return Query(word) if _is_bare(arguments) or _only(arguments) else Ignored()
    if address in (*STATES, HEARD):
        return Query(address) if _is_bare(arguments) else Ignored()
    if word == "version":
        return Query(word) if _is_bare(arguments) else Ignored()  # with an argument it is another server's answer
    if word == "ping":
        return Query(word, arguments[:1])
    if address in (RACK, EFFECTS, PRESETS):
        return Query(address) if _is_bare(arguments) else Ignored()
    if word.startswith("rack/") and word not in _SENT_ONLY:
        return _rack(word.removeprefix("rack/"), address, arguments)
    if word in ("preset/save", "preset/recall"):
        return _preset(word == "preset/save", arguments)
    if word == "keep":
        return _keep(arguments)
    if word in _SENT_ONLY or word.startswith("stats/"):
        return Ignored()
    raise _unknown(address)


_RACK_FORMS: dict[str, tuple[tuple[type, ...], str]] = {
    "add": ((str, int), "an effect's name, and maybe its place in the order, from 0"),
    "remove": ((int,), "a slot's number"),
    "replace": ((int, str), "a slot's number and an effect's name"),
    "move": ((int, int), "a slot's number and its place in the order, from 0"),
    "save": ((int, str), "a slot's number and a preset's name"),
    "load": ((int, str), "a slot's number and a preset's name"),
}


def _rack(action: str, address: str, arguments: tuple[Argument, ...]) -> Request:
    if action not in _RACK_FORMS:
        raise _unknown(address)
    kinds, form = _RACK_FORMS[action]
    kinds = kinds[:1] if action == "add" and len(arguments) == 1 else kinds
    if [isinstance(one, str) for one in arguments] != [kind is str for kind in kinds]:
        raise OscError(f"rack/{action} must have {form}", "type")
    word = next((one for one in arguments if isinstance(one, str)), "")
    index = (
        _whole(arguments[1], "index", 0, MAX_SLOTS - 1) if action in ("add", "move") and len(arguments) > 1 else None
    )
    slot = 0 if action == "add" else _whole(arguments[0], "slot", 1, MAX_SLOTS)
    if action in ("save", "load"):
        return SavePreset(word, "", slot) if action == "save" else RecallPreset(word, "", slot=slot)
    return EditRack(RackAction(action), "", slot, word, index)


def _preset(save: bool, arguments: tuple[Argument, ...]) -> SavePreset | RecallPreset:
    most = 1 if save else 2
    if not 1 <= len(arguments) <= most or not isinstance(name := arguments[0], str):
        raise OscError(f"a preset must have its name{'' if save else ', and maybe seconds'}", "type")
    seconds = _number(arguments[1], MORPH_SECONDS) if len(arguments) == 2 else 0.0
    return SavePreset(name, "") if save else RecallPreset(name, "", seconds)


def _keep(arguments: tuple[Argument, ...]) -> KeepTake:
    seconds = KEEP_SECONDS.default if _is_bare(arguments) else _only(arguments)
    return KeepTake("", KEEP_SECONDS.check_number(seconds))


def _number(value: Argument, spec: ControlSpec) -> float:
    return spec.check_number(int(value) if isinstance(value, bool) else value)


def _subscribe(arguments: tuple[Argument, ...]) -> Subscribe:
    if len(arguments) > 2:
        raise OscError(f"subscribe has {len(arguments)} arguments, must have a port and milliseconds, or fewer", "type")
    interval = _whole(arguments[1], "ms", _MIN_INTERVAL_MS, _MAX_INTERVAL_MS) if len(arguments) == 2 else None
    return Subscribe(True, _port(arguments[:1]), interval)


def _port(arguments: tuple[Argument, ...]) -> int | None:
    return None if _is_bare(arguments) else _whole(_only(arguments), "port", 1, 65_535)


def _login(arguments: tuple[Argument, ...]) -> Login:
    value = _only(arguments)
    if not isinstance(value, str):
        raise OscError(f"token is a {_kind(value)}, must be a text", "type")
    return Login(value)


def _whole(value: Argument, name: str, low: int, high: int) -> int:
    if not isinstance(value, _NUMBER) or value != int(value) or not low <= value <= high:
        raise OscError(f"{name} is {value!r:.40}, must be a whole number within {low} … {high:,}", "type")
    return int(value)


def _is_bare(arguments: tuple[Argument, ...]) -> bool:
    return arguments in ((), (IMPULSE,))


def _words(arguments: tuple[Argument, ...]) -> str | int | float:
    """Return a text; Max, Pd and Companion send each of its words, and its numbers, as an argument of their own."""
    words = [one if isinstance(one, str) else f"{one:g}" for one in arguments if isinstance(one, str | int | float)]
    return " ".join(words) if 1 < len(words) == len(arguments) else _only(arguments)


def _only(arguments: tuple[Argument, ...]) -> str | int | float:
    if len(arguments) != 1:
        raise OscError(f"the message has {len(arguments)} arguments, must have one", "type")
    (value,) = arguments
    if isinstance(value, bool):  # T and F are numbers like any other
        return int(value)
    if isinstance(value, str | int | float):
        return value
    raise OscError(f"the argument is a {_kind(value)}, must be a number or a text", "type")


def _kind(value: Argument) -> str:
    names = {str: "text", bytes: "blob", type(None): "nil", tuple: "time or MIDI message"}
    return names.get(type(value), type(value).__name__)


def _unknown(address: str) -> OscError:
    return OscError(f"there is no address {address[:60]!r}; /streamgen/refresh lists all", "unknown_address")
