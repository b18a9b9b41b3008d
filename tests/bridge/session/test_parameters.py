"""The session's table, with its model's own defaults, and what a stream is told of it."""

from __future__ import annotations

import pytest

import streamgen
from bridge.session.parameters import Parameters, prompts_of, session_table, stream_controls, title_of
from streamgen.checkpoint import GenerationDefaults
from streamgen.config import CONTROLS, MAX_PROMPTS
from streamgen.errors import ConfigError, PromptError
from streamgen.testing import FakeModel

DEFAULTS = Parameters(session_table()).defaults


def test_every_control_of_the_engine_is_a_parameter_and_every_row_has_its_name() -> None:
    table = session_table()
    assert set(CONTROLS) <= set(table)
    assert all(spec.name == name and spec.description for name, spec in table.items())
    assert {"prompt/8/text", "prompt/8/weight", "tempo", "lead_seconds", "gain_db", "mute", "width"} <= set(table)


def test_a_sessions_defaults_are_its_models() -> None:
    model = FakeModel(max_positions=753)
    model.defaults = GenerationDefaults(guidance_scale=2.5, top_k=50_000, change_context_seconds=0.0)
    table = session_table(model)
    assert (table["guidance_scale"].default, table["top_k"].default) == (2.5, CONTROLS["top_k"].limits[1])
    assert table["change_context_seconds"].default == 0.0
    assert table["context_seconds"].default == table["context_seconds"].high == 376 / 50  # half of 753 positions
    parameters = Parameters(table, {"temperature": 0.4})
    assert parameters.values["guidance_scale"] == parameters.defaults["guidance_scale"] == 2.5
    assert (parameters.values["temperature"], parameters.defaults["temperature"]) == (0.4, 1.0)


def test_the_model_says_what_to_try() -> None:
    model = streamgen.load_model("pocket")
    table = session_table(model)
    slots = [table[f"prompt/{slot}/text"].as_dict()["suggestions"] for slot in range(1, MAX_PROMPTS + 1)]
    assert [model.heard(prompt).unheard for [prompt] in slots] == [()] * MAX_PROMPTS  # type: ignore[union-attr]
    assert table["tempo"].suggestions == model.tempi == (94, 125, 150)
    assert table["tempo"].description.endswith("this model plays 94, 125, 150")
    assert table["arrange"].default is True, "a bar of it is repeated for as long as it is let"
    free = session_table(FakeModel())
    assert (free["arrange"].default, session_table()["arrange"].default) == (False, False)
    assert "suggestions" not in free["tempo"].as_dict(), "it plays any"
    assert len({free[f"prompt/{slot}/text"].suggestions for slot in range(1, MAX_PROMPTS + 1)}) == MAX_PROMPTS


def test_wrong_values_are_refused_and_none_is_taken() -> None:
    parameters = Parameters(session_table())
    for wrong in ({"temperature": 99.0}, {"nonsense": 1}, {"mute": "yes"}, {"prompt/1/text": 3}):
        with pytest.raises(ConfigError):
            parameters.checked({"top_k": 7, **wrong})
    with pytest.raises(PromptError, match="the limit is 2,000"):
        parameters.checked({"prompt/2/text": "a" * 2_001})
    assert parameters.values == DEFAULTS


def test_sounding_slots_become_weighted_prompts_with_tempo_words() -> None:
    values = {**DEFAULTS, "prompt/1/text": "piano", "prompt/3/text": "drums", "prompt/3/weight": 0.5, "tempo": 125.0}
    values["prompt/4/text"] = "silent"  # its weight is 0
    assert prompts_of(values) == [("piano, 125 bpm", 1.0), ("drums, 125 bpm", 0.5)]


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        ("solo piano, 94 bpm", "solo piano, 117.5 bpm"),
        ("128BPM techno, dark", "techno, dark, 117.5 bpm"),
        ("techno, 128,5 bpm", "techno, 117.5 bpm"),
        ("120-130 bpm house", "house, 117.5 bpm"),
        ("house at 124.5 bpm; 909 drums", "house; 909 drums, 117.5 bpm"),
        ("125 bpm", "117.5 bpm"),
        ("the 808s of 1985", "the 808s of 1985, 117.5 bpm"),
    ],
)
def test_the_session_s_tempo_takes_the_place_of_a_prompt_s_own(prompt: str, said: str) -> None:
    """Else music at 94 plays against the room's 117.5."""
    assert prompts_of({**DEFAULTS, "prompt/1/text": prompt, "tempo": 117.5}) == [(said, 1.0)]
    assert prompts_of({**DEFAULTS, "prompt/1/text": prompt}) == [(prompt, 1.0)]


def test_no_sounding_slot_is_unconditional() -> None:
    assert stream_controls(DEFAULTS, {"prompt/1/text": "  "}) == {"prompt": None}


def test_only_what_changed_is_told() -> None:
    values = {**DEFAULTS, "prompt/1/text": "piano", "temperature": 0.5, "negative_prompt": " "}
    assert stream_controls(values, ["temperature", "gain_db"]) == {"temperature": 0.5}
    assert stream_controls(values, ["tempo"])["prompts"] == [("piano", 1.0)]
    assert stream_controls(values, ["negative_prompt"]) == {"negative_prompt": None}
    assert stream_controls(values, ["gain_db", "lead_seconds"]) == {}
    assert set(stream_controls(values, values)) == {*CONTROLS, "prompts"}


def test_the_title_is_what_sounds() -> None:
    values = dict(DEFAULTS)
    assert title_of(values) == "streamgen"
    values |= {"prompt/1/text": "piano\nsolo", "prompt/2/text": "rain", "prompt/2/weight": 0.4, "prompt/3/text": "no"}
    assert title_of(values | {"tempo": 94.0}) == "piano solo, 94 bpm + rain, 94 bpm"
