"""Where commands land, with nothing made ahead, and those that wait: joined, handed back when their moment has come.

Landings of whole players are in test_quantize.py.
"""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from bridge.audio.gain import Gain
from bridge.audio.output import OutputPath
from bridge.session import landing as landing_module
from bridge.session.commands import Action, EditRack, RackAction, Set, Transport
from bridge.session.landing import Landing, PendingCommands
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


# -- what waits --------------------------------------------------------------------------------------------------------

BEAT = Moment(beat=4.0)


def waits(*, running: bool = True) -> PendingCommands:
    clock = FakeClock(50.0)
    timeline = Timeline(48_000, clock, clock)
    if running:
        timeline.start(0)
    return PendingCommands(timeline)


def test_turns_of_one_hand_for_one_moment_become_one_change() -> None:
    waiting = waits()
    for top_k in (3, 5):
        waiting.add(BEAT, Set({"top_k": top_k}, "me", BEAT), 0)
    waiting.add(BEAT, Set({"temperature": 0.5}, "me", BEAT), 0)
    waiting.add(BEAT, Set({"top_k": 9}, "you", BEAT), 0)
    waiting.add(BEAT, Set({"gain_db": 0.0}, "you", BEAT, glide_seconds=1.0), 0)
    assert len(waiting) == 3
    due = [(command.values, command.by) for command in waiting.due(200_000) if isinstance(command, Set)]
    assert due == [({"top_k": 5, "temperature": 0.5}, "me"), ({"top_k": 9}, "you"), ({"gain_db": 0.0}, "you")]


def test_a_change_for_a_beat_is_handed_back_before_it_and_keeps_it() -> None:
    waiting = waits()
    waiting.add(BEAT, Set({"top_k": 3}, "me", BEAT), 48_000)
    waiting.add(BEAT, Transport(Action.PAUSE, "me", BEAT), 48_000)
    assert waiting.next_sample() == 96_000
    assert list(waiting.due(47_999)) == []
    assert list(waiting.due(48_000)) == [Set({"top_k": 3}, "me", BEAT)]
    assert list(waiting.due(95_999)) == []
    assert list(waiting.due(96_000)) == [Transport(Action.PAUSE, "me", AT_ONCE)], "its beat has come"
    assert waiting.next_sample() is None


def test_where_the_clock_stands_a_beat_that_has_come_is_now() -> None:
    waiting = waits(running=False)
    waiting.add(BEAT, Set({"top_k": 3}, "me", BEAT), 48_000)
    assert list(waiting.due(96_000)) == [Set({"top_k": 3}, "me", AT_ONCE)]


def test_calls_are_made_in_their_turn_and_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    waiting, called, closed = waits(), list[str](), list[object]()
    monkeypatch.setattr(landing_module, "close_effect", closed.append)
    waiting.call_at(Moment(sample=5), lambda: called.append("first"))
    waiting.call_at(Moment(sample=500_000), lambda: called.append("last"))
    effect = Gain()
    waiting.add(Moment(sample=500_000), EditRack(RackAction.ADD, "me", effect="gain", made=effect), 0)
    assert list(waiting.due(5)) == []
    assert called == ["first"]
    waiting.close()
    assert called == ["first", "last"]
    assert closed == [effect]
    assert len(waiting) == 0
