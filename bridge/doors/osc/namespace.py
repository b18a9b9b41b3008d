"""What OSC addresses mean: messages become wishes, values become messages. Sans-I/O.

Everything is generated from parameters.TABLE; an address is /streamgen/ and a parameter's name.

    /streamgen/tempo            query                         /streamgen/tempo f          set
    /streamgen/tempo/norm f     set, 0 … 1 over its range     /streamgen/prompt s         slot 1 alone, weight 1
    /streamgen/play             also pause, stop, reset; 0 is a button's release
    /streamgen/subscribe [i:port [i:ms]]   unsubscribe   audio/subscribe   audio/unsubscribe
    /streamgen/ping   version   playing   refresh   token s
A pattern means parameters only: /streamgen/* must not stop the music.

Rules: knows no socket and no session; a refusal is an OscError. What this door itself sends is not answered when it
comes back: two servers would talk to each other for ever.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bridge.doors.osc.address import AddressBook, is_pattern
from bridge.doors.osc.codec import IMPULSE, Argument, Message, OscError, encode
from bridge.session.messages import ACTIONS
from bridge.session.parameters import SLOTS, TABLE, Parameter, Value
from streamgen.errors import StreamgenError

__all__ = [
    "PREFIX", "READABLE", "Act", "Ask", "Assign", "Audio", "Ignored", "Login", "Subscribe", "Wish", "addresses_of",
    "interpret", "reading",
]  # fmt: skip

PREFIX = "/streamgen/"
MIN_INTERVAL_MS, MAX_INTERVAL_MS = 10, 10_000
_SENT_ONLY = ("error", "heartbeat", "meter", "pong", "audio", "subscribed", "unsubscribed", "goaway")
_NUMBER = int | float | bool


@dataclass(frozen=True)
class Assign:
    """Set parameters; `addresses` are those used, for the echo."""

    values: Mapping[str, Value]
    addresses: tuple[str, ...]

    def merged(self, later: Assign) -> Assign:
        """Return both as one; the later value holds."""
        addresses = dict.fromkeys(self.addresses + later.addresses)
        return Assign({**self.values, **later.values}, tuple(addresses))


@dataclass(frozen=True)
class Act:
    """Play, pause, stop or reset."""

    action: str


@dataclass(frozen=True)
class Ask:
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
class Audio:
    """Begin or end audio packets; see `Subscribe`."""

    on: bool
    port: int | None = None


@dataclass(frozen=True)
class Login:
    """Prove the right to be here."""

    token: str


@dataclass(frozen=True)
class Ignored:
    """Nothing to do, and nothing wrong."""


Wish = Assign | Act | Ask | Subscribe | Audio | Login | Ignored


@dataclass(frozen=True)
class _Place:
    parameter: Parameter
    norm: bool


def _places() -> dict[str, _Place]:
    places = {PREFIX + name: _Place(row, False) for name, row in TABLE.items()}
    norms = {f"{PREFIX}{name}/norm": _Place(row, True) for name, row in TABLE.items() if row.min is not None}
    return places | norms


_PLACES = _places()
_PROMPT = f"{PREFIX}prompt"
_BOOK = AddressBook(_PLACES)
READABLE = (_PROMPT, *_PLACES)


# -- messages to wishes ------------------------------------------------------------------------------------------------


def interpret(message: Message) -> list[Wish]:
    """Tell what a message wants.

    Raises:
        OscError: an unknown address, a wrong argument, or a value outside its range; with the message's address.
    """
    try:
        return _interpret(message.address, message.arguments)
    except OscError as error:
        raise OscError(f"{error}", error.reason, message.address) from None
    except StreamgenError as error:
        raise OscError(f"{error}", "value", message.address) from None


def _interpret(address: str, arguments: tuple[Argument, ...]) -> list[Wish]:
    if is_pattern(address):
        return _by_pattern(address, arguments)
    if address in _PLACES:
        return [_at_place(address, arguments)]
    if address == _PROMPT:
        return [_prompt(arguments)]
    if not address.startswith(PREFIX):
        raise _unknown(address)
    word = address.removeprefix(PREFIX)
    if word in ACTIONS:
        return [_action(word, arguments)]
    return [_service(word, address, arguments)]


def _by_pattern(pattern: str, arguments: tuple[Argument, ...]) -> list[Wish]:
    found = _BOOK.match(pattern)
    if not found:
        raise OscError("no parameter has an address like this; /streamgen/refresh lists all", "unknown_address")
    wishes = [_at_place(address, arguments) for address in found]
    sets = [wish for wish in wishes if isinstance(wish, Assign)]
    if not sets:
        return list(wishes)
    values = {name: value for wish in sets for name, value in wish.values.items()}
    return [Assign(values, tuple(found))]


def _at_place(address: str, arguments: tuple[Argument, ...]) -> Assign | Ask:
    if _is_bare(arguments):
        return Ask(address)
    place = _PLACES[address]
    row = place.parameter
    value = _only(arguments)
    if not place.norm:
        return Assign({row.name: row.check(value)}, (address,))
    if not isinstance(value, _NUMBER):
        raise OscError(f"{row.name}/norm is a {_kind(value)}, must be a number within 0 … 1", "type")
    return Assign({row.name: row.from_unit(float(value))}, (address,))


def _prompt(arguments: tuple[Argument, ...]) -> Assign | Ask:
    if _is_bare(arguments):
        return Ask(_PROMPT)
    text = TABLE["prompt/1/text"].check(_only(arguments))
    weights = {f"prompt/{slot}/weight": 1.0 if slot == 1 else 0.0 for slot in range(1, SLOTS + 1)}
    return Assign({"prompt/1/text": text, **weights}, (_PROMPT,))


def _action(action: str, arguments: tuple[Argument, ...]) -> Wish:
    if _is_bare(arguments):
        return Act(action)
    value = _only(arguments)
    if not isinstance(value, _NUMBER) or value not in (0, 1):
        raise OscError(f"{action} is {value!r:.40}, must have no argument or 1; 0, a release, is ignored", "type")
    return Act(action) if value else Ignored()


def _service(word: str, address: str, arguments: tuple[Argument, ...]) -> Wish:
    if word == "subscribe":
        return _subscribe(arguments)
    if word == "unsubscribe":
        return Subscribe(False, _port(arguments[:1]))
    if word in ("audio/subscribe", "audio/unsubscribe"):
        return Audio(word == "audio/subscribe", _port(arguments[:1]))
    if word == "token":
        return _login(arguments)
    if word == "refresh":
        return Ask(word) if _is_bare(arguments) or _only(arguments) else Ignored()
    if word == "playing":
        return Ask(address) if _is_bare(arguments) else Ignored()
    if word == "version":
        return Ask(word) if _is_bare(arguments) else Ignored()  # with an argument it is another server's answer
    if word == "ping":
        return Ask(word, arguments[:1])
    if word in _SENT_ONLY or word.startswith("stats/"):
        return Ignored()
    raise _unknown(address)


def _subscribe(arguments: tuple[Argument, ...]) -> Subscribe:
    if len(arguments) > 2:
        raise OscError(f"subscribe has {len(arguments)} arguments, must have a port and milliseconds, or fewer", "type")
    interval = _whole(arguments[1], "ms", MIN_INTERVAL_MS, MAX_INTERVAL_MS) if len(arguments) == 2 else None
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


def _only(arguments: tuple[Argument, ...]) -> str | int | float | bool:
    if len(arguments) != 1:
        raise OscError(f"the message has {len(arguments)} arguments, must have one", "type")
    (value,) = arguments
    if isinstance(value, str | _NUMBER):
        return value
    raise OscError(f"the argument is a {_kind(value)}, must be a number or a text", "type")


def _kind(value: Argument) -> str:
    return {str: "text", bytes: "blob", type(None): "nil"}.get(type(value), type(value).__name__)


def _unknown(address: str) -> OscError:
    return OscError(f"there is no address {address[:60]!r}; /streamgen/refresh lists all", "unknown_address")


# -- values to messages ------------------------------------------------------------------------------------------------


def addresses_of(name: str) -> tuple[str, ...]:
    """Return every address that shows a parameter: native, norm where it has a range, and the short form."""
    native = PREFIX + name
    shown = (native, f"{native}/norm") if TABLE[name].min is not None else (native,)
    return (*shown, _PROMPT) if name == "prompt/1/text" else shown


def reading(address: str, values: Mapping[str, Value]) -> bytes:
    """Encode what a readable address shows."""
    if address == _PROMPT:
        return encode(address, values["prompt/1/text"])
    place = _PLACES[address]
    row = place.parameter
    value = values[row.name]
    if place.norm:
        return encode(address, row.to_unit(value))
    return encode(address, float(value) if row.type == "float" else value)
