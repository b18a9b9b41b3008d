from __future__ import annotations

from bridge.mix import prompts_of, stream_controls
from bridge.parameters import defaults


def test_sounding_slots_become_weighted_prompts_with_tempo_words() -> None:
    values = {**defaults(), "prompt/1/text": "piano", "prompt/3/text": "drums", "prompt/3/weight": 0.5, "tempo": 125.0}
    values["prompt/4/text"] = "silent"  # its weight is 0
    assert prompts_of(values) == [("piano, 125 bpm", 1.0), ("drums, 125 bpm", 0.5)]


def test_no_sounding_slot_is_unconditional() -> None:
    assert stream_controls(defaults(), {"prompt/1/text": "  "}) == {"prompt": None}


def test_only_what_changed_is_told() -> None:
    values = {**defaults(), "prompt/1/text": "piano"}
    assert stream_controls(values, {"temperature": 0.5, "gain_db": 3.0}) == {"temperature": 0.5}
    assert stream_controls(values, {"tempo": 90.0})["prompts"] == [("piano", 1.0)]
    assert stream_controls(values, {"negative_prompt": " "}) == {"negative_prompt": None}
    assert stream_controls(values, {"gain_db": 3.0}) == {}
