"""Training the codec as a whole, further: encoder, codebooks and decoder, by the decoder's losses.

Rules: reads the corpus. The tokens change, so a language model has to follow: this is for the beginning of a new one.

The encoder was trained by mel bands, which do not hear single partials; here the fine losses reach it. Its front, down
to 400 Hz, stays as it is: its 128 channels are more numbers than the samples that they are made of. What comes after it
uses all the filters that the codec has, the silent ones too.
"""

import copy
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import EncodecModel

from streamgen.pocket.training.corpus import Pcm, all_clips
from streamgen.pocket.training.device import bfloat16, training_device
from streamgen.pocket.training.fine_losses import band_loss
from streamgen.pocket.training.lean_decoder import LeanDecoder, Weights, write_layers
from streamgen.pocket.training.lean_encoder import front_and_rest
from streamgen.pocket.training.quantizer import CODEBOOKS, CODES, ResidualQuantizer, nearest
from streamgen.pocket.training.refining import (
    DEAF_FRAMES,
    ENDING_SHARE,
    ENDINGS,
    as_kept,
    draw_begin,
    ending,
    keep_training,
    sound_losses,
    wanted_of,
    weighed,
)
from streamgen.pocket.training.synth import HOP_SAMPLES

SHARP_FILE = "sharp.pt"
BAND_WINDOWS = (4096, 8192)  # in turns
COMMITMENT = 0.1
# How much of a codebook is new at a step, at first and at the end. Slower, the codes lag behind an encoder that moves;
# as fast at the end, they are means of a dozen vectors: settling for 240 batches took 7 % off the commitment loss.
FOLLOWING, SETTLING = 0.03, 0.004
KNOWN = 0.1  # vectors a step that every code is taken to have had already: rare ones stay where they were


@dataclass(frozen=True)
class SharpenPlan:
    """How long and how hard the codec trains on."""

    seconds: float = 7200.0
    batch: int = 4
    frames: int = 100
    encoder_rate: float = 3e-4
    decoder_rate: float = 1.5e-4
    falling: float = 0.45  # of the time, at the end, in which the rates fall to nothing
    save_every_s: float = 120.0
    measure_every_s: float = 600.0
    held_out: int = 12  # songs to measure by


@dataclass(frozen=True)
class Segments:
    """Sound as it is heard and as it is wanted, float32 [B, samples], and where it counts, 0 … 1."""

    heard: Tensor
    wanted: Tensor
    counts: Tensor


class Sounds:
    """Everything that the codec learns from: songs, and endings that fall silent."""

    def __init__(self, corpus: Path, seed: int) -> None:
        """Read the corpus."""
        self._rng = np.random.default_rng(seed)
        self.songs = list(all_clips(corpus))
        self.endings = [ending(self.songs, number, self._rng) for number in range(ENDINGS)]

    def batches(self, plan: SharpenPlan) -> Iterator[Segments]:
        """Endless batches, cut on frames."""
        while True:
            rows = [self._row(plan.frames) for _ in range(plan.batch)]
            parts = (np.stack(part).astype(np.float32) for part in zip(*rows, strict=True))
            heard, wanted, counts = (torch.from_numpy(part) for part in parts)
            yield Segments(heard / 32767, wanted / 32767, counts)

    def _row(self, frames: int) -> tuple[Any, Any, Any]:
        pool: list[Pcm] = self.endings if self._rng.random() < ENDING_SHARE else self.songs
        sound = pool[self._rng.integers(len(pool))]
        begin = draw_begin(len(sound) // HOP_SAMPLES, frames, self._rng)
        heard = sound[begin * HOP_SAMPLES : (begin + frames) * HOP_SAMPLES]
        return heard, *wanted_of(sound, begin, frames)


class Speaker(nn.Module):
    """An encoder of which all but the front learns; the front is as narrow as what it hears with."""

    def __init__(self, codec: EncodecModel, seed: int = 0) -> None:
        """Copy the weights of transformers' encoder; what is silent in them after the front may learn."""
        super().__init__()
        front, self.rest = front_and_rest(codec)
        self.front, self.last = front.requires_grad_(False), len(front)
        wake(self.rest, seed)

    def forward(self, audio: Tensor) -> Tensor:
        """Latents [B, dim, frames] of samples [B, frames x hop]."""
        with torch.no_grad():
            x = self.front(audio[..., None])
        for layer in self.rest:
            x = layer(x)
        latents: Tensor = x.transpose(1, 2)
        return latents

    @torch.no_grad()
    def write(self, encoder: nn.Module) -> None:
        """Put what was learned into transformers' encoder; its front is as it was."""
        theirs: Any = encoder.layers
        rest: Any = copy.deepcopy(self.rest)
        weight = rest[0].own.weight
        silent = theirs[self.last].conv.in_channels - weight.shape[1]
        rest[0].own.weight = nn.Parameter(F.pad(weight, (0, 0, 0, silent)))
        write_layers(rest, theirs[self.last :])


@torch.no_grad()
def wake(layers: nn.ModuleList, seed: int) -> None:
    """Let silent units hear something at random; who hears them is to be learned."""
    torch.manual_seed(seed)
    for layer in layers:
        for module in layer.modules():
            if isinstance(module, Weights):
                _wake(module.weight)
            elif isinstance(module, nn.LSTM):
                for name, weight in module.named_parameters():
                    if name.startswith("weight"):
                        _wake(weight)


def _wake(weight: Tensor) -> None:
    """Random rows, as loud as a fresh layer's, in place of rows of zeros."""
    silent = weight.flatten(1).abs().amax(1) == 0
    weight[silent] = torch.randn_like(weight[silent]) / math.sqrt(weight[0].numel())


class CodecSharpener:
    """One codec in training as a whole; saved and resumed as one file."""

    def __init__(self, path: Path, codec: EncodecModel, plan: SharpenPlan) -> None:
        """Start from a codec, or go on from `path` if it is there."""
        self.path, self.codec, self.plan, self.step, self.seconds = path, codec, plan, 0, 0.0
        self.device = training_device()
        parts: Any = codec
        self.speaker, self.decoder = Speaker(codec).to(self.device), LeanDecoder(parts.decoder).to(self.device)
        self.decoder.even()
        self.quantizer = ResidualQuantizer(parts.config.codebook_dim).to(self.device)
        books = torch.stack([layer.codebook.embed for layer in parts.quantizer.layers])
        for kept in (self.quantizer.books, self.quantizer.sums):
            kept.copy_(books)
        self.nets = nn.ModuleList([self.speaker, self.decoder])
        self.average = copy.deepcopy(self.nets)
        self.rates = (plan.encoder_rate, plan.decoder_rate)
        groups: list[dict[str, Any]] = [{"params": list(net.parameters())} for net in (self.speaker.rest, self.decoder)]
        self.optimiser = torch.optim.Adam(groups, lr=plan.decoder_rate, betas=(0.8, 0.99))
        if path.exists():
            self._load()

    def save(self) -> None:
        """Write everything needed to go on."""
        state = {name: getattr(self, name).state_dict() for name in ("nets", "average", "quantizer", "optimiser")}
        torch.save({**state, "step": self.step, "seconds": self.seconds}, self.path.with_suffix(".part"))
        self.path.with_suffix(".part").replace(self.path)

    def _load(self) -> None:
        state = torch.load(self.path, weights_only=True, map_location=self.device)
        for name in ("nets", "average", "quantizer", "optimiser"):
            getattr(self, name).load_state_dict(state[name])
        self.step, self.seconds = state["step"], state["seconds"]

    @torch.no_grad()
    def count_codes(self, batches: list[Segments]) -> None:
        """Tell the codebooks how often each code is used a step, and where its vectors lie, before they follow any."""
        quantizer = self.quantizer
        latents = torch.cat([self.speaker(batch.heard.to(self.device))[..., DEAF_FRAMES:] for batch in batches])
        residual = latents.transpose(1, 2).flatten(0, 1)
        share = self.plan.batch * self.plan.frames / len(residual)
        for level in range(CODEBOOKS):
            book = quantizer.books[level].clone()
            index = nearest(residual, book)
            counts = torch.bincount(index, minlength=CODES).to(book.dtype) * share
            quantizer.counts[level] = counts + KNOWN
            quantizer.sums[level] = torch.zeros_like(book).index_add_(0, index, residual) * share + KNOWN * book
            residual = residual - book[index]

    def train_step(self, batch: Segments) -> dict[str, float]:
        """One update; returns the losses by name."""
        begun = time.monotonic()
        self._set_rates()
        losses = self.losses(batch)
        self.optimiser.zero_grad(set_to_none=True)
        (weighed(losses) + losses["band"] + COMMITMENT * losses["commit"]).backward()
        for net in (self.speaker, self.decoder):
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        self.optimiser.step()
        self.decoder.even()
        self._average()
        self.step += 1
        self.seconds += time.monotonic() - begun
        return {name: value.item() for name, value in losses.items()}

    def losses(self, batch: Segments) -> dict[str, Tensor]:
        """What the loss is made of, by name; the codebooks follow what they hear."""
        counts = batch.counts.to(self.device)
        with bfloat16(self.device):
            latents = self.speaker(batch.heard.to(self.device)).float()
        depth = torch.full((len(latents),), CODEBOOKS, device=self.device)
        rows, commitment = self.quantizer(latents.transpose(1, 2), depth, learn=True)
        with bfloat16(self.device):
            made = self.decoder(rows.transpose(1, 2))
        made, wanted = made.float() * counts, batch.wanted.to(self.device) * counts
        window = BAND_WINDOWS[self.step % len(BAND_WINDOWS)]
        return {**sound_losses(made, wanted), "band": band_loss(made, wanted, window), "commit": commitment}

    def _set_rates(self) -> None:
        left = max(0.0, 1 - self.seconds / self.plan.seconds)
        falling = min(1.0, 0.02 + left / self.plan.falling)
        self.quantizer.decay = 1 - max(SETTLING, FOLLOWING * falling)
        share = min((self.step + 1) / 200, falling)
        for group, rate in zip(self.optimiser.param_groups, self.rates, strict=True):
            group["lr"] = rate * share

    @torch.no_grad()
    def _average(self) -> None:
        share = 1 - min(0.998, self.step / (self.step + 20))
        for kept, value in zip(self.average.parameters(), self.nets.parameters(), strict=True):
            kept.lerp_(value, share)

    @torch.no_grad()
    def kept_codec(self) -> EncodecModel:
        """The codec with the averaged weights and the codebooks, on the CPU, as float16 will keep it."""
        parts: Any = copy.deepcopy(self.codec)
        average: Any = copy.deepcopy(self.average).cpu()
        for net, target in zip(average, (parts.encoder, parts.decoder), strict=True):
            net.write(target)
        for layer, book in zip(parts.quantizer.layers, self.quantizer.books, strict=True):
            layer.codebook.embed.copy_(book)
            layer.codebook.embed_avg.copy_(book)
        return as_kept(parts)


def sharpen_codec(folder: Path, codec: EncodecModel, corpus: Path, plan: SharpenPlan) -> None:
    """Train the codec as a whole, saving often; a second call goes on where the first stopped."""
    torch.set_flush_denormal(True)
    trainer = CodecSharpener(folder / SHARP_FILE, codec, plan)
    stream = Sounds(corpus, trainer.step).batches(plan)
    if trainer.step == 0:
        trainer.count_codes([next(stream) for _ in range(60)])
    keep_training(trainer, stream, "sharpen", folder)
