from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from streamgen.config import CONTROLS, MAX_TEXT, ControlSpec, ControlValues, checked, number, switch, text
from streamgen.errors import ConfigError, PromptError

NUMBERS = [name for name, spec in CONTROLS.items() if spec.type in ("float", "int")]


@pytest.mark.parametrize("name", NUMBERS)
def test_limits_and_default_are_allowed_and_beyond_is_not(name: str) -> None:
    spec = CONTROLS[name]
    low, high = spec.limits
    for value in (low, high, spec.default):
        assert spec.check(value) == value
        assert spec.parse(f"{value:.0f}" if spec.type == "int" else repr(value)) == value
    step = 1 if spec.type == "int" else 1e-6
    for value in (low - step, high + step, float("nan"), float("inf"), 10**400, None, "3", True, 1j):
        with pytest.raises(ConfigError, match=f"{name} is .*, must be"):
            spec.check(value)


def test_numpy_numbers_are_numbers() -> None:
    assert CONTROLS["temperature"].check(np.float32(0.5)) == 0.5
    assert CONTROLS["top_k"].check(np.int64(3)) == 3
    assert isinstance(CONTROLS["top_k"].check(3.0), int)


def test_the_message_says_name_value_limit_and_unit() -> None:
    with pytest.raises(ConfigError) as caught:
        CONTROLS["glide_seconds"].check(61)
    assert str(caught.value) == "glide_seconds is 61, must be within 0 … 60 s"


@pytest.mark.parametrize("words", ["", "x", "nan", "inf", "1e999", "0x1", "1,5"])
def test_what_is_no_number_is_refused_with_the_range(words: str) -> None:
    with pytest.raises(ConfigError, match=r"temperature is .* must be .*within 0 … 5"):
        CONTROLS["temperature"].parse(words)


def test_a_fraction_is_no_whole_number() -> None:
    with pytest.raises(ConfigError, match=r"top_k is '1\.5', must be a whole number"):
        CONTROLS["top_k"].parse("1.5")
    with pytest.raises(ConfigError, match=r"top_k is 1\.5, must be a whole number"):
        CONTROLS["top_k"].check(1.5)


def test_an_unknown_name_lists_the_known() -> None:
    with pytest.raises(ConfigError, match="there is no parameter 'x'; there are negative_prompt, guidance_scale, "):
        checked(CONTROLS, {"x": 1})


def test_each_row_says_what_it_is_and_every_type_has_a_row() -> None:
    for name, spec in CONTROLS.items():
        assert spec.name == name
        assert spec.description
        if spec.has_range:
            low, high = spec.limits
            assert low <= float(spec.default) <= high
            assert spec.from_unit(spec.to_unit(spec.default)) == pytest.approx(spec.default)
    assert set(ControlValues.__annotations__) - set(CONTROLS) == {
        "prompt", "prompts", "melody", "melody_rate_hz", "style", "style_rate_hz"
    }  # fmt: skip


def named(spec: ControlSpec) -> ControlSpec:
    return ControlSpec(**{**vars(spec), "name": "it"})


def test_switches_take_what_people_write() -> None:
    spec = named(switch(False, "a switch"))
    assert [spec.check(value) for value in (True, 0, 1.0)] == [True, False, True]
    assert [spec.parse(words) for words in ("on", "False", "1")] == [True, False, True]
    for wrong in ("maybe", 2, None):
        with pytest.raises(ConfigError, match=r"it is .*, must be true or false"):
            spec.check(wrong)


def test_texts_have_a_length_and_maybe_choices() -> None:
    assert named(text("words")).check("") == ""
    with pytest.raises(PromptError, match="it has 2,001 characters, the limit is 2,000"):
        named(text("words")).check("a" * (MAX_TEXT + 1))
    spec = named(text("one of two", "a", ("a", "b")))
    assert spec.parse("b") == "b"
    with pytest.raises(ConfigError, match="it is 'c', must be one of a, b"):
        spec.check("c")
    assert spec.as_dict()["choices"] == ["a", "b"]


def test_a_controllers_position_becomes_a_value_and_back() -> None:
    spec = named(number(-60, 12, 0, "dB", "level"))
    assert (spec.from_unit(0), spec.from_unit(1), spec.to_unit(-24)) == (-60, 12, 0.5)
    assert named(number(0, 5, 0, "", "steps", whole=True)).from_unit(0.5) == 2
    assert named(switch(True, "on or off")).from_unit(0.7) is True
    with pytest.raises(ConfigError, match=r"it/norm is 1\.5, must be within 0 … 1"):
        spec.from_unit(1.5)
    with pytest.raises(ConfigError, match="has no 0 … 1 range"):
        named(text("words")).from_unit(0.5)


def test_what_a_checkpoint_was_not_made_for_is_told_in_its_row_alone() -> None:
    spec = CONTROLS["guidance_scale"]
    assert "supported" not in spec.as_dict()
    assert replace(spec, supported=False).as_dict()["supported"] is False
