"""Training the codec: EnCodec's architecture from scratch, with our own residual quantizer.

Rules: knows sound and torch, nothing of language models.

The order of things, each step of it learned the hard way:
    steps   0 … 200   waveform loss only: with a mel loss from the start the decoder settles on noise
          200 … 450   mel loss ramps in, still without quantizer
          500         fold the latent's mean and scale into the convolutions beside it, k-means, optimiser cleared
          500 … 620   encoder frozen while the decoder gets used to codes
          620 …       everything; an average of the weights is what is kept
"""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import EncodecConfig, EncodecModel

from streamgen.pocket.training.compose import GROOVE
from streamgen.pocket.training.corpus import Pcm, all_clips, held_out_audio
from streamgen.pocket.training.device import Pace, bfloat16, training_device
from streamgen.pocket.training.lean_decoder import norm_pair
from streamgen.pocket.training.mel import MEL_SCALES, log_mel, mel_loss, waveform_loss
from streamgen.pocket.training.pictures import Curve
from streamgen.pocket.training.quantizer import CODEBOOKS, CODES, ResidualQuantizer
from streamgen.pocket.training.synth import HOP_SAMPLES, SAMPLE_RATE_HZ

SEGMENT_FRAMES = 64


@dataclass(frozen=True)
class CodecPlan:
    """How long and how hard the codec trains."""

    steps: int = 3000
    batch: int = 8
    learning_rate: float = 6e-4
    mel_from: int = 200
    mel_full: int = 450
    quantize_from: int = 500
    encoder_frozen: int = 120
    save_every_s: float = 120.0
    held_out: int = 12  # songs to measure by


def codec_config(filters: int = 16) -> EncodecConfig:
    """4 x 1024 codes at 50 Hz, 32 kHz mono, causal, 2.6 M parameters in 16 filters."""
    return EncodecConfig(
        target_bandwidths=[2.0],
        sampling_rate=SAMPLE_RATE_HZ,
        audio_channels=1,
        normalize=False,
        chunk_length_s=None,
        num_filters=filters,
        hidden_size=64,
        num_residual_layers=1,
        upsampling_ratios=[8, 5, 4, 4],
        norm_type="weight_norm",
        use_causal_conv=True,
        pad_mode="constant",
        num_lstm_layers=1,
        codebook_size=CODES,
        codebook_dim=64,
        use_conv_shortcut=False,
    )


def new_codec(seed: int = 0, filters: int = 16) -> EncodecModel:
    """A codec with weights that pass signal: transformers' own initialisation leaves weight-normed layers silent."""
    torch.manual_seed(seed)
    model = EncodecModel(codec_config(filters))
    for module in model.modules():
        if isinstance(module, nn.Conv1d | nn.ConvTranspose1d):
            _restart(module)
    # Start quieter than the music: from ten times too loud, the way down leads to silence and stays there.
    with torch.no_grad():
        decoder: Any = model.decoder
        norm_pair(decoder.layers[-1].conv)[0].mul_(0.05)
    return model


def _restart(conv: nn.Conv1d | nn.ConvTranspose1d) -> None:
    magnitude, direction = norm_pair(conv)
    kernel = conv.kernel_size[0]
    taps = kernel / conv.stride[0] if isinstance(conv, nn.ConvTranspose1d) else kernel
    with torch.no_grad():
        direction.normal_(0.0, 1.2 / math.sqrt(conv.in_channels * taps))
        magnitude.copy_(direction.norm(dim=(1, 2), keepdim=True))
        if conv.bias is not None:
            conv.bias.zero_()


class CodecTrainer:
    """One codec in training: model, quantizer, optimiser, averaged weights; saved and resumed as one file."""

    def __init__(self, folder: Path, plan: CodecPlan, seed: int = 0, device: torch.device | None = None) -> None:
        """Start, or go on from `folder/codec.pt` if it is there; `device` is the GPU unless another is named."""
        self.device = training_device() if device is None else device
        self.path, self.plan, self.step = folder / "codec.pt", plan, 0
        parts: Any = new_codec(seed), ResidualQuantizer()  # transformers wraps `to` in a way mypy cannot follow
        self.model, self.quantizer = (part.to(self.device) for part in parts)
        self.average = {name: value.clone() for name, value in self.model.state_dict().items()}
        self.optimiser = self._new_optimiser()
        self.generator = torch.Generator().manual_seed(seed)
        if self.path.exists():
            self._load()

    def _new_optimiser(self) -> torch.optim.Adam:
        return torch.optim.Adam(self.model.parameters(), lr=self.plan.learning_rate, betas=(0.9, 0.99))

    def save(self) -> None:
        """Write everything needed to go on."""
        state = {name: getattr(self, name).state_dict() for name in ("model", "quantizer", "optimiser")}
        part = self.path.with_suffix(".part")
        torch.save({**state, "average": self.average, "step": self.step}, part)
        part.replace(self.path)

    def _load(self) -> None:
        state = torch.load(self.path, weights_only=True, map_location=self.device)
        for name in ("model", "quantizer", "optimiser"):
            getattr(self, name).load_state_dict(state[name])
        self.average, self.step = state["average"], state["step"]

    @property
    def quantizing(self) -> bool:
        """Whether codes are in use already."""
        return self.step >= self.plan.quantize_from

    def train_step(self, audio: Tensor) -> dict[str, float]:
        """One update from float32 [B, samples]; returns the losses by name."""
        self._set_rates()
        loss, losses = self.losses(audio.to(self.device))
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimiser.step()
        self._average()
        self.step += 1
        return {name: value.item() for name, value in losses.items()}

    def losses(self, audio: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss to go down on and what it is made of, by name, from float32 [B, samples]."""
        latents, made, commitment = self._forward(audio)
        wave = waveform_loss(made, audio)
        ramp = min(1.0, max(0.0, (self.step - self.plan.mel_from) / (self.plan.mel_full - self.plan.mel_from)))
        picks = torch.randperm(len(MEL_SCALES), generator=self.generator)[:2].tolist()
        mel = mel_loss(made, audio, [MEL_SCALES[pick] for pick in picks])
        loss = wave * (1 - 0.8 * ramp) + 4.0 * ramp * mel + 0.05 * commitment
        return loss, {"wave": wave, "mel": mel, "commit": commitment, "std": latents.std()}

    def _forward(self, audio: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        with bfloat16(self.device):
            latents = self.model.encoder(audio[:, None]).float()
        if not self.quantizing:
            quantized, commitment = latents, latents.new_zeros(())
        else:
            depth = torch.full((len(audio),), CODEBOOKS)
            draw = torch.rand(len(audio), generator=self.generator)
            depth[draw < 0.25] = int(torch.randint(1, CODEBOOKS, (), generator=self.generator))
            depth[draw > 0.85] = 0
            rows, commitment = self.quantizer(latents.transpose(1, 2), depth.to(self.device), learn=True)
            quantized = rows.transpose(1, 2)
        with bfloat16(self.device):
            made = self.model.decoder(quantized)[:, 0].float()
        return latents, made, commitment

    def _set_rates(self) -> None:
        plan = self.plan
        warm = min(1.0, (self.step + 1) / 100)
        cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, self.step / plan.steps)))
        for group in self.optimiser.param_groups:
            group["lr"] = plan.learning_rate * warm * (0.05 + 0.95 * cosine)
        since = self.step - plan.quantize_from
        frozen = 0 <= since < plan.encoder_frozen
        self.model.encoder.requires_grad_(not frozen)

    def _average(self) -> None:
        decay = min(0.998, self.step / (self.step + 20))
        for name, value in self.model.state_dict().items():
            kept = self.average[name]
            if value.is_floating_point():
                kept.lerp_(value, 1 - decay)

    @torch.no_grad()
    def begin_quantizing(self, batches: list[Tensor]) -> None:
        """Bring the latent to zero mean and unit scale without changing the sound, and start the codebooks on it."""
        latents = torch.cat([self._latents(audio) for audio in batches])
        mean = latents.mean(0)
        scale = (latents - mean).std()
        parts: Any = self.model  # transformers' modules have no types mypy can follow
        last, first = parts.encoder.layers[-1].conv, parts.decoder.layers[0].conv
        first.bias += (first.weight.sum(2) * mean).sum(1)
        norm_pair(first)[0].mul_(scale)
        last.bias.copy_((last.bias - mean) / scale)
        norm_pair(last)[0].div_(scale)
        self.quantizer.restart((latents - mean) / scale)
        self.optimiser = self._new_optimiser()

    def _latents(self, audio: Tensor) -> Tensor:
        latents = torch.as_tensor(self.model.encoder(audio.to(self.device)[:, None]))
        return latents.transpose(1, 2).flatten(0, 1)

    def kept_model(self) -> EncodecModel:
        """The averaged weights with the codebooks in place: what later stages use."""
        model = new_codec()
        model.load_state_dict(self.average)
        layers: Any = model.quantizer.layers
        for layer, book in zip(layers, self.quantizer.books, strict=True):
            layer.codebook.embed.copy_(book)
            layer.codebook.embed_avg.copy_(book)
        model.eval()
        return model


def segments(clips: list[Pcm], batch: int, seed: int) -> Iterator[Tensor]:
    """Endless batches float32 [batch, 64 x 640], cut on frames: the codec only ever sees onsets on its grid."""
    rng = np.random.default_rng(seed)
    length = SEGMENT_FRAMES * HOP_SAMPLES
    while True:
        picks = [clips[int(rng.integers(len(clips)))] for _ in range(batch)]
        starts = [int(rng.integers((len(clip) - length) // HOP_SAMPLES + 1)) * HOP_SAMPLES for clip in picks]
        rows = [clip[start : start + length] for clip, start in zip(picks, starts, strict=True)]
        yield torch.from_numpy(np.stack(rows).astype(np.float32) / 32767)


@torch.no_grad()
def sound_to_codes(codec: EncodecModel, pcm: Pcm) -> Tensor:
    """Codes int64 [4, frames] of one clip, on the CPU."""
    model: Any = codec
    audio = torch.from_numpy(pcm.astype(np.float32) / 32767)[None, None]
    codes: Tensor = model.encode(audio.to(model.device)).audio_codes
    return codes[0, 0].cpu()


@torch.no_grad()
def codes_to_sound(codec: EncodecModel, codes: Tensor) -> Tensor:
    """Samples float32 [frames x 640] of codes [4, frames], on the CPU."""
    model: Any = codec
    sound: Tensor = model.decode(codes[None, None].to(model.device), [None]).audio_values
    return sound[0, 0].cpu()


@torch.no_grad()
def held_out_error(model: EncodecModel, clips: list[Pcm]) -> float:
    """Log10-mel L1 (1024 window, 64 bands, floor -100 dB) between clips and what the codec makes of them."""
    errors = []
    for clip in clips:
        audio = torch.from_numpy(clip.astype(np.float32) / 32767)[None]
        made = codes_to_sound(model, sound_to_codes(model, clip))[None]
        errors.append(float((log_mel(made[:, : audio.shape[1]]) - log_mel(audio)).abs().mean()))
    return float(np.mean(errors))


def train_codec(folder: Path, corpus: Path, plan: CodecPlan, seed: int = 0) -> None:
    """Train, saving often; a second call goes on where the first stopped."""
    torch.set_flush_denormal(True)  # quiet latents otherwise slow the CPU fourfold
    trainer = CodecTrainer(folder, plan, seed)
    clips, unseen = list(all_clips(corpus)), held_out_audio(plan.held_out, (GROOVE, GROOVE))
    stream = segments(clips, plan.batch, seed + trainer.step)
    started = saved = time.monotonic()
    pace, curve = Pace(), Curve(folder, "codec")
    while trainer.step < plan.steps:
        if trainer.step == plan.quantize_from:
            trainer.begin_quantizing([next(stream) for _ in range(40)])
        losses = pace.run(lambda: trainer.train_step(next(stream)))
        if trainer.step % 50 == 0:
            words = " ".join(f"{name} {value:.3f}" for name, value in losses.items())
            print(f"codec: step {trainer.step}/{plan.steps} {time.monotonic() - started:.0f}s {words}", flush=True)
        if time.monotonic() - saved > plan.save_every_s or trainer.step == plan.steps:
            trainer.save()
            saved = time.monotonic()
            if trainer.quantizing:
                error = held_out_error(trainer.kept_model(), unseen)
                curve.add(trainer.step, {"held-out log10-mel L1": error})
                print(f"codec: held-out log10-mel L1 {error:.4f}", flush=True)
