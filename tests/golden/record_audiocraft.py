"""Record what audiocraft itself makes of the tiny checkpoints, into audiocraft.json.

    pip install --no-deps audiocraft … (a version with StyleConditioner) and what it imports; then
    python -m tests.golden.record_audiocraft

What it imports and never calls here (xformers, demucs, spacy, librosa, torchaudio) may be absent: it is stood in for.
Melodies are not separated into stems, as streamgen does not.
"""

from __future__ import annotations

import importlib.machinery
import json
import random
import shutil
import sys
import tempfile
import types
from pathlib import Path
from typing import Any

import torch
import yaml  # type: ignore[import-untyped]
from transformers import T5EncoderModel, T5Tokenizer  # noqa: F401 - before its optional parts are stood in for
from transformers.audio_utils import chroma_filter_bank

from streamgen.testing import tiny_checkpoint
from tests.golden.audio import seeded_tune

HERE = Path(__file__).parent
TEXTS = ("piano", None, "drums and bass with slow techno beat")
BETAS = (None, 0.5, 2.0, 5.0)
ABSENT = (
    "torch.utils.tensorboard", "xformers", "xformers.ops", "spacy", "demucs", "demucs.pretrained", "demucs.apply",
    "demucs.audio", "librosa", "librosa.filters", "torchaudio", "torchaudio.functional",
    "torchaudio.functional.filtering", "torchaudio.transforms", "laion_clap", "pesq", "pystoi",
)  # fmt: skip


class _Absent(types.ModuleType):
    """A module whose names are classes of nothing."""

    __path__: list[str] = []  # noqa: RUF012 - a package

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


class _Demucs:
    sources, samplerate, audio_channels = ("drums", "bass", "other", "vocals"), 44_100, 2

    def to(self, *_: object) -> _Demucs:
        return self


class _Spectrogram(torch.nn.Module):
    """torchaudio's Spectrogram(power=2, center=True, normalized=True)."""

    def __init__(self, n_fft: int, win_length: int, hop_length: int, **_: object) -> None:
        super().__init__()
        self.n_fft, self.hop_length = n_fft, hop_length
        self.register_buffer("window", torch.hann_window(win_length))

    def forward(self, wav: Any) -> Any:
        flat, window = wav.reshape(-1, wav.shape[-1]), self.window
        found = torch.stft(flat, self.n_fft, self.hop_length, len(window), window, return_complex=True)
        power = (found / window.pow(2.0).sum().sqrt()).abs().pow(2)
        return power.reshape(*wav.shape[:-1], *power.shape[-2:])


def _stand_in() -> None:
    for name in ABSENT:
        module = _Absent(name)
        module.__spec__ = importlib.machinery.ModuleSpec(name, None)
        sys.modules[name] = module
        parent = sys.modules.get(name.rpartition(".")[0])
        if isinstance(parent, _Absent):
            setattr(parent, name.rpartition(".")[2], module)
    modules: Any = sys.modules
    modules["xformers.ops"].unbind = torch.unbind
    modules["demucs.pretrained"].get_model = lambda _: _Demucs()
    modules["torchaudio.transforms"].Spectrogram = _Spectrogram
    modules["librosa.filters"].chroma = lambda sr, n_fft, tuning, n_chroma: chroma_filter_bank(
        num_frequency_bins=n_fft, sampling_rate=sr, tuning=tuning, num_chroma=n_chroma
    ).astype("float32")


def load(kind: str) -> Any:
    """Load a tiny checkpoint with audiocraft's own loaders; its T5 and codec are named by their paths."""
    from audiocraft.models import loaders  # type: ignore[import-not-found]
    from audiocraft.models.musicgen import MusicGen  # type: ignore[import-not-found]
    from audiocraft.modules import conditioners  # type: ignore[import-not-found]

    folder = Path(tempfile.mkdtemp()) / kind
    shutil.copytree(tiny_checkpoint(kind), folder)
    package = torch.load(folder / "state_dict.bin", weights_only=True)
    settings, text_encoder = yaml.safe_load(package["xp.cfg"]), str(folder / "t5-tiny")
    settings["conditioners"]["description"]["t5"]["name"] = text_encoder
    settings["attribute_dropout"] = {}
    if kind == "style":
        settings["conditioners"]["self_wav"]["style"]["encodec_checkpoint"] = f"//pretrained/{folder / 'encodec-tiny'}"
    torch.save({**package, "xp.cfg": yaml.safe_dump(settings)}, folder / "state_dict.bin")
    conditioners.T5Conditioner.MODELS.append(text_encoder)
    conditioners.T5Conditioner.MODELS_DIMS[text_encoder] = 48
    conditioners.ChromaStemConditioner._get_stemmed_wav = lambda _, wav, __: wav
    lm = loaders.load_lm_model(folder)
    if "self_wav" in lm.condition_provider.conditioners:  # as MusicGen.get_pretrained does
        lm.condition_provider.conditioners["self_wav"].match_len_on_eval = True
        lm.condition_provider.conditioners["self_wav"]._use_masking = False
    return MusicGen(kind, lm=lm, compression_model=loaders.load_compression_model(folder), max_duration=30)


def tokens(model: Any, case: dict[str, Any]) -> list[list[int]]:
    """Return the codes of one second, greedy."""
    controls = case["controls"]
    model.set_generation_params(
        use_sampling=False, duration=1.0, cfg_coef=controls["guidance_scale"],
        cfg_coef_beta=controls.get("guidance_beta"),
    )  # fmt: skip
    if case["kind"] == "style":
        seconds, codebooks = controls.get("excerpt_seconds", 3.0), controls.get("eval_q", 3)
        model.set_style_conditioner_params(eval_q=codebooks, excerpt_length=seconds)
    audio = torch.from_numpy(seeded_tune(5.0))[None] if case["audio"] else None
    attributes, _ = model._prepare_tokens_and_attributes([case["text"]], None, None if audio is None else [audio])
    random.seed(case["seed"])
    found: list[list[int]] = model._generate_tokens(attributes, None)[0].tolist()
    return found


def cases() -> list[dict[str, Any]]:
    """Return every kind, with and without text and audio, in plain and double guidance."""
    found = []
    for kind in ("style", "audiocraft", "audiocraft-stereo", "audiocraft-melody"):
        follows = kind in ("style", "audiocraft-melody")
        for text in TEXTS:
            for beta in BETAS if follows else (None,):
                guided = {"guidance_scale": 3.0} | ({} if beta is None else {"guidance_beta": beta})
                found.append({"kind": kind, "text": text, "audio": follows, "seed": 7, "controls": guided})
                if follows and text and beta in (None, 2.0):
                    found.append({**found[-1], "audio": False})
    for codebooks, seconds in ((1, 3.0), (6, 1.7), (2, 4.5)):
        heard = {"guidance_scale": 3.0, "eval_q": codebooks, "excerpt_seconds": seconds}
        found.append({"kind": "style", "text": "piano", "audio": True, "seed": 11, "controls": heard})
    return found


def windows(model: Any, seconds: float) -> list[list[int]]:
    """Return the pitch classes that audiocraft gives each window of 75 s of music; nothing is generated."""
    provider, seen = model.lm.condition_provider, []

    def generate(_: Any, attributes: Any, max_gen_len: int, **__: object) -> Any:
        heard = provider._collate_wavs(attributes)["self_wav"]
        seen.append(provider.conditioners["self_wav"]._get_wav_embedding(heard)[0].argmax(-1).tolist())
        return torch.zeros(1, 4, max_gen_len, dtype=torch.long)

    model.set_generation_params(duration=75)
    model.lm.generate, original = generate, model.lm.generate
    attributes, _ = model._prepare_tokens_and_attributes(["x"], None, [torch.from_numpy(seeded_tune(seconds, 3))[None]])
    model._generate_tokens(attributes, None)
    model.lm.generate = original
    return seen


def main() -> None:
    """Record everything."""
    _stand_in()
    torch.set_num_threads(1)
    models = {kind: load(kind) for kind in {case["kind"] for case in cases()}}
    recorded = {
        "tokens": [{**case, "codes": tokens(models[case["kind"]], case)} for case in cases()],
        "windows": [
            {"seconds": seconds, "stride_frames": 900, "classes": windows(models["audiocraft-melody"], seconds)}
            for seconds in (7.3, 30.0, 47.0)
        ],
    }
    (HERE / "audiocraft.json").write_text(json.dumps(recorded, separators=(",", ":")))


if __name__ == "__main__":
    main()
