"""Google's messages, as the SDKs send them, and what is none."""

from __future__ import annotations

import base64
import json
import random
from collections import Counter

import pytest

from bridge.doors.lyria.music_request import MusicRequest
from bridge.doors.lyria.protocol import MIME, Config, Control, Setup, WeightedPrompts, audio, parse
from bridge.errors import WireError
from bridge.session.parameters import session_table

from ..mutations import mutated_lyria


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"setup": {"model": "models/lyria-realtime-exp"}}', Setup()),
        (
            '{"clientContent": {"weightedPrompts": [{"text": "a", "weight": 0.5}, {"text": "b"}]}}',
            WeightedPrompts((("a", 0.5), ("b", 1.0))),
        ),
        ('{"client_content": {"weighted_prompts": [{"text": "a", "weight": 0}]}}', WeightedPrompts((("a", 0.0),))),
        ('{"musicGenerationConfig": {"bpm": 90, "topK": null}}', Config({"bpm": 90})),
        ('{"music_generation_config": {"top_k": 40, "mute_bass": true}}', Config({"topK": 40, "muteBass": True})),
        ('{"musicGenerationConfig": {}}', Config({})),
        ('{"playbackControl": "RESET_CONTEXT"}', Control("RESET_CONTEXT")),
    ],
)
def test_what_the_sdks_send_is_understood(text: str, message: object) -> None:
    assert parse(text) == message
    assert parse(text.encode()) == message


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("{", "bad_json"),
        ("[" * 100_000, "bad_json"),
        ("[]", "bad_message"),
        ("{}", "bad_message"),
        ('{"setup": {}, "playbackControl": "PLAY"}', "bad_message"),
        ('{"realtimeInput": {}}', "unknown_type"),
        ('{"playbackControl": "REWIND"}', "bad_value"),
        ('{"musicGenerationConfig": 1}', "unknown_type"),
        ('{"clientContent": {"weightedPrompts": []}}', "bad_value"),
        ('{"clientContent": {"weightedPrompts": [{"text": 1, "weight": 1}]}}', "bad_value"),
        ('{"clientContent": {"weightedPrompts": [{"text": "a", "weight": NaN}]}}', "bad_json"),
        ('{"musicGenerationConfig": {"temperature": Infinity}}', "bad_json"),
        ('{"clientContent": {"weightedPrompts": [{"text": "a", "weight": 1e999}]}}', "bad_value"),
        ('{"clientContent": {"weightedPrompts": [{"text": "a", "weight": -1e999}]}}', "bad_value"),
        ('{"clientContent": {"weightedPrompts": [{"text": "a", "weight": ' + "9" * 400 + "}]}}", "bad_value"),
        ('{"clientContent": {"weightedPrompts": [{"text": "a", "weight": true}]}}', "bad_value"),
        ('{"clientContent": 5}', "bad_value"),
    ],
)
def test_what_is_none_of_them_is_told(text: str, code: str) -> None:
    with pytest.raises(WireError) as problem:
        parse(text)
    assert problem.value.code == code


def test_mutated_messages_are_understood_or_refused() -> None:
    draw, table, told = random.Random(7), session_table(), Counter[str]()
    request = MusicRequest()
    for _ in range(5_000):
        try:
            message = parse(mutated_lyria(draw))
        except WireError as problem:
            told[problem.code] += 1
            continue
        if isinstance(message, WeightedPrompts):
            request.prompt(message.weighted)
        elif isinstance(message, Config):
            request.configure(message.fields)
        for name, value in request.values(table).items():
            table[name].check(value)
        told["understood"] += 1
    assert min(told[kind] for kind in ("understood", "bad_json", "bad_value", "unknown_type")) > 50


def test_a_chunk_tells_its_sound_its_source_and_what_was_not_done() -> None:
    told = json.loads(audio(b"\1\2\3\4", {"musicGenerationConfig": {"bpm": 90}}, ["one", "two"]))
    (chunk,) = told["serverContent"]["audioChunks"]
    assert base64.b64decode(chunk["data"]) == b"\1\2\3\4"
    assert (chunk["mimeType"], told["warning"]) == (MIME, "one; two")
    assert chunk["sourceMetadata"]["musicGenerationConfig"] == {"bpm": 90}
    assert "warning" not in json.loads(audio(b"", {}, []))
