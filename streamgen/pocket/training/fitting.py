"""Training the language model on tokenised songs.

Rules: reads token files, never sound. What a step sees is drawn by `lessons`.
"""

import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import EncodecModel, T5Tokenizer

from streamgen.pocket.training.arranging import OPEN, STEADY, TokenSong, arrange, lay_out
from streamgen.pocket.training.bar_heads import Music, silence, write_bar_heads
from streamgen.pocket.training.captions import NAMES, caption, train_tokenizer
from streamgen.pocket.training.codec import sound_to_codes
from streamgen.pocket.training.compose import FRAMES_PER_STEP, KEY_NAMES, held_out_song, training_song
from streamgen.pocket.training.corpus import Pcm, held_out_audio, shard_clips
from streamgen.pocket.training.device import Pace, bfloat16, training_device
from streamgen.pocket.training.language import (
    MAX_POSITIONS,
    cross_entropy,
    delay,
    hidden_after,
    modules_to_train,
    new_language_model,
    text_states,
)
from streamgen.pocket.training.lean_encoder import CodeReader
from streamgen.pocket.training.lessons import Batch, Lessons
from streamgen.pocket.training.phase_units import write_phase_units
from streamgen.pocket.training.pictures import Curve
from streamgen.pocket.training.quantizer import CODEBOOKS

UNSEEN_FILE = "unseen.pt"  # held-out songs to measure by
CODEBOOK_WEIGHTS = (1.5, 1.1, 0.8, 0.6)
SURE = 0.25  # 12 nats of difference in half a bar leave little to learn
CAPTIONS_READ, WINDOWS_READ = 1500, 10  # to write bar heads by: captions, windows at every tempo
CAPTIONS_NAMED, NAMING_WEIGHT = 32, 60.0  # captions a step; beside nats, squares are small
TIMED_LAYERS, TIMING_WEIGHT = 2, 0.5
DROPOUT = 0.1  # without it 3,000 loops were memorised in 400 steps


@dataclass(frozen=True)
class LanguagePlan:
    """How long and how hard the language model trains; time, not steps: the machine is shared."""

    seconds: float = 3000.0
    learning_rate: float = 1e-3
    save_every_s: float = 120.0
    max_steps: int = 10**9


def tokenise_corpus(codec: EncodecModel, corpus: Path, target: Path, held_out: int) -> None:
    """Encode every shard to `target`, and `held_out` other songs beside it; what is already there is kept.

    The language model then needs no sound: these files, some 20 MB, are all that a machine has to have that trains it.
    """
    torch.set_flush_denormal(True)  # silence otherwise slows the encoder tenfold
    target.mkdir(parents=True, exist_ok=True)
    read, pace = _reader(codec), Pace()
    for shard in sorted(corpus.glob("*.npz")):
        out = target / f"{shard.stem}.pt"
        if not out.exists():
            codes = pace.run(partial(_encode_all, read, shard_clips(shard)))
            _save(codes, out)
            print(f"tokenise: shard {shard.stem}", flush=True)
    unseen = target.parent / UNSEEN_FILE
    if not unseen.exists():
        _save(_encode_all(read, held_out_audio(held_out)), unseen)


def _save(codes: list[Tensor], path: Path) -> None:
    """Write a file whole or not at all."""
    torch.save(codes, path.with_suffix(".part"))
    path.with_suffix(".part").replace(path)


def _reader(codec: EncodecModel) -> Callable[[Pcm], Tensor]:
    """Reads codes: on a GPU with transformers' encoder, on a processor without what is silent in it."""
    device = training_device()
    if device.type == "cpu":
        return CodeReader(codec)
    codec.to(device)  # type: ignore[arg-type] # transformers wraps it in a way mypy cannot follow
    return partial(sound_to_codes, codec)


def _encode_all(read: Callable[[Pcm], Tensor], clips: list[Pcm]) -> list[Tensor]:
    """Codes int16 of every clip, in float32: bfloat16 kept 99 % of codebook 0 in one model, 5 % in its exact copy."""
    return [read(pcm).to(torch.int16) for pcm in clips]


def load_songs(folder: Path) -> list[TokenSong]:
    """All tokenised training songs."""
    clips: list[Tensor] = []
    for path in sorted(folder.glob("*.pt")):
        clips += torch.load(path, weights_only=True)
    return [TokenSong(training_song(number), codes) for number, codes in enumerate(clips)]


def load_unseen(folder: Path) -> list[TokenSong]:
    """The tokenised songs that training never sees."""
    clips = torch.load(folder / UNSEEN_FILE, weights_only=True)
    return [TokenSong(held_out_song(number), codes) for number, codes in enumerate(clips)]


class LanguageTrainer:
    """The model in training with its optimiser, averaged weights and clock; saved and resumed as one file."""

    def __init__(
        self,
        folder: Path,
        tokenizer: T5Tokenizer,
        plan: LanguagePlan,
        seed: int = 0,
        device: torch.device | None = None,
    ) -> None:
        """Start, or go on from `folder/language.pt` if it is there; `device` is the GPU unless another is named."""
        self.device = training_device() if device is None else device
        self.path, self.plan, self.tokenizer = folder / "language.pt", plan, tokenizer
        self.model = new_language_model(len(tokenizer), seed)
        silence(self.model)
        hidden = self.model.decoder.config.hidden_size
        self.namer, self.timer = nn.Linear(hidden, NAMES), nn.Linear(hidden, max(FRAMES_PER_STEP.values()))
        self.modules = nn.ModuleList([*modules_to_train(self.model), self.namer, self.timer]).to(self.device)
        self.average = {name: value.clone() for name, value in self.modules.state_dict().items()}
        self.optimiser = torch.optim.AdamW(self._groups(), lr=plan.learning_rate, betas=(0.9, 0.95))
        self.step, self.seconds, self.rng = 0, 0.0, random.Random(seed)
        self.lessons = Lessons(tokenizer, self.rng)
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
        state = torch.load(self.path, weights_only=True, map_location=self.device)
        self.modules.load_state_dict(state["modules"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.average, self.step, self.seconds = state["average"], state["step"], state["seconds"]
        self.rng.seed(self.step)

    def load_average(self) -> None:
        """Put the averaged weights into the model."""
        self.modules.load_state_dict(self.average)

    def finish(self, songs: list[TokenSong]) -> None:
        """Put the averaged weights with bar heads into the model, on the CPU: what is judged and exported."""
        self.load_average()
        self.modules.to("cpu")
        self.device = torch.device("cpu")
        silence(self.model)
        rng = random.Random(self.step)
        read = [rng.choice(songs) for _ in range(CAPTIONS_READ)]
        write_bar_heads(self.model, self.lessons.captions(read), self._music(songs, rng))

    def naming_loss(self, songs: list[TokenSong]) -> Tensor:
        """How far the text encoder is from saying plainly which words name tempo, style and key."""
        captions = self.lessons.captions([self.rng.choice(songs) for _ in range(CAPTIONS_NAMED)]).to(self.device)
        read = self.namer(text_states(self.model, captions.ids, captions.mask))[captions.mask > 0]
        return NAMING_WEIGHT * F.mse_loss(read, captions.named[captions.mask > 0])

    def timing_loss(self, batch: Batch, sixteenths: Tensor) -> Tensor:
        """How far the second layer is from saying where in its sixteenth each frame lies that is to be predicted.

        What starts a frame off the grid is copied faithfully for minutes: of the shipped clips' onsets half lay over
        12 ms off, as many in the first bar as later.
        """
        decoder: Any = self.model.decoder
        states = text_states(self.model, batch.ids, batch.mask)
        with bfloat16(self.device):
            inputs = delay(batch.heard)[..., : batch.codes.shape[-1]]  # column t predicts frame t of codebook 0
            scores = self.timer(hidden_after(decoder.model.decoder, TIMED_LAYERS, inputs, states, batch.mask))
        frames = torch.arange(inputs.shape[-1], device=scores.device)
        place = torch.where(sixteenths[:, None] > 0, frames % sixteenths.clamp(min=1)[:, None], -100)
        return F.cross_entropy(scores.float().flatten(0, 1), place.flatten())

    def write_phases(self, songs: list[TokenSong]) -> None:
        """Let the first layer know where in its sixteenth a frame lies; before training."""
        music = self._music(songs, random.Random(self.step))
        self.modules.to("cpu")
        write_phase_units(self.model, music.ids, music.mask, music.delayed)
        self.modules.to(self.device)
        self.average = {name: value.clone() for name, value in self.modules.state_dict().items()}

    def _music(self, songs: list[TokenSong], rng: random.Random) -> Music:
        """Windows at every tempo under some of the captions."""
        tempi = [[song for song in songs if song.song.bpm == bpm] or songs for bpm in FRAMES_PER_STEP]
        picks = [rng.choice(tempo) for tempo in tempi for _ in range(WINDOWS_READ)]
        codes = torch.stack([arrange(pick, MAX_POSITIONS - CODEBOOKS, rng.random() < 0.5, rng) for pick in picks])
        captions = self.lessons.captions(picks)
        return Music(captions.ids, captions.mask, captions.named.amax(1), delay(codes)[..., :-1])

    def train_step(self, songs: list[TokenSong]) -> float:
        """One update; returns codebook 0's cross-entropy in nats."""
        self._set_rate()
        batch = self.lessons.batch(self.step, songs).to(self.device)
        losses, loss = self.losses(batch)
        if batch.sixteenths is not None:
            loss = loss + TIMING_WEIGHT * self.timing_loss(batch, batch.sixteenths)
        self.optimiser.zero_grad(set_to_none=True)
        (loss + self.naming_loss(songs)).backward()
        nn.utils.clip_grad_norm_(self.modules.parameters(), 1.0)
        self.optimiser.step()
        silence(self.model)
        self._follow()
        self.step += 1
        return losses[0].item()

    def losses(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Cross-entropy [K] of a batch in nats, and the loss to go down on, a scalar."""
        with bfloat16(self.device):
            losses = cross_entropy(
                self.model, batch.ids, batch.mask, batch.codes, batch.heard, DROPOUT, read=batch.read
            )
        shares = torch.tensor(CODEBOOK_WEIGHTS, device=self.device) / sum(CODEBOOK_WEIGHTS)
        losses, loss = losses * batch.weights[:, None], losses.new_zeros(())
        if batch.rivals:
            losses, wrong = losses.unflatten(0, (-1, 2)).unbind(1)
            loss = rivalry(losses, wrong, shares)
        losses = losses.mean(dim=(0, 2))
        return losses, loss + (losses * shares).sum()

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


def rivalry(own: Tensor, wrong: Tensor, shares: Tensor) -> Tensor:
    """How far music is from being likelier under its own caption than under a wrong one.

    Likelihood alone is satisfied when the first notes tell the key: 3,600 steps taught no more of it than chance.

    Args:
        own: float [B, K, T], losses in nats under the songs' captions.
        wrong: as `own`, under wrong ones.
        shares: float [K], how much each codebook counts.
    """
    gain = ((wrong - own) * shares[:, None]).sum(dim=(1, 2))
    return F.softplus(-SURE * gain).mean()


@torch.no_grad()
def loop_entropies(trainer: LanguageTrainer, songs: list[TokenSong], bars: int = 4) -> dict[str, float]:
    """Codebook 0's cross-entropy in nats: first bar, later bars, and the first bar under captions that are wrong."""
    sums = np.zeros(4)
    for number, source in enumerate(songs):
        bar, song = source.song.frames_per_bar, source.song
        codes = lay_out(source, [OPEN] + [STEADY] * (bars - 1))[None].expand(3, -1, -1).to(trainer.device)
        other = next(s.song for s in songs[number + 1 :] + songs if s.song.style != song.style)
        transposed = replace(song, tonic=next(tonic for tonic in KEY_NAMES if tonic != song.tonic))
        texts = [caption(read, random.Random(number), complete=True).lower() for read in (song, other, transposed)]
        ids, mask = (part.to(trainer.device) for part in trainer.lessons.tokenise(texts))
        with bfloat16(trainer.device):
            losses = cross_entropy(trainer.model, ids, mask, codes)[:, 0]
        sums += [losses[0, :bar].mean().item(), losses[0, bar:].mean().item(), *losses[1:, :bar].mean(1).tolist()]
    names = ("first bar", "later bars", "first bar under another caption", "in another key")
    return dict(zip(names, (sums / len(songs)).tolist(), strict=True))


def train_language_model(folder: Path, plan: LanguagePlan, seed: int = 0) -> LanguageTrainer:
    """Train on the tokens in `folder`, saving often; a second call goes on where the first stopped."""
    torch.set_flush_denormal(True)
    tokenizer = train_tokenizer(folder / "tokenizer")
    trainer, pace = LanguageTrainer(folder, tokenizer, plan, seed), Pace()
    songs, unseen = load_songs(folder / "tokens"), load_unseen(folder)
    if trainer.step < 2:
        trainer.write_phases(songs)
    saved, curve = time.monotonic(), Curve(folder, "lm")
    while trainer.seconds < plan.seconds and trainer.step < plan.max_steps:
        begin = time.monotonic()
        entropy = pace.run(lambda: trainer.train_step(songs))
        trainer.seconds += time.monotonic() - begin
        if trainer.step % 40 in (1, 2, 3):  # a window, a dream, an opening
            print(f"lm: step {trainer.step} {trainer.seconds:.0f} s entropy {entropy:.3f}", flush=True)
        if time.monotonic() - saved > plan.save_every_s:
            trainer.save()
            saved = time.monotonic()
            found = loop_entropies(trainer, unseen)
            curve.add(trainer.step, found)
            words = ", ".join(f"{name} {value:.3f}" for name, value in found.items())
            print(f"lm: step {trainer.step} held-out {words}", flush=True)
    trainer.save()
    return trainer
