"""Chroma against transformers' own feature extractor, prefixes against what its `generate` hands to the decoder.

The extractor needs torchaudio. The two parts it takes from there are rebuilt below in numpy, in double precision and
from their definitions, so that our torch.stft is compared with other arithmetic.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import math
import random
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from numpy.typing import NDArray
from torch import Tensor

from streamgen.checkpoint import load_checkpoint
from streamgen.conditioning.melody import MelodyConditioner, build_prefix, check_melody
from streamgen.conditioning.text import TextConditioner
from streamgen.errors import PromptError
from streamgen.testing import tiny_checkpoint

RATE_HZ = 32_000
C4_HZ = 261.6256
C_MAJOR = [0, 2, 4, 5, 7, 9, 11, 12]
PROMPTS = ["techno", "lofi piano with warm strings and slow drums at 80 bpm"]


def notes(classes: list[int], note_seconds: float, rate_hz: int = RATE_HZ) -> NDArray[np.float32]:
    """A plucked tune: four harmonics a note, each decaying."""
    time = np.arange(round(note_seconds * rate_hz)) / rate_hz
    tune = [
        sum(0.3 / n * np.sin(2 * np.pi * n * C4_HZ * 2 ** (c / 12) * time) * np.exp(-2 * n * time) for n in range(1, 5))
        for c in classes
    ]
    return np.concatenate(tune).astype(np.float32)


def tune(samples: int, rate_hz: int = RATE_HZ, seed: int = 0) -> NDArray[np.float32]:
    """A seeded random tune over a little noise, of any length."""
    rng = np.random.default_rng(seed)
    classes = rng.integers(0, 24, size=math.ceil(samples / (0.4 * rate_hz))).tolist()
    music = notes(classes, 0.4, rate_hz)[:samples]
    return (music + 0.003 * rng.standard_normal(samples)).astype(np.float32)


class Spectrogram:
    """torchaudio.transforms.Spectrogram, frame by frame in numpy."""

    def __init__(
        self, n_fft: int, win_length: int, hop_length: int, power: int, center: bool, pad: int, normalized: bool
    ):
        assert (win_length, power, center, pad, normalized) == (n_fft, 2, True, 0, True)
        self.n_fft, self.hop_length = n_fft, hop_length
        self.window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)

    def __call__(self, waveform: Tensor) -> Tensor:
        return torch.stack([torch.from_numpy(self._one(row)) for row in waveform.double().numpy()]).float()

    def _one(self, row: NDArray[np.float64]) -> NDArray[np.float64]:
        padded = np.pad(row, self.n_fft // 2, mode="reflect")
        starts = range(0, len(padded) - self.n_fft + 1, self.hop_length)
        frames = [np.fft.rfft(padded[s : s + self.n_fft] * self.window) for s in starts]
        return np.abs(np.stack(frames, axis=1)) ** 2 / np.sum(self.window**2)


def sinc_resample(audio: Tensor, from_hz: int, to_hz: int, rolloff: float, lowpass_filter_width: int) -> Tensor:
    """torchaudio.functional.resample: every output sample as a sum over a windowed sinc."""
    signal = audio.double().numpy()
    base_hz = min(from_hz, to_hz) * rolloff
    half = math.ceil(lowpass_filter_width * from_hz / base_hz)
    padded = np.pad(signal, [(0, 0)] * (signal.ndim - 1) + [(half, half + 1)])
    at = np.arange(math.ceil(signal.shape[-1] * to_hz / from_hz)) * from_hz / to_hz  # in samples of the input
    first = np.floor(at).astype(int)
    out = np.zeros((*signal.shape[:-1], len(at)))
    for offset in range(-half, half + 2):
        t = np.clip((first + offset - at) / from_hz * base_hz, -lowpass_filter_width, lowpass_filter_width)
        weights = np.sinc(t) * np.cos(t * np.pi / lowpass_filter_width / 2) ** 2 * base_hz / from_hz
        out += weights * padded[..., np.minimum(first + offset + half, padded.shape[-1] - 1)]
    return torch.from_numpy(out).float()


def transformers_source(name: str) -> ModuleType:
    """A module of transformers' musicgen_melody, from its file: its package hides it where torchaudio is missing."""
    package = "transformers.models.musicgen_melody"
    folder = Path(transformers.__file__).parent / "models" / "musicgen_melody"
    spec = importlib.util.spec_from_file_location(f"{package}._unhidden_{name}", folder / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # transformers reads the source of its classes through it
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def extractor() -> Any:
    extraction = transformers_source("feature_extraction_musicgen_melody")
    extraction.torchaudio = SimpleNamespace(  # type: ignore[attr-defined]
        transforms=SimpleNamespace(Spectrogram=Spectrogram), functional=SimpleNamespace(resample=sinc_resample)
    )
    return extraction.MusicgenMelodyFeatureExtractor()


def extracted(extractor: Any, *melodies: NDArray[np.float32]) -> Tensor:
    return extractor(list(melodies), sampling_rate=RATE_HZ, return_tensors="pt")["input_features"]


@pytest.mark.parametrize(
    "samples", [1, 2, 100, 4096, 16_383, 16_384, 16_385, 64_000, 100_001, 958_464, 960_000, 960_001, 962_560, 1_100_000]
)
def test_chroma_equal_transformers_extractor(melody: Any, extractor: Any, samples: int) -> None:
    audio = tune(samples, seed=samples)
    ours = MelodyConditioner(melody.checkpoint).chroma(audio, RATE_HZ)
    assert torch.equal(ours, extracted(extractor, audio)[0])
    assert len(ours) == 1 + min(max(samples, 16_384), 960_000) // 4096


def test_chroma_of_noise_equal_transformers_extractor_where_rounding_decides_little(
    melody: Any, extractor: Any
) -> None:
    audio = np.random.default_rng(3).standard_normal(640_000).astype(np.float32)
    ours = MelodyConditioner(melody.checkpoint).chroma(audio, RATE_HZ)
    agreeing = (ours == extracted(extractor, audio)[0]).all(-1).float().mean()
    assert agreeing > 0.99


def test_chroma_of_a_scale_is_the_scale(melody: Any) -> None:
    chroma = MelodyConditioner(melody.checkpoint).chroma(notes(C_MAJOR, 1.024), RATE_HZ)  # 8 frames a note
    found = chroma.argmax(-1)[:64].reshape(8, 8)[:, 2:7]  # windows of 0.5 s: those well within a note
    assert found.tolist() == [[c % 12] * 5 for c in C_MAJOR]


@pytest.mark.parametrize(("hz", "pitch_class"), [(440.0, 9), (110.0, 9), (C4_HZ, 0), (4186.0, 0), (466.16, 10)])
def test_a_pure_tone_is_its_pitch_class_from_c(melody: Any, hz: float, pitch_class: int) -> None:
    tone = np.sin(2 * np.pi * hz * np.arange(40_000) / RATE_HZ).astype(np.float32)
    assert set(MelodyConditioner(melody.checkpoint).chroma(tone, RATE_HZ).argmax(-1).tolist()) == {pitch_class}


@pytest.mark.parametrize("gain", [1e-12, 1e-6, 1.0, 16.0])
def test_loudness_does_not_matter(melody: Any, gain: float) -> None:
    audio = notes(C_MAJOR, 0.5)
    conditioner = MelodyConditioner(melody.checkpoint)
    assert torch.equal(conditioner.chroma(audio * np.float32(gain), RATE_HZ), conditioner.chroma(audio, RATE_HZ))


@pytest.mark.parametrize("samples", [1_000, 64_000, 500_000, 960_000, 1_000_000])
@pytest.mark.parametrize("guidance_scale", [1.0, 3.0])
def test_prefix_equals_what_the_decoder_gets_in_generate(
    melody: Any, extractor: Any, samples: int, guidance_scale: float
) -> None:
    audio = tune(samples, seed=1)
    batch = melody.tokenizer([PROMPTS[0]], return_tensors="pt")
    features = extracted(extractor, audio)
    expected = melody.encoder_hidden_states(**batch, input_features=features, guidance_scale=guidance_scale)
    conditioner, states = MelodyConditioner(melody.checkpoint), TextConditioner(melody.checkpoint).encode(PROMPTS[0])
    ours = [build_prefix(conditioner.prefix(audio, RATE_HZ), states)]
    if guidance_scale > 1:
        ours.append(build_prefix(conditioner.null_prefix(), states[:0], text_length=len(states)))
    torch.testing.assert_close(torch.stack(ours), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("guidance_scale", [1.0, 3.0])
def test_prefix_without_a_melody_equals_transformers(melody: Any, guidance_scale: float) -> None:
    batch = melody.tokenizer([PROMPTS[1]], return_tensors="pt")
    expected = melody.encoder_hidden_states(**batch, guidance_scale=guidance_scale)
    conditioner, states = MelodyConditioner(melody.checkpoint), TextConditioner(melody.checkpoint).encode(PROMPTS[1])
    ours = [build_prefix(conditioner.prefix(None, None), states)]
    if guidance_scale > 1:
        ours.append(build_prefix(conditioner.null_prefix(), states[:0], text_length=len(states)))
    torch.testing.assert_close(torch.stack(ours), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("guidance_scale", [1.0, 3.0])
def test_an_unconditional_prefix_has_one_zero_text_state(melody: Any, guidance_scale: float) -> None:
    # None of the processor but its tokenizer takes part in this.
    processor = transformers_source("processing_musicgen_melody").MusicgenMelodyProcessor
    inputs = processor.get_unconditional_inputs(SimpleNamespace(tokenizer=melody.tokenizer), num_samples=1)
    expected = melody.encoder_hidden_states(**inputs, guidance_scale=guidance_scale)
    conditioner = MelodyConditioner(melody.checkpoint)
    ours = build_prefix(conditioner.prefix(None, None), TextConditioner(melody.checkpoint).encode(None))
    for row in expected:
        torch.testing.assert_close(ours, row, atol=1e-6, rtol=0)


@pytest.mark.parametrize("guidance_scale", [1.0, 3.0])
def test_padding_to_the_longest_text_equals_a_transformers_batch_of_unlike_lengths(
    melody: Any, guidance_scale: float
) -> None:
    batch = melody.tokenizer(PROMPTS, padding=True, return_tensors="pt")
    expected = melody.encoder_hidden_states(**batch, guidance_scale=guidance_scale)
    conditioner, texts = MelodyConditioner(melody.checkpoint), TextConditioner(melody.checkpoint)
    longest = batch["input_ids"].shape[1]
    ours = [build_prefix(conditioner.null_prefix(), texts.encode(text), longest) for text in PROMPTS]
    if guidance_scale > 1:
        ours += [build_prefix(conditioner.null_prefix(), texts.encode(None), longest)] * 2
    torch.testing.assert_close(torch.stack(ours), expected, atol=1e-5, rtol=0)


def test_none_and_silence_are_the_null_chroma(melody: Any) -> None:
    conditioner = MelodyConditioner(melody.checkpoint)
    assert torch.equal(conditioner.prefix(None, None), conditioner.null_prefix())
    assert torch.equal(conditioner.prefix(np.zeros(50_000, np.float32), RATE_HZ), conditioner.null_prefix())


def test_a_width_equal_to_the_chroma_is_not_projected(melody: Any) -> None:
    checkpoint = dataclasses.replace(melody.checkpoint, melody_projection=None)
    conditioner = MelodyConditioner(checkpoint)
    audio = notes(C_MAJOR, 0.3)
    chroma = conditioner.chroma(audio, RATE_HZ)
    assert torch.equal(conditioner.prefix(audio, RATE_HZ)[: len(chroma)], chroma)


def test_channels_are_averaged(melody: Any) -> None:
    audio = tune(64_000)
    stereo = np.stack([1.5 * audio, 0.5 * audio])
    conditioner = MelodyConditioner(melody.checkpoint)
    assert torch.equal(conditioner.prefix(stereo, RATE_HZ), conditioner.prefix(audio, RATE_HZ))
    np.testing.assert_allclose(check_melody(stereo, RATE_HZ), audio, atol=1e-7)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_any_float_is_taken_and_left_as_it_was(melody: Any, dtype: Any) -> None:
    audio = notes(C_MAJOR, 0.3).astype(dtype)
    before = audio.copy()
    chroma = MelodyConditioner(melody.checkpoint).chroma(audio, RATE_HZ)
    np.testing.assert_array_equal(audio, before)
    assert torch.equal(chroma, MelodyConditioner(melody.checkpoint).chroma(notes(C_MAJOR, 0.3), RATE_HZ))


def test_what_comes_after_31_seconds_is_not_looked_at(melody: Any) -> None:
    audio = tune(34 * RATE_HZ)
    audio[32 * RATE_HZ] = np.nan
    conditioner = MelodyConditioner(melody.checkpoint)
    assert torch.equal(conditioner.prefix(audio, RATE_HZ), conditioner.prefix(audio[: 30 * RATE_HZ], RATE_HZ))
    audio[29 * RATE_HZ] = np.nan
    with pytest.raises(PromptError, match="peak is nan"):
        conditioner.prefix(audio, RATE_HZ)


def test_a_readonly_reversed_view_is_taken(melody: Any) -> None:
    audio = np.repeat(notes(C_MAJOR, 0.3)[::-1], 2)[::-2]
    audio.flags.writeable = False
    assert torch.equal(
        MelodyConditioner(melody.checkpoint).chroma(audio, RATE_HZ),
        MelodyConditioner(melody.checkpoint).chroma(notes(C_MAJOR, 0.3), RATE_HZ),
    )


@pytest.mark.slow
@pytest.mark.parametrize(("rate_hz", "seconds"), [(44_100, 3.0), (48_000, 4.0), (16_000, 31.0), (22_050, 0.2)])
def test_another_rate_gives_the_chroma_of_transformers_resampling(
    melody: Any, extractor: Any, rate_hz: int, seconds: float
) -> None:
    audio = tune(round(rate_hz * seconds), rate_hz)
    ours = MelodyConditioner(melody.checkpoint).chroma(audio, rate_hz)
    batch = torch.from_numpy(audio)[None]
    theirs = extractor(batch, sampling_rate=rate_hz, return_tensors="pt")["input_features"][0]
    assert ours.shape == theirs.shape
    assert (ours == theirs).all(
        -1
    ).float().mean() > 0.98  # another filter: frames between two notes may fall either way


def test_a_checkpoint_without_melody_takes_only_none(mono: Any) -> None:
    conditioner = MelodyConditioner(mono.checkpoint)
    assert conditioner.prefix(None, None).shape == conditioner.null_prefix().shape == (0, 64)
    with pytest.raises(PromptError, match="tiny-mono takes no melody"):
        conditioner.prefix(tune(100), RATE_HZ)


SOME = np.zeros(100, np.float32)
BAD_MELODIES: dict[str, tuple[Any, Any]] = {
    "list": ([0.0, 0.1], RATE_HZ),
    "tensor": (torch.zeros(100), RATE_HZ),
    "path": ("melody.wav", RATE_HZ),
    "bytes": (b"RIFF", RATE_HZ),
    "int16": (np.zeros(100, np.int16), RATE_HZ),
    "complex": (np.zeros(100, np.complex64), RATE_HZ),
    "objects": (np.array([None, 1.0]), RATE_HZ),
    "strings": (np.array(["a"]), RATE_HZ),
    "a number": (np.float32(0.5), RATE_HZ),
    "no dimension": (np.array(0.5, np.float32), RATE_HZ),
    "three dimensions": (np.zeros((1, 2, 100), np.float32), RATE_HZ),
    "empty": (np.zeros(0, np.float32), RATE_HZ),
    "no samples": (np.zeros((2, 0), np.float32), RATE_HZ),
    "no channels": (np.zeros((0, 100), np.float32), RATE_HZ),
    "transposed": (np.zeros((100, 2), np.float32), RATE_HZ),
    "nan": (np.array([0.0, np.nan], np.float32), RATE_HZ),
    "inf": (np.array([0.0, -np.inf], np.float32), RATE_HZ),
    "opposite infinities": (np.array([[np.inf], [-np.inf]], np.float32), RATE_HZ),
    "cast from integers": (np.full(100, 32_767, np.float32), RATE_HZ),
    "absurdly loud": (np.full(100, 1e30, np.float32), RATE_HZ),
    "float64 beyond float32": (np.full(100, 1e300), RATE_HZ),
    "rate missing": (SOME, None),
    "rate zero": (SOME, 0),
    "rate negative": (SOME, -44_100),
    "rate low": (SOME, 999),
    "rate high": (SOME, 384_001),
    "rate beyond printing": (SOME, 10**5000),
    "rate float": (SOME, 44_100.0),
    "rate nan": (SOME, math.nan),
    "rate bool": (SOME, True),
    "rate text": (SOME, "44100"),
}


@pytest.mark.parametrize("name", BAD_MELODIES)
def test_a_bad_melody_is_refused_in_one_line(melody: Any, name: str) -> None:
    with pytest.raises(PromptError) as caught:
        MelodyConditioner(melody.checkpoint).prefix(*BAD_MELODIES[name])
    message = str(caught.value)
    assert message.startswith(("a melody is", "the melody"))
    assert len(message) < 200
    assert message.isprintable()


def test_random_melodies_give_a_prefix_or_a_prompt_error(melody: Any) -> None:
    conditioner, rng = MelodyConditioner(melody.checkpoint), random.Random(5)
    generator = np.random.default_rng(5)
    refused = 0
    for _ in range(60):
        shape = tuple(rng.choice([0, 1, 2, 3, 5_000, 20_000]) for _ in range(rng.choice([1, 1, 2, 2, 3])))
        if math.prod(shape) > 100_000:
            continue
        audio = generator.standard_normal(shape).astype(rng.choice([np.float32, np.float64, np.float16, np.int32]))
        if audio.size and rng.random() < 0.2:
            audio.flat[0] = rng.choice([60_000, -1, 0]) if audio.dtype in (np.float16, np.int32) else 3e38
        try:
            states = conditioner.prefix(audio, rng.choice([RATE_HZ, RATE_HZ, RATE_HZ, 0, None]))
        except PromptError:
            refused += 1
        else:
            assert states.shape == (235, 64)
            assert states.isfinite().all()
    assert 0 < refused < 50


def test_prefix_order_is_chroma_text_zeros() -> None:
    prefix = build_prefix(torch.full((3, 2), 1.0), torch.full((2, 2), 2.0), text_length=4)
    assert prefix[:, 0].tolist() == [1, 1, 1, 2, 2, 0, 0]
    assert build_prefix(torch.ones(3, 2), torch.ones(2, 2), text_length=1).shape == (5, 2)
    for text_length in (0, 1):  # an unconditional prompt has one zero state; of a decoder alone, none
        assert build_prefix(torch.ones(3, 2), torch.ones(0, 2), text_length).shape == (3 + text_length, 2)


@pytest.mark.parametrize("kind", ["melody", "audiocraft-melody"])
def test_checkpoints_read_from_either_format_give_the_same_prefixes(melody: Any, kind: str) -> None:
    loaded = load_checkpoint(str(tiny_checkpoint(kind)))
    audio = tune(64_000)
    ours, theirs = (
        build_prefix(MelodyConditioner(c).prefix(audio, RATE_HZ), TextConditioner(c).encode(PROMPTS[1]))
        for c in (loaded, melody.checkpoint)
    )
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


@pytest.mark.parametrize("seconds", [4.0, *(pytest.param(long, marks=pytest.mark.slow) for long in (30.0, 47.3))])
def test_each_window_of_a_stream_has_its_own_30_seconds_of_the_repeated_melody(melody: Any, seconds: float) -> None:
    """Twin: audiocraft's `_generate_tokens`, written out; the melody begins at frame 40."""
    conditioner = MelodyConditioner(melody.checkpoint)
    audio = notes([60, 67, 63, 70], seconds / 4)
    tune = dataclasses.replace(conditioner.melody(audio, RATE_HZ), start_frame=40)
    for start_frame in (40, 943, 1846, 0):
        first = int((start_frame - 40) / 50 * RATE_HZ)
        around = np.tile(audio, 30 * RATE_HZ // len(audio) + 2)[first % len(audio) :]
        part = around[: 30 * RATE_HZ]
        assert torch.equal(conditioner.window(tune, start_frame), conditioner.prefix(part, RATE_HZ)), start_frame


def test_a_clip_repeats_its_melody_s_chroma_and_a_stream_its_audio(melody: Any) -> None:
    conditioner = MelodyConditioner(melody.checkpoint)
    audio = notes([60, 67, 63], 0.7)
    clip = conditioner.melody(audio, RATE_HZ, repeats=False)
    assert torch.equal(conditioner.window(clip, 500), conditioner.prefix(audio, RATE_HZ))
    assert not torch.equal(conditioner.window(conditioner.melody(audio, RATE_HZ), 0), conditioner.window(clip, 0))


def test_ten_minutes_of_a_stream_s_melody_count(melody: Any) -> None:
    conditioner = MelodyConditioner(melody.checkpoint)
    assert len(conditioner.melody(np.zeros(700 * 1000, np.float32), 1000).samples) == 600 * RATE_HZ


def test_of_many_channels_a_stereo_checkpoint_hears_the_first_two_a_mono_one_all() -> None:
    """As audiocraft's convert_audio_channels, before it makes mono of them."""
    four = np.random.default_rng(0).standard_normal((4, 900)).astype(np.float32) / 9
    assert np.array_equal(check_melody(four, RATE_HZ), four.mean(0, dtype=np.float64).astype(np.float32))
    first_two = four[:2].mean(0, dtype=np.float64).astype(np.float32)
    assert np.array_equal(check_melody(four, RATE_HZ, audio_channels=2), first_two)
