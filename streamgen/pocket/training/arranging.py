"""From the bars of tokenised songs to the sequences a language model trains on.

Rules: knows tokens and the score they were rendered from; no model, no sound. A steady bar repeated is what the codec
makes of a repeated bar, so songs of any length are laid out in tokens at no cost in rendering:

    groove x 8   fill   variation x 8   fill   break x 4   groove x 8 ...      (bars; a fill is a section's last bar)
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor

from streamgen.pocket.training.compose import Song
from streamgen.pocket.training.quantizer import CODES

BARS_PER_SECTION = 8
BARS_PER_BREAK = 4
SPLICES = 9  # of which a third fit the tempo
# Bars of `compose.SCORE` by what they are there; OPEN comes from silence, FIRST… after a change, STEADY… after itself.
OPEN, STEADY, FILL, FIRST_VARIED, VARIED, VARIED_FILL, FIRST_BREAK, BREAK, RETURN = range(9)


@dataclass(frozen=True)
class TokenSong:
    """A song and its codes, int16 [4, bars of the score]."""

    song: Song
    codes: Tensor

    def bar(self, place: int) -> Tensor:
        """Codes [4, frames of a bar] of the bar at a place of the score."""
        length = self.song.frames_per_bar
        return self.codes[:, place * length : (place + 1) * length]


@dataclass(frozen=True)
class Turned:
    """A sequence that becomes another song: its codes [4, frames], and the frame from which the new caption holds."""

    codes: Tensor
    turn: int


def form(rng: random.Random) -> Iterator[int]:
    """The places of an endless song, bar by bar."""
    first = OPEN
    while True:
        yield from (first, *[STEADY] * (BARS_PER_SECTION - 2), FILL)
        yield from (FIRST_VARIED, *[VARIED] * (BARS_PER_SECTION - 2), VARIED_FILL)
        if rng.random() < 0.5:
            yield from (FIRST_BREAK, *[BREAK] * (BARS_PER_BREAK - 1))
        first = RETURN


def lay_out(source: TokenSong, places: list[int]) -> Tensor:
    """Codes int64 [4, frames] of bars in a row."""
    return torch.cat([source.bar(place) for place in places], dim=1).long()


def arrange(source: TokenSong, frames: int, opening: bool, rng: random.Random) -> Tensor:
    """Codes [4, frames] of a song: from its first downbeat if `opening`, else from anywhere inside."""
    bar = source.song.frames_per_bar
    skip = 0 if opening else rng.randrange(1, 3 * BARS_PER_SECTION) * bar + rng.randrange(bar)
    first = skip // bar
    places = list(islice(form(rng), first, (skip + frames) // bar + 1))
    return lay_out(source, places)[:, skip % bar : skip % bar + frames]


def spliced(source: TokenSong, songs: list[TokenSong], frames: int, rng: random.Random) -> Tensor:
    """Codes [4, frames]: a bar with pieces of other songs of its tempo, repeated from anywhere inside.

    Drums are pieced together with drums alone, so that a drum in a pad is nothing to go on with. Half of the bars also
    hold random codes, up to every second one: what a model invents is never quite what a codec would have written, and
    has to be copied all the same.
    """
    bar = source.song.frames_per_bar
    loop = source.bar(rng.choice((STEADY, VARIED))).clone()
    for _ in range(SPLICES):
        other = rng.choice(songs)
        if other.song.frames_per_bar == bar and other.song.has_drums == source.song.has_drums:
            begin = rng.randrange(bar)
            piece = slice(begin, begin + rng.randrange(4, bar // 3))
            loop[:, piece] = other.bar(rng.choice((STEADY, VARIED)))[:, piece]
    odd = torch.rand(loop.shape) < rng.choice((0.0, rng.random() / 2))
    loop = torch.where(odd, torch.randint_like(loop, CODES), loop)
    skip = rng.randrange(bar)
    return loop.repeat(1, frames // bar + 2)[:, skip : skip + frames].long()


def turned(old: TokenSong, new: TokenSong, frames: int, rng: random.Random) -> Turned:
    """A song whose caption changes in mid-bar: at the next bar line the other song opens."""
    bar = old.song.frames_per_bar
    skip, turn = rng.randrange(bar), rng.randrange(frames // 4, frames // 2)
    line = turn + (-(skip + turn)) % bar  # the first bar line at or after the turn
    before = old.bar(STEADY).repeat(1, frames // bar + 2)[:, skip : skip + line].long()
    after = lay_out(new, [OPEN] + [STEADY] * (frames // new.song.frames_per_bar + 1))
    return Turned(torch.cat([before, after], dim=1)[:, :frames], turn)
