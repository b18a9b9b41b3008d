"""Google's configuration in the session's words: the whole of it each time, and what cannot be is told."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from bridge.doors.lyria.music_request import MusicRequest
from bridge.session.parameters import Parameters, session_table

TABLE = session_table()


def requested(*prompts: tuple[str, float], fresh: bool = True, **config: Any) -> tuple[MusicRequest, dict[str, Any]]:
    request = MusicRequest()
    request.prompt(prompts or (("piano", 1.0),))
    request.configure(config)
    if fresh:
        request.begin_anew()
    values = request.values(TABLE)
    assert Parameters(TABLE).checked(values) == values
    return request, values


def test_prompts_take_the_place_of_all_before_and_the_heaviest_has_weight_one() -> None:
    request, values = requested(("piano", 3.0), ("rain", 1.5))
    assert (values["prompt/1/text"], values["prompt/1/weight"]) == ("piano", 1.0)
    assert (values["prompt/2/text"], values["prompt/2/weight"]) == ("rain", 0.5)
    assert (values["prompt/3/text"], values["prompt/3/weight"]) == ("", 0.0)
    request.prompt((("drums", 0.2),))
    assert [text for name, text in request.values(TABLE).items() if name.endswith("text") and text] == ["drums"]
    assert request.told() == []


def test_weights_that_cannot_be_and_too_many_prompts_are_told() -> None:
    request, values = requested(*((f"prompt {at}", float(at)) for at in range(12)))
    assert values["prompt/1/text"] == "prompt 11"
    assert values["prompt/8/text"] == "prompt 4"
    assert request.told() == [
        "prompts of weight 0 or less, or without words, are silent",
        "the 8 heaviest of 11 prompts sound",
    ]
    request.prompt((("a", 0.0), ("b", -1.0)))
    assert request.values(TABLE)["prompt/1/text"] == "prompt 11"
    assert request.told()[-1] == "no prompt sounds: those before go on"
    assert request.told() == []


def test_what_a_configuration_leaves_out_is_as_at_the_beginning() -> None:
    request, values = requested(temperature=1.5, topK=77, guidance=4.0, seed=5)
    assert (values["temperature"], values["top_k"], values["guidance_scale"], values["seed"]) == (1.5, 77, 4.0, 5)
    request.configure({"temperature": 2})
    values = request.values(TABLE)
    assert (values["temperature"], values["top_k"]) == (2.0, TABLE["top_k"].default)
    assert values["guidance_scale"] == TABLE["guidance_scale"].default
    assert "seed" not in values


def test_tempo_and_scale_wait_for_the_context_to_begin_anew() -> None:
    request, values = requested(bpm=94, scale="C_MAJOR_A_MINOR")
    assert (values["tempo"], values["prompt/1/text"]) == (94.0, "piano, in C major")
    request.configure({"bpm": 125, "scale": "D_FLAT_MAJOR_B_FLAT_MINOR"})
    assert request.values(TABLE)["tempo"] == 94.0
    assert request.told() == ["bpm and scale: after RESET_CONTEXT"]
    request.begin_anew()
    values = request.values(TABLE)
    assert (values["tempo"], values["prompt/1/text"]) == (125.0, "piano, in Db major")
    _, values = requested(scale="SCALE_UNSPECIFIED", fresh=False)
    assert (values["tempo"], values["prompt/1/text"]) == (0.0, "piano")


def test_what_is_only_words_and_filters_here_is_told() -> None:
    request, values = requested(
        muteBass=True, muteDrums=True, density=0.9, brightness=1.0, musicGenerationMode="DIVERSITY"
    )
    assert values["prompt/1/text"] == "piano, dense, no bass, no drums"
    assert values["negative_prompt"] == "bass, drums"
    assert request.equalizer() == {"low_hz": 160.0, "low_db": -18.0, "high_hz": 3_000.0, "high_db": 12.0}
    told = "; ".join(request.told())
    assert all(name in told for name in ("muteBass", "muteDrums", "density", "musicGenerationMode"))
    request, values = requested(onlyBassAndDrums=True, density=0.1)
    assert values["prompt/1/text"] == "piano, sparse, only bass and drums"
    request, values = requested()
    assert not any(value for name, value in request.equalizer().items() if name.endswith("db"))
    assert request.told() == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("bpm", 20),
        ("bpm", "fast"),
        ("temperature", 4),
        ("topK", True),
        ("scale", "H_MAJOR"),
        ("muteBass", 1),
        ("reverb", 0.5),
    ],
)
def test_what_is_out_of_range_or_unknown_is_left_out_and_told(name: str, value: Any) -> None:
    request, values = requested(**{name: value})
    assert values == requested()[1]
    assert request.told()[0].startswith(f"{name} is ")
    assert name not in request.source()["musicGenerationConfig"]


def test_what_the_model_was_not_made_for_is_left_out_and_told() -> None:
    request, _ = requested(guidance=4.0, muteDrums=True)
    request.told()
    table = TABLE | {name: replace(TABLE[name], supported=False) for name in ("guidance_scale", "negative_prompt")}
    values = request.values(table)
    assert values["guidance_scale"] == table["guidance_scale"].default
    assert values["negative_prompt"] == ""
    assert "no drums" in values["prompt/1/text"]
    assert request.told() == ["guidance is 4, this model was not made for it: left out"]


def test_a_long_prompt_leaves_room_for_the_words_and_the_tempo() -> None:
    _, values = requested(("x" * 2_000, 1.0), muteDrums=True, bpm=120)
    text = values["prompt/1/text"]
    assert text.endswith("x, no drums")
    assert len(f"{text}, {values['tempo']:g} bpm") == 2_000
