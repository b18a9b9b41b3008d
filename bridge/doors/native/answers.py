"""What the server of `streamgen.v1` says: hello, acknowledgements, errors, and all that a session tells. No I/O.

After a lost connection a client comes back with `session=` and the name that `hello` told: a private session waits half
a minute for it, its clock standing still. `goaway` therefore carries no token to resume with: it is said when a session
or the whole service ends, and then nothing is left to come back to.

Rules: knows no socket and no codec; which rate fields count at, requests.py says.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from bridge.audio.faults import SlotFault, SlotState
from bridge.doors.native.requests import Id
from bridge.errors import WireError
from bridge.session.events import (
    Beat,
    Changed,
    Event,
    Gap,
    Goaway,
    Meter,
    Notice,
    PresetsChanged,
    Stats,
    TableChanged,
    Transported,
)
from bridge.session.session import Session

__all__ = ["PATH", "PROTOCOL", "ack", "error", "event", "hello", "slots_of", "state_of"]

PROTOCOL = "streamgen.v1"
PATH = "/v1/stream"

_KINDS = {
    Changed: "changed",
    TableChanged: "table",
    SlotFault: "slot_fault",
    PresetsChanged: "presets",
    Transported: "transport",
    Gap: "gap",
    Notice: "notice",
    Beat: "beat",
    Meter: "meter",
    Stats: "stats",
    Goaway: "goaway",
}
_COUNT_SAMPLES = (Changed, Transported, Gap, Notice, Beat, Stats)


def state_of(session: Session) -> dict[str, Any]:
    """Return how a session stands, as `hello` and `get` tell it."""
    state = session.state()
    return {
        "values": dict(session.values()),
        "state": state,
        "playing": state.plays,
        "position_samples": session.position_samples(),
        "heard": session.heard(),
        "slots": slots_of(session),
    }


def slots_of(session: Session) -> list[dict[str, Any]]:
    """Return the rack, in the order of the signal."""
    return [vars(slot) for slot in session.slots()]


def hello(session: Session, audio: Mapping[str, Any], codecs: list[str]) -> str:
    """Build the first message: what this is, how it sounds, what can be asked, and how it stands.

    Args:
        session: what is listened to.
        audio: how the listener's frames come unless it asks otherwise.
        codecs: what this server can send.
    """
    return _text(
        "hello",
        protocol=PROTOCOL,
        session=session.name,
        model=session.model,
        sample_rate_hz=session.rate_hz,
        model_rate_hz=session.model_rate_hz,
        follows=list(session.follows),
        audio=dict(audio),
        codecs=codecs,
        parameters=[row.as_dict() for row in session.table.values()],
        effects=list(session.effects()),
        presets=list(session.presets()),
        state=state_of(session),
    )


def ack(id_: Id, applied_at_sample: int, rate_hz: int, **more: Any) -> str:
    """Build the answer to what was done; `more` by kind: `values`, `t`, `audio`, …."""
    named = {} if id_ is None else {"id": id_}
    return _text("ack", **named, applied_at_sample=applied_at_sample, rate_hz=rate_hz, **more)


def error(problem: WireError) -> str:
    """Build the answer to what was not done."""
    named = {} if problem.id is None else {"id": problem.id}
    return _text("error", **named, code=problem.code, message=str(problem))


def event(happened: Event, rate_hz: int) -> str:
    """Build the message for what a session tells; `rate_hz` is the session's."""
    fields = {name: _plain(value) for name, value in vars(happened).items()}
    if isinstance(happened, TableChanged):
        fields["parameters"] = [row.as_dict() for row in happened.table.values()]
        del fields["table"]
    return _text(
        _KINDS[type(happened)], **fields, **({"rate_hz": rate_hz} if isinstance(happened, _COUNT_SAMPLES) else {})
    )


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, list | tuple):
        return [vars(one) if isinstance(one, SlotState) else one for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _text(kind: str, **fields: Any) -> str:
    # escapes keep every text ASCII, so that no character can fail to be sent
    return json.dumps({"type": kind, **fields}, allow_nan=False, separators=(",", ":"))
