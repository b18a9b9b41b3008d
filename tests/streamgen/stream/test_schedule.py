from __future__ import annotations

from dataclasses import replace

import pytest

from streamgen.conditioning import PromptMix
from streamgen.errors import CapacityError
from streamgen.stream.schedule import PENDING_LIMIT, Change, ChangeHistory, Glide, Pending, due, queued


class Queue:
    """What waits and what was asked for, as a stream's control state keeps both."""

    def __init__(self) -> None:
        self.pending: Pending = ()
        self.history = ChangeHistory(keep_frames=10)

    def ask(self, frame: int, now: int = 0, *, scheduled: bool = True, **values: object) -> None:
        self.history.check(self.pending)
        change = Change(frame, values, self.history.serial, scheduled, now)
        self.history.add(change)
        self.pending = queued(self.pending, [change])

    def take(self, frame: int) -> list[dict[str, object]]:
        taken = due(self.pending, frame)
        self.pending = self.pending[len(taken) :]
        return [dict(change.values) for change in taken]


def test_changes_come_due_in_order_of_their_frames_and_the_later_request_wins() -> None:
    queue = Queue()
    queue.ask(5, a=1)
    queue.ask(3, b=1)
    queue.ask(5, a=2)
    assert queue.take(4) == [{"b": 1}]
    assert queue.take(4) == []
    assert queue.take(9) == [{"a": 1}, {"a": 2}]


def test_the_same_music_sooner_takes_along_the_opening_that_was_tried_for_it() -> None:
    bar = Change(50, {"prompt": "b", "candidate": 3}, 0, True, 5, on_bar=True)
    sooner = Change(20, {"prompts": [("b", 1.0)]}, 1, False, 20)
    other = Change(20, {"prompt": "c", "candidate": 5}, 1, False, 20)
    assert [dict(one.values) for one in queued((bar,), [sooner])] == [{"prompts": [("b", 1.0)], "candidate": 3}]
    assert queued((bar,), [other]) == (other,)
    assert queued((bar,), [replace(other, frame=60)]) == (bar, replace(other, frame=60)), "no sooner"
    named = replace(bar, on_bar=False)
    assert queued((named,), [other]) == (other, named), "its sample was named"


def test_a_rewind_asks_again_for_what_was_asked_since() -> None:
    queue = Queue()
    queue.ask(30, before=1)
    pending, serial = queue.pending, queue.history.serial
    queue.ask(12, now=11, scheduled=False, at_once=1)
    queue.ask(40, now=11, scheduled=True, ahead=1)
    queue.take(35)
    again = queued(pending, queue.history.since(serial, frame=8))
    assert [(change.frame, dict(change.values)) for change in again] == [
        (8, {"at_once": 1}),
        (30, {"before": 1}),
        (40, {"ahead": 1}),
    ]


def test_what_no_rewind_can_reach_is_forgotten() -> None:
    queue = Queue()
    for frame in range(1000):
        queue.ask(frame, now=frame, a=frame)
        queue.take(frame)
    assert len(queue.history._lately) == 11


def test_too_many_are_refused() -> None:
    queue = Queue()
    for number in range(PENDING_LIMIT):
        queue.ask(number, a=1)
    with pytest.raises(CapacityError, match="1000 changes are waiting"):
        queue.ask(1, a=1)
    assert len(queue.pending) == PENDING_LIMIT


def test_a_glide_goes_from_old_to_new() -> None:
    old, new = PromptMix.of("a"), PromptMix.of("b")
    fade = Glide(old, start_frame=100, frames=50)
    assert fade.mix(new, 100) == old
    assert fade.mix(new, 125).prompts == (("a", 0.5), ("b", 0.5))
    assert fade.mix(new, 150) == fade.mix(new, 1000) == new
