"""Where commands land, with nothing made ahead; landings of whole players are in test_quantize.py."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from bridge.audio.output import OutputPath
from bridge.session.landing import Landing
from bridge.session.parameters import Parameters, session_table
from bridge.session.timeline import AT_ONCE, Moment, Timeline, quantized
from streamgen.testing import FakeClock

SECOND = 48_000


def made(quantize: str = "off", *, quick: bool = True) -> tuple[Landing, Timeline, OutputPath]:
    clock = FakeClock(50.0)
    timeline = Timeline(SECOND, clock, lambda: 1e9 + clock())
    output = OutputPath(32_000, SECOND, 2, 3_200)
    generator = SimpleNamespace(taken=0, block_samples=3_200, pace=SimpleNamespace(quick=quick))
    parameters = Parameters(session_table(), {"quantize": quantize})
    return Landing(timeline, generator, output, parameters), timeline, output  # type: ignore[arg-type]


def test_what_names_its_moment_keeps_it_and_the_parameter_speaks_for_the_rest() -> None:
    landing, timeline, _ = made("bar")
    assert landing.moment(None, True) is None, "it stands still, and its beats with it"
    timeline.start(0)
    assert landing.moment(None, True) == Moment(beat=0, every=4)
    assert landing.moment(None, True, 1) == Moment(beat=4, every=4)
    assert landing.moment(None, False) is None
    assert landing.moment(quantized(1), False, 30_000) == Moment(beat=2, every=1)
    for moment in (AT_ONCE, Moment(sample=7), Moment(unix_seconds=1e9), Moment(beat=9.5)):
        assert landing.moment(moment, True) == moment
    assert made()[0].moment(None, True) is None


def test_a_beat_that_is_missed_is_the_next_of_its_kind() -> None:
    landing, timeline, _ = made()
    timeline.start(0)
    assert landing.sample(Moment(beat=4, every=4), 90_000) == 2 * SECOND
    assert landing.sample(Moment(beat=4, every=4), 97_000) == 4 * SECOND
    assert landing.sample(Moment(beat=4), 97_000) == 2 * SECOND, "a beat by its number has no next"
    assert landing.sample(AT_ONCE, 0) is None
    assert landing.sample(None, 0) is None


def test_far_off_it_waits_and_a_slow_machine_needs_longer() -> None:
    landing, timeline, output = made()
    assert landing.is_far(Moment(unix_seconds=1e9 + 5)), "a time that has no sample"
    timeline.start(0)
    assert landing.is_far(Moment(beat=7))
    assert not landing.is_far(Moment(beat=6))
    assert not landing.is_far(Moment(sample=10**9))
    assert landing.soonest == output.session_sample(6_400)
    assert made(quick=False)[0].soonest == pytest.approx(output.session_sample(6_400) + 0.35 * SECOND, abs=2)
