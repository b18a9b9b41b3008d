"""Streams of whole numbers under a scheduler that knows no more of them than of real ones."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pytest

from streamgen.errors import CapacityError, StreamgenError
from streamgen.scheduler import Scheduler
from streamgen.testing import FakeClock


class Counter:
    """A stream whose n-th step draws its name n times; a frame is complete `delay` steps after it begins."""

    def __init__(self, name: str, delay: int = 0) -> None:
        self.name, self.delay = name, delay
        self.drawn: list[str] = []
        self.seconds: list[float] = []
        self.error: BaseException | None = None
        self.unread = 0  # turns that it takes beside others until it is ready

    @property
    def frames_done(self) -> int:
        return max(len(self.drawn) - self.delay, 0)

    def begin_step(self, beside_others: bool) -> tuple[str, int] | None:
        if self.error is not None:
            raise self.error
        if self.unread:
            self.unread -= 1 if beside_others else self.unread
            return None if self.unread else (self.name, len(self.drawn) + 1)
        return self.name, len(self.drawn) + 1

    def finish_step(self, drawn: str, seconds: float) -> None:
        self.drawn.append(drawn)
        self.seconds.append(seconds)


class Rig:
    """A scheduler, the passes it made, and what it held meanwhile."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.passes: list[str] = []
        self.held = 0
        self.scheduler: Scheduler[tuple[str, int], str] = Scheduler(self.one_pass, around=self.around, clock=self.clock)

    @contextmanager
    def around(self) -> Iterator[None]:
        self.held += 1
        yield
        self.held -= 1

    def one_pass(self, begun: Sequence[tuple[str, int]]) -> list[str]:
        assert self.held == 1
        self.clock.advance(0.02)
        self.passes.append("".join(name for name, _ in begun))
        return [name * number for name, number in begun]


def test_each_stream_is_stepped_until_it_has_its_frames() -> None:
    rig, a, b, c = Rig(), Counter("a"), Counter("b", delay=2), Counter("c")
    assert rig.scheduler.advance({a: 3, b: 2, c: 0}) == {}
    assert rig.passes == ["ab", "ab", "ab", "b"]
    assert (a.drawn, b.drawn, c.drawn) == (["a", "aa", "aaa"], ["b", "bb", "bbb", "bbbb"], [])
    assert rig.scheduler.advance({a: 3, b: 2, c: 1}) == {}
    assert rig.passes[4:] == ["c"], "what is there already is not made again"


def test_the_pass_is_timed_for_all_that_were_in_it() -> None:
    rig, a, b = Rig(), Counter("a"), Counter("b")
    rig.scheduler.advance({a: 2, b: 1})
    assert a.seconds == pytest.approx([0.02, 0.02])
    assert b.seconds == pytest.approx([0.02])


def test_between_steps_streams_may_join_leave_and_change() -> None:
    rig, a, b = Rig(), Counter("a"), Counter("b")
    seen: list[tuple[int, int, int]] = []

    def between() -> None:
        seen.append((a.frames_done, b.frames_done, rig.held))
        if len(seen) == 2:
            rig.scheduler.advance({b: 2})  # as another thread would
            a.name = "A"

    rig.scheduler.advance({a: 3, b: 1}, between)
    assert seen == [(1, 1, 0), (2, 1, 0), (3, 2, 0)], "held for a step at a time"
    assert rig.passes == ["ab", "a", "b", "A"]


def test_goals_may_move_between_steps() -> None:
    rig, a, b = Rig(), Counter("a"), Counter("b")
    goals = {a: 1, b: 3}

    def further() -> None:
        if a.frames_done == goals[a] < 3:
            goals[a] += 1

    rig.scheduler.advance(goals, further)
    assert rig.passes == ["ab", "ab", "ab"], "with another goal it goes on beside those who have not reached theirs"


def test_what_is_raised_between_steps_ends_it_there() -> None:
    rig, a = Rig(), Counter("a")

    def stop() -> None:
        if a.frames_done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rig.scheduler.advance({a: 5}, stop)
    assert a.drawn == ["a", "aa"]
    rig.scheduler.advance({a: 3})
    assert a.drawn == ["a", "aa", "aaa"]


def test_a_stream_that_cannot_go_on_leaves_the_others_to() -> None:
    rig, a, b = Rig(), Counter("a"), Counter("b")
    a.error = CapacityError("no room")
    assert rig.scheduler.advance({a: 3, b: 3}) == {a: a.error}
    assert (a.drawn, len(b.drawn), rig.passes) == ([], 3, ["b", "b", "b"])
    a.error = None
    assert rig.scheduler.advance({a: 3, b: 3}) == {}
    assert a.drawn == ["a", "aa", "aaa"]


def test_with_nobody_left_there_is_no_pass() -> None:
    rig, a, calls = Rig(), Counter("a"), [0]
    a.error = StreamgenError("closed")

    def count() -> None:
        calls[0] += 1

    assert rig.scheduler.advance({a: 1}, count) == {a: a.error}
    assert (rig.passes, calls) == ([], [1])
    assert rig.scheduler.advance({}) == {}


@pytest.mark.parametrize("broken", ["begin", "pass", "finish"])
def test_a_step_that_fails_can_be_made_again(broken: str) -> None:
    rig, a, b = Rig(), Counter("a"), Counter("b")

    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    broken_part: Callable[[], None] = {
        "begin": lambda: setattr(b, "begin_step", fail),
        "pass": lambda: setattr(rig.scheduler, "_one_pass", fail),
        "finish": lambda: setattr(b, "finish_step", fail),
    }[broken]
    broken_part()
    with pytest.raises(KeyboardInterrupt):
        rig.scheduler.advance({a: 2, b: 2})
    vars(b).pop("begin_step", None)
    vars(b).pop("finish_step", None)
    rig.scheduler._one_pass, rig.held = rig.one_pass, 0
    rig.scheduler.advance({a: 2, b: 2})
    assert (a.drawn, b.drawn) == (["a", "aa"], ["b", "bb"])


def test_it_needs_no_torch() -> None:
    code = "import sys; sys.modules['torch'] = None; import streamgen.scheduler"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_who_has_much_to_read_first_reads_it_in_turns_beside_the_others() -> None:
    rig, a, b = Rig(), Counter("a"), Counter("b")
    b.unread = 3
    rig.scheduler.advance({a: 5, b: 2})
    assert rig.passes == ["a", "a", "ab", "ab", "a"]
    assert (len(a.drawn), len(b.drawn)) == (5, 2)


def test_who_is_alone_reads_all_of_it_at_once() -> None:
    rig, b = Rig(), Counter("b")
    b.unread = 3
    rig.scheduler.advance({b: 2})
    assert rig.passes == ["b", "b"]
