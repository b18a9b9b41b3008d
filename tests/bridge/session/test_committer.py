"""Blocks as listeners get them: positions, times, flags and levels, of what was committed."""

from __future__ import annotations

import numpy as np
import pytest

from bridge.session.committer import Committer
from bridge.session.events import Block, Event, Meter
from bridge.session.timeline import Timeline
from streamgen.testing import FakeClock, FakeModel

RATE_HZ, FRAME = 48_000, 640


def made() -> tuple[Committer, list[Block | Event], Timeline, FakeClock]:
    clock, told = FakeClock(10.0), []
    timeline = Timeline(RATE_HZ, clock, lambda: 1e9 + clock())
    return Committer(FakeModel(), timeline, told.append, 5 * FRAME), told, timeline, clock


def samples(frames: int, level: float = 0.25) -> np.ndarray:
    return np.full((2, frames * FRAME), level, np.float32)


def blocks(told: list[Block | Event]) -> list[Block]:
    return [item for item in told if isinstance(item, Block)]


def test_pieces_become_one_block_that_says_when_it_is_due_and_how_loud_it_is() -> None:
    committer, told, timeline, clock = made()
    timeline.start(0)
    committer.commit([samples(2), samples(3)])
    committer.commit([])
    clock.advance(0.05)
    committer.commit([samples(5)])
    first, second = blocks(told)
    assert (first.start_sample, first.end_sample) == (0, second.start_sample)
    assert second.end_sample == committer.output.position
    assert second.time_us == pytest.approx((1e9 + 10 + second.start_sample / RATE_HZ) * 1e6, abs=2)
    assert [type(item) for item in told] == [Block, Meter, Block, Meter]
    (level,) = [item.left_db for item in told[-1:] if isinstance(item, Meter)]
    assert level == pytest.approx(20 * np.log10(0.25), abs=0.1)


def test_the_beginning_fades_in_the_end_fades_out_and_what_follows_fades_in_again() -> None:
    committer, told, _, _ = made()
    committer.commit([samples(5)])
    committer.end(samples(1))
    end = committer.output.position
    assert end == 6 * FRAME * 3 // 2, "the end tells all that was held back"
    committer.commit([samples(5)])
    audio = np.concatenate([block.samples for block in blocks(told)], axis=1)[0]
    assert abs(audio[0]) < 0.01
    assert abs(audio[end - 1]) < 0.01
    assert abs(audio[end + 5]) < 0.01
    assert audio[end // 2] == pytest.approx(0.25, abs=1e-3)
    committer.end(None)
    before = len(told)
    committer.end(None)
    assert len(told) == before, "nothing is left to tell"


def test_other_prompts_and_other_music_are_marked_where_they_begin() -> None:
    committer, told, _, _ = made()
    committer.commit([samples(5)])
    committer.expect_prompts(committer.output.position + 3_000)
    for _ in range(3):
        committer.commit([samples(2)])
    marked = [block for block in blocks(told) if block.prompt_change]
    assert len(marked) == 1
    assert marked[0].start_sample <= blocks(told)[0].end_sample + 3_000 < marked[0].end_sample
    committer.expect_prompts(10**9)  # it is yet to come when the music is begun anew
    committer.end(samples(1))
    committer.jump()
    committer.commit([samples(5)])
    committer.commit([samples(5)])
    assert [(block.discontinuity, block.prompt_change) for block in blocks(told)[-2:]] == [(True, True), (False, False)]
