from __future__ import annotations

from dataclasses import replace

import pytest

from streamgen.checkpoint.types import GenerationDefaults
from streamgen.checkpoint.words import WORDINGS
from streamgen.config import CONTROLS
from streamgen.errors import ConfigError, PromptError
from streamgen.stream.controls import CONTROL_NAMES, MOST_OPENINGS, Controls

DEFAULTS = GenerationDefaults(guidance_scale=4.0, temperature=0.9, top_k=100, top_p=0.1, change_context_seconds=2.0)


def of(**values: object) -> Controls:
    return Controls.of(DEFAULTS, 15.0, values)


def test_the_checkpoints_defaults_hold_unless_said_otherwise() -> None:
    controls = of(top_k=7, temperature=None)
    assert (controls.guidance_scale, controls.temperature, controls.top_k, controls.top_p) == (4.0, 0.9, 7, 0.1)
    assert controls.context_seconds == CONTROLS["context_seconds"].default
    assert controls.change_context_seconds == 2.0
    assert of(change_context_seconds=0).change_context_seconds == 0.0


def test_the_default_context_is_cut_to_what_fits_and_a_said_one_is_not() -> None:
    assert Controls.of(DEFAULTS, 9.5, {}).context_seconds == 9.5
    assert Controls.of(DEFAULTS, 9.5, {"context_seconds": 11.0}).context_seconds == 11.0


def test_unseeded_streams_differ_and_are_within_the_seeds_range() -> None:
    seeds = {of().seed for _ in range(20)}
    assert len(seeds) > 15
    assert all(0 <= seed <= CONTROLS["seed"].limits[1] for seed in seeds)


def test_a_prompt_replaces_all_prompts_and_keeps_the_negative() -> None:
    controls = of(prompts=[("a", 1), ("b", 3)], negative_prompt="c").changed({"prompt": "d"})
    assert controls.mix.prompts == (("d", 1.0),)
    assert controls.mix.negative == "c"
    assert controls.changed({"negative_prompt": None}).mix.negative is None


def test_weights_are_kept_when_only_the_negative_changes() -> None:
    controls = of(prompts=[("a", 1), ("b", 3)]).changed({"negative_prompt": "c"})
    assert controls.mix.prompts == (("a", 0.25), ("b", 0.75))


def test_sampling_takes_the_four_numbers_it_needs() -> None:
    sampling = of(seed=5).sampling
    assert (sampling.temperature, sampling.top_k, sampling.top_p, sampling.seed) == (0.9, 100, 0.1, 5)


def test_every_name_can_be_set_and_no_other() -> None:
    for name in CONTROL_NAMES:
        if name in CONTROLS and CONTROLS[name].has_range:
            assert getattr(of().changed({name: CONTROLS[name].default}), name) == CONTROLS[name].default
    with pytest.raises(ConfigError, match="there is no control 'volume'"):
        of(volume=1)
    with pytest.raises(PromptError, match="both prompt and prompts"):
        of(prompt="a", prompts=[("b", 1)])


def test_a_number_leaves_the_prompts_as_they_are_to_the_bit() -> None:
    """Weights that are normalised again may differ by a rounding, which would begin a running glide again."""
    controls = of(prompts=[("a", 1.0), ("b", 3.1), ("c", 0.3)])
    assert of(prompts=controls.mix.prompts).mix != controls.mix, "the test needs such weights"
    assert controls.changed({"temperature": 0.5}).mix == controls.mix


def test_a_file_may_be_older_than_a_control() -> None:
    controls = Controls.of(GenerationDefaults(), 12.0, {"temperature": 0.5})
    older = {name: value for name, value in controls.numbers.items() if name != "guidance_interval"}
    read = replace(controls, numbers=older)
    assert (read.guidance_interval, read.temperature) == (1.0, 0.5)
    with pytest.raises(AttributeError, match="no control 'tempo'"):
        _ = read.tempo


@pytest.mark.parametrize("candidate", ["x", -1, 1.5, MOST_OPENINGS * (WORDINGS + 1) + 1, None])
def test_an_opening_that_cannot_be_is_told_as_any_number_is(candidate: object) -> None:
    with pytest.raises(ConfigError, match="candidate is "):
        of().changed({"candidate": candidate})
