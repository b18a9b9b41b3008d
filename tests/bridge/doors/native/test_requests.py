"""streamgen.v1 without a socket: what is read, what is refused."""

from __future__ import annotations

import json
import random

import pytest

from bridge.doors.native.answers import error
from bridge.doors.native.requests import GetValues, Ping, Request, SetAudio, Upload, WantBeats, WantMeters, parse
from bridge.errors import WireError
from bridge.session.commands import (
    MAX_PRESET_NAME,
    Action,
    EditRack,
    RackAction,
    RecallPreset,
    SavePreset,
    Set,
    Transport,
)
from bridge.session.timeline import AT_ONCE, Moment

from ..web_session import RATE_HZ, TABLE

UPLOAD = 1_000


def read(**message: object) -> Request:
    return parse(json.dumps(message), TABLE, RATE_HZ, UPLOAD, "me")


@pytest.mark.parametrize(
    ("message", "body"),
    [
        ({"type": "set", "values": {"mute": 1}}, Set({"mute": True}, "me")),
        ({"type": "set", "values": {"top_k": 5}, "at_sample": 64_000}, Set({"top_k": 5}, "me", Moment(sample=64_000))),
        (
            {"type": "set", "values": {"top_k": 5}, "at_sample": 44_100, "rate_hz": 44_100},
            Set({"top_k": 5}, "me", Moment(sample=48_000)),
        ),
        (
            {"type": "set", "values": {"top_k": 5}, "at_sample": 7, "rate_hz": None},
            Set({"top_k": 5}, "me", Moment(sample=7)),
        ),
        ({"type": "transport", "action": "stop"}, Transport(Action.STOP, "me")),
        (
            {"type": "transport", "action": "play", "at_sample": 96_000},
            Transport(Action.PLAY, "me", Moment(sample=96_000)),
        ),
        (
            {"type": "transport", "action": "play", "at_sample": 192_000, "rate_hz": 192_000},
            Transport(Action.PLAY, "me", Moment(sample=48_000)),
        ),
        ({"type": "set", "values": {"top_k": 5}, "at_beat": 17.5}, Set({"top_k": 5}, "me", Moment(beat=17.5))),
        ({"type": "set", "values": {"top_k": 5}, "quantize": "2 bars"}, Set({"top_k": 5}, "me", Moment(every=8))),
        ({"type": "transport", "action": "stop", "quantize": "off"}, Transport(Action.STOP, "me", AT_ONCE)),
        (
            {"type": "rack", "action": "remove", "slot": 1, "quantize": "bar"},
            EditRack(RackAction.REMOVE, "me", 1, at=Moment(every=4)),
        ),
        ({"type": "preset", "action": "save", "name": "a"}, SavePreset("a", "me")),
        (
            {"type": "preset", "action": "recall", "name": "a", "seconds": 2, "slot": 1, "at_beat": 4},
            RecallPreset("a", "me", 2.0, 1, Moment(beat=4)),
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
        ({"type": "preset", "action": "save", "name": "a" * (MAX_PRESET_NAME + 1)}, "bad_value"),
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
            parse("".join(text), TABLE, RATE_HZ, UPLOAD, "me")
        except WireError as problem:
            refusals.append(error(problem))
    assert len(refusals) > 10_000
    assert all(map(str.isascii, refusals))


@pytest.mark.parametrize(("name", "sent", "value"), [("top_k", "5", 5), ("top_k", 4.6, 5), ("temperature", "1.2", 1.2)])
def test_numbers_are_read_as_controllers_send_them(name: str, sent: object, value: object) -> None:
    request = parse(json.dumps({"type": "set", "values": {name: sent}}), TABLE, 48_000, 1_000, "me")
    assert request.body == Set({name: value}, "me")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[" * 60_000, "nested too deeply"),
        ('{"type": "set", "values": {"seed": ' + "9" * 5_000 + "}}", "thousands of digits"),
        ('{"type": "ping", "t": NaN}', "NaN is no number of JSON"),
    ],
    ids=["deep", "digits", "constant"],
)
def test_what_is_no_json_is_told_in_the_protocols_words_not_pythons(text: str, told: str) -> None:
    with pytest.raises(WireError, match=told) as problem:
        parse(text, TABLE, RATE_HZ, UPLOAD, "me")
    assert problem.value.code == "bad_json"
    assert "sys." not in str(problem.value)
