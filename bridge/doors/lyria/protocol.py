"""Google's live music protocol, as its SDKs speak it: JSON in, JSON out. No I/O.

    client  {"setup": {"model": …}} · {"clientContent": {"weightedPrompts": [{"text": …, "weight": …}]}}
            {"musicGenerationConfig": {…}} · {"playbackControl": "PLAY"}                      one of them a message
    server  {"setupComplete": {}}
            {"serverContent": {"audioChunks": [{"data": …, "mimeType": …, "sourceMetadata": …}]}, "warning": …}

What a client should know stands as `warning` beside `serverContent`, never in a message of its own: Google's own
samples take the first chunk of every message, and fail at one that has none.

Rules: knows no session. The names are JSON's; those of Google's documentation (client_content) are taken too.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bridge.errors import WireError

__all__ = [
    "MIME", "RATE_HZ", "SETUP_COMPLETE", "Config", "Control", "Message", "Setup", "WeightedPrompts", "audio", "parse",
]  # fmt: skip

RATE_HZ = 48_000
MIME = f"audio/l16;rate={RATE_HZ};channels=2"
SETUP_COMPLETE = '{"setupComplete": {}}'
_KINDS = ("setup", "clientContent", "musicGenerationConfig", "playbackControl")
_CONTROLS = ("PLAY", "PAUSE", "STOP", "RESET_CONTEXT", "PLAYBACK_CONTROL_UNSPECIFIED")
_MOST_PROMPTS = 64
_HEAVIEST = 1e6
_WORD = re.compile(r"_([a-z])")


@dataclass(frozen=True)
class Setup:
    """What a connection begins with."""


@dataclass(frozen=True)
class WeightedPrompts:
    """All the prompts from now on: texts with weights, as they came."""

    weighted: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Config:
    """The whole configuration from now on: what is not in it is as at the beginning. Values as they came."""

    fields: Mapping[str, Any]


@dataclass(frozen=True)
class Control:
    """What the player is told: PLAY, PAUSE, STOP or RESET_CONTEXT."""

    action: str


Message = Setup | WeightedPrompts | Config | Control


def parse(data: str | bytes) -> Message:
    """Read a client's message.

    Raises:
        WireError: it is none of this protocol.
    """
    try:
        message = json.loads(data, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise WireError("bad_json", "this is not JSON") from None
    if not isinstance(message, dict) or len(message) != 1:
        raise WireError("bad_message", f"a message is an object with one of {', '.join(_KINDS)}")
    ((name, body),) = message.items()
    match _camel(name):
        case "setup":
            return Setup()
        case "clientContent":
            return WeightedPrompts(_weighted(body))
        case "musicGenerationConfig" if isinstance(body, dict):
            return Config({_camel(key): value for key, value in body.items() if value is not None})
        case "playbackControl" if body in _CONTROLS:
            return Control(body)
        case "playbackControl":
            must = f"must be one of {', '.join(_CONTROLS)}"
            raise WireError("bad_value", f"playbackControl is {str(body)[:40]!a}, {must}")
    raise WireError("unknown_type", f"there is no {str(name)[:40]!a} in this protocol")


def _no_constant(word: str) -> None:
    raise WireError("bad_json", f"{word} is no number of JSON")


def _camel(name: str) -> str:
    return _WORD.sub(lambda found: found[1].upper(), name)


def _weighted(body: object) -> tuple[tuple[str, float], ...]:
    content = {_camel(key): value for key, value in body.items()} if isinstance(body, dict) else {}
    prompts = content.get("weightedPrompts")
    if not isinstance(prompts, list) or not prompts or len(prompts) > _MOST_PROMPTS:
        raise WireError("bad_value", f"clientContent must have weightedPrompts, 1 … {_MOST_PROMPTS} of them")
    return tuple(_prompt(prompt) for prompt in prompts)


def _prompt(prompt: object) -> tuple[str, float]:
    text, weight = (prompt.get("text"), prompt.get("weight", 1.0)) if isinstance(prompt, dict) else (None, None)
    number = weight if isinstance(weight, int | float) and not isinstance(weight, bool) else None
    if isinstance(text, str) and number is not None and abs(number) <= _HEAVIEST:
        return text, float(number)
    must = f"must be a text and a weight that is a number of at most {_HEAVIEST:g}"
    raise WireError("bad_value", f"a prompt is {str(prompt)[:60]!a}, {must}")


def audio(pcm: bytes, source: Mapping[str, Any], warnings: Sequence[str]) -> str:
    """Return the message of a chunk.

    Args:
        pcm: s16le, two channels, 48 kHz.
        source: what was asked for, as the SDKs show it.
        warnings: what could not be done.
    """
    chunk = {"data": base64.b64encode(pcm).decode(), "mimeType": MIME, "sourceMetadata": dict(source)}
    message: dict[str, Any] = {"serverContent": {"audioChunks": [chunk]}}
    return json.dumps(message | ({"warning": "; ".join(warnings)} if warnings else {}))
