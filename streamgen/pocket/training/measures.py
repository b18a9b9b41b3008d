"""What an ear would say, in numbers: beat, tempo, percussion, noise, key, style.

Rules: mono float32 samples at 32 kHz in, numbers out; knows no model. Every measure is the same for real, codec and
generated sound.
"""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from streamgen.pocket.training.compose import MAJOR, MINOR
from streamgen.pocket.training.mel import log_mel
from streamgen.pocket.training.synth import SAMPLE_RATE_HZ

Audio = npt.NDArray[np.float32]
Vector = npt.NDArray[np.float64]
ENVELOPE_RATE_HZ = 100.0
WINDOW = 1024
BEAT_BANDS_HZ = ((30, 130), (130, 500), (500, 2000), (2000, 6000), (6000, 14_000))


def onset_envelope(audio: Audio) -> Vector:
    """How much louder the mel bands get, 100 times a second, mean removed."""
    frames = log_mel(_resampled_grid(audio), WINDOW, 40)[0].clamp(min=-3.5)
    flux = frames.diff(dim=1).clamp(min=0).mean(0)
    rate = SAMPLE_RATE_HZ / (WINDOW // 4)
    times = np.arange(0, len(flux) / rate, 1 / ENVELOPE_RATE_HZ)
    envelope = np.interp(times, np.arange(len(flux)) / rate, flux.numpy())
    return np.asarray(envelope - envelope.mean(), dtype=np.float64)


def _resampled_grid(audio: Audio) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(audio))[None]


def autocorrelation(envelope: Vector, seconds: float) -> float:
    """Correlation of the envelope with itself `seconds` later, -1 … 1."""
    lag = seconds * ENVELOPE_RATE_HZ
    times = np.arange(len(envelope) - int(np.ceil(lag)) - 1)
    early, late = envelope[times], np.interp(times + lag, np.arange(len(envelope)), envelope)
    return float((early * late).sum() / (np.sqrt((early**2).sum() * (late**2).sum()) + 1e-12))


def tempo(audio: Audio) -> float:
    """Beats per minute, 60 … 180, from how well the onsets repeat after a half, one, two and four beats."""
    envelope = onset_envelope(audio)
    candidates = 60 * 2 ** np.arange(0, np.log2(3), 0.01)
    scores = [
        sum(w * autocorrelation(envelope, b * 60 / bpm) for b, w in ((1, 1), (2, 1), (4, 2))) for bpm in candidates
    ]
    return float(candidates[int(np.argmax(scores))])


def tempo_fits(found: float, named: float) -> bool:
    """Whether a tempo is within 5 % of half, once or twice the named one."""
    return any(abs(found / (named * factor) - 1) < 0.05 for factor in (0.5, 1.0, 2.0))


def percussive_share(audio: Audio) -> float:
    """Share of the energy that median filters call percussive (wide in frequency, short in time).

    Source: Fitzgerald, "Harmonic/percussive separation using median filtering", DAFx 2010, with the window, hop and
    filters that librosa takes by default. Bins must be narrow enough to tell bass notes apart: with a window half as
    long, contrabasses counted as drums, and music with drums had 1.4 times the share of music without, not 3.
    """
    power = _spectrum(audio, 2048, 512)
    across = _median(power, 31)  # over frequency
    along = _median(power.T, 31).T  # over time
    mask = across**2 / (across**2 + along**2 + 1e-20)
    return float((mask * power**2).sum() / (power**2).sum())


def _spectrum(audio: Audio, window: int, hop: int) -> Tensor:
    """Magnitudes [bins, frames]."""
    samples = torch.from_numpy(np.ascontiguousarray(audio))
    return torch.stft(samples, window, hop, window=torch.hann_window(window), return_complex=True).abs()


def _median(values: Tensor, width: int) -> Tensor:
    """Running median over the first axis."""
    padded = torch.nn.functional.pad(values.T[None], (width // 2, width // 2), mode="reflect")[0].T
    return padded.unfold(0, width, 1).median(dim=-1).values


def flatness(audio: Audio) -> float:
    """Mean spectral flatness, 0 (tones) … 1 (white noise), of frames above -60 dBFS."""
    power = _spectrum(audio, 1024, 512) ** 2 + 1e-10
    loud = power.mean(0) > power.mean(0).max() * 1e-4
    values = power.log().mean(0).exp() / power.mean(0)
    return float(values[loud].mean())


def silent_share(audio: Audio) -> float:
    """Share of half-seconds under -50 dBFS."""
    half = SAMPLE_RATE_HZ // 2
    blocks = audio[: len(audio) // half * half].reshape(-1, half)
    return float((np.sqrt((blocks**2).mean(1)) < 10 ** (-50 / 20)).mean())


def chroma(audio: Audio) -> Vector:
    """Strength of the twelve pitch classes, C first, of what sounds for longer than a drum between 60 and 1000 Hz.

    Fundamentals lie there; drums, and what harmonics above it name besides, made the key of one real song in ten wrong.
    """
    window = 8192
    held = _median(_spectrum(audio, window, window // 4).T, 5).T  # over a third of a second
    power = held.numpy().astype(np.float64)
    hertz = np.arange(window // 2 + 1) * SAMPLE_RATE_HZ / window
    inside = (hertz > 60) & (hertz < 1000)
    pitch = np.round(12 * np.log2(hertz[inside] / 440) + 69).astype(int) % 12
    return np.array([power[inside][pitch == note].sum() for note in range(12)])


def key_rank(audio: Audio, tonic: int, minor: bool) -> int:
    """0 if the named key fits the chroma better than its eleven transpositions, 1 if one fits better, and so on."""
    scale, energy = MINOR if minor else MAJOR, chroma(audio)
    profile = np.zeros(12)
    profile[list(scale)] = 1.0
    profile[[0, scale[2], 7]] += (1.0, 0.5, 0.5)
    fits = [np.corrcoef(np.roll(profile, shift), energy)[0, 1] for shift in range(12)]
    return int(sum(fit > fits[tonic] for fit in fits))


def features(audio: Audio) -> Vector:
    """What the style classifier sees: mean and spread of the log-mel bands, and of their changes; and how it beats."""
    mel = log_mel(_resampled_grid(audio), 2048, 48)[0]
    change = mel.diff(dim=1).abs()
    timbre = torch.cat([mel.mean(1), mel.std(1), change.mean(1)]).numpy().astype(np.float64)
    return np.concatenate([timbre, beats(audio)])


def beats(audio: Audio) -> Vector:
    """Strength, level and spread of the onsets of each of `BEAT_BANDS_HZ`, and how often they come, 0.5 to 14 Hz.

    Without these jazz is taken for drum and bass where a classifier has few songs to learn from: both have a cymbal and
    a bass all the time, and differ in when.
    """
    window, hop, found = 1024, 320, list[Vector]()
    pieces = np.lib.stride_tricks.sliding_window_view(audio, window)[::hop] * np.hanning(window).astype(np.float32)
    magnitude = np.abs(np.fft.rfft(pieces)) * 4 / window
    hertz = np.arange(window // 2 + 1) * SAMPLE_RATE_HZ / window
    for low, high in BEAT_BANDS_HZ:
        level = np.log10(np.maximum(magnitude[:, (hertz >= low) & (hertz < high)], 10**-3.5)).mean(1)
        onsets = np.maximum(np.diff(level), 0)
        onsets -= onsets.mean()
        often = np.abs(np.fft.rfft(onsets * np.hanning(len(onsets)), 1024))[:150]
        strength = np.log10(np.sqrt((onsets**2).mean()) + 1e-4)
        found.append(np.array([strength, level.mean(), np.log10(level.std() + 1e-4)]))
        found.append(often[5:145].reshape(-1, 5).mean(1) / (often.mean() + 1e-6))
    return np.concatenate(found)


class StyleClassifier:
    """Shrunk linear discriminants on `features`; fit it on codec audio: fitted on real audio it fails there."""

    def __init__(self, samples: list[Audio], labels: list[str]) -> None:
        """Fit."""
        x = np.stack([features(sample) for sample in samples])
        self.names = sorted(set(labels))
        self._mean, self._scale = x.mean(0), x.std(0) + 1e-6
        z = (x - self._mean) / self._scale
        centres = np.stack([z[[label == name for label in labels]].mean(0) for name in self.names])
        inner = z - centres[[self.names.index(label) for label in labels]]
        spread = inner.T @ inner / len(z) + 0.3 * np.eye(z.shape[1])
        self._weights = np.linalg.solve(spread, centres.T)
        self._bias = -0.5 * np.einsum("cf,fc->c", centres, self._weights)

    def __call__(self, audio: Audio) -> str:
        """The most likely style."""
        z = (features(audio) - self._mean) / self._scale
        return self.names[int(np.argmax(z @ self._weights + self._bias))]
