"""The mix of a slot by its formula, and nothing computed where nothing is to be mixed."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from bridge.audio.effect import ParameterChange, Pcm
from bridge.audio.slot_mix import MIX, SlotMix, mix_parameters
from streamgen.config import number

RATE_HZ = 48_000
DRY, WET = np.full((2, 100), 1.0, np.float32), np.full((2, 100), 0.5, np.float32)


def mixed(share: float = 1.0, **values: float | bool) -> Pcm:
    mix = SlotMix(RATE_HZ, MIX)
    for name, value in values.items():
        mix.aim(ParameterChange(0, name, value))
    mix.settle()
    return mix.mixed(DRY, WET * np.float32(share), share)


@pytest.mark.parametrize("share", [1.0, 0.25])
@pytest.mark.parametrize("bypass", [False, True])
@pytest.mark.parametrize("wet", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("gain", [0.0, -6.0])
@pytest.mark.parametrize("trim", [0.0, 12.0])
def test_it_is_its_formula(share: float, bypass: bool, wet: float, gain: float, trim: float) -> None:
    shown, g, t = share * (not bypass), 10 ** (gain / 20), 10 ** (trim / 20)
    expected = (1 - shown) * DRY + shown * g * ((1 - wet) * t * DRY + wet * WET)
    found = mixed(share, bypass=bypass, wet=wet, gain_db=gain, input_db=trim)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_wholly_wet_is_the_effect_itself_and_bypassed_the_input() -> None:
    mix = SlotMix(RATE_HZ, MIX)
    assert mix.mixed(DRY, WET, 1.0) is WET
    assert mix.mixed(DRY, None, 0.0) is DRY


def test_an_effect_may_begin_with_a_mix_of_its_own() -> None:
    little = {**MIX, "wet": number(0, 1, 0.25, "", "little")}
    assert mix_parameters(SimpleNamespace(mix=little))["wet"].default == 0.25  # type: ignore[arg-type]
    assert mix_parameters(SimpleNamespace()) is MIX  # type: ignore[arg-type]
