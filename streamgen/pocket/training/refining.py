"""Training the codec's decoder alone: more filters, even kernels, fine losses; every code stays as it was.

Rules: reads the corpus and its codes; the encoder is only asked what it makes of endings. What is wanted is the songs
without the constant pressure of some of the soundfont's patches, which would be heard as a knock at every start.
"""

import copy
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from transformers import EncodecModel

from streamgen.pocket.training.codec import codes_to_sound, held_out_error, sound_to_codes
from streamgen.pocket.training.compose import GROOVE
from streamgen.pocket.training.corpus import Pcm, all_clips, held_out_audio
from streamgen.pocket.training.defects import comb_lines, harmonic_detail
from streamgen.pocket.training.device import Pace, bfloat16, training_device
from streamgen.pocket.training.fine_losses import PARTIAL_WINDOWS, comb_loss, partials_loss
from streamgen.pocket.training.lean_decoder import LeanDecoder, round_evenly
from streamgen.pocket.training.mel import MEL_SCALES, mel_loss, waveform_loss
from streamgen.pocket.training.pictures import Curve
from streamgen.pocket.training.synth import HOP_SAMPLES, SAMPLE_RATE_HZ
from streamgen.pocket.training.widening import widened

DECODER_FILE = "decoder.pt"
DC_CORNER_HZ, SETTLING_FRAMES = 10.0, 5  # six time constants
ENDINGS, ENDING_FRAMES = 96, 110
ENDING_SHARE, OPENING_SHARE = 1 / 16, 1 / 8
DEAF_FRAMES = 8  # of a segment from the middle of a song: the decoder has not heard what came before


@dataclass(frozen=True)
class RefinePlan:
    """How long and how hard the decoder trains."""

    seconds: float = 7200.0
    batch: int = 4
    frames: int = 80
    filters: int = 32
    learning_rate: float = 5e-4
    falling: float = 0.3  # of the time, at the end, in which the rate falls to nothing
    save_every_s: float = 120.0
    measure_every_s: float = 600.0
    held_out: int = 12  # songs to measure by


@dataclass(frozen=True)
class Batch:
    """Codes int64 [B, 4, frames], the sound wanted float32 [B, samples], and where it counts, 0 … 1."""

    codes: Tensor
    sound: Tensor
    counts: Tensor


def without_dc(pcm: Pcm) -> Pcm:
    """A high-pass of first order at 10 Hz."""
    size = 1 << (len(pcm) + SAMPLE_RATE_HZ // 2).bit_length()
    hertz = np.fft.rfftfreq(size, 1 / SAMPLE_RATE_HZ)
    filtered = np.fft.irfft(np.fft.rfft(pcm, size) * (1j * hertz / (1j * hertz + DC_CORNER_HZ)), size)[: len(pcm)]
    return filtered.round().clip(-32767, 32767).astype(np.int16)


def ending(songs: list[Pcm], number: int, rng: np.random.Generator) -> Pcm:
    """A piece of a song that fades within 0.2 s into nothing; every eighth is nothing from the start."""
    sound = np.zeros(ENDING_FRAMES * HOP_SAMPLES, np.int16)
    if number % 8:
        song = songs[rng.integers(len(songs))]
        end, fade = int(rng.integers(20, 50)) * HOP_SAMPLES, int(rng.integers(40, 6400))
        begin = int(rng.integers(0, len(song) - end))
        sound[:end] = song[begin : begin + end] * np.clip((end - np.arange(end)) / fade, 0, 1)
    return sound


def draw_begin(length: int, frames: int, rng: np.random.Generator) -> int:
    """Where a segment of `frames` begins in a song of `length` frames: at its start more often than elsewhere."""
    return 0 if rng.random() < OPENING_SHARE else int(rng.integers(length - frames + 1))


def wanted_of(sound: Pcm, begin: int, frames: int) -> tuple[Pcm, npt.NDArray[np.float32]]:
    """The sound wanted of the frames from `begin` on, without DC, and where it counts, 0 … 1."""
    counts = np.ones(frames * HOP_SAMPLES, np.float32)
    if begin:
        deaf = DEAF_FRAMES * HOP_SAMPLES
        counts[:deaf] = 0
        counts[deaf : deaf + HOP_SAMPLES] = np.linspace(0, 1, HOP_SAMPLES)
    before = min(begin, SETTLING_FRAMES)
    heard = without_dc(sound[(begin - before) * HOP_SAMPLES : (begin + frames) * HOP_SAMPLES])
    return heard[before * HOP_SAMPLES :], counts


def sound_losses(made: Tensor, wanted: Tensor) -> dict[str, Tensor]:
    """What the loss on sound [B, samples] is made of, by name: two of the mel scales and two windows, drawn anew."""
    scales = [MEL_SCALES[pick] for pick in torch.randperm(len(MEL_SCALES))[:2].tolist()]
    windows = [PARTIAL_WINDOWS[pick] for pick in torch.randperm(len(PARTIAL_WINDOWS))[:2].tolist()]
    return {
        "mel": mel_loss(made, wanted, scales),
        "partials": torch.stack([partials_loss(made, wanted, window) for window in windows]).mean(),
        "comb": comb_loss(made, wanted),
        "wave": waveform_loss(made, wanted),
    }


def weighed(losses: dict[str, Tensor]) -> Tensor:
    """The loss to go down on, a scalar, of `sound_losses`."""
    return 4 * losses["mel"] + 3 * losses["partials"] + 0.5 * losses["comb"] + 0.2 * losses["wave"]


class Material:
    """Everything that the decoder learns from: songs, and endings that fall silent."""

    def __init__(self, corpus: Path, tokens: Path, codec: EncodecModel, seed: int) -> None:
        """Read the corpus and its codes; have the codec encode the endings."""
        files = sorted(tokens.glob("*.pt"))
        codes = [np.asarray(song, np.int16) for file in files for song in torch.load(file, weights_only=True)]
        self.songs = list(zip(codes, all_clips(corpus), strict=False))
        self._rng = np.random.default_rng(seed)
        self.endings = [self._ending(codec, number) for number in range(ENDINGS)]

    def _ending(self, codec: EncodecModel, number: int) -> tuple[npt.NDArray[np.int16], Pcm]:
        sound = ending([song for _, song in self.songs], number, self._rng)
        return sound_to_codes(codec, sound).numpy().astype(np.int16), sound

    def batches(self, plan: RefinePlan) -> Iterator[Batch]:
        """Endless batches, cut on frames."""
        while True:
            codes, sound, counts = zip(*(self._row(plan.frames) for _ in range(plan.batch)), strict=True)
            wanted = np.stack(sound).astype(np.float32) / 32767
            yield Batch(
                torch.from_numpy(np.stack(codes).astype(np.int64)),
                torch.from_numpy(wanted),
                torch.from_numpy(np.stack(counts)),
            )

    def _row(self, frames: int) -> tuple[npt.NDArray[np.int16], Pcm, npt.NDArray[np.float32]]:
        pool = self.endings if self._rng.random() < ENDING_SHARE else self.songs
        codes, sound = pool[self._rng.integers(len(pool))]
        begin = draw_begin(codes.shape[1], frames, self._rng)
        return codes[:, begin : begin + frames], *wanted_of(sound, begin, frames)


class DecoderTrainer:
    """One decoder in training: weights, optimiser, averaged weights; saved and resumed as one file."""

    def __init__(self, path: Path, codec: EncodecModel, plan: RefinePlan) -> None:
        """Start from a codec of fewer filters, or go on from `path` if it is there."""
        self.path, self.plan, self.step, self.seconds = path, plan, 0, 0.0
        self.device = training_device()
        self.codec = widened(codec, plan.filters)
        parts: Any = self.codec
        self.books = torch.stack([layer.codebook.embed for layer in parts.quantizer.layers]).to(self.device)
        self.decoder = LeanDecoder(parts.decoder).to(self.device)
        self.decoder.even()
        self.average = copy.deepcopy(self.decoder)
        self.optimiser = torch.optim.Adam(self.decoder.parameters(), lr=plan.learning_rate, betas=(0.8, 0.99))
        if path.exists():
            self._load()

    def save(self) -> None:
        """Write everything needed to go on."""
        state = {name: getattr(self, name).state_dict() for name in ("decoder", "average", "optimiser")}
        torch.save({**state, "step": self.step, "seconds": self.seconds}, self.path.with_suffix(".part"))
        self.path.with_suffix(".part").replace(self.path)

    def _load(self) -> None:
        state = torch.load(self.path, weights_only=True, map_location=self.device)
        for name in ("decoder", "average", "optimiser"):
            getattr(self, name).load_state_dict(state[name])
        self.step, self.seconds = state["step"], state["seconds"]

    def train_step(self, batch: Batch) -> dict[str, float]:
        """One update; returns the losses by name."""
        begun = time.monotonic()
        self._set_rate()
        losses = self.losses(batch)
        self.optimiser.zero_grad(set_to_none=True)
        weighed(losses).backward()
        nn.utils.clip_grad_norm_(self.decoder.parameters(), 1.0)
        self.optimiser.step()
        self.decoder.even()
        self._average()
        self.step += 1
        self.seconds += time.monotonic() - begun
        return {name: value.item() for name, value in losses.items()}

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """What the loss is made of, by name."""
        codes, counts = batch.codes.to(self.device), batch.counts.to(self.device)
        latents = sum(self.books[level][codes[:, level]] for level in range(len(self.books)))
        assert isinstance(latents, Tensor)
        with bfloat16(self.device):
            made = self.decoder(latents.transpose(1, 2))
        made, wanted = made.float() * counts, batch.sound.to(self.device) * counts
        return sound_losses(made, wanted)

    def _set_rate(self) -> None:
        left = max(0.0, 1 - self.seconds / self.plan.seconds)
        rate = min(1.0, (self.step + 1) / 100, 0.02 + left / self.plan.falling)
        for group in self.optimiser.param_groups:
            group["lr"] = self.plan.learning_rate * rate

    @torch.no_grad()
    def _average(self) -> None:
        share = 1 - min(0.999, self.step / (self.step + 20))
        for kept, value in zip(self.average.parameters(), self.decoder.parameters(), strict=True):
            kept.lerp_(value, share)

    @torch.no_grad()
    def kept_codec(self) -> EncodecModel:
        """The codec with the averaged decoder, on the CPU, as float16 will keep it: even, and silent in silence."""
        codec = copy.deepcopy(self.codec)
        copy.deepcopy(self.average).cpu().write(codec.decoder)
        return as_kept(codec)


@torch.no_grad()
def as_kept(codec: EncodecModel) -> EncodecModel:
    """Make of a codec on the CPU, in place, what float16 will keep of it: even, and silent in silence."""
    parts: Any = codec.decoder
    for module in parts.modules():
        if isinstance(module, nn.ConvTranspose1d):
            round_evenly(module)
    codec.load_state_dict({name: value.half().float() for name, value in codec.state_dict().items()})
    silence = codes_to_sound(codec, sound_to_codes(codec, np.zeros(3 * SAMPLE_RATE_HZ, np.int16)))
    parts.layers[-1].conv.bias -= silence[-SAMPLE_RATE_HZ:].mean()
    return codec


def measure(codec: EncodecModel, clips: list[Pcm]) -> dict[str, float]:
    """What a decoder is judged by as it trains."""
    lines, detail = [], []
    for clip in clips:
        made = np.asarray(codes_to_sound(codec, sound_to_codes(codec, clip)).numpy(), dtype=np.float32)
        real = np.asarray(clip.astype(np.float32) / 32767, dtype=np.float32)
        lines.append(comb_lines(made))
        detail.append(harmonic_detail(made, real))
    names = ("detail 250 to 1000 Hz", "detail 1 to 2 kHz", "detail 2 to 4 kHz")
    found = dict(zip(names, np.mean(detail, axis=0)[1:4].tolist(), strict=True))
    return {"held-out log10-mel L1": held_out_error(codec, clips), "lines of 24": float(np.mean(lines)), **found}


def refine_decoder(folder: Path, codec: EncodecModel, corpus: Path, tokens: Path, plan: RefinePlan) -> None:
    """Train the decoder alone, saving often; a second call goes on where the first stopped."""
    torch.set_flush_denormal(True)
    trainer = DecoderTrainer(folder / DECODER_FILE, codec, plan)
    stream = Material(corpus, tokens, codec, trainer.step).batches(plan)
    keep_training(trainer, stream, "refine", folder)


def keep_training(trainer: Any, batches: Iterator[Any], stage: str, folder: Path) -> None:
    """Train until the plan's seconds are over, saving, telling and measuring on the way.

    Args:
        trainer: a `DecoderTrainer`, or one of the codec as a whole.
        batches: what its steps take, endless.
        stage: the command's name, for what is told.
        folder: of the run; the curve is drawn there.
    """
    plan = trainer.plan
    unseen, pace, curve = held_out_audio(plan.held_out, (GROOVE, GROOVE)), Pace(), Curve(folder, stage)
    saved = measured = time.monotonic()
    try:
        while trainer.seconds < plan.seconds:
            losses = pace.run(partial(trainer.train_step, next(batches)))
            if trainer.step % 50 == 0:
                words = " ".join(f"{name} {value:.3f}" for name, value in losses.items())
                print(f"{stage}: step {trainer.step} {trainer.seconds:.0f}/{plan.seconds:.0f} s {words}", flush=True)
            if time.monotonic() - saved > plan.save_every_s:
                trainer.save()
                saved = time.monotonic()
            if time.monotonic() - measured > plan.measure_every_s or trainer.seconds >= plan.seconds:
                found = measure(trainer.kept_codec(), unseen)
                curve.add(trainer.step, found)
                print(f"{stage}: " + ", ".join(f"{name} {value:.4f}" for name, value in found.items()), flush=True)
                measured = time.monotonic()
    finally:
        trainer.save()  # stopped in the middle, it loses nothing
