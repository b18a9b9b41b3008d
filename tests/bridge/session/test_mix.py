from __future__ import annotations

from bridge.session.mix import own_defaults, prompts_of, stream_controls
from bridge.session.parameters import TABLE, defaults
from streamgen.checkpoint import GenerationDefaults
from streamgen.testing import FakeModel


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


def test_a_checkpoints_own_defaults_are_cut_to_the_table_and_to_its_windows() -> None:
    model = FakeModel(max_positions=753)
    model.defaults = GenerationDefaults(guidance_scale=2.5, top_k=50_000, change_context_seconds=0.0)
    own = own_defaults(model)
    assert (own["guidance_scale"], own["top_k"]) == (2.5, TABLE["top_k"].max)
    assert own["change_context_seconds"] == 0.0
    assert stream_controls({**defaults(), **own}, own)["change_context_seconds"] == 0.0
    assert own["context_seconds"] == 376 / 50  # half of 753 positions; the table's default is 12 s
