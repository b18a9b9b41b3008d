"""Commands that wait: joined, handed back when their moment has come, given up with the player."""

from __future__ import annotations

import pytest

from bridge.audio.gain import Gain
from bridge.session import waiting as waiting_module
from bridge.session.commands import Action, EditRack, RackAction, Set, Transport
from bridge.session.timeline import AT_ONCE, Moment, Timeline
from bridge.session.waiting import PendingCommands
from streamgen.testing import FakeClock

BEAT = Moment(beat=4.0)


def made(*, running: bool = True) -> PendingCommands:
    clock = FakeClock(50.0)
    timeline = Timeline(48_000, clock, clock)
    if running:
        timeline.start(0)
    return PendingCommands(timeline)


def test_turns_of_one_hand_for_one_moment_become_one_change() -> None:
    waiting = made()
    for top_k in (3, 5):
        waiting.add(BEAT, Set({"top_k": top_k}, "me", BEAT), 0)
    waiting.add(BEAT, Set({"temperature": 0.5}, "me", BEAT), 0)
    waiting.add(BEAT, Set({"top_k": 9}, "you", BEAT), 0)
    waiting.add(BEAT, Set({"gain_db": 0.0}, "you", BEAT, glide_seconds=1.0), 0)
    assert len(waiting) == 3
    due = [(command.values, command.by) for command in waiting.due(200_000) if isinstance(command, Set)]
    assert due == [({"top_k": 5, "temperature": 0.5}, "me"), ({"top_k": 9}, "you"), ({"gain_db": 0.0}, "you")]


def test_a_change_for_a_beat_is_handed_back_before_it_and_keeps_it() -> None:
    waiting = made()
    waiting.add(BEAT, Set({"top_k": 3}, "me", BEAT), 48_000)
    waiting.add(BEAT, Transport(Action.PAUSE, "me", BEAT), 48_000)
    assert waiting.next_sample() == 96_000
    assert list(waiting.due(47_999)) == []
    assert list(waiting.due(48_000)) == [Set({"top_k": 3}, "me", BEAT)]
    assert list(waiting.due(95_999)) == []
    assert list(waiting.due(96_000)) == [Transport(Action.PAUSE, "me", AT_ONCE)], "its beat has come"
    assert waiting.next_sample() is None


def test_where_the_clock_stands_a_beat_that_has_come_is_now() -> None:
    waiting = made(running=False)
    waiting.add(BEAT, Set({"top_k": 3}, "me", BEAT), 48_000)
    assert list(waiting.due(96_000)) == [Set({"top_k": 3}, "me", AT_ONCE)]


def test_calls_are_made_in_their_turn_and_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    waiting, called, closed = made(), list[str](), list[object]()
    monkeypatch.setattr(waiting_module, "close_effect", closed.append)
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
