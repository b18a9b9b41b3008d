from __future__ import annotations

import pytest

from streamgen.conditioning import PromptMix
from streamgen.errors import CapacityError
from streamgen.stream.schedule import PENDING_LIMIT, ChangeQueue, Glide


def ask(queue: ChangeQueue, frame: int, head: int = 0, *, scheduled: bool = True, **values: object) -> None:
    queue.ask(values, frame, head=head, scheduled=scheduled, keep_frames=10)


def test_changes_come_due_in_order_of_their_frames_and_the_later_wish_wins() -> None:
    queue = ChangeQueue()
    ask(queue, 5, a=1)
    ask(queue, 3, b=1)
    ask(queue, 5, a=2)
    assert [dict(change.values) for change in queue.due(4)] == [{"b": 1}]
    assert queue.due(4) == []
    assert [dict(change.values) for change in queue.due(9)] == [{"a": 1}, {"a": 2}]


def test_a_rewind_asks_again_for_what_was_asked_since() -> None:
    queue = ChangeQueue()
    ask(queue, 30, before=1)
    pending, serial = queue.pending, queue.serial
    ask(queue, 12, head=11, scheduled=False, at_once=1)
    ask(queue, 40, head=11, scheduled=True, ahead=1)
    queue.due(35)
    queue.rewind(pending, serial, frame=8)
    assert [(change.frame, dict(change.values)) for change in queue.pending] == [
        (8, {"at_once": 1}),
        (30, {"before": 1}),
        (40, {"ahead": 1}),
    ]


def test_what_no_rewind_can_reach_is_forgotten() -> None:
    queue = ChangeQueue()
    for head in range(1000):
        ask(queue, head, head=head, a=head)
        queue.due(head)
    assert len(queue._lately) == 11


def test_too_many_are_refused() -> None:
    queue = ChangeQueue()
    for number in range(PENDING_LIMIT):
        ask(queue, number, a=1)
    with pytest.raises(CapacityError, match="1000 changes are waiting"):
        ask(queue, 1, a=1)
    assert len(queue.pending) == PENDING_LIMIT


def test_a_glide_goes_from_old_to_new() -> None:
    old, new = PromptMix.of("a"), PromptMix.of("b")
    fade = Glide(old, start_frame=100, frames=50)
    assert fade.mix(new, 100) == old
    assert fade.mix(new, 125).prompts == (("a", 0.5), ("b", 0.5))
    assert fade.mix(new, 150) == fade.mix(new, 1000) == new
