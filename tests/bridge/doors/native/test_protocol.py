"""streamgen.v1 without a socket: what is read, what is refused, what is written."""

from __future__ import annotations

import json
import random
from dataclasses import replace

import pytest

from bridge.doors.native import protocol
from bridge.doors.native.protocol import (
    EditSlots,
    GetValues,
    Ping,
    Request,
    SetAudio,
    SetTransport,
    SetValues,
    Upload,
    WantBeats,
    WantMeters,
    ack,
    error,
    event,
    hello,
    parse,
)
from bridge.errors import WireError
from bridge.session.messages import Action, Changed, Deed, Gap, Goaway, PlayerState, Stats, Transported
from bridge.session.timeline import AT_ONCE, Moment

from ..web_session import RATE_HZ, TABLE, SineSession

UPLOAD = 1_000


def read(**message: object) -> Request:
    return parse(json.dumps(message), TABLE, RATE_HZ, UPLOAD)


@pytest.mark.parametrize(
    ("message", "body"),
    [
        ({"type": "set", "values": {"mute": 1}}, SetValues({"mute": True}, None)),
        ({"type": "set", "values": {"top_k": 5}, "at_sample": 64_000}, SetValues({"top_k": 5}, Moment(sample=64_000))),
        (
            {"type": "set", "values": {"top_k": 5}, "at_sample": 44_100, "rate_hz": 44_100},
            SetValues({"top_k": 5}, Moment(sample=48_000)),
        ),
        (
            {"type": "set", "values": {"top_k": 5}, "at_sample": 7, "rate_hz": None},
            SetValues({"top_k": 5}, Moment(sample=7)),
        ),
        ({"type": "transport", "action": "stop"}, SetTransport(Action.STOP)),
        (
            {"type": "transport", "action": "play", "at_sample": 96_000},
            SetTransport(Action.PLAY, Moment(sample=96_000)),
        ),
        (
            {"type": "transport", "action": "play", "at_sample": 192_000, "rate_hz": 192_000},
            SetTransport(Action.PLAY, Moment(sample=48_000)),
        ),
        ({"type": "set", "values": {"top_k": 5}, "at_beat": 17.5}, SetValues({"top_k": 5}, Moment(beat=17.5))),
        ({"type": "set", "values": {"top_k": 5}, "quantize": "2 bars"}, SetValues({"top_k": 5}, Moment(every=8))),
        ({"type": "transport", "action": "stop", "quantize": "off"}, SetTransport(Action.STOP, AT_ONCE)),
        (
            {"type": "rack", "action": "remove", "slot": 1, "quantize": "bar"},
            EditSlots(Deed.REMOVE, 1, "", None, Moment(every=4)),
        ),
        ({"type": "beats", "enabled": True}, WantBeats(True)),
        ({"type": "meters", "enabled": False}, WantMeters(False)),
        ({"type": "get"}, GetValues(None)),
        ({"type": "get", "name": "seed"}, GetValues("seed")),
        ({"type": "ping", "t": "x"}, Ping("x")),
        ({"type": "audio", "codec": "opus", "more": 1}, SetAudio({"codec": "opus"})),
        ({"type": "audio_prompt", "bytes": 1_000}, Upload(1_000)),
        ({"type": "melody", "bytes": 1_000, "at_sample": 7}, Upload(1_000, "melody", Moment(sample=7))),
        ({"type": "style", "bytes": 0}, Upload(0, "style")),
    ],
)
def test_every_type_is_read(message: dict[str, object], body: object) -> None:
    assert read(**message) == Request(None, body)  # type: ignore[arg-type]
    assert read(**message, id="me").id == "me"


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ({"type": "set"}, "bad_message"),
        ({"type": "set", "values": {}}, "bad_message"),
        ({"type": "set", "values": {"mute": 2}}, "bad_value"),
        ({"type": "set", "values": {"top_k": "many"}}, "bad_value"),
        ({"type": "set", "values": {"prompt/1/text": "x" * 2_001}}, "bad_value"),
        ({"type": "set", "values": {"top_k": 5}, "at_sample": -1}, "bad_value"),
        ({"type": "set", "values": {"top_k": 5}, "at_sample": True}, "bad_value"),
        ({"type": "set", "values": {"top_k": 5}, "at_sample": 1e300}, "bad_value"),
        ({"type": "set", "values": {"top_k": 5}, "at_sample": 5, "rate_hz": 7_999}, "bad_value"),
        ({"type": "set", "values": {"top_k": 5}, "at_sample": 5, "rate_hz": 192_001}, "bad_value"),
        ({"type": "set", "values": {"top_k": 5}, "at_sample": 5, "rate_hz": 44_100.5}, "bad_value"),
        ({"type": "set", "values": {"top_k": 5}, "rate_hz": "fast"}, "bad_value"),
        ({"type": "transport", "action": "play", "at_sample": -1}, "bad_value"),
        ({"type": "set", "values": {"top_k": 5}, "at_beat": -1}, "bad_value"),
        ({"type": "set", "values": {"top_k": 5}, "at_beat": True}, "bad_value"),
        ({"type": "set", "values": {"top_k": 5}, "quantize": "3 bars"}, "bad_value"),
        ({"type": "set", "values": {"top_k": 5}, "quantize": ["bar"]}, "bad_value"),
        ({"type": "set", "values": {"top_k": 5}, "quantize": "bar", "at_beat": 4}, "bad_message"),
        ({"type": "preset", "action": "save", "name": "a", "quantize": "bar"}, "bad_message"),
        ({"type": "beats", "enabled": 1}, "bad_value"),
        ({"type": "meters"}, "bad_value"),
        ({"type": "get", "name": "nothing"}, "bad_value"),
        ({"type": "get", "name": ["seed"]}, "bad_value"),
        ({"type": "transport"}, "bad_value"),
        ({"type": "transport", "action": ["play"]}, "bad_value"),
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
    seeds = [
        '{"type":"set","values":{"top_k":5,"mute":true},"at_sample":7,"rate_hz":44100,"id":"a"}',
        '{"type":"audio","chunk_ms":20}',
    ]
    refusals = []
    for _ in range(20_000):
        text = list(draw.choice(seeds))
        for _ in range(draw.randint(1, 5)):
            text[draw.randrange(len(text))] = draw.choice('{}[]",:\\u0e9-+.ntf\x00é𝄞\ud800')
        try:
            parse("".join(text), TABLE, RATE_HZ, UPLOAD)
        except WireError as problem:
            refusals.append(error(problem))
    assert len(refusals) > 10_000
    assert all(map(str.isascii, refusals))


def test_hello_lists_the_sessions_own_table_and_both_rates() -> None:
    table = {**TABLE, "guidance_scale": replace(TABLE["guidance_scale"], default=1.0)}
    session = SineSession(table=table, position=5)
    audio = {"codec": "s16le", "sample_rate_hz": 44_100, "chunk_ms": 40.0, "enabled": True, "channels": 2}
    message = json.loads(hello(session, audio, ["s16le"]))
    assert [row["name"] for row in message["parameters"]] == list(TABLE)
    assert (message["effects"], message["presets"]) == (session.effects(), [])
    fields = ["name", "type", "min", "max", "default", "unit", "description"]
    assert list(message["parameters"][0]) == fields
    assert {row["name"]: row["default"] for row in message["parameters"]}["guidance_scale"] == 1.0
    assert message["audio"] == audio
    assert (message["sample_rate_hz"], message["model_rate_hz"]) == (48_000, 32_000)
    assert message["state"] == {
        "values": session.values(), "state": "playing", "playing": True, "position_samples": 5, "slots": [],
        "heard": "a sine",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("told", "message"),
    [
        (
            Changed({"top_k": 5}, "osc", 7),
            {"type": "changed", "values": {"top_k": 5}, "by": "osc", "applied_at_sample": 7, "rate_hz": 48_000},
        ),
        (
            Transported("audio_prompt", PlayerState.PAUSED, "osc", 7),
            {
                "type": "transport",
                "action": "audio_prompt",
                "state": "paused",
                "by": "osc",
                "applied_at_sample": 7,
                "rate_hz": 48_000,
            },
        ),
        (
            Gap(1, 2, "underrun"),
            {"type": "gap", "from_sample": 1, "samples": 2, "reason": "underrun", "rate_hz": 48_000},
        ),
        (Goaway("bye"), {"type": "goaway", "reason": "bye"}),
    ],
)
def test_events_are_written_as_the_contract_says(told: protocol.Told, message: dict[str, object]) -> None:
    assert json.loads(event(told, 48_000)) == message


def test_stats_without_a_finite_factor_stay_json() -> None:
    message = json.loads(event(Stats(float("inf"), 1.5, 0, 2, 3, 4, True, PlayerState.PLAYING), 48_000))
    assert (message["realtime_factor"], message["lead_seconds"], message["window_position"]) == (None, 1.5, 3)
    assert (message["playing"], message["state"], message["rate_hz"]) == (True, "playing", 48_000)


def test_ack_and_error_echo_the_id_if_there_was_one() -> None:
    assert json.loads(ack(None, 5, 48_000)) == {"type": "ack", "applied_at_sample": 5, "rate_hz": 48_000}
    assert json.loads(ack(0, 5, 48_000, t=1)) == {
        "type": "ack", "id": 0, "applied_at_sample": 5, "rate_hz": 48_000, "t": 1
    }  # fmt: skip
    assert json.loads(error(WireError("bad_json", "é", 2))) == {
        "type": "error", "id": 2, "code": "bad_json", "message": "é"
    }  # fmt: skip


@pytest.mark.parametrize(("name", "sent", "value"), [("top_k", "5", 5), ("top_k", 4.6, 5), ("temperature", "1.2", 1.2)])
def test_numbers_are_read_as_controllers_send_them(name: str, sent: object, value: object) -> None:
    request = parse(json.dumps({"type": "set", "values": {name: sent}}), TABLE, 48_000, 1_000)
    assert request.body == SetValues({name: value})
