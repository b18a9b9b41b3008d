"""What each training step of the language model sees.

Rules: tokens and captions in, batches out; no optimiser, no sound. In turn (`arranging` says how songs are laid out):

    openings   a bar from the first downbeat: the music has to be invented from the words. Rows hear their own past
               whole, in part or not at all, and many as if it had been played loosely, so that tempo, key, instruments
               and the grid come from the words and the place too, and not only from what already sounds: of the bits in
               a bar, two tell its key, and the first notes give them away to whoever hears them. A model that had heard
               everything knew the tempo of a real bar in 96 of 100 cases, yet opened half of its own in another one,
               and then held it
    rivals     half an opening bar twice, under its caption and under a wrong one, which names another key (half of
               them) or tempo, or is another song's: the likelier the music is under its own than under the other, the
               better. After 3,200 steps of likelihood alone one clip in eight followed the key (chance one in twelve),
               and a held-out bar was likeliest under its own key in .31 of cases (chance .17); after 300 steps with
               rivals, nine in ten training bars were likelier under their own caption
    turned     a song and its caption, and in mid-bar the caption of another song: from the next bar line that one plays
    spliced    a bar pieced together from several songs, again and again: it can only be copied, not remembered. Before
               they were added, the next token of a real song was all but certain, yet what the model played on its own
               no longer repeated
    window     15 seconds, from the start or from anywhere inside: the engine runs to the last position, and reads its
               own past again from position 0 at every rollover

Where music goes on, some of what is heard is damaged, some stands still, and some is of another song (a drum in a
pad), so that none of it is copied for ever.
"""

import random
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor
from transformers import T5Tokenizer

from streamgen.pocket.training.arranging import STEADY, TokenSong, arrange, spliced, turned
from streamgen.pocket.training.bar_heads import Captions
from streamgen.pocket.training.captions import caption, tokens_that_name, written
from streamgen.pocket.training.compose import FRAMES_PER_STEP, KEY_NAMES, Song
from streamgen.pocket.training.language import MAX_POSITIONS
from streamgen.pocket.training.quantizer import CODEBOOKS, CODES

DAMAGE = 0.04  # share of tokens misread in training; without it a wrong token, once played, is copied for ever
STANDS, LONGEST_STAND = 5, 48  # stretches that stand still, fewer than that many of fewer than that many frames
STRAYS, LONGEST_STRAY = 5, 10  # pieces of other songs, fewer than that many of fewer than that many frames
LOOSE_FRAMES, LOOSE_SHARE = (6, 50), 0.6  # of openings
NULL_SHARE = 0.12  # rows trained without text, for guidance
FIRST_WEIGHTS = ((64, 3.0), (6, 8.0))  # the words decide what is heard in these frames; later the sound itself tells


@dataclass(frozen=True)
class Kind:
    """One kind of training step: how many rows of how many frames."""

    name: str
    rows: int
    frames: int


OPENING, RIVALS = Kind("opening", 12, 136), Kind("rivals", 48, 40)  # the tonic sounds for half a bar at least
SPLICED, TURNED = Kind("spliced", 4, 400), Kind("turned", 5, 300)
WINDOW = Kind("window", 2, MAX_POSITIONS - CODEBOOKS)
KINDS = (WINDOW, RIVALS, OPENING, TURNED, SPLICED, OPENING, RIVALS, OPENING, OPENING)


@dataclass(frozen=True)
class Batch:
    """What one step trains on.

    Attributes:
        codes: int64 [B, K, T], what is to be predicted.
        heard: int64 [B, K, T], what the model reads.
        ids, mask, read: text and who reads it, as `cross_entropy` takes them.
        weights: float32 [B, T], of each frame's loss, one on average.
        rivals: rows come in pairs of the same music, first under its caption, then under another's.
        sixteenths: int64 [B], frames in a sixteenth of rows that all begin on a first downbeat under a text; 0 in a row
            without text.
    """

    codes: Tensor
    heard: Tensor
    ids: Tensor
    mask: Tensor
    weights: Tensor
    read: Tensor | None = None
    rivals: bool = False
    sixteenths: Tensor | None = None

    def to(self, device: torch.device) -> "Batch":
        """The same on another device."""
        parts = {"codes": self.codes, "heard": self.heard, "ids": self.ids, "mask": self.mask, "weights": self.weights}
        parts |= {name: part for name in ("read", "sixteenths") if (part := getattr(self, name)) is not None}
        return replace(self, **{name: part.to(device) for name, part in parts.items()})  # type: ignore[arg-type]


def damaged(codes: Tensor, rates: Tensor) -> Tensor:
    """Codes [B, K, T] with a share [B] of each row's replaced at random."""
    return torch.where(torch.rand(codes.shape) < rates[:, None, None], torch.randint_like(codes, CODES), codes)


def loosened(codes: Tensor, rng: random.Random) -> tuple[Tensor, Tensor]:
    """Codes [B, K, T] as they sound when played loosely: pieces of a few sixteenths come a frame early or late.

    What plays on its own hears its own mistakes: whoever only heard tight playing takes a late note for the grid.

    Returns:
        The codes that are heard, and bool [B, T], where they come early: what is to be played next was heard already
        there, so nothing is to be learned from it.
    """
    heard, frames = codes.clone(), codes.shape[-1]
    early = torch.zeros(len(codes), frames, dtype=torch.bool)
    for row, source, hasty in zip(heard, codes, early, strict=True):
        begin = 0
        while begin < frames:
            end, late = min(begin + rng.randrange(*LOOSE_FRAMES), frames), rng.choice((-1, 0, 1))
            row[:, begin:end] = source[:, torch.arange(begin - late, end - late).clamp(0, frames - 1)]
            hasty[begin : end + 1] = late < 0
            begin = end
    return heard, early


def held(codes: Tensor, rng: random.Random) -> Tensor:
    """Codes [B, K, T] with some stretches of each row standing still: the frame they begin with, again and again."""
    heard = codes.clone()
    for row in heard:
        for _ in range(rng.randrange(STANDS)):
            begin = rng.randrange(codes.shape[-1])
            stand = slice(begin, begin + rng.randrange(3, LONGEST_STAND))
            row[:, stand] = row[:, begin : begin + 1]
    return heard


def strayed(codes: Tensor, songs: list[TokenSong], rng: random.Random) -> Tensor:
    """Codes [B, K, T] with some short pieces of other songs in each row."""
    heard = codes.clone()
    for row in heard:
        for _ in range(rng.randrange(STRAYS)):
            other, length = rng.choice(songs).bar(STEADY), rng.randrange(1, LONGEST_STRAY)
            source, target = rng.randrange(other.shape[-1] - length), rng.randrange(codes.shape[-1] - length)
            row[:, target : target + length] = other[:, source : source + length]
    return heard


class Lessons:
    """Draws the batches of a training."""

    def __init__(self, tokenizer: T5Tokenizer, rng: random.Random) -> None:
        """Know the words."""
        self._tokenizer, self._rng = tokenizer, rng

    def batch(self, step: int, songs: list[TokenSong]) -> Batch:
        """The batch of a step."""
        kind = KINDS[step % len(KINDS)]
        if kind.name == "turned":
            return self.turned(kind, songs)
        if kind.name == "rivals":
            return self.rivals(kind, songs)
        if kind.name == "opening":
            return self.opening(kind, songs)
        picks = self._picks(kind.rows, songs)
        if kind.name == "spliced":
            codes = [spliced(pick, songs, kind.frames, self._rng) for pick in picks]
        else:
            codes = [arrange(pick, kind.frames, self._rng.random() < 0.5, self._rng) for pick in picks]
        stacked = torch.stack(codes)
        return self._captioned(stacked, self._heard(stacked, songs), [self._caption(pick) for pick in picks])

    def opening(self, kind: Kind, songs: list[TokenSong]) -> Batch:
        """First bars: a third of the rows hears all of its past, a third some of it, a third nothing."""
        picks = self._picks(kind.rows, songs)
        codes = torch.stack([arrange(pick, kind.frames, True, self._rng) for pick in picks])
        deaf = torch.tensor([self._rng.choice((0.0, self._rng.random(), 1.0)) for _ in picks])
        weights = torch.ones(kind.rows, kind.frames)
        for first, weight in FIRST_WEIGHTS:
            weights[:, :first] = 1 + (weight - 1) * (1 - deaf[:, None])  # who hears nothing needs the words to the end
        bars = torch.tensor([pick.song.frames_per_bar for pick in picks])[:, None]
        loose = torch.tensor([self._rng.random() < LOOSE_SHARE for _ in picks])
        badly_heard = (torch.arange(kind.frames) >= bars) & ((deaf > 0) | loose)[:, None]
        weights[badly_heard] = 0.0  # such a bar is not to be copied
        played, early = loosened(codes, self._rng)
        heard = torch.where(loose[:, None, None], played, codes)
        weights[early & loose[:, None]] = 0.0
        batch = self._captioned(codes, damaged(heard, deaf), [self._caption(pick) for pick in picks], weights)
        steps = torch.tensor([FRAMES_PER_STEP[pick.song.bpm] for pick in picks])
        return replace(batch, sixteenths=steps * batch.mask.amax(1))

    def rivals(self, kind: Kind, songs: list[TokenSong]) -> Batch:
        """Openings, each under its caption and under the same words with another key."""
        picks = self._picks(kind.rows // 2, songs)
        codes = torch.stack([arrange(pick, kind.frames, True, self._rng) for pick in picks])
        deaf = torch.tensor([self._rng.choice((0.0, self._rng.random(), 1.0)) for _ in picks])
        texts = [text for pick in picks for text in self._rivals(pick.song, songs)]
        ids, mask = self.tokenise(texts)
        twice = partial(torch.repeat_interleave, repeats=2, dim=0)
        weights = torch.ones(kind.rows, kind.frames)
        return Batch(twice(codes), twice(damaged(codes, deaf)), ids, mask, weights, rivals=True)

    def _rivals(self, song: Song, songs: list[TokenSong]) -> tuple[str, str]:
        """A caption of a song, and one that is wrong: in the key (half of them), in the tempo, or altogether."""
        other_key = replace(song, tonic=self._rng.choice([tonic for tonic in KEY_NAMES if tonic != song.tonic]))
        other_tempo = replace(song, bpm=self._rng.choice([bpm for bpm in FRAMES_PER_STEP if bpm != song.bpm]))
        wrong = self._rng.choice((other_key, other_key, other_tempo, self._rng.choice(songs).song))
        seed = self._rng.random()
        own, other = (caption(which, random.Random(seed), complete=True) for which in (song, wrong))
        return own.lower(), other.lower()

    def turned(self, kind: Kind, songs: list[TokenSong]) -> Batch:
        """Rows whose caption, and a moment later whose music, becomes another song's."""
        picks, others = self._picks(kind.rows, songs), self._picks(kind.rows, songs)
        rows = [turned(a, b, kind.frames, self._rng) for a, b in zip(picks, others, strict=True)]
        texts = [self._caption(song) for pair in zip(picks, others, strict=True) for song in pair]
        ids, mask = (part.unflatten(0, (kind.rows, 2)) for part in self.tokenise(texts))
        mask = mask * self._kept(kind.rows)[..., None]
        # all codebooks drawn in one step read one text, as when a prompt changes while music plays
        step = torch.arange(kind.frames + CODEBOOKS - 1)
        new = step >= torch.tensor([row.turn for row in rows])[:, None]
        read = torch.stack([~new, new], dim=-1)[..., None] * mask[:, None]
        codes = torch.stack([row.codes for row in rows])
        return Batch(codes, self._heard(codes, songs), ids, mask, torch.ones(kind.rows, kind.frames), read.flatten(2))

    def _captioned(self, codes: Tensor, heard: Tensor, texts: list[str], weights: Tensor | None = None) -> Batch:
        ids, mask = self.tokenise(texts)
        weights = torch.ones(len(codes), codes.shape[-1]) if weights is None else weights
        return Batch(codes, heard, ids, mask * self._kept(len(codes)), weights / weights.mean())

    def _picks(self, count: int, songs: list[TokenSong]) -> list[TokenSong]:
        return [self._rng.choice(songs) for _ in range(count)]

    def _heard(self, codes: Tensor, songs: list[TokenSong]) -> Tensor:
        """Codes as the model reads them: half of the rows a little damaged; some stand still, some are strays."""
        return damaged(strayed(held(codes, self._rng), songs, self._rng), DAMAGE * (torch.rand(len(codes)) < 0.5))

    def _caption(self, source: TokenSong) -> str:
        return written(caption(source.song, self._rng), self._rng)

    def _kept(self, rows: int) -> Tensor:
        """Which rows keep their text, int64 [rows, 1]."""
        return torch.tensor([[int(self._rng.random() >= NULL_SHARE)] for _ in range(rows)])

    def captions(self, songs: list[TokenSong]) -> Captions:
        """Captions of songs, half of them complete, and what their words name."""
        texts, rows = list[str](), list[Tensor]()
        for source in songs:
            text = written(caption(source.song, self._rng, complete=self._rng.random() < 0.5), self._rng)
            texts.append(text)
            rows.append(tokens_that_name(text, source.song, self._tokenizer)[1])
        return Captions(*self.tokenise(texts), torch.nn.utils.rnn.pad_sequence(rows, batch_first=True))

    def tokenise(self, texts: list[str]) -> tuple[Tensor, Tensor]:
        """Token ids and mask, int64 [B, S]."""
        batch = self._tokenizer(texts, padding=True, return_tensors="pt")
        return batch["input_ids"], batch["attention_mask"]
