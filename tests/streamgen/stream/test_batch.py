"""Golden: our batches against transformers' generate on the same weights, tokens and audio, in values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from transformers import EncodecFeatureExtractor, MusicgenProcessor

import streamgen
from streamgen.errors import ConfigError, PromptError
from streamgen.kernels import kernels
from streamgen.stream.batch import Batch
from streamgen.testing import FakeModel, tiny_checkpoint

Twins = Callable[[str], Any]
TEXTS = ["piano", "drums and bass with slow techno beat", None]
STEPS = 400
LONG = "drums and bass with slow techno beat, piano and strings, rock and organ, slow beat"
TONE = (0.3 * np.sin(np.arange(48_000) * 0.05) + 0.1 * np.sin(np.arange(48_000) * 0.31)).astype(np.float32)


def inputs(both: Any, texts: list[str | None]) -> dict[str, Any]:
    """Transformers' inputs; a null prompt is a text whose mask is zero."""
    tokens = dict(both.tokenizer([t or "x" for t in texts], return_tensors="pt", padding=True))
    for row, text in enumerate(texts):
        if text is None:
            tokens["attention_mask"][row] = 0
    return tokens


def ours(both: Any, texts: list[str | None], frames: int, guidance: float, **kwargs: Any) -> tuple[Any, Any]:
    model = both.model
    batch = Batch(model.runtime, texts, frames / 50, seed=0, controls={"guidance_scale": guidance, "temperature": 0.0})
    batch.give_melodies(kwargs.get("melody"), kwargs.get("melody_rate_hz"))
    batch.give_audio_prompts(kwargs.get("audio_prompt"), kwargs.get("audio_prompt_rate_hz"))
    codes = batch.codes()
    clips = model.generate(
        texts, frames / 50, seed=0, guidance_scale=guidance, temperature=0.0, include_prompt=True, **kwargs
    )
    return torch.stack(codes), np.stack([clip.samples for clip in clips])


def assert_equal(codes: torch.Tensor, audio: np.ndarray, theirs: tuple[torch.Tensor, torch.Tensor]) -> None:
    expected_codes, expected_audio = theirs
    assert codes.shape == expected_codes.shape
    assert torch.equal(codes, expected_codes)
    assert len(torch.unique(codes)) > 30, "tokens that freeze on one value would prove nothing"
    wanted = expected_audio.expand(-1, 2, -1).numpy()
    assert audio.shape == wanted.shape
    assert np.abs(audio - wanted).max() < 1e-4
    assert 0.01 < audio.std() < 1


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["mono", "stereo", "causal", "pocket"])
@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_a_batch_of_unlike_texts_and_none_is_transformers(twin: Twins, kind: str, guidance: float) -> None:
    both = twin(kind)
    length = STEPS + both.model.runtime.config.channel_codebooks
    heard = [both.model.heard(text) for text in TEXTS]  # transformers is given the words as the decoder reads them
    read = [text if one is None else one.prompt for text, one in zip(TEXTS, heard, strict=True)]
    theirs = both.generate(**inputs(both, read), do_sample=False, guidance_scale=guidance, max_length=length)
    assert_equal(*ours(both, TEXTS, STEPS, guidance), theirs)


def test_a_short_batch_is_transformers(twin: Twins) -> None:
    both = twin("stereo")
    theirs = both.generate(**inputs(both, TEXTS), do_sample=False, guidance_scale=3.0, max_length=54)
    assert_equal(*ours(both, TEXTS, 50, 3.0), theirs)


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_an_audio_prompt_continues_as_in_transformers(twin: Twins, guidance: float) -> None:
    both = twin("mono")
    frames = 75  # 1.5 s at 32 kHz
    theirs = both.generate(
        **inputs(both, ["piano"]),
        input_values=torch.from_numpy(TONE)[None, None],
        do_sample=False,
        guidance_scale=guidance,
        max_length=frames + 100 + 4,
    )
    assert_equal(*ours(both, ["piano"], 100, guidance, audio_prompt=TONE, audio_prompt_rate_hz=32_000), theirs)


@pytest.mark.slow
def test_a_stereo_audio_prompt_continues_for_400_steps_as_in_transformers(twin: Twins) -> None:
    both = twin("stereo")
    wide = np.stack([TONE, TONE[::-1]])
    theirs = both.generate(
        **inputs(both, ["piano"]),
        input_values=torch.from_numpy(wide.copy())[None],
        do_sample=False,
        guidance_scale=3.0,
        max_length=75 + STEPS + 4,
    )
    assert_equal(*ours(both, ["piano"], STEPS, 3.0, audio_prompt=wide, audio_prompt_rate_hz=32_000), theirs)


def silence_before(audio: np.ndarray, seconds: float) -> np.ndarray:
    """As transformers pads what is shorter than its neighbours: on the left."""
    return np.pad(audio, ((0, 0), (int(seconds * 32_000) - audio.shape[1], 0)))


@pytest.mark.parametrize("kind", ["mono", "stereo"])
def test_unlike_audio_prompts_are_transformers_alone_and_with_silence_before_them_its_padded_batch(
    twin: Twins, kind: str
) -> None:
    both, texts, frames = twin(kind), ["piano", "rock"], 30
    channels = both.model.channels
    short, long = (np.stack([TONE, TONE[::-1]])[:channels, :samples] for samples in (16_000, 48_000))
    codes = prompted_codes(both, texts, frames, [short, long])
    options = {"do_sample": False, "guidance_scale": 3.0}
    for row, (text, prompt) in enumerate(zip(texts, (short, long), strict=True)):
        length = prompt.shape[1] // 640 + frames + 4
        values = torch.from_numpy(prompt.copy())[None]
        alone, _ = both.generate(**inputs(both, [text]), input_values=values, **options, max_length=length)
        assert torch.equal(codes[row], alone[0]), text
    padded = [silence_before(short, 1.5), long]
    features = EncodecFeatureExtractor(feature_size=channels, sampling_rate=32_000, padding_side="left")
    given = features([prompt.squeeze() for prompt in (short, long)], sampling_rate=32_000, return_tensors="pt")
    assert np.array_equal(given["input_values"].numpy(), np.stack(padded))
    theirs, sound = both.generate(**inputs(both, texts), **given, **options, max_length=75 + frames + 4)
    assert torch.equal(torch.stack(prompted_codes(both, texts, frames, padded)), theirs)
    if channels == 2:
        return  # transformers' batch_decode takes no stereo sound with a padding mask
    unpadded = MusicgenProcessor(features, both.tokenizer).batch_decode(sound, padding_mask=given["padding_mask"])
    clips = both.model.generate(
        texts, frames / 50, audio_prompt=[short, long], audio_prompt_rate_hz=32_000, include_prompt=True, seed=0
    )
    assert [clip.samples.shape[1] for clip in clips] == [audio.shape[-1] for audio in unpadded]


def prompted_codes(both: Any, texts: list[str | None], frames: int, prompts: list[np.ndarray]) -> list[torch.Tensor]:
    controls = {"guidance_scale": 3.0, "temperature": 0.0}
    batch = Batch(both.model.runtime, texts, frames / 50, seed=0, controls=controls)
    batch.give_audio_prompts(prompts, 32_000)
    return batch.codes()


def test_unlike_melodies_are_transformers_alone_and_with_silence_before_them_its_padded_batch(twin: Twins) -> None:
    both, texts, frames = twin("melody"), ["piano", "piano"], 30  # of one length: that is another padding
    short, long = TONE[None, 20_000:40_000], TONE[None, ::-1].copy()
    chroma = both.model.runtime.prompts.chroma
    options: dict[str, Any] = {"do_sample": False, "guidance_scale": 3.0, "max_length": frames + 4}

    def melodic(melodies: list[np.ndarray]) -> list[torch.Tensor]:
        controls = {"guidance_scale": 3.0, "temperature": 0.0}
        batch = Batch(both.model.runtime, texts, frames / 50, seed=0, controls=controls)
        batch.give_melodies(melodies, 32_000)
        return batch.codes()

    def features(melodies: list[np.ndarray]) -> torch.Tensor:
        return torch.stack([chroma.chroma(melody, 32_000) for melody in melodies])

    for row, melody in enumerate((short, long)):
        alone, _ = both.generate(**inputs(both, texts[row : row + 1]), input_features=features([melody]), **options)
        assert torch.equal(melodic([short, long])[row], alone[0])
    padded = [silence_before(short, 1.5), long]
    theirs, _ = both.generate(**inputs(both, texts), input_features=features(padded), **options)
    assert torch.equal(torch.stack(melodic(padded)), theirs)
    assert not torch.equal(melodic(padded)[0], melodic([short, long])[0])


@pytest.mark.parametrize(
    "precision", ["fp32", "int6", *(pytest.param(p, marks=pytest.mark.slow) for p in ("bf16", "int8"))]
)
def test_a_sampled_row_is_what_it_is_alone(precision: str) -> None:
    """Beside three clips, and beside fifteen: in few bits to the last one, for the kernels sum each row by itself."""
    if precision == "int6" and kernels() is None:
        pytest.skip("no native kernels: built without a C++ compiler, or not wanted")
    model = streamgen.load_model(str(tiny_checkpoint("mono")), device="cpu", precision=precision)
    texts: list[str | None] = ["piano", "rock", None, "drums and bass"]
    alone = [model.generate([text], 0.3, seed=4 + row)[0].samples for row, text in enumerate(texts)]
    for repeats in (1, 4):
        together = model.generate(texts * repeats, 0.3, seed=[*range(4, 8)] * repeats)
        for row, samples in enumerate(alone):
            assert np.array_equal(together[row].samples, samples), (precision, repeats, row)


@pytest.mark.slow
@pytest.mark.parametrize("guidance", [1.0, 3.0])
@pytest.mark.parametrize("kind", ["melody", "melody-stereo"])
def test_a_melody_batch_of_unlike_texts_is_transformers(twin: Twins, kind: str, guidance: float) -> None:
    both = twin(kind)
    texts = [*TEXTS[:2], "rock"]
    theirs = both.generate(**inputs(both, texts), do_sample=False, guidance_scale=guidance, max_length=STEPS + 4)
    assert_equal(*ours(both, texts, STEPS, guidance), theirs)


def test_a_melody_clip_is_transformers(twin: Twins) -> None:
    both = twin("melody")
    melody = np.sin(2 * np.pi * 440 * np.arange(64_000) / 32_000).astype(np.float32)
    chroma = both.model.runtime.prompts.chroma.chroma(melody, 32_000)[None]
    theirs = both.generate(
        **inputs(both, ["piano"]), input_features=chroma, do_sample=False, guidance_scale=3.0, max_length=64
    )
    assert_equal(*ours(both, ["piano"], 60, 3.0, melody=[melody], melody_rate_hz=32_000), theirs)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["melody", "melody-stereo"])
@pytest.mark.parametrize("text", ["drums and bass with slow techno beat", LONG])
def test_a_melody_clip_of_a_whole_window_is_transformers(twin: Twins, kind: str, text: str) -> None:
    """30 s: 1503 positions beside the prefix, the last of them too."""
    both = twin(kind)
    melody = np.sin(2 * np.pi * np.linspace(200, 900, 30 * 32_000) * np.arange(30 * 32_000) / 32_000).astype(np.float32)
    chroma = both.model.runtime.prompts.chroma.chroma(melody, 32_000)[None]
    theirs = both.generate(
        **inputs(both, [text]), input_features=chroma, do_sample=False, guidance_scale=3.0, max_length=1504
    )
    assert_equal(*ours(both, [text], 1500, 3.0, melody=[melody], melody_rate_hz=32_000), theirs)


def test_rows_in_a_batch_are_what_they_are_alone(twin: Twins) -> None:
    model = twin("mono").model
    settings = {"temperature": 0.0, "guidance_scale": 3.0}
    together = Batch(model.runtime, TEXTS, 2.0, seed=4, controls=settings).codes()
    for row, text in enumerate(TEXTS):
        alone = Batch(model.runtime, [text], 2.0, seed=4 + row, controls=settings).codes()
        assert torch.equal(together[row], alone[0])


def test_sampled_rows_keep_their_seeds(twin: Twins) -> None:
    model = twin("mono").model
    together = model.generate(["piano", "rock"], 1.0, seed=4)
    again = model.generate(["piano", "rock"], 1.0, seed=4)
    second = model.generate(["rock"], 1.0, seed=5)
    assert np.array_equal(together[1].samples, again[1].samples)
    assert np.allclose(together[1].samples, second[0].samples, atol=1e-5)
    assert not np.allclose(together[0].samples, together[1].samples, atol=1e-2)


@pytest.mark.parametrize(("kind", "original"), [("audiocraft", "mono"), ("audiocraft-stereo", "stereo")])
def test_audiocrafts_format_gives_identical_tokens(twin: Twins, kind: str, original: str) -> None:
    check_same_tokens(twin(original).model, kind, melody=None)


def test_audiocrafts_melody_format_gives_identical_tokens(twin: Twins) -> None:
    melody = np.sin(2 * np.pi * 330 * np.arange(64_000) / 32_000).astype(np.float32)
    check_same_tokens(twin("melody").model, "audiocraft-melody", melody=[melody, None])


def check_same_tokens(model: Any, kind: str, melody: Any) -> None:
    other = streamgen.load_model(str(tiny_checkpoint(kind)), device="cpu", precision="fp32")
    codes = []
    for one in (model, other):
        batch = Batch(one.runtime, TEXTS[:2], 2.0, seed=1, controls={"guidance_scale": 3.0, "temperature": 1.0})
        batch.give_melodies(melody, None if melody is None else 32_000)
        codes.append(batch.codes())
    assert all(torch.equal(a, b) for a, b in zip(*codes, strict=True))


def test_a_clip_longer_than_a_window_rolls_over(short_twin: Twins) -> None:
    model = short_twin("mono").model
    clip = model.generate(["piano"], 7.0, seed=1, context_seconds=1.0)[0]
    assert clip.samples.shape == (2, 7 * 32_000)
    assert clip.samples[:, -32_000:].std() > 0.01


def test_the_prompt_is_left_out_unless_asked_for(twin: Twins) -> None:
    model = twin("mono").model
    arguments = {"audio_prompt": TONE, "audio_prompt_rate_hz": 32_000, "seed": 3}
    short = model.generate(["piano"], 1.0, **arguments)[0]
    whole = model.generate(["piano"], 1.0, include_prompt=True, **arguments)[0]
    assert short.samples.shape[1] == 32_000
    assert whole.samples.shape[1] == 32_000 + 48_000
    assert np.array_equal(short.samples, whole.samples[:, -32_000:])


def test_progress_counts_up_to_the_end(twin: Twins) -> None:
    seen: list[tuple[int, int]] = []
    twin("mono").model.generate(["piano"], 0.5, seed=1, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (25, 25)
    assert seen == sorted(seen)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (("piano", 1.0), PromptError, r"prompts is a list of texts \(or None\), not str"),
        (([], 1.0), ConfigError, "0 prompts given; a batch has 1 … 64"),
        ((["a"], 0.0), ConfigError, "seconds is 0.0, must be within 0.02"),
        ((["a"], float("nan")), ConfigError, "seconds is nan"),
    ],
)
def test_bad_calls_say_what_is_wrong(twin: Twins, arguments: tuple[Any, ...], error: type, words: str) -> None:
    with pytest.raises(error, match=words):
        twin("mono").model.generate(*arguments)


def test_lists_of_the_wrong_length_are_refused(twin: Twins) -> None:
    model = twin("mono").model
    with pytest.raises(ConfigError, match="seed has 1 entries for 2 prompts"):
        model.generate(["a", "b"], 1.0, seed=[1])
    with pytest.raises(PromptError, match="takes no melody"):
        model.generate(["a"], 1.0, melody=[TONE], melody_rate_hz=32_000)
    with pytest.raises(PromptError, match="sample rate is missing"):
        model.generate(["a"], 1.0, audio_prompt=TONE)


def test_a_bad_clip_leaves_no_rows_taken(twin: Twins) -> None:
    model = twin("mono").model
    with pytest.raises(PromptError, match="is empty"):
        model.generate(["piano", "rock", ""], 1.0)
    assert all(model.runtime.engine.cache._free)


def test_an_interrupted_batch_leaves_no_rows_taken(twin: Twins, monkeypatch: pytest.MonkeyPatch) -> None:
    model = twin("mono").model

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    for method in ("prefill", "step"):
        with monkeypatch.context() as disturbed:
            disturbed.setattr(model.runtime.engine, method, interrupt)
            with pytest.raises(KeyboardInterrupt):
                model.generate(["piano", "rock"], 1.0, audio_prompt=TONE, audio_prompt_rate_hz=32_000)
        assert all(model.runtime.engine.cache._free), method


def test_what_makes_no_sense_is_refused_by_name(twin: Twins) -> None:
    model = twin("mono").model
    with pytest.raises(ConfigError, match="seconds is '3', must be within"):
        model.generate(["piano"], "3")
    with pytest.raises(PromptError, match="prompt is given beside the list of prompts"):
        model.generate(["piano"], 1.0, prompt="rock")
    for rate in ("44100", float("nan"), 0):
        with pytest.raises(PromptError, match="audio prompt's sample rate is"):
            model.generate(["piano"], 1.0, audio_prompt=TONE, audio_prompt_rate_hz=rate)
    clips = [
        model.generate(["piano"], 0.1, seed=1, audio_prompt=TONE, audio_prompt_rate_hz=rate)[0].samples
        for rate in (32_000, np.int64(32_000))
    ]
    assert np.array_equal(*clips)


@pytest.mark.parametrize("name", ["take", "audition", "on_bar", "guard"])
def test_what_only_a_stream_does_is_refused_and_not_passed_over(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"{name} is of streams, not of clips: .*open_stream\(prompt, {name}=…\)"):
        FakeModel().generate(["piano"], 1.0, **{name: 1})  # type: ignore[misc]
