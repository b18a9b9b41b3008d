"""A plugin's 0 … 1 in its own units and words, there and back."""

from __future__ import annotations

import numpy as np
import pytest

from bridge.audio.plugins.engine import ParameterInfo
from bridge.audio.plugins.parameters import PluginParameter, plugin_parameters


def parameter(texts: list[str], value: float = 0.0, steps: int = 0, name: str = "X", unit: str = "") -> PluginParameter:
    (found,) = plugin_parameters([ParameterInfo(3, name, unit, value, steps, tuple(texts))]).values()
    return found


def there_and_back(found: PluginParameter) -> None:
    for place in np.linspace(0, 1, 11):
        assert found.to_unit(found.from_unit(float(place))) == pytest.approx(place, abs=1e-6)


def test_a_line_is_exact_whatever_its_texts_are_rounded_to() -> None:
    found = parameter([f"{0.1 + 99.9 * place:.1f}" for place in np.linspace(0, 1, 65)], 0.0990991, unit="ms")
    assert (found.spec.low, found.spec.high, found.spec.default, found.spec.unit) == (0.1, 100, 10.0, "ms")
    assert found.to_unit(50.05) == pytest.approx(0.5, abs=1e-9)
    there_and_back(found)


def test_a_curve_of_frequencies_is_followed_and_its_units_are_made_one() -> None:
    hertz = 20 * 1_000 ** np.linspace(0, 1, 65)
    texts = [f"{one:.1f} Hz" if one < 1_000 else f"{one / 1_000:.3f} kHz" for one in hertz]
    found = parameter(texts, 0.5)
    assert (found.spec.low, found.spec.high, found.spec.unit) == (20, 20_000, "Hz")
    assert found.spec.default == pytest.approx(632.5, rel=1e-3)
    assert found.to_unit(2_000.0) == pytest.approx(2 / 3, abs=2e-3)
    there_and_back(found)


def test_what_falls_is_followed_too() -> None:
    found = parameter([f"{-60 * place:.2f} dB" for place in np.linspace(0, 1, 65)], 1.0)
    assert (found.spec.low, found.spec.high, found.spec.default, found.spec.unit) == (-60, 0, -60, "dB")
    there_and_back(found)


def test_words_are_choices_and_no_two_are_the_same() -> None:
    found = parameter(["Zero", "Snare", "Snare", ""], 1 / 3, steps=4)
    assert found.spec.type == "string"
    assert found.spec.choices == ("Zero", "Snare", "Snare 2", "–")
    assert found.spec.default == "Snare"
    assert found.to_unit("Snare 2") == pytest.approx(2 / 3)
    assert found.from_unit(1.0) == "–"


@pytest.mark.parametrize("texts", [["Off", "On"], ["0.000", "1.000"], ["false", "true"]])
def test_two_values_are_a_switch(texts: list[str]) -> None:
    found = parameter(texts, 1.0, steps=2)
    assert (found.spec.type, found.spec.default) == ("bool", True)
    assert (found.to_unit(False), found.to_unit(True), found.from_unit(1.0)) == (0.0, 1.0, True)


def test_two_words_that_are_no_switch_are_choices() -> None:
    assert parameter(["Peak", "RMS"], steps=2).spec.choices == ("Peak", "RMS")


def test_a_few_whole_numbers_are_whole() -> None:
    found = parameter(["1", "2", "4", "8"], 1.0, steps=4)
    assert (found.spec.type, found.spec.low, found.spec.high, found.spec.default) == ("int", 1, 8, 8)
    assert found.to_unit(4) == pytest.approx(2 / 3)


@pytest.mark.parametrize("texts", [["-inf dB", "-6.0 dB", "0.0 dB"], ["0", "5", "3"], ["1", "1", "1"], ["", "", ""]])
def test_what_cannot_be_read_is_0_to_1(texts: list[str]) -> None:
    found = parameter(texts, 0.25)
    assert (found.spec.low, found.spec.high, found.spec.default) == (0, 1, 0.25)
    there_and_back(found)


def test_names_are_addresses_and_none_hides_the_slots_own() -> None:
    infos = [
        ParameterInfo(at, name, "", 0.0, 0, ("0", "1"))
        for at, name in enumerate(["In/Out #1", "Bypass", "A", "a", "?"])
    ]
    assert list(plugin_parameters(infos)) == ["in_out_1", "bypass_2", "a", "a_2", "parameter"]
