"""Melody prompts: audio → one pitch class per frame → the prefix that MusicGen Melody's decoder reads.

Rules: owns a melody's chroma, and the order of the prefix; knows no text, no stream. Chroma are those
of audiocraft and transformers (transformers' extractor needs torchaudio, so the arithmetic is here, in torch.stft):

    mono ─ resampled ─ first 30 s ─ power spectrogram ─ 12 chroma filters ─ loudest class ─ projected ─ repeated or
                                    (16384, hop 4096)                       a frame, 1-hot              cut to 235

An endless stream goes on in its melody as audiocraft's `_generate_tokens` does: each window's prefix is of the 30 s
that the melody, repeated for ever, has from the window's beginning on.

    melody, 20 s      ├──────────────────┼──────────────────┼──────────────────┼───…
    window 0, 0 s     ├───────── 30 s ────────────┤
    window 1, 18 s                    ├───────── 30 s ────────────┤

audiocraft first separates the audio with Demucs and keeps vocals and "other", so that drums and bass don't dominate.
That step is left out here, as it is in transformers: it needs a second model of 80 MB and its package. Give it a melody
without drums and bass, or stems separated beforehand.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from streamgen.audio import check_audio
from streamgen.errors import PromptError

if TYPE_CHECKING:
    from streamgen.checkpoint.types import Checkpoint, MelodyConfig

__all__ = ["MELODY_SECONDS", "Melody", "MelodyConditioner", "build_prefix", "check_melody", "mono_at_rate"]

MELODY_SECONDS = 30  # what every MusicGen Melody was trained on, and where transformers' feature extractor cuts
LONGEST_SECONDS = 600  # of a melody that a stream follows
_FILTER_SECONDS = 1  # kept past the cut while resampling, so that the cut's edge is not heard before it


@dataclass(frozen=True, eq=False)
class Melody:
    """A melody that music follows.

    Attributes:
        samples: float32 [n], mono at the model's rate.
        start_frame: of the stream, at which it begins.
        repeats: the audio repeats for ever, as in a stream; False: its chroma do, as in one clip.
    """

    samples: Tensor
    start_frame: int = 0
    repeats: bool = True


def check_melody(
    melody: object,
    rate_hz: object,
    seconds: float = MELODY_SECONDS,
    what: str = "melody",
    *,
    audio_channels: int = 1,
) -> NDArray[np.float32]:
    """Let usable audio through, as mono float32 [samples], at most a second more; errors as in `check_audio`.

    Of more than two channels a stereo checkpoint hears the first two, as in audiocraft's `convert_audio_channels`.
    """
    head, _ = check_audio(f"the {what}", melody, rate_hz, first_seconds=seconds + _FILTER_SECONDS)
    heard = head if audio_channels == 1 else head[:audio_channels]
    mono: NDArray[np.float64] = heard.mean(axis=0, dtype=np.float64)
    return mono.astype(np.float32)


class MelodyConditioner:
    """Turns a melody into the first part of the decoder's prefix. Runs and answers on the CPU.

    Args:
        checkpoint: gives the chroma's settings and projection. Without a melody part, None is the only valid melody.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.width = checkpoint.decoder.hidden_size
        self._name = checkpoint.name
        self._config = checkpoint.melody
        self._projection = checkpoint.melody_projection
        self._filters = None if self._config is None else _chroma_filters(self._config)
        self._frame_rate_hz, self._audio_channels = checkpoint.frame_rate_hz, checkpoint.decoder.audio_channels

    def prefix(self, melody: NDArray[np.float32] | None, rate_hz: int | None) -> Tensor:
        """The chroma part of one row's prefix, computed alone.

        Args:
            melody: float [samples] or [channels, samples]; the first 30 s count, a shorter one is repeated. None is the
                null chroma.
            rate_hz: the melody's samples a second; ignored where it is None.
        Returns:
            float32 [chroma_length, D]; [0, D] for None where the checkpoint has no melody part.
        Raises:
            PromptError: see `check_audio`; also a melody where the checkpoint has no melody part.
        Source: transformers, MusicgenMelody…._prepare_encoder_hidden_states_kwargs_for_generation; audiocraft,
            ChromaStemConditioner._get_wav_embedding (without the stems).
        """
        if melody is None:
            return self.null_prefix()
        if self._config is None:
            raise PromptError(f"checkpoint {self._name} takes no melody: use one that does (facebook/musicgen-melody)")
        return self._project(self.chroma(melody, rate_hz))

    def null_prefix(self) -> Tensor:
        """The chroma part without a melody, and of the guidance row: class 0 (C) in every frame.

        Returns:
            float32 [chroma_length, D]; [0, D] where the checkpoint has no melody part.
        """
        if self._config is None:
            return torch.zeros(0, self.width, dtype=torch.float32)
        null = torch.zeros(1, self._config.num_chroma, dtype=torch.float32)
        null[:, 0] = 1
        return self._project(null)

    def chroma(self, melody: NDArray[np.float32], rate_hz: int | None) -> Tensor:
        """The melody's pitch class in each frame, neither repeated nor cut to the prefix's length.

        Returns:
            float32 [1 + samples // hop_length, num_chroma], one-hot, class 0 is C. Digital silence is class 0.
        Source: transformers, MusicgenMelodyFeatureExtractor; audiocraft, ChromaExtractor.
        """
        assert self._config is not None, "chroma of a checkpoint without a melody part"
        return self._chroma(self._samples(melody, rate_hz, self._config.seconds))

    def melody(self, melody: NDArray[np.float32], rate_hz: int | None, *, repeats: bool = True) -> Melody:
        """Prepare a melody for `window`, at most `LONGEST_SECONDS` of it.

        Raises:
            PromptError: as in `prefix`.
        """
        if self._config is None:
            raise PromptError(f"checkpoint {self._name} takes no melody: use one that does (facebook/musicgen-melody)")
        seconds = LONGEST_SECONDS if repeats else self._config.seconds
        return Melody(self._samples(melody, rate_hz, seconds), repeats=repeats)

    def window(self, melody: Melody | None, start_frame: int) -> Tensor:
        """The chroma part of the prefix of a window that begins at a frame of the stream.

        Returns:
            float32 [chroma_length, D].
        """
        if melody is None:
            return self.null_prefix()
        assert self._config is not None, "a window's chroma of a checkpoint without a melody part"
        if not melody.repeats:
            return self._project(self._chroma(melody.samples))
        rate_hz = self._config.sample_rate_hz
        start = int((start_frame - melody.start_frame) / self._frame_rate_hz * rate_hz)
        places = torch.arange(start, start + int(self._config.seconds * rate_hz))
        return self._project(self._chroma(melody.samples[places % len(melody.samples)]))

    @property
    def length(self) -> int:
        """Positions that a melody takes."""
        return 0 if self._config is None else self._config.chroma_length

    def _samples(self, melody: object, rate_hz: int | None, seconds: float) -> Tensor:
        assert self._config is not None, "samples of a checkpoint without a melody part"
        mono = check_melody(melody, rate_hz, seconds, audio_channels=self._audio_channels)
        return mono_at_rate(mono, int(rate_hz or 0), self._config.sample_rate_hz, seconds)

    def _chroma(self, samples: Tensor) -> Tensor:
        assert self._config is not None, "chroma of a checkpoint without a melody part"
        assert self._filters is not None, "filters are made with the settings"
        power = _power_spectrogram(_at_least(samples, self._config.n_fft), self._config)
        energy = torch.einsum("cf,ft->tc", self._filters, power)
        # audiocraft divides each frame by its maximum before it looks for the maximum. Two classes closer than rounding
        # could come out as equal then, and the first of them wins: the division stays.
        energy = nn.functional.normalize(energy, p=float("inf"), dim=-1, eps=1e-6)
        return nn.functional.one_hot(energy.argmax(-1), self._config.num_chroma).float()

    def _project(self, chroma: Tensor) -> Tensor:  # [T, num_chroma] → [chroma_length, D]
        assert self._config is not None, "no melody part"
        states = chroma
        if self._projection is not None:
            weight, bias = self._projection
            states = nn.functional.linear(chroma, weight.float(), bias.float())
        length = self._config.chroma_length
        return states.repeat(math.ceil(length / len(states)), 1)[:length]


def build_prefix(melody_prefix: Tensor, text_states: Tensor, text_length: int = 1) -> Tensor:
    """The whole prefix of one decoder row of a melody checkpoint: chroma, then text, then zeros.

    The prefix takes positions, and its zeros are attended to: a row with T text states and one with none must be padded
    to the same length, or their tokens lie at different positions. transformers gives the guidance row, whose text is
    "masked" to zero, as many text positions as the prompt's row has, and an unconditional prompt one.

        prompt's row     c c c … c t t t t        c chroma, t text state, 0 a zero vector
        guidance row     n n n … n 0 0 0 0        n null chroma

    Args:
        melody_prefix: float32 [chroma_length, D] of MelodyConditioner.
        text_states: float32 [T, D] of TextConditioner; T may be 0.
        text_length: text positions to fill: the largest T of the rows that are guided together; 1 where none has a
            text, and 0 of a decoder alone, which then reads nothing first.
    Returns:
        float32 [chroma_length + max(T, text_length), D] on the text's device.
    Source: transformers, MusicgenMelody…._prepare_encoder_hidden_states_kwargs_for_generation; audiocraft,
        ConditionFuser ("prepend": self_wav, then description).
    """
    missing = text_length - len(text_states)
    padded = nn.functional.pad(text_states, (0, 0, 0, missing)) if missing > 0 else text_states
    return torch.cat([melody_prefix.to(padded), padded])


def _chroma_filters(config: MelodyConfig) -> Tensor:  # float32 [num_chroma, n_fft / 2 + 1]
    from transformers.audio_utils import chroma_filter_bank  # here: importing streamgen must stay quick

    return torch.from_numpy(
        chroma_filter_bank(
            num_frequency_bins=config.n_fft, num_chroma=config.num_chroma, sampling_rate=config.sample_rate_hz, tuning=0
        )
    ).float()


def mono_at_rate(mono: NDArray[np.float32], from_hz: int, to_hz: int, seconds: float) -> Tensor:
    """The first seconds at the model's rate, float32 [samples]."""
    if from_hz != to_hz:
        from streamgen.codec import resample

        mono = np.asarray(resample(mono[None], from_hz, to_hz), dtype=np.float32)[0]
    return torch.from_numpy(np.ascontiguousarray(mono[: int(seconds * to_hz)]))


def _at_least(samples: Tensor, length: int) -> Tensor:
    """Pad with silence on both sides, the odd sample behind."""
    missing = max(0, length - len(samples))
    return nn.functional.pad(samples, (missing // 2, missing - missing // 2))


def _power_spectrogram(samples: Tensor, config: MelodyConfig) -> Tensor:
    """As torchaudio's Spectrogram(power=2, center=True, normalized=True): float32 [n_fft / 2 + 1, frames]."""
    length = config.win_length or config.n_fft
    window = torch.hann_window(length, dtype=torch.float32)
    spectrum = torch.stft(
        samples, config.n_fft, config.hop_length, length, window, center=True, pad_mode="reflect", return_complex=True
    )
    return (spectrum / window.square().sum().sqrt()).abs().square()
