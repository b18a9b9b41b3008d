"""Training the language model on tokenised songs.

Rules: reads token files, never sound. What a step sees, in turn (see `arranging` for how they are laid out):

    openings   a bar, or only its first half second, from the first downbeat: the music has to be invented from the
               words. Half of the rows hear themselves badly (`DEAF`), so that tempo and key come from the words too,
               not only from what already sounds: without that, a model that knew the tempo of a real bar in 96 of 100
               cases opened half of its own in another one, and then held it
    turned     a song and its caption, and in mid-bar the caption of another song: from the next bar line that one plays
    spliced    a bar pieced together from several songs, again and again: it can only be copied, not remembered. Before
               they were added, the next token of a real song was all but certain, yet what the model played on its own
               no longer repeated
    window     15 seconds, from the start or from anywhere inside: the engine runs to the last position, and reads its
               own past again from position 0 at every rollover
"""

import math
import random
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from transformers import EncodecModel, T5Tokenizer

from streamgen.pocket.arranging import OPEN, STEADY, TokenSong, arrange, lay_out, spliced, turned
from streamgen.pocket.captions import caption, train_tokenizer, written
from streamgen.pocket.codec import sound_to_codes
from streamgen.pocket.compose import held_out_song, training_song
from streamgen.pocket.corpus import Pcm, render_song, shard_clips
from streamgen.pocket.language import MAX_POSITIONS, cross_entropy, modules_to_train, new_language_model
from streamgen.pocket.pace import Pace
from streamgen.pocket.quantizer import CODEBOOKS, CODES
from streamgen.pocket.synth import Synthesizer

CODEBOOK_WEIGHTS = (1.5, 1.1, 0.8, 0.6)
DROPOUT = 0.1  # without it 3,000 loops were memorised in 400 steps
DAMAGE = 0.04  # share of tokens misread in training; without it a wrong token, once played, is copied for ever
DEAF = 0.5  # the same, in openings
NULL_SHARE = 0.12  # rows trained without text, for guidance


@dataclass(frozen=True)
class Kind:
    """One kind of training step: how many rows of how many frames."""

    name: str
    rows: int
    frames: int


CHORD, OPENING = Kind("opening", 48, 24), Kind("opening", 12, 136)
SPLICED, TURNED = Kind("spliced", 4, 400), Kind("turned", 5, 300)
WINDOW = Kind("window", 2, MAX_POSITIONS - CODEBOOKS)
KINDS = (WINDOW, SPLICED, OPENING, SPLICED, TURNED, OPENING, SPLICED, CHORD)
FIRST_WEIGHTS = ((64, 3.0), (6, 8.0))  # the words decide what is heard in these frames; later the sound itself tells


@dataclass(frozen=True)
class Batch:
    """What one step trains on: codes int64 [B, K, T]; text, its mask and who reads it as `cross_entropy` takes them."""

    codes: Tensor
    ids: Tensor
    mask: Tensor
    read: Tensor | None = None


@dataclass(frozen=True)
class LanguagePlan:
    """How long and how hard the language model trains; time, not steps: the machine is shared."""

    seconds: float = 3000.0
    learning_rate: float = 1.2e-3
    save_every_s: float = 120.0
    max_steps: int = 10**9


def tokenise_corpus(codec: EncodecModel, corpus: Path, target: Path) -> None:
    """Encode every shard to `target`; shards already there are kept."""
    torch.set_flush_denormal(True)  # silence otherwise slows the encoder tenfold
    target.mkdir(parents=True, exist_ok=True)
    pace = Pace()
    for shard in sorted(corpus.glob("*.npz")):
        out = target / f"{shard.stem}.pt"
        if not out.exists():
            codes = pace.run(partial(_encode_all, codec, shard_clips(shard)))
            torch.save(codes, out.with_suffix(".part"))
            out.with_suffix(".part").replace(out)
            print(f"tokenise: shard {shard.stem}", flush=True)


def _encode_all(codec: EncodecModel, clips: list[Pcm]) -> list[Tensor]:
    """Codes int16 of every clip; bfloat16 halves the time and keeps 99.5 % of codebook 0."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return [sound_to_codes(codec, pcm).to(torch.int16) for pcm in clips]


def load_songs(folder: Path) -> list[TokenSong]:
    """All tokenised training songs."""
    clips: list[Tensor] = []
    for path in sorted(folder.glob("*.pt")):
        clips += torch.load(path, weights_only=True)
    return [TokenSong(training_song(number), codes) for number, codes in enumerate(clips)]


def held_out_songs(codec: EncodecModel, count: int) -> list[TokenSong]:
    """Songs the training never saw, tokenised."""
    songs = [held_out_song(number) for number in range(count)]
    with Synthesizer() as synth:
        return [TokenSong(song, sound_to_codes(codec, render_song(synth, song))) for song in songs]


def damaged(codes: Tensor, rate: float) -> Tensor:
    """Codes [B, K, T] with a share of them replaced at random; half of the rows are left whole."""
    rates = rate * (torch.rand(len(codes), 1, 1) < 0.5)
    return torch.where(torch.rand(codes.shape) < rates, torch.randint_like(codes, CODES), codes)


class LanguageTrainer:
    """The model in training with its optimiser, averaged weights and clock; saved and resumed as one file."""

    def __init__(self, folder: Path, tokenizer: T5Tokenizer, plan: LanguagePlan, seed: int = 0) -> None:
        """Start, or go on from `folder/language.pt` if it is there."""
        self.path, self.plan, self.tokenizer = folder / "language.pt", plan, tokenizer
        self.model = new_language_model(len(tokenizer), seed)
        self.modules = nn.ModuleList(modules_to_train(self.model))
        self.average = {name: value.clone() for name, value in self.modules.state_dict().items()}
        self.optimiser = torch.optim.AdamW(self._groups(), lr=plan.learning_rate, betas=(0.9, 0.95))
        self.step, self.seconds, self.rng = 0, 0.0, random.Random(seed)
        if self.path.exists():
            self._load()

    def _groups(self) -> list[dict[str, object]]:
        weights = [p for p in self.modules.parameters() if p.ndim == 2]
        others = [p for p in self.modules.parameters() if p.ndim != 2]
        return [{"params": weights, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}]

    def save(self) -> None:
        """Write everything needed to go on."""
        state = {"modules": self.modules.state_dict(), "optimiser": self.optimiser.state_dict()}
        part = self.path.with_suffix(".part")
        torch.save({**state, "average": self.average, "step": self.step, "seconds": self.seconds}, part)
        part.replace(self.path)

    def _load(self) -> None:
        state = torch.load(self.path, weights_only=True)
        self.modules.load_state_dict(state["modules"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.average, self.step, self.seconds = state["average"], state["step"], state["seconds"]
        self.rng.seed(self.step)

    def load_average(self) -> None:
        """Put the averaged weights into the model: what is judged and exported."""
        self.modules.load_state_dict(self.average)

    def train_step(self, songs: list[TokenSong]) -> float:
        """One update; returns codebook 0's cross-entropy in nats."""
        kind = KINDS[self.step % len(KINDS)]
        batch = self._batch(kind, songs)
        self._set_rate()
        heard = damaged(batch.codes, DEAF if kind.name == "opening" else DAMAGE)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            losses = cross_entropy(
                self.model, batch.ids, batch.mask, batch.codes, heard, DROPOUT, read=batch.read
            ).mean(dim=0)
        losses = (losses * self._frame_weights(kind)).mean(dim=1)
        loss = (losses * torch.tensor(CODEBOOK_WEIGHTS)).sum() / sum(CODEBOOK_WEIGHTS)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.modules.parameters(), 1.0)
        self.optimiser.step()
        self._follow()
        self.step += 1
        return losses[0].item()

    def _batch(self, kind: Kind, songs: list[TokenSong]) -> Batch:
        picks = [self.rng.choice(songs) for _ in range(kind.rows)]
        if kind.name == "turned":
            return self._turned_batch(kind, picks, [self.rng.choice(songs) for _ in picks])
        if kind.name == "spliced":
            codes = [spliced(pick, songs, kind.frames, self.rng) for pick in picks]
        else:
            opening = kind.name == "opening" or self.rng.random() < 0.5
            codes = [arrange(pick, kind.frames, opening, self.rng) for pick in picks]
        ids, mask = self.tokenise([self._caption(pick) for pick in picks])
        return Batch(torch.stack(codes), ids, mask * self._kept(kind.rows))

    def _turned_batch(self, kind: Kind, picks: list[TokenSong], others: list[TokenSong]) -> Batch:
        """Rows whose caption, and a moment later whose music, becomes another song's."""
        rows = [turned(a, b, kind.frames, self.rng) for a, b in zip(picks, others, strict=True)]
        texts = [self._caption(song) for pair in zip(picks, others, strict=True) for song in pair]
        ids, mask = (part.unflatten(0, (kind.rows, 2)) for part in self.tokenise(texts))
        mask = mask * self._kept(kind.rows)[..., None]
        # all codebooks drawn in one step read one text, as when a prompt changes while music plays
        step = torch.arange(kind.frames + CODEBOOKS - 1)
        new = step >= torch.tensor([row.turn for row in rows])[:, None]
        read = torch.stack([~new, new], dim=-1)[..., None] * mask[:, None]
        return Batch(torch.stack([row.codes for row in rows]), ids, mask, read.flatten(2))

    def _caption(self, source: TokenSong) -> str:
        return written(caption(source.song, self.rng), self.rng)

    def _kept(self, rows: int) -> Tensor:
        """Which rows keep their text, int64 [rows, 1]."""
        return torch.tensor([[int(self.rng.random() >= NULL_SHARE)] for _ in range(rows)])

    def _frame_weights(self, kind: Kind) -> Tensor:
        """Weight [T] of each frame's loss, one on average: openings count most where only the words can tell."""
        weights = torch.ones(kind.frames)
        if kind.name == "opening":
            for first, weight in FIRST_WEIGHTS:
                weights[:first] = weight
        return weights / weights.mean()

    def tokenise(self, texts: list[str]) -> tuple[Tensor, Tensor]:
        """Token ids and mask, int64 [B, S]."""
        batch = self.tokenizer(texts, padding=True, return_tensors="pt")
        return batch["input_ids"], batch["attention_mask"]

    def _set_rate(self) -> None:
        done = min(1.0, self.seconds / self.plan.seconds)
        rate = min(1.0, (self.step + 1) / 60) * (0.03 + 0.97 * 0.5 * (1 + math.cos(math.pi * done)))
        for group in self.optimiser.param_groups:
            group["lr"] = self.plan.learning_rate * rate

    @torch.no_grad()
    def _follow(self) -> None:
        decay = min(0.995, self.step / (self.step + 10))
        for name, value in self.modules.state_dict().items():
            self.average[name].lerp_(value, 1 - decay)


@torch.no_grad()
def loop_entropies(trainer: LanguageTrainer, songs: list[TokenSong], bars: int = 4) -> tuple[float, float, float]:
    """Codebook 0's cross-entropy in nats: first bar, later bars, and first bar under another song's caption."""
    rng = random.Random("entropies")
    sums = np.zeros(3)
    for number, source in enumerate(songs):
        bar = source.song.frames_per_bar
        codes = lay_out(source, [OPEN] + [STEADY] * (bars - 1))[None]
        other = next(s.song for s in songs[number + 1 :] + songs if s.song.style != source.song.style)
        texts = [caption(source.song, rng, complete=True), caption(other, rng, complete=True)]
        ids, mask = trainer.tokenise(texts)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            losses = cross_entropy(trainer.model, ids, mask, codes.expand(2, -1, -1))[:, 0]
        sums += [losses[0, :bar].mean().item(), losses[0, bar:].mean().item(), losses[1, :bar].mean().item()]
    first, later, shuffled = (sums / len(songs)).tolist()
    return first, later, shuffled


def train_language_model(folder: Path, codec: EncodecModel, plan: LanguagePlan, seed: int = 0) -> LanguageTrainer:
    """Train, saving often; a second call goes on where the first stopped."""
    torch.set_flush_denormal(True)
    tokenizer = train_tokenizer(folder / "tokenizer")
    trainer, pace = LanguageTrainer(folder, tokenizer, plan, seed), Pace()
    songs, unseen = load_songs(folder / "tokens"), held_out_songs(codec, 16)
    saved = time.monotonic()
    while trainer.seconds < plan.seconds and trainer.step < plan.max_steps:
        begin = time.monotonic()
        entropy = pace.run(lambda: trainer.train_step(songs))
        trainer.seconds += time.monotonic() - begin
        if trainer.step % 40 in (1, 2, 3):  # a window, a splice, an opening
            print(f"lm: step {trainer.step} {trainer.seconds:.0f} s entropy {entropy:.3f}", flush=True)
        if time.monotonic() - saved > plan.save_every_s:
            trainer.save()
            saved = time.monotonic()
            first, later, other = loop_entropies(trainer, unseen)
            words = f"first bar {first:.2f}, under another caption {other:.2f}, later bars {later:.2f}"
            print(f"lm: step {trainer.step} held-out {words}", flush=True)
    trainer.save()
    return trainer
