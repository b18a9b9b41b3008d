"""Whatever is asked for, whenever: a player by a fake clock, asked at random for changes at once and at samples."""

from __future__ import annotations

import numpy as np
import pytest

from bridge.session.commands import Set
from bridge.session.events import Changed
from bridge.session.parameters import prompts_of
from bridge.session.timeline import AT_ONCE, Moment
from streamgen.conditioning import PromptMix
from streamgen.testing import FakeModel

from .rig import FRAME, RATE_HZ, Rig, bars_of_a_second, lane, told


def asked_by_chance(rng: np.random.Generator, rig: Rig) -> Set:
    """A change of some parameters, at once or within two seconds."""
    texts = ["piano", "drop", "rain", ""]
    choices = {
        "temperature": round(float(rng.uniform(0.5, 1.5)), 3),
        "gain_db": round(float(rng.uniform(-12, 0)), 3),
        "take": int(rng.integers(0, 4)),
        "prompt/1/text": texts[int(rng.integers(4))],
        "prompt/2/text": texts[int(rng.integers(4))],
        "prompt/1/weight": round(float(rng.uniform(0, 2)), 3),
        "prompt/2/weight": round(float(rng.uniform(0, 2)), 3),
        "tempo": float(rng.integers(60, 180)),
    }
    names = rng.choice([*choices], int(rng.integers(1, 4)), replace=False)
    sample = rig.player.output.frontier + int(rng.integers(0, 2 * RATE_HZ))
    moments = [None, AT_ONCE, Moment(sample=sample), Moment(sample=sample)]
    seconds = float(rng.choice([0.0, 0.0, 0.7]))
    return Set({name: choices[name] for name in names}, "test", moments[int(rng.integers(4))], seconds)


@pytest.mark.parametrize("seed", range(6))
def test_whatever_is_asked_for_when_the_doors_tell_what_plays(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stream is asked at the end of what it has drawn, effects and beats at the end of what is final.

    Half of the time prompts wait for bar lines; a third of it the machine is slow, and leaves some of its lead alone.
    """
    rng, model = np.random.default_rng(seed), FakeModel()
    if seed % 2:
        monkeypatch.setattr(model.runtime.prompts, "heard", lambda text: text and bars_of_a_second(text))
    one = Rig(model, tempo=100.0, lead_seconds=2.0, on_bar=True)
    speed = 1.4 if seed % 3 == 0 else None
    one.run(1.0, speed=speed)
    for _ in range(6):
        for _ in range(int(rng.integers(1, 5))):
            one.player.do(asked_by_chance(rng, one))
            one.run(float(rng.uniform(0, 0.3)), speed=speed)
        one.run(2.2, speed=speed)
        while any(
            abs(event.applied_at_sample - one.player.output.frontier) <= 4 * FRAME for event in one.events(Changed)
        ):
            one.run(0.05, speed=speed)  # effects hold something back, and frames are long
        generator, output, scheduled = one.player.generator, one.player.output, one.player._scheduled
        drawn = scheduled.at(output.session_sample(generator.drawn - generator.hop_samples))
        controls = one.stream.controls
        assert controls.mix == PromptMix.of(prompts=prompts_of(drawn) or None), "at what is drawn"
        assert (controls.temperature, controls.take) == (drawn["temperature"], drawn["take"])
        final = scheduled.at(output.frontier)
        assert lane(one, "tempo") == final["tempo"]
        assert one.timeline.bpm(output.frontier) == pytest.approx(final["tempo"])
    one.run(4.0)
    values = one.player.parameters.values
    assert {name: told(one, name) for name in values} == one.player._scheduled.at(0)
    assert lane(one, "gain_db") == values["gain_db"]
    assert one.stream.controls.mix == PromptMix.of(prompts=prompts_of(values) or None)
    assert one.stream.controls.temperature == values["temperature"]
    assert one.timeline.bpm(one.player.output.frontier) == pytest.approx(values["tempo"])
    one.player.close()
