"""What a client of `streamgen.v1` asks: text messages become commands of a session, and requests of this door. No I/O.

Audio frames are in frames.py, what the server says in answers.py. Every JSON field that counts samples (`at_sample`,
`applied_at_sample`, `from_sample`, `samples`, `position_samples`) counts at the session's rate, `hello.sample_rate_hz`,
which each message tells again as `rate_hz`. A client that counts at another rate, as its own frames do, says so:

    {"type": "set", "values": {"mute": true}, "at_sample": 441000, "rate_hz": 44100}      ten seconds, at 44.1 kHz
    {"type": "set", "values": {"prompt/1/text": "techno"}, "quantize": "bar"}             at the session's next bar
    {"type": "transport", "action": "stop", "at_beat": 64}

Rules: knows no socket and no codec; what is wrong raises WireError with a code, never anything else.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from bridge.audio.rack import MAX_SLOTS
from bridge.doors.native.frames import FORMAT_FIELDS, MAX_SAMPLE, converted, shown, whole
from bridge.errors import WireError
from bridge.session.beats import QUANTA
from bridge.session.commands import (
    GLIDE_SECONDS,
    KEEP_SECONDS,
    MAX_PRESET_NAME,
    MORPH_SECONDS,
    Action,
    EditRack,
    KeepTake,
    RackAction,
    RecallPreset,
    SavePreset,
    Set,
    Transport,
)
from bridge.session.timeline import Moment, quantized
from streamgen.config import ControlSpec, Value, checked
from streamgen.errors import StreamgenError

__all__ = [
    "FOLLOWED",
    "SessionRequest",
    "GetValues",
    "Id",
    "Ping",
    "Request",
    "SetAudio",
    "Upload",
    "WantBeats",
    "WantMeters",
    "parse",
]

FOLLOWED = ("melody", "style")  # audio that the music follows
_MIN_COUNTING_HZ, _MAX_COUNTING_HZ = 8_000, 192_000  # rates in which a client may count positions
_MAX_ID = 64
_MOMENTS = ("at_sample", "at_beat", "quantize")
_MAX_EFFECT_NAME = 256

Id = str | float | None


@dataclass(frozen=True)
class WantBeats:
    """`beats`: whether this client is told each beat."""

    enabled: bool


@dataclass(frozen=True)
class WantMeters:
    """`meters`: whether this client is told the level, which one that takes no audio cannot know otherwise."""

    enabled: bool


@dataclass(frozen=True)
class GetValues:
    """`get`: one parameter, or all of them."""

    name: str | None


@dataclass(frozen=True)
class Ping:
    """`ping`: `t` comes back in the ack."""

    t: str | float | None


@dataclass(frozen=True)
class Upload:
    """`audio_prompt`, `melody`, `style`: the next binary message is a WAV, FLAC or Ogg file of so many bytes.

    Melody and style begin at a sample; of 0 bytes none is followed any more.
    """

    bytes: int
    kind: str = "audio_prompt"
    at: Moment | None = None


@dataclass(frozen=True)
class SetAudio:
    """`audio`: the fields that were given, unchecked until they meet the present format."""

    fields: dict[str, Any]


SessionRequest = Set | Transport | EditRack | SavePreset | RecallPreset | KeepTake  # of the session
Served = WantBeats | WantMeters | GetValues | Ping | Upload | SetAudio  # by this door


@dataclass(frozen=True)
class Request:
    """A message from a client: its own id, and what it asks."""

    id: Id
    body: SessionRequest | Served


def parse(text: str, table: Mapping[str, ControlSpec], rate_hz: int, upload_bytes: int, by: str) -> Request:
    """Read a text message.

    Args:
        text: the message.
        table: the session's parameters.
        rate_hz: the session's rate.
        upload_bytes: the largest audio prompt that may be announced.
        by: who asks, as the session's commands say it.

    Raises:
        WireError: anything is wrong with it; carries the message's id if that much could be read.
    """
    message = _json_object(text)
    id_ = _id(message.get("id"))
    try:
        return Request(id_, _of_session(message, table, rate_hz, by) or _served(message, table, rate_hz, upload_bytes))
    except WireError as problem:
        problem.id = id_
        raise


def _json_object(text: str) -> dict[str, Any]:
    try:
        message = json.loads(text, parse_constant=_no_constant)
    except json.JSONDecodeError as problem:
        raise WireError("bad_json", f"not JSON: {str(problem)[:120]}") from None
    except RecursionError:
        raise WireError("bad_json", "it is nested too deeply: a message has a few levels") from None
    except ValueError:  # Python reads 4,300 digits
        raise WireError("bad_json", "a number has thousands of digits: no parameter needs more than 20") from None
    if not isinstance(message, dict):
        raise WireError("bad_json", f"a message is a JSON object with a type, not {type(message).__name__}")
    return message


def _no_constant(word: str) -> NoReturn:
    raise WireError("bad_json", f"not JSON: {word} is no number of JSON")


def _id(value: object) -> Id:
    if value is None or (isinstance(value, str) and len(value) <= _MAX_ID and _is_text(value)):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < MAX_SAMPLE:
        return value
    raise WireError("bad_message", f"an id is a text of at most {_MAX_ID} characters, or a number")


def _is_text(value: str) -> bool:
    """Tell whether a text can be written as UTF-8: JSON's escapes can spell halves of surrogate pairs, which cannot."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _of_session(
    message: dict[str, Any], table: Mapping[str, ControlSpec], rate_hz: int, by: str
) -> SessionRequest | None:
    """Read what is the session's to do; None of any other type."""
    kind = message.get("type")
    if kind == "set":
        glide = _checked(GLIDE_SECONDS, message)
        return Set(_values(message.get("values"), table), by, _moment(message, rate_hz), glide)
    if kind == "transport":
        return Transport(_action(message.get("action")), by, _moment(message, rate_hz))
    if kind == "rack":
        return _edit(message, rate_hz, by)
    if kind == "keep":
        return KeepTake(by, _checked(KEEP_SECONDS, message))
    return _preset(message, rate_hz, by) if kind == "preset" else None


def _served(message: dict[str, Any], table: Mapping[str, ControlSpec], rate_hz: int, upload_bytes: int) -> Served:
    """Read what is this door's to do."""
    kind = message.get("type")
    if kind == "beats":
        return WantBeats(_enabled(message.get("enabled")))
    if kind == "meters":
        return WantMeters(_enabled(message.get("enabled")))
    if kind == "get":
        return GetValues(_name(message.get("name"), table))
    if kind == "ping":
        return Ping(_id(message.get("t")))
    if kind == "audio":
        return SetAudio({name: value for name, value in message.items() if name in FORMAT_FIELDS})
    if kind == "audio_prompt":
        return Upload(whole("bytes", message.get("bytes"), 1, upload_bytes))
    if kind in FOLLOWED:
        size = whole("bytes", message.get("bytes"), 0, upload_bytes)
        return Upload(size, str(kind), _moment(message, rate_hz))
    known = "set, transport, rack, preset, keep, beats, meters, get, ping, audio, audio_prompt, melody, style"
    raise WireError("unknown_type", f"there is no type {str(kind)[:40]!a}; there are: {known}")


def _values(values: object, table: Mapping[str, ControlSpec]) -> dict[str, Value]:
    if not isinstance(values, dict) or not values:
        raise WireError("bad_message", "`set` needs values: an object of parameter names and values")
    for name, value in values.items():
        if isinstance(value, int) and abs(value) > MAX_SAMPLE:
            raise WireError("bad_value", f"{name[:40]!a} is a number of {value.bit_length()} bits, beyond any range")
        if isinstance(value, str) and not _is_text(value):
            raise WireError("bad_value", f"{name[:40]!a} holds half a character (a lone surrogate)")
    try:
        return checked(table, values)
    except StreamgenError as problem:
        raise WireError("bad_value", str(problem)[:300]) from None


def _moment(message: dict[str, Any], rate_hz: int) -> Moment | None:
    """Return when a message wants to be carried out, whichever rate its samples are of; None if it does not say."""
    named_hz = message.get("rate_hz")
    from_hz = rate_hz if named_hz is None else whole("rate_hz", named_hz, _MIN_COUNTING_HZ, _MAX_COUNTING_HZ)
    said = [name for name in _MOMENTS if message.get(name) is not None]
    if len(said) > 1:
        raise WireError("bad_message", f"{' and '.join(said)} both say when: leave one out")
    if not said:
        return None
    value = message[said[0]]
    if said[0] == "at_sample":
        return Moment(sample=converted(whole("at_sample", value, 0, MAX_SAMPLE), from_hz, rate_hz))
    if said[0] == "at_beat":
        return Moment(beat=_beat(value))
    if not isinstance(value, str) or value not in QUANTA:
        raise WireError("bad_value", f"quantize is {shown(value)}, must be one of {', '.join(QUANTA)}")
    return quantized(QUANTA[value])


def _beat(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MAX_SAMPLE:
        raise WireError("bad_value", f"at_beat is {shown(value)}, must be a number from 0")
    return value


def _enabled(value: object) -> bool:
    if not isinstance(value, bool):
        raise WireError("bad_value", f"enabled is {shown(value)}, must be true or false")
    return value


def _action(value: object) -> Action:
    try:
        return Action(value)  # type: ignore[arg-type]
    except ValueError:
        raise WireError("bad_value", f"action is {shown(value)}, must be one of {', '.join(Action)}") from None


def _edit(message: dict[str, Any], rate_hz: int, by: str) -> EditRack:
    at = _moment(message, rate_hz)
    try:
        action = RackAction(message.get("action"))  # type: ignore[arg-type]
    except ValueError:
        raise WireError(
            "bad_value", f"action is {shown(message.get('action'))}, must be one of {', '.join(RackAction)}"
        ) from None
    slot = 0 if action is RackAction.ADD else whole("slot", message.get("slot"), 1, MAX_SLOTS)
    effect = (
        _named("effect", message.get("effect"), _MAX_EFFECT_NAME)
        if action in (RackAction.ADD, RackAction.REPLACE)
        else ""
    )
    index = message.get("index")
    place = None if index is None else whole("index", index, 0, MAX_SLOTS - 1)
    return EditRack(action, by, slot, effect, place, at=at)


def _preset(message: dict[str, Any], rate_hz: int, by: str) -> SavePreset | RecallPreset:
    at, action = _moment(message, rate_hz), message.get("action")
    if action not in ("save", "recall"):
        raise WireError("bad_value", f"action is {shown(action)}, must be save or recall")
    if action == "save" and at is not None:
        raise WireError("bad_message", "a preset is saved at once: leave out when")
    slot = 0 if message.get("slot") is None else whole("slot", message["slot"], 1, MAX_SLOTS)
    name, seconds = _named("name", message.get("name"), MAX_PRESET_NAME), _checked(MORPH_SECONDS, message)
    return SavePreset(name, by, slot) if action == "save" else RecallPreset(name, by, seconds, slot, at)


def _named(field: str, value: object, most: int) -> str:
    if not isinstance(value, str) or not value or len(value) > most or not _is_text(value):
        raise WireError("bad_value", f"{field} is {shown(value)}, must be a text of at most {most} characters")
    return value


def _checked(spec: ControlSpec, message: dict[str, Any]) -> float:
    try:
        return spec.check_number(message.get(spec.name, spec.default))
    except StreamgenError as problem:
        raise WireError("bad_value", str(problem)[:300]) from None


def _name(value: object, table: Mapping[str, ControlSpec]) -> str | None:
    if value is not None and (not isinstance(value, str) or value not in table):
        raise WireError("bad_value", f"there is no parameter {str(value)[:40]!a}; `hello` lists them")
    return value
