"""A queue that forgets the oldest audio, and no answer; and what is on its way, by what was answered."""

from __future__ import annotations

from bridge.doors.native.broadcast import Chunk
from bridge.doors.native.frames import AudioFormat
from bridge.doors.native.outbox import LONGEST_WINDOW_SECONDS, MAX_NOTES, FlowControl, Note, Outbox
from bridge.session.events import Gap

PLAIN = AudioFormat("s16le", 48_000)


def chunk(start: int, count: int = 100) -> Chunk:
    return Chunk(PLAIN, start, count, start, start + count, 0, 0, bytes(4 * count))


def drained(box: Outbox) -> list[object]:
    out = []
    while (item := box.take()) is not None:
        out.append(item)
    return out


def test_messages_keep_their_place_among_the_audio() -> None:
    box = Outbox(1_000)
    items = [chunk(0), Note("changed", "a"), chunk(100), chunk(200), Note("answer", "b")]
    for item in items:
        if isinstance(item, Chunk):
            box.put_chunk(item)
        else:
            box.put_note(item)
    assert (len(box), box.queued_samples, box.answers) == (5, 300, 1)
    assert drained(box) == items
    assert (len(box), box.queued_samples, box.answers) == (0, 0, 0)


def test_the_oldest_audio_goes_and_one_gap_tells_how_much() -> None:
    box = Outbox(300)
    box.put_note(Note("answer", "first"))
    dropped = [box.put_chunk(chunk(100 * number)) for number in range(10)]
    assert dropped == [0, 0, 0, 100, 100, 100, 100, 100, 100, 100]
    assert (box.queued_samples, box.dropped_samples) == (300, 700)
    first, gap, *rest = drained(box)
    assert first == Note("answer", "first")
    assert gap == Gap(0, 700, "slow_client")
    assert [item.start_sample for item in rest if isinstance(item, Chunk)] == [700, 800, 900]
    box.put_chunk(chunk(1_000))
    assert [type(item) for item in drained(box)] == [Chunk]


def test_the_newest_chunk_stays_whatever_its_length() -> None:
    box = Outbox(50)
    box.put_chunk(chunk(0))
    assert [type(item) for item in drained(box)] == [Chunk]


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


def test_clearing_leaves_no_gap() -> None:
    box = Outbox(100)
    for start in (0, 100, 200):
        box.put_chunk(chunk(start))
    box.clear_audio()
    assert (drained(box), box.queued_samples) == ([], 0)


def test_answers_and_the_goodbye_overtake_what_must_wait() -> None:
    box = Outbox(1_000)
    box.put_chunk(chunk(0))
    for kind in ("changed", "answer", "gap", "goaway", "answer"):
        box.put_note(Note(kind, kind))
    urgent = []
    while (note := box.take_urgent()) is not None:
        urgent.append(note.kind)
    assert urgent == ["answer", "goaway", "answer"]
    assert box.answers == 0
    assert [getattr(item, "kind", "chunk") for item in drained(box)] == ["chunk", "changed", "gap"]


# -- what is on its way ---------------------------------------------------------------------------------------------


def test_a_mark_comes_with_every_fifth_of_a_second() -> None:
    flow = FlowControl(1_000, 0.4)
    assert [flow.send(80, 0.0) for _ in range(9)] == [None, None, 1, None, None, 2, None, None, 3]


def test_the_window_closes_and_opens_with_the_answers() -> None:
    flow = FlowControl(1_000, 0.4)
    marks = [flow.send(100, 0.0) for _ in range(4)]
    assert marks == [None, 1, None, 2]
    assert not flow.open
    flow.arrive(1, 0.1)
    assert flow.open
    assert flow.on_its_way == 200
    flow.arrive(9, 0.1)
    assert flow.on_its_way == 200, "nobody asked that"
    flow.arrive(2, 0.1)
    flow.arrive(1, 0.1)
    assert flow.on_its_way == 0


def test_an_answer_answers_all_before_it() -> None:
    flow = FlowControl(1_000, 0.4)
    for _ in range(3):
        flow.send(200, 0.0)
    flow.arrive(3, 0.1)
    assert flow.on_its_way == 0


def test_a_peer_far_away_gets_a_longer_window_and_one_that_stopped_reading_does_not() -> None:
    def answered(flow: FlowControl, seconds: float, times: int) -> None:
        for _ in range(times):
            mark = flow.send(200, 0.0)
            assert mark is not None
            flow.arrive(mark, seconds)

    far = FlowControl(1_000, 0.4)
    answered(far, 0.5, 4)
    assert far.window_seconds == 0.9
    answered(far, 30.0, 1)  # it did not read for a while
    assert far.window_seconds == 0.9
    near = FlowControl(1_000, 0.4)
    answered(near, 0.001, 1)
    answered(near, 30.0, 8)
    assert abs(near.window_seconds - 0.401) < 1e-9
    answered(near, 30.0, 20)
    assert near.window_seconds == LONGEST_WINDOW_SECONDS
