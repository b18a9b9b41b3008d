from __future__ import annotations

import random
from collections.abc import Callable
from itertools import islice, pairwise

import torch

from streamgen.pocket.training.arranging import (
    BREAK,
    FILL,
    FIRST_BREAK,
    FIRST_VARIED,
    OPEN,
    RETURN,
    STEADY,
    VARIED,
    VARIED_FILL,
    TokenSong,
    arrange,
    form,
    spliced,
    turned,
)
from streamgen.pocket.training.compose import SCORE, STEPS_PER_BAR

Maker = Callable[[int], TokenSong]
# What may follow what: the score itself holds each of these passages once, so the codes of every seam are real ones.
NEXT = {
    OPEN: {STEADY},
    STEADY: {STEADY, FILL},
    FILL: {FIRST_VARIED},
    FIRST_VARIED: {VARIED},
    VARIED: {VARIED, VARIED_FILL},
    VARIED_FILL: {FIRST_BREAK, RETURN},
    FIRST_BREAK: {BREAK},
    BREAK: {BREAK, RETURN},
    RETURN: {STEADY},
}


def test_a_form_holds_only_passages_that_were_rendered() -> None:
    places = list(islice(form(random.Random(0)), 400))
    assert places[0] == OPEN
    assert all(after in NEXT[before] for before, after in pairwise(places))
    assert set(places) == set(range(len(SCORE)))
    assert all(before in (FILL, VARIED_FILL, BREAK) or after != RETURN for before, after in pairwise(places))


def test_the_first_seven_bars_hold_one_groove() -> None:
    places = list(islice(form(random.Random(1)), 8))
    assert places == [OPEN, *[STEADY] * 6, FILL]


def test_an_opening_starts_with_the_first_bars(token_song: Maker) -> None:
    source = token_song(0)
    bar = source.song.frames_per_bar
    codes = arrange(source, 2 * bar + 5, opening=True, rng=random.Random(0))
    assert torch.equal(codes[:, :bar], source.bar(OPEN).long())
    assert torch.equal(codes[:, bar : 2 * bar], source.bar(STEADY).long())
    assert torch.equal(codes[:, 2 * bar :], source.bar(STEADY).long()[:, :5])


def test_a_window_may_start_anywhere_in_the_bar(token_song: Maker) -> None:
    source, rng = token_song(2), random.Random(0)
    bar, starts = source.song.frames_per_bar, set()
    for _ in range(20):
        first = arrange(source, 30, opening=False, rng=rng)[:, 0]
        starts.add(int((source.codes == first[:, None]).all(0).nonzero()[0]) % bar)
    assert len(starts) > 10
    assert len({start % (bar // STEPS_PER_BAR) for start in starts}) > 2


def test_a_spliced_bar_is_no_songs_bar_and_repeats_exactly(token_song: Maker) -> None:
    songs = [token_song(number) for number in range(12)]
    source, bar = songs[3], songs[3].song.frames_per_bar
    codes = spliced(source, songs, 4 * bar, random.Random(0))
    assert codes.shape == (4, 4 * bar)
    assert torch.equal(codes[:, bar:], codes[:, :-bar])
    own = source.codes.long()
    known = (codes[:, :bar, None] == own[:, None]).all(0).any(1)
    assert 0 < known.float().mean() < 1


def test_drums_are_spliced_with_drums_alone(token_song: Maker) -> None:
    songs = [token_song(number) for number in range(60)]
    calm = next(source for source in songs if not source.song.has_drums)
    for source in songs:
        source.codes[:] = int(source.song.has_drums)
    rng, bar = random.Random(0), calm.song.frames_per_bar
    assert sum(source.song.frames_per_bar == bar and source.song.has_drums for source in songs) > 5
    found = torch.cat([spliced(calm, songs, 2 * bar, rng) for _ in range(20)])
    assert (found == 1).float().mean() < 0.002, "but for random codes"


def test_a_turned_sequence_opens_the_new_song_at_the_next_bar_line(token_song: Maker) -> None:
    old, new, rng = token_song(4), token_song(5), random.Random(0)
    bar, loop = old.song.frames_per_bar, old.bar(STEADY).long()
    for _ in range(20):
        row = turned(old, new, 400, rng)
        first = new.bar(OPEN).long()[:, :40]
        lines = [f for f in range(row.turn, row.turn + bar) if torch.equal(row.codes[:, f : f + 40], first)]
        assert len(lines) == 1, "within one bar of the new caption, and once"
        skip = int((loop == row.codes[:, :1]).all(0).nonzero()[0])
        assert (skip + lines[0]) % bar == 0
        assert torch.equal(row.codes[:, : lines[0]], loop.repeat(1, 6)[:, skip : skip + lines[0]])
