from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import MusicgenForConditionalGeneration, MusicgenMelodyForConditionalGeneration

import streamgen
from streamgen.checkpoint import load_checkpoint
from streamgen.errors import CheckpointError, ConfigError, PromptError
from streamgen.testing import tiny_checkpoint

Twins = Callable[[str], Any]


def test_a_model_says_in_which_precision_it_runs_and_why() -> None:
    model = streamgen.load_model(str(tiny_checkpoint("mono")), device="cpu", precision="fp32")
    assert (model.precision, model.load_note) == ("fp32", "fp32, as asked")


@pytest.mark.parametrize(
    ("kind", "follows"),
    [("mono", ()), ("melody", ("melody",)), ("audiocraft-melody", ("melody",)), ("style", ("style",))],
)
def test_a_model_says_what_audio_its_music_can_follow(kind: str, follows: tuple[str, ...]) -> None:
    model = streamgen.load_model(str(tiny_checkpoint(kind)), device="cpu", precision="fp32")
    assert model.follows == follows


def test_bfloat16_plays() -> None:
    model = streamgen.load_model(str(tiny_checkpoint("mono")), device="cpu", precision="bf16")
    clip = model.generate(["piano"], 1.0, seed=1)[0]
    assert clip.samples.shape == (2, 32_000)
    assert np.isfinite(clip.samples).all()
    assert clip.samples.std() > 0.01
    assert model.weight_bytes * 2 == twin_bytes()


def twin_bytes() -> int:
    return streamgen.load_model(str(tiny_checkpoint("mono")), device="cpu", precision="fp32").weight_bytes


def test_a_decoder_alone_plays_unconditionally_and_refuses_texts() -> None:
    model = streamgen.load_model(str(tiny_checkpoint("decoder")), device="cpu")
    with model.open_stream(seed=1) as stream:
        assert stream.read(32_000).samples.std() > 0.01
    with pytest.raises(PromptError, match="text"):
        model.open_stream("piano")


@pytest.fixture
def bare(tmp_path: Path) -> Callable[[str], tuple[streamgen.Model, Any]]:
    """A decoder alone without a codec, as transformers saves it, and its twin; "melody" reads its text first."""

    def load(kind: str) -> tuple[streamgen.Model, Any]:
        composite = kind_of(kind).from_pretrained(tiny_checkpoint(kind))
        composite.decoder.save_pretrained(tmp_path / kind)
        return streamgen.load_model(str(tmp_path / kind), device="cpu", precision="fp32"), composite.decoder.eval()

    return load


def kind_of(kind: str) -> Any:
    return MusicgenMelodyForConditionalGeneration if kind == "melody" else MusicgenForConditionalGeneration


@pytest.mark.parametrize("kind", ["mono", "stereo", "melody"])
@pytest.mark.parametrize("guidance", [pytest.param(1.0, marks=pytest.mark.slow), 3.0])
def test_a_decoder_alone_without_codec_gives_transformers_tokens(bare: Any, kind: str, guidance: float) -> None:
    """Unconditional, and under text states, which transformers 5.24's own `generate` forgets after its first step."""
    model, reference = bare(kind)
    states = torch.randn(5, 64, generator=torch.Generator().manual_seed(2))
    model.learn_states("mine", states)
    for name, given in ((None, None), ("mine", states)):
        with model.open_stream(name, temperature=0.0, guidance_scale=guidance) as stream:
            codes = stream.tokens(30)
        assert torch.equal(codes, greedy_by_hand(reference, given, guidance, 30)), name
        assert len(torch.unique(codes)) > 20


@torch.no_grad()
def greedy_by_hand(reference: Any, states: torch.Tensor | None, guidance: float, frames: int) -> torch.Tensor:
    """Transformers' forward of all columns again for each step, int64 [K, frames]; the null row's states are zeros."""
    channels = reference.config.audio_channels
    delays = [book // channels for book in range(reference.config.num_codebooks)]
    columns = torch.full((len(delays), 1), 64)
    for head in range(frames + delays[-1]):
        given = [{}, {}] if states is None else [{"encoder_hidden_states": s[None]} for s in (states, states * 0)]
        logits, null = (reference(columns, **one).logits[:, -1] for one in given)
        drawn = (null + (logits - null) * guidance).argmax(-1)
        later = torch.tensor([head >= delay for delay in delays])
        columns = torch.cat([columns, torch.where(later, drawn, 64)[:, None]], dim=1)
    return torch.stack([columns[book, 1 + delay :][:frames] for book, delay in enumerate(delays)])


def test_a_decoder_alone_without_codec_says_so_where_sound_is_asked_for(bare: Any) -> None:
    model, _ = bare("mono")
    assert not model.has_codec
    assert model.follows == ()
    assert (model.sample_rate_hz, model.hop_samples, model.frame_rate_hz) == (32_000, 640, 50)
    assert "tokens come of this checkpoint" in model.notes[0]
    with model.open_stream(seed=1, audio_prompt_codes=torch.zeros(4, 9, dtype=torch.int64)) as stream:
        with pytest.raises(CheckpointError, match=r"has no codec, .* read stream.tokens\(\)"):
            stream.read(640)
        assert stream.tokens(3).shape == (4, 3)
    with pytest.raises(CheckpointError, match="has no codec"):
        model.generate([None], 1.0)
    with pytest.raises(PromptError, match="has no codec to read audio with: give its codes"):
        model.prompt_codes(np.zeros(640, np.float32), 32_000)
    with pytest.raises(PromptError, match=r"has no text encoder .* or model.learn_states"):
        model.open_stream("piano")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"precision": "int9"}, "precision is 'int9', must be one of auto, fp32, bf16, fp16, int8, int6, mixed, int4"),
        ({"device": "tpu"}, "device is 'tpu', must be one of auto, cpu, cuda"),
    ],
)
def test_unknown_options_are_refused_before_anything_is_read(options: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        streamgen.load_model("no/such/checkpoint", **options)


def test_cuda_without_a_gpu_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="no CUDA GPU here; use device='cpu'"):
        streamgen.load_model(str(tiny_checkpoint("mono")), device="cuda")


def test_a_missing_checkpoint_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError) as caught:
        streamgen.load_model(str(tmp_path / "nothing"))
    assert "\n" not in str(caught.value)


def test_from_checkpoint_plays_what_load_model_plays(twin: Twins) -> None:
    folder = str(tiny_checkpoint("mono"))
    model = streamgen.Model.from_checkpoint(load_checkpoint(folder), device="cpu", precision="fp32")
    ours, theirs = (one.generate(["piano"], 0.5, seed=2)[0].samples for one in (model, twin("mono").model))
    assert np.array_equal(ours, theirs)


@pytest.mark.slow
def test_importing_streamgen_needs_only_four_packages_and_starts_nothing() -> None:
    """Other packages are hidden, as on a machine that lacks them."""
    code = """
import sys
for absent in ("soundfile", "soxr", "sounddevice", "websockets", "pythonosc", "scipy", "librosa", "bridge"):
    sys.modules[absent] = None
import streamgen
assert "torch" not in sys.modules
import streamgen.model, streamgen.testing, streamgen.pocket
import threading
assert threading.active_count() == 1
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_everything_users_hold_tells_what_it_is_in_one_line() -> None:
    model = streamgen.load_model("pocket", device="cpu", precision="int8")
    assert repr(model) == "<Model 'pocket': mono, 32000 Hz, windows of 15.1 s, int8 on cpu>"
    with model.open_stream("piano", seed=7, negative_prompt="drums") as stream:
        stream.read(16_000)
        assert repr(stream).endswith(" of 'pocket' at 0.50 s: 'piano', seed 7>")
        assert repr(stream.controls).startswith("Controls(prompts=[('piano', 1)], negative_prompt='drums', guidance_")
        assert "seed=7" in repr(stream.controls)
        saved = stream.snapshot()
        held = sum(window.copy.nbytes for window in saved.tokens.windows)
        assert repr(saved).endswith(f" at sample 16,000, {held / 1e6:.1f} MB>")
    assert repr(stream).endswith("at 0.50 s: closed>")
    for each in (model, stream, stream.controls, saved):
        assert "\n" not in repr(each)


# -- misspelt names ---------------------------------------------------------------------------------------------------

MEANT = "there is no control 'guidance'; did you mean guidance_scale\\?"


@pytest.mark.parametrize("value", [3.0, None])
def test_a_misspelt_control_is_refused_with_the_one_that_was_meant(twin: Twins, value: float | None) -> None:
    model = twin("mono").model
    with pytest.raises(ConfigError, match=MEANT):
        model.open_stream("piano", guidance=value)
    with pytest.raises(ConfigError, match=MEANT):
        model.generate(["piano"], 1.0, guidance=value)
    with model.open_stream("piano", seed=1) as stream:
        for call in (stream.set, stream.check):
            with pytest.raises(ConfigError, match=MEANT):
                call(guidance=value)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"audio_prompt_rate_hz": 32_000}, "audio_prompt_rate_hz is given without an audio_prompt"),
        ({"melody_rate_hz": 32_000}, "melody_rate_hz is given without a melody: give both, or neither"),
        ({"style_rate_hz": 32_000}, "style_rate_hz is given without a style"),
    ],
)
def test_a_rate_without_its_audio_is_refused(twin: Twins, arguments: dict[str, Any], words: str) -> None:
    model = twin("mono").model
    with pytest.raises(PromptError, match=words):
        model.open_stream("piano", **arguments)
    with pytest.raises(PromptError, match=words):
        model.generate(["piano"], 0.1, **arguments)


def test_codes_of_an_audio_prompt_are_checked_and_stand_alone(twin: Twins) -> None:
    model = twin("mono").model
    audio, codes = np.zeros(640, np.float32), torch.zeros(4, 3, dtype=torch.int64)
    with pytest.raises(PromptError, match="audio_prompt_codes is given beside an audio_prompt: give one of the two"):
        model.open_stream("piano", audio_prompt=audio, audio_prompt_rate_hz=32_000, audio_prompt_codes=codes)
    for wrong, words in ((codes[:3], r"not of shape \[3, 3\]"), (codes + 64, "these reach from 64 to 64")):
        with pytest.raises(ConfigError, match=words):
            model.open_stream("piano", audio_prompt_codes=wrong)
    with pytest.raises(ConfigError, match="there is no argument 'colour'; there are melody, melody_rate_hz, style"):
        model.logits(codes, "piano", colour=1)


@pytest.mark.parametrize(
    ("kind", "control"), [("mono", "eval_q"), ("mono", "guidance_beta"), ("melody", "glide_seconds")]
)
def test_a_control_that_the_checkpoint_was_not_made_for_is_told_once(
    kind: str, control: str, caplog: pytest.LogCaptureFixture
) -> None:
    model = streamgen.load_model(str(tiny_checkpoint(kind)), device="cpu", precision="fp32")
    assert not model.control_specs[control].supported
    usual = model.control_specs[control].default
    with model.open_stream("piano", **{control: usual}) as stream:
        stream.set(**{control: usual})
        assert caplog.messages == []
        stream.set(**{control: 2})
        stream.set(**{control: 4})
    model.generate(["piano"], 0.1, **{control: 2})
    assert caplog.messages == [f"{model.name} was not made for {control}: it may do harm, or nothing"]


def test_where_guidance_does_harm_every_other_frame_of_it_does_too() -> None:
    specs = streamgen.load_model(device="cpu").control_specs
    assert not specs["guidance_scale"].supported
    assert not specs["guidance_interval"].supported


RIGHT = """
import streamgen
from streamgen import AudioChunk, Model, Stream

model: Model = streamgen.load_model("pocket")
with model.open_stream("piano", seed=7, guidance_scale=3, prompts=[("rock", 1.0), (None, 2)], top_k=50) as stream:
    position: int = stream.set(prompt="drums", temperature=0.5, at_sample=32_000)
    scale: float = stream.check(guidance_scale=2.0).guidance_scale
    chunk: AudioChunk = stream.read(640, between_steps=lambda: None)
    stream.restore(stream.snapshot())
    stream.rewind(stream.mark())
both: dict[Stream, AudioChunk] = model.read_together({stream: 640})
clips: list[AudioChunk] = model.generate(["piano", None], 2.0, seed=[1, 2], guidance_scale=3.0, negative_prompt="noise")
default = model.control_specs["top_k"].default
"""
WRONG = {
    "import streamgen; streamgen.load_model().open_stream('piano', guidance=3)": "guidance",
    "import streamgen; streamgen.load_model().open_stream('piano', top_k='many')": "top_k",
    "import streamgen; streamgen.load_model().open_stream('piano').set(temprature=1.0)": "temprature",
    "import streamgen; streamgen.load_model().open_stream('piano').check(prompt=3)": "prompt",
    "import streamgen; streamgen.load_model().generate(['piano'], 1.0, guidance=3)": "guidance",
    "import streamgen; streamgen.load_model().generate(['piano'], 1.0, prompts=['rock'])": "prompts",
    "import streamgen; streamgen.load_model().generate(['piano'], 1.0).samples": "samples",
}


@pytest.mark.slow
def test_a_users_program_is_checked_by_mypy_strictly(tmp_path: Path) -> None:
    """Misspelt and mistyped keywords are found before the program runs."""
    right = tmp_path / "right.py"
    right.write_text(RIGHT)
    wrong = tmp_path / "wrong.py"
    wrong.write_text("\n".join(WRONG))
    options = ["--strict", "--no-error-summary", "--follow-imports=silent", "--cache-dir", str(tmp_path)]
    # by its path, however it is installed here; that its own types are right is mypy's own run to say
    environment = {**os.environ, "MYPYPATH": str(Path(streamgen.__file__).parent.parent)}
    command = [sys.executable, "-m", "mypy", *options, str(right), str(wrong)]
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    found = [line for line in run.stdout.splitlines() if ": error: " in line]
    for number, word in enumerate(WRONG.values(), start=1):
        assert any(f"wrong.py:{number}: error: " in line and f'"{word}"' in line for line in found), (word, run.stdout)
    assert len(found) == len(WRONG), run.stdout
