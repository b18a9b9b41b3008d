"""The protocol `streamgen.v1`: text and bytes on one side, requests and messages on the other. No I/O.

Audio frames are in audio_frames.py. Two clocks of samples: a frame's `sample_position` counts at its own
`sample_rate_hz`; every JSON field (`at_sample`, `applied_at_sample`, `from_sample`, `samples`, `position_samples`)
counts at the session's rate, `hello.sample_rate_hz`. So: session sample = sample_position × hello.sample_rate_hz /
sample_rate_hz, to within half a sample.

After a lost connection a client comes back with `session=` and the name that `hello` told: a private session waits half
a minute for it, its clock standing still. `goaway` therefore carries no token to resume with: it is said when a session
or the whole service ends, and then nothing is left to come back to.

Rules: knows no socket, no session, no codec; what is wrong raises WireError with a code, never anything else.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, NoReturn

from bridge.doors.native.frames import FORMAT_FIELDS, MAX_SAMPLE, AudioFormat, shown, whole
from bridge.errors import WireError
from bridge.session.messages import ACTIONS, Changed, Discard, Gap, Goaway, Stats, Transported
from bridge.session.parameters import TABLE, Value, checked
from streamgen.errors import StreamgenError

__all__ = [
    "PATH",
    "PROTOCOL",
    "Audio",
    "Get",
    "Ping",
    "Request",
    "SetValues",
    "Steer",
    "Upload",
    "ack",
    "error",
    "event",
    "hello",
    "parse",
]

PROTOCOL = "streamgen.v1"
PATH = "/v1/stream"
_MAX_ID = 64
_PARAMETERS = [row.as_dict() for row in TABLE.values()]

Id = str | float | None


# -- what a client asks ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SetValues:
    """`set`: checked values, and the sample at which they shall apply (None = at once)."""

    values: dict[str, Value]
    at_sample: int | None


@dataclass(frozen=True)
class Steer:
    """`transport`: one of `commands.ACTIONS`."""

    action: str


@dataclass(frozen=True)
class Get:
    """`get`: one parameter, or all of them."""

    name: str | None


@dataclass(frozen=True)
class Ping:
    """`ping`: `t` comes back in the ack."""

    t: str | float | None


@dataclass(frozen=True)
class Upload:
    """`audio_prompt`: the next binary message is a WAV, FLAC or Ogg file of so many bytes."""

    bytes: int


@dataclass(frozen=True)
class Audio:
    """`audio`: the fields that were given, unchecked until they meet the present format."""

    fields: dict[str, Any]


Body = SetValues | Steer | Get | Ping | Upload | Audio


@dataclass(frozen=True)
class Request:
    """A message from a client: its own id, and what it asks."""

    id: Id
    body: Body


def parse(text: str, upload_bytes: int) -> Request:
    """Read a text message.

    Args:
        text: the message.
        upload_bytes: the largest audio prompt that may be announced.

    Raises:
        WireError: anything is wrong with it; carries the message's id if that much could be read.
    """
    message = _json_object(text)
    id_ = _id(message.get("id"))
    try:
        return Request(id_, _body(message, upload_bytes))
    except WireError as problem:
        problem.id = id_
        raise


def _json_object(text: str) -> dict[str, Any]:
    try:
        message = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as problem:
        raise WireError("bad_json", f"not JSON: {str(problem)[:120]}") from None
    if not isinstance(message, dict):
        raise WireError("bad_json", f"a message is a JSON object with a type, not {type(message).__name__}")
    return message


def _no_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is no number of JSON")


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


def _body(message: dict[str, Any], upload_bytes: int) -> Body:
    kind = message.get("type")
    if kind == "set":
        return SetValues(_values(message.get("values")), _at_sample(message.get("at_sample")))
    if kind == "transport":
        return Steer(_action(message.get("action")))
    if kind == "get":
        return Get(_name(message.get("name")))
    if kind == "ping":
        return Ping(_id(message.get("t")))
    if kind == "audio":
        return Audio({name: value for name, value in message.items() if name in FORMAT_FIELDS})
    if kind == "audio_prompt":
        return Upload(whole("bytes", message.get("bytes"), 1, upload_bytes))
    known = "set, transport, get, ping, audio, audio_prompt"
    raise WireError("unknown_type", f"there is no type {str(kind)[:40]!a}; there are: {known}")


def _values(values: object) -> dict[str, Value]:
    if not isinstance(values, dict) or not values:
        raise WireError("bad_message", "`set` needs values: an object of parameter names and values")
    for name, value in values.items():
        if isinstance(value, int) and abs(value) > MAX_SAMPLE:
            raise WireError("bad_value", f"{name[:40]!a} is a number of {value.bit_length()} bits, beyond any range")
        if isinstance(value, str) and not _is_text(value):
            raise WireError("bad_value", f"{name[:40]!a} holds half a character (a lone surrogate)")
    try:
        return checked(values)
    except StreamgenError as problem:
        raise WireError("bad_value", str(problem)[:300]) from None


def _at_sample(value: object) -> int | None:
    return None if value is None else whole("at_sample", value, 0, MAX_SAMPLE)


def _action(value: object) -> str:
    if not isinstance(value, str) or value not in ACTIONS:
        raise WireError("bad_value", f"action is {shown(value)}, must be one of {', '.join(ACTIONS)}")
    return value


def _name(value: object) -> str | None:
    if value is not None and (not isinstance(value, str) or value not in TABLE):
        raise WireError("bad_value", f"there is no parameter {str(value)[:40]!a}; `hello` lists them")
    return value


# -- what the server says -------------------------------------------------------------------------------------------


def hello(
    session: str,
    model: str,
    rate_hz: int,
    audio: AudioFormat,
    codecs: list[str],
    state: Mapping[str, Any],
) -> str:
    """Build the first message: what this is, how it sounds, what can be asked, and how it stands.

    Args:
        session: its name.
        model: the checkpoint's name.
        rate_hz: of the session, in which all JSON fields count.
        audio: how the listener's frames come unless it asks otherwise.
        codecs: what this server can send.
        state: `values` by name, `playing`, `position_samples`.
    """
    return _text(
        "hello",
        protocol=PROTOCOL,
        session=session,
        model=model,
        sample_rate_hz=rate_hz,
        audio={**asdict(audio), "channels": 2},
        codecs=codecs,
        parameters=_PARAMETERS,
        state=dict(state),
    )


def ack(id_: Id, applied_at_sample: int, **more: Any) -> str:
    """Build the answer to what was done; `more` by kind: `values`, `t`, `audio`, …."""
    named = {} if id_ is None else {"id": id_}
    return _text("ack", **named, applied_at_sample=applied_at_sample, **more)


def error(problem: WireError) -> str:
    """Build the answer to what was not done."""
    named = {} if problem.id is None else {"id": problem.id}
    return _text("error", **named, code=problem.code, message=str(problem))


def event(happened: Changed | Transported | Gap | Discard | Stats | Goaway) -> str:
    """Build the message for what a session tells."""
    kind = _KINDS[type(happened)]
    return _text(kind, **{name: _plain(value) for name, value in vars(happened).items()})


_KINDS = {
    Changed: "changed",
    Transported: "transport",
    Gap: "gap",
    Discard: "discard",
    Stats: "stats",
    Goaway: "goaway",
}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _text(kind: str, **fields: Any) -> str:
    # escapes keep every text ASCII, so that no character can fail to be sent
    return json.dumps({"type": kind, **fields}, allow_nan=False, separators=(",", ":"))
