"""A queue that forgets the oldest audio, and no answer."""

from __future__ import annotations

import numpy as np

from bridge.doors.native.outbox import MAX_NOTES, Note, Outbox
from bridge.session.messages import Block, Gap


def block(start: int, count: int = 100) -> Block:
    return Block(np.zeros((2, count), np.float32), start)


def drained(box: Outbox) -> list[object]:
    out = []
    while (item := box.take()) is not None:
        out.append(item)
    return out


def test_messages_keep_their_place_among_the_audio() -> None:
    box = Outbox(1_000)
    items = [block(0), Note("changed", "a"), block(100), block(200), Note("answer", "b")]
    for item in items:
        if isinstance(item, Block):
            box.put_block(item)
        else:
            box.put_note(item)
    assert (len(box), box.queued_samples, box.answers) == (5, 300, 1)
    assert drained(box) == items
    assert (len(box), box.queued_samples, box.answers) == (0, 0, 0)


def test_the_oldest_audio_goes_and_one_gap_tells_how_much() -> None:
    box = Outbox(300)
    box.put_note(Note("answer", "first"))
    dropped = [box.put_block(block(100 * number)) for number in range(10)]
    assert dropped == [0, 0, 0, 100, 100, 100, 100, 100, 100, 100]
    assert (box.queued_samples, box.dropped_samples) == (300, 700)
    first, gap, *rest = drained(box)
    assert first == Note("answer", "first")
    assert gap == Gap(0, 700, "slow_client")
    assert [item.start_sample for item in rest if isinstance(item, Block)] == [700, 800, 900]
    box.put_block(block(1_000))
    assert [type(item) for item in drained(box)] == [Block]


def test_the_newest_block_stays_whatever_its_length() -> None:
    box = Outbox(50)
    box.put_block(block(0))
    assert [type(item) for item in drained(box)] == [Block]


def test_only_the_newest_stats_wait() -> None:
    box = Outbox(300)
    for number in range(5):
        box.put_note(Note("stats", str(number)))
    assert drained(box) == [Note("stats", "4")]


def test_too_many_events_become_one_word_and_answers_stay() -> None:
    box = Outbox(300)
    box.put_note(Note("answer", "kept"))
    for number in range(MAX_NOTES + 10):
        box.put_note(Note("changed", str(number)))
    items = drained(box)
    assert items[:2] == [Note("answer", "kept"), Note("resync", "")]
    later = [Note("changed", str(number)) for number in range(MAX_NOTES + 1, MAX_NOTES + 10)]
    assert items[2:] == later


def test_discard_forgets_from_a_sample_on() -> None:
    box = Outbox(1_000)
    for start in (0, 100, 200):
        box.put_block(block(start))
    box.discard(150)
    assert box.queued_samples == 150
    ends = [(item.start_sample, item.end_sample) for item in drained(box) if isinstance(item, Block)]
    assert ends == [(0, 100), (100, 150)]


def test_clearing_leaves_no_gap() -> None:
    box = Outbox(100)
    for start in (0, 100, 200):
        box.put_block(block(start))
    box.clear_audio()
    assert (drained(box), box.queued_samples) == ([], 0)


def test_answers_and_the_goodbye_overtake_what_must_wait() -> None:
    box = Outbox(1_000)
    box.put_block(block(0))
    for kind in ("changed", "answer", "gap", "goaway", "answer"):
        box.put_note(Note(kind, kind))
    urgent = []
    while (note := box.take_urgent()) is not None:
        urgent.append(note.kind)
    assert urgent == ["answer", "goaway", "answer"]
    assert box.answers == 0
    assert [getattr(item, "kind", "block") for item in drained(box)] == ["block", "changed", "gap"]
