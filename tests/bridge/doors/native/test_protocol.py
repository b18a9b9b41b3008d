"""streamgen.v1 without a socket: what is read, what is refused, what is written."""

from __future__ import annotations

import json
import random

import pytest

from bridge.doors.native import protocol as wire
from bridge.doors.native.frames import AudioFormat
from bridge.errors import WireError
from bridge.session.messages import Changed, Discard, Gap, Goaway, Stats
from bridge.session.parameters import TABLE, defaults

UPLOAD = 1_000


def read(**message: object) -> wire.Request:
    return wire.parse(json.dumps(message), UPLOAD)


@pytest.mark.parametrize(
    ("message", "body"),
    [
        ({"type": "set", "values": {"mute": 1}}, wire.SetValues({"mute": True}, None)),
        ({"type": "set", "values": {"top_k": 5}, "at_sample": 64_000}, wire.SetValues({"top_k": 5}, 64_000)),
        ({"type": "transport", "action": "stop"}, wire.Steer("stop")),
        ({"type": "get"}, wire.Get(None)),
        ({"type": "get", "name": "seed"}, wire.Get("seed")),
        ({"type": "ping", "t": "x"}, wire.Ping("x")),
        ({"type": "audio", "codec": "opus", "more": 1}, wire.Audio({"codec": "opus"})),
        ({"type": "audio_prompt", "bytes": 1_000}, wire.Upload(1_000)),
    ],
)
def test_every_type_is_read(message: dict[str, object], body: object) -> None:
    assert read(**message) == wire.Request(None, body)  # type: ignore[arg-type]
    assert read(**message, id="me").id == "me"


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ({"type": "set"}, "bad_message"),
        ({"type": "set", "values": {}}, "bad_message"),
        ({"type": "set", "values": {"mute": 2}}, "bad_value"),
        ({"type": "set", "values": {"top_k": 1.5}}, "bad_value"),
        ({"type": "set", "values": {"prompt/1/text": "x" * 2_001}}, "bad_value"),
        ({"type": "set", "values": {"top_k": 5}, "at_sample": -1}, "bad_value"),
        ({"type": "set", "values": {"top_k": 5}, "at_sample": True}, "bad_value"),
        ({"type": "set", "values": {"top_k": 5}, "at_sample": 1e300}, "bad_value"),
        ({"type": "get", "name": "nothing"}, "bad_value"),
        ({"type": "get", "name": ["seed"]}, "bad_value"),
        ({"type": "transport"}, "bad_value"),
        ({"type": "audio_prompt", "bytes": 1_001}, "bad_value"),
        ({"type": "audio_prompt", "bytes": 0}, "bad_value"),
        ({"type": ["set"]}, "unknown_type"),
        ({}, "unknown_type"),
    ],
)
def test_what_is_wrong_has_a_code_and_the_messages_id(message: dict[str, object], code: str) -> None:
    with pytest.raises(WireError) as refused:
        read(**message, id=3)
    assert (refused.value.code, refused.value.id) == (code, 3)


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ({"type": "transport"}, "action is missing, must be one of play, pause, stop, reset"),
        ({"type": "transport", "action": "sing"}, "action is 'sing', must be one of play, pause, stop, reset"),
        ({"type": "audio_prompt"}, "bytes is missing, must be a whole number within 1 … "),
    ],
)
def test_what_is_missing_is_called_so(message: dict[str, object], words: str) -> None:
    with pytest.raises(WireError, match=words):
        read(**message)


@pytest.mark.parametrize("id_", [True, [1], {}, "x" * 65, 2**70, "\ud800"])
def test_an_id_is_short_and_plain(id_: object) -> None:
    with pytest.raises(WireError, match="an id is"):
        read(type="ping", id=id_)


def test_any_text_is_read_or_refused_and_any_refusal_can_be_sent() -> None:
    draw = random.Random(0)
    seeds = ['{"type":"set","values":{"top_k":5,"mute":true},"at_sample":7,"id":"a"}', '{"type":"audio","chunk_ms":20}']
    refusals = []
    for _ in range(20_000):
        text = list(draw.choice(seeds))
        for _ in range(draw.randint(1, 5)):
            text[draw.randrange(len(text))] = draw.choice('{}[]",:\\u0e9-+.ntf\x00é𝄞\ud800')
        try:
            wire.parse("".join(text), UPLOAD)
        except WireError as problem:
            refusals.append(wire.error(problem))
    assert len(refusals) > 10_000
    assert all(map(str.isascii, refusals))


def test_hello_lists_the_table() -> None:
    state = {"values": defaults(), "playing": True, "position_samples": 5}
    text = wire.hello("live", "pocket", 32_000, AudioFormat("s16le", 48_000), ["s16le"], state)
    message = json.loads(text)
    assert [row["name"] for row in message["parameters"]] == list(TABLE)
    fields = ["name", "type", "min", "max", "default", "unit", "description"]
    assert list(message["parameters"][0]) == fields
    assert message["audio"] == {
        "codec": "s16le", "sample_rate_hz": 48_000, "chunk_ms": 40.0, "rewind": False, "enabled": True, "channels": 2
    }  # fmt: skip
    assert (message["sample_rate_hz"], message["state"]) == (32_000, state)


@pytest.mark.parametrize(
    ("event", "message"),
    [
        (
            Changed({"top_k": 5}, "osc", 7),
            {"type": "changed", "values": {"top_k": 5}, "by": "osc", "applied_at_sample": 7},
        ),
        (Gap(1, 2, "underrun"), {"type": "gap", "from_sample": 1, "samples": 2, "reason": "underrun"}),
        (Discard(9), {"type": "discard", "from_sample": 9}),
        (Goaway("bye"), {"type": "goaway", "reason": "bye"}),
    ],
)
def test_events_are_written_as_the_contract_says(event: wire.Changed, message: dict[str, object]) -> None:
    assert json.loads(wire.event(event)) == message


def test_stats_without_a_finite_factor_stay_json() -> None:
    message = json.loads(wire.event(Stats(float("inf"), 1.5, 0, 2, 3, 4, True)))
    assert (message["realtime_factor"], message["lead_seconds"], message["window_position"]) == (None, 1.5, 3)


def test_ack_and_error_echo_the_id_if_there_was_one() -> None:
    assert json.loads(wire.ack(None, 5)) == {"type": "ack", "applied_at_sample": 5}
    assert json.loads(wire.ack(0, 5, t=1)) == {"type": "ack", "id": 0, "applied_at_sample": 5, "t": 1}
    assert json.loads(wire.error(WireError("bad_json", "é", 2))) == {
        "type": "error", "id": 2, "code": "bad_json", "message": "é"
    }  # fmt: skip
