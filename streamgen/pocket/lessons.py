"""What each training step of the language model sees.

Rules: tokens and captions in, batches out; no optimiser, no sound. In turn (`arranging` says how songs are laid out):

    openings   a bar, or only its first half second, from the first downbeat: the music has to be invented from the
               words. Rows hear their own past whole, in part or not at all, so that tempo, key and instruments come
               from the words too and not only from what already sounds: of the bits in a bar, two tell its key, and
               the first notes give them away to whoever hears them. A model that had heard everything knew the tempo
               of a real bar in 96 of 100 cases, yet opened half of its own in another one, and then held it
    turned     a song and its caption, and in mid-bar the caption of another song: from the next bar line that one plays
    spliced    a bar pieced together from several songs, again and again: it can only be copied, not remembered. Before
               they were added, the next token of a real song was all but certain, yet what the model played on its own
               no longer repeated
    dreamed    bars the model played on its own, with what it should have played: see `dreaming`
    window     15 seconds, from the start or from anywhere inside: the engine runs to the last position, and reads its
               own past again from position 0 at every rollover
"""

import random
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import MusicgenForConditionalGeneration, T5Tokenizer

from streamgen.pocket.arranging import TokenSong, arrange, spliced, turned
from streamgen.pocket.captions import caption, written
from streamgen.pocket.dreaming import Dreams, dream
from streamgen.pocket.language import MAX_POSITIONS
from streamgen.pocket.quantizer import CODEBOOKS, CODES

DAMAGE = 0.04  # share of tokens misread in training; without it a wrong token, once played, is copied for ever
NULL_SHARE = 0.12  # rows trained without text, for guidance
FIRST_WEIGHTS = ((64, 3.0), (6, 8.0))  # the words decide what is heard in these frames; later the sound itself tells
DREAMS_KEPT, DREAM_EVERY = 96, 96  # dreams, steps


@dataclass(frozen=True)
class Kind:
    """One kind of training step: how many rows of how many frames."""

    name: str
    rows: int
    frames: int


CHORD, OPENING = Kind("opening", 48, 24), Kind("opening", 12, 136)
SPLICED, TURNED, DREAMED = Kind("spliced", 4, 400), Kind("turned", 5, 300), Kind("dreamed", 5, 300)
WINDOW = Kind("window", 2, MAX_POSITIONS - CODEBOOKS)
KINDS = (WINDOW, DREAMED, OPENING, SPLICED, TURNED, OPENING, CHORD, OPENING)


@dataclass(frozen=True)
class Batch:
    """What one step trains on.

    Attributes:
        codes: int64 [B, K, T], what is to be predicted.
        heard: int64 [B, K, T], what the model reads.
        ids, mask, read: text and who reads it, as `cross_entropy` takes them.
        weights: float32 [B, T], of each frame's loss, one on average.
    """

    codes: Tensor
    heard: Tensor
    ids: Tensor
    mask: Tensor
    weights: Tensor
    read: Tensor | None = None


def damaged(codes: Tensor, rates: Tensor) -> Tensor:
    """Codes [B, K, T] with a share [B] of each row's replaced at random."""
    return torch.where(torch.rand(codes.shape) < rates[:, None, None], torch.randint_like(codes, CODES), codes)


class Lessons:
    """Draws the batches of a training."""

    def __init__(
        self, model: MusicgenForConditionalGeneration, tokenizer: T5Tokenizer, rng: random.Random, dreams: int
    ) -> None:
        """Know whose dreams are wanted, how many at once, and the words."""
        self._model, self._tokenizer, self._rng, self._at_once = model, tokenizer, rng, dreams
        self._dreams = Dreams(DREAMS_KEPT, rng)

    def batch(self, step: int, songs: list[TokenSong]) -> Batch:
        """The batch of a step."""
        kind = KINDS[step % len(KINDS)]
        if kind.name == "turned":
            return self.turned(kind, self._picks(kind.rows, songs), self._picks(kind.rows, songs))
        if kind.name == "dreamed":
            return self.dreamed(kind, step, songs)
        if kind.name == "opening":
            return self.opening(kind, songs)
        picks = self._picks(kind.rows, songs)
        if kind.name == "spliced":
            codes = [spliced(pick, songs, kind.frames, self._rng) for pick in picks]
        else:
            codes = [arrange(pick, kind.frames, self._rng.random() < 0.5, self._rng) for pick in picks]
        stacked = torch.stack(codes)
        return self._captioned(stacked, self._heard(stacked), [self._caption(pick) for pick in picks])

    def opening(self, kind: Kind, songs: list[TokenSong]) -> Batch:
        """First bars: a third of the rows hears all of its past, a third some of it, a third nothing."""
        picks = self._picks(kind.rows, songs)
        codes = torch.stack([arrange(pick, kind.frames, True, self._rng) for pick in picks])
        deaf = torch.tensor([self._rng.choice((0.0, self._rng.random(), 1.0)) for _ in picks])
        weights = torch.ones(kind.rows, kind.frames)
        for first, weight in FIRST_WEIGHTS:
            weights[:, :first] = 1 + (weight - 1) * (1 - deaf[:, None])  # who hears nothing needs the words to the end
        bars = torch.tensor([pick.song.frames_per_bar for pick in picks])[:, None]
        weights[(torch.arange(kind.frames) >= bars) & (deaf[:, None] > 0)] = (
            0.0  # a bar heard badly is not to be copied
        )
        return self._captioned(codes, damaged(codes, deaf), [self._caption(pick) for pick in picks], weights)

    def dreamed(self, kind: Kind, step: int, songs: list[TokenSong]) -> Batch:
        """What the model played: each bar after the first should have been the bar before."""
        if not len(self._dreams) or step % DREAM_EVERY < len(KINDS) // 2:
            self._dream(kind.frames, songs)
        chosen = self._dreams.pick(kind.rows)
        first = torch.tensor([one.frames_per_bar for one in chosen])
        weights = (torch.arange(kind.frames) >= first[:, None]).float()  # how it began is not held up as an example
        played = torch.stack([one.codes for one in chosen])
        wanted = torch.stack([one.wanted() for one in chosen])
        return self._captioned(wanted, self._heard(played), [one.text for one in chosen], weights)

    def _dream(self, frames: int, songs: list[TokenSong]) -> None:
        picks = [pick.song for pick in self._picks(self._at_once, songs)]
        texts = [written(caption(song, self._rng, complete=True), self._rng) for song in picks]
        self._dreams.add(dream(self._model, picks, texts, self.tokenise(texts), frames))

    def turned(self, kind: Kind, picks: list[TokenSong], others: list[TokenSong]) -> Batch:
        """Rows whose caption, and a moment later whose music, becomes another song's."""
        rows = [turned(a, b, kind.frames, self._rng) for a, b in zip(picks, others, strict=True)]
        texts = [self._caption(song) for pair in zip(picks, others, strict=True) for song in pair]
        ids, mask = (part.unflatten(0, (kind.rows, 2)) for part in self.tokenise(texts))
        mask = mask * self._kept(kind.rows)[..., None]
        # all codebooks drawn in one step read one text, as when a prompt changes while music plays
        step = torch.arange(kind.frames + CODEBOOKS - 1)
        new = step >= torch.tensor([row.turn for row in rows])[:, None]
        read = torch.stack([~new, new], dim=-1)[..., None] * mask[:, None]
        codes = torch.stack([row.codes for row in rows])
        return Batch(codes, self._heard(codes), ids, mask, torch.ones(kind.rows, kind.frames), read.flatten(2))

    def _captioned(self, codes: Tensor, heard: Tensor, texts: list[str], weights: Tensor | None = None) -> Batch:
        ids, mask = self.tokenise(texts)
        weights = torch.ones(len(codes), codes.shape[-1]) if weights is None else weights
        return Batch(codes, heard, ids, mask * self._kept(len(codes)), weights / weights.mean())

    def _picks(self, count: int, songs: list[TokenSong]) -> list[TokenSong]:
        return [self._rng.choice(songs) for _ in range(count)]

    def _heard(self, codes: Tensor) -> Tensor:
        """Codes as the model reads them: half of the rows a little damaged."""
        return damaged(codes, DAMAGE * (torch.rand(len(codes)) < 0.5))

    def _caption(self, source: TokenSong) -> str:
        return written(caption(source.song, self._rng), self._rng)

    def _kept(self, rows: int) -> Tensor:
        """Which rows keep their text, int64 [rows, 1]."""
        return torch.tensor([[int(self._rng.random() >= NULL_SHARE)] for _ in range(rows)])

    def tokenise(self, texts: list[str]) -> tuple[Tensor, Tensor]:
        """Token ids and mask, int64 [B, S]."""
        batch = self._tokenizer(texts, padding=True, return_tensors="pt")
        return batch["input_ids"], batch["attention_mask"]
