"""Losses that hear what a mel band hides: single partials, and lines that should not be there.

Rules: torch tensors [B, samples] at 32 kHz in, scalars out.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from streamgen.pocket.training.mel import magnitudes
from streamgen.pocket.training.synth import SAMPLE_RATE_HZ

PARTIAL_WINDOWS = (1024, 2048, 4096, 8192)
BAND_HZ = (200, 1100)
COMB_HZ = 400  # the frame rate times the decoder's first ratio
COMB_MARGIN = 0.5  # decades over its surroundings that a line may have: a fifth of an audible one's power


def partials_loss(made: Tensor, wanted: Tensor, window: int) -> Tensor:
    """How far two magnitude spectra are apart, bin by bin: in log10, all pitches equally; and relative to the loudest.

    A mel band at 2 kHz is 100 Hz wide at the least: noise of the right loudness passes there for a chord.
    """
    one, two = magnitudes(made, window), magnitudes(wanted, window)
    hertz = torch.arange(window // 2 + 1, device=made.device) * (SAMPLE_RATE_HZ / window)
    density = 1 / (hertz + 400)  # bins to a step of pitch: what mel does, without its bands
    apart = (one.clamp(min=1e-5).log10() - two.clamp(min=1e-5).log10()).abs()
    by_pitch = (apart * (density / density.sum())[:, None]).sum(1).mean()
    return torch.add(by_pitch, (one - two).norm() / (two.norm() + 1e-3), alpha=1 / 6)


def band_loss(made: Tensor, wanted: Tensor, window: int) -> Tensor:
    """How far two magnitude spectra are apart from 200 to 1,100 Hz, bin by bin, in log10, down to -80 dB.

    There lie the fundamentals of chords and leads; in `partials_loss` they are a quarter of what is heard.
    """
    low, high = (round(hertz * window / SAMPLE_RATE_HZ) for hertz in BAND_HZ)
    one, two = (magnitudes(audio, window)[:, low:high].clamp(min=1e-4).log10() for audio in (made, wanted))
    return (one - two).abs().mean()


def comb_loss(made: Tensor, wanted: Tensor) -> Tensor:
    """How far lines at multiples of 400 Hz stand out, in decades of power, where they do not in what is wanted.

    Kernels that sum evenly keep what stands still from leaving a pattern. Noise leaves one too: interpolated, it is
    louder in some phases than in others, and an ELU makes a mean of that. This loss is what taught the decoder
    otherwise: after it lines at 2 and 8 kHz were gone within ten minutes.
    """
    line, around = _lines(made)
    wanted_line, wanted_around = _lines(wanted)
    allowed = (wanted_line - wanted_around).clamp(min=COMB_MARGIN)
    return F.relu(line - around.detach() - allowed).mean()


def _lines(audio: Tensor) -> tuple[Tensor, Tensor]:
    """Log10 power [B, 24] of the lines and of what is 6 to 30 Hz beside them, over the last seconds of the audio."""
    second, length = SAMPLE_RATE_HZ, audio.shape[1]
    hann = torch.hann_window(second, device=audio.device)
    begins = {length - second, max(0, length - second * 5 // 4)}
    power = sum(torch.fft.rfft(audio[:, begin : begin + second] * hann).abs() ** 2 for begin in begins) + 1e-6
    assert isinstance(power, Tensor)
    centres = torch.arange(2, 26, device=audio.device)[:, None] * COMB_HZ
    near = torch.arange(6, 31, device=audio.device)
    line = power[:, centres + torch.arange(-1, 2, device=audio.device)].sum(2)
    around = power[:, centres + torch.cat([-near, near])].mean(2)
    return line.log10(), around.log10()
