"""Log-mel spectra, and the two losses the codec trains on.

Rules: torch tensors at 32 kHz in and out; every figure called log10-mel L1 in the model card comes from `log_mel`.
"""

import math

import torch
from torch import Tensor

from streamgen.pocket.training.synth import SAMPLE_RATE_HZ

MEL_SCALES = ((64, 8), (128, 16), (256, 32), (512, 64), (1024, 64), (2048, 96))  # window samples, bands


def log_mel(audio: Tensor, window: int = 1024, bands: int = 64) -> Tensor:
    """Log10 mel magnitudes, floor -100 dB of a full-scale sine.

    Args:
        audio: float32 [B, samples].
        window: STFT window in samples; the hop is a quarter of it.
        bands: number of mel bands, 0 … 16 kHz.

    Returns:
        float32 [B, bands, frames].
    """
    bins = magnitudes(audio, window)
    return torch.matmul(_mel_filters(window, bands).to(bins.device), bins).clamp(min=1e-5).log10()


def magnitudes(audio: Tensor, window: int) -> Tensor:
    """Magnitudes [B, window / 2 + 1, frames], 1 for a full-scale sine; the hop is a quarter of the window."""
    hann = torch.hann_window(window, device=audio.device)
    spectrum = torch.stft(audio.float(), window, window // 4, window=hann, return_complex=True)
    return (spectrum.real**2 + spectrum.imag**2 + 1e-14).sqrt() * (2 / window * 2)


_filters: dict[tuple[int, int], Tensor] = {}


def _mel_filters(window: int, bands: int) -> Tensor:
    """Triangles [bands, window / 2 + 1], equally wide in mel, at least one bin wide."""
    if (window, bands) not in _filters:
        top = 2595 * math.log10(1 + SAMPLE_RATE_HZ / 2 / 700)
        edges = 700 * (10 ** (torch.linspace(0, top, bands + 2) / 2595) - 1) / SAMPLE_RATE_HZ * window
        bins = torch.arange(window // 2 + 1.0)
        rise = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2]).clamp(min=1.0)[:, None]
        fall = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1]).clamp(min=1.0)[:, None]
        _filters[window, bands] = torch.minimum(rise, fall).clamp(min=0)
    return _filters[window, bands]


def mel_loss(made: Tensor, wanted: Tensor, scales: list[tuple[int, int]]) -> Tensor:
    """Mean log-mel L1 over window sizes; audio is [B, samples]."""
    return torch.stack([(log_mel(made, *s) - log_mel(wanted, *s)).abs().mean() for s in scales]).mean()


def waveform_loss(made: Tensor, wanted: Tensor) -> Tensor:
    """L1 and L2 error, each relative to the batch's own size."""
    error = made - wanted
    return error.abs().mean() / wanted.abs().mean() + error.pow(2).mean() / wanted.pow(2).mean()
