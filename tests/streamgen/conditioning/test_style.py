"""Styles: tokens against a slow reading of the paper; the real audiocraft's tokens are in tests/golden."""

from __future__ import annotations

import json
import random
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yaml
from torch import Tensor
from transformers import HubertConfig, HubertModel

import streamgen
from streamgen.checkpoint import Checkpoint, load_checkpoint
from streamgen.codec import encode
from streamgen.conditioning.style import StyleConditioner
from streamgen.errors import CheckpointError, ConfigError, PromptError
from streamgen.testing import tiny_checkpoint

RATE_HZ = 32_000
PART = "condition_provider.conditioners.self_wav."


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return load_checkpoint(str(tiny_checkpoint("style")))


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (0.2 * rng.standard_normal(round(seconds * RATE_HZ))).astype(np.float32)


def slow_tokens(checkpoint: Checkpoint, features: Tensor, codebooks: int) -> Tensor:
    """Transformer, batch norm and bottleneck of features [T, width], frame by frame and head by head."""
    weights, style = checkpoint.style_weights, checkpoint.style
    assert weights is not None
    assert style is not None
    x, half = features.double(), style.width // 2
    for at in range(len(x)):
        angles = torch.tensor([at / 10_000 ** (i / (half - 1)) for i in range(half)], dtype=torch.float64)
        x[at] += torch.cat([angles.cos(), angles.sin()])
    w = {name: tensor.double() for name, tensor in weights.items()}
    for layer in range(style.layers):
        name = f"transformer.layers.{layer}"
        y = F.layer_norm(x, (style.width,), w[f"{name}.norm1.weight"], w[f"{name}.norm1.bias"])
        q, k, v = (y @ w[f"{name}.self_attn.in_proj_weight"].t()).chunk(3, dim=1)
        size = style.width // style.heads
        heads = []
        for h in range(style.heads):
            cut = slice(h * size, (h + 1) * size)
            heads.append((q[:, cut] @ k[:, cut].t() / size**0.5).softmax(1) @ v[:, cut])
        x = x + torch.cat(heads, 1) @ w[f"{name}.self_attn.out_proj.weight"].t()
        y = F.layer_norm(x, (style.width,), w[f"{name}.norm2.weight"], w[f"{name}.norm2.bias"])
        x = x + F.gelu(y @ w[f"{name}.linear1.weight"].t()) @ w[f"{name}.linear2.weight"].t()
    x = (x - w["batch_norm.running_mean"]) / (w["batch_norm.running_var"] + 1e-5).sqrt()
    rest, found = x.clone(), torch.zeros_like(x)
    for k in range(codebooks):
        table = w[f"rvq.vq.layers.{k}._codebook.embed"]
        for at in range(len(x)):
            nearest = min(range(len(table)), key=lambda code: float((rest[at] - table[code]).square().sum()))
            found[at] += table[nearest]
            rest[at] -= table[nearest]
    return (found[:: style.every] @ w["output_proj.weight"].t() + w["output_proj.bias"]).float()


@pytest.mark.parametrize("codebooks", [1, 3])
def test_tokens_are_those_of_a_slow_reading(checkpoint: Checkpoint, codebooks: int) -> None:
    ours, audio = StyleConditioner(checkpoint), noise(2.0)
    start = random.Random(5).randint(0, len(audio) - RATE_HZ)
    codes = encode(checkpoint.style_features, torch.from_numpy(audio[start : start + RATE_HZ])[None])  # type: ignore[arg-type]
    weights = checkpoint.style_weights
    assert weights is not None
    features = sum(weights[f"embed.{k}.weight"][codes[k]] for k in range(3))
    assert isinstance(features, Tensor)
    found = ours.tokens(ours.style(audio, RATE_HZ), codebooks, 1.0, seed=5)
    torch.testing.assert_close(found, slow_tokens(checkpoint, features, codebooks), atol=1e-4, rtol=1e-4)
    assert found.shape == (4, checkpoint.decoder.hidden_size) == (ours.positions(ours.style(audio, RATE_HZ), 1.0), 64)


def test_the_seed_says_where_the_excerpt_lies(checkpoint: Checkpoint) -> None:
    ours = StyleConditioner(checkpoint)
    style = ours.style(noise(5.0), RATE_HZ)
    a, b, again = (ours.tokens(style, 6, 1.0, seed) for seed in (1, 2, 1))
    assert torch.equal(a, again)
    assert not torch.equal(a, b)
    centred = StyleConditioner(replace(checkpoint, style=replace(checkpoint.style, centred=True)))  # type: ignore[type-var]
    assert torch.equal(centred.tokens(style, 6, 1.0, 1), centred.tokens(style, 6, 1.0, 2))


def test_what_is_no_style_gets_one_line(checkpoint: Checkpoint) -> None:
    ours = StyleConditioner(checkpoint)
    with pytest.raises(PromptError, match=r"the style has 1\.00 s, excerpt_seconds is 3: give longer audio"):
        ours.tokens(ours.style(noise(1.0), RATE_HZ), 3, 3.0, 0)
    with pytest.raises(PromptError, match="style"):
        ours.style("a text", RATE_HZ)
    model = streamgen.load_model(str(tiny_checkpoint("style")), device="cpu", precision="fp32")
    with pytest.raises(PromptError, match="takes no melody"):
        model.open_stream("piano", melody=noise(1.0), melody_rate_hz=RATE_HZ)
    with pytest.raises(PromptError, match=r"the style has 1\.00 s"):
        model.open_stream("piano", style=noise(1.0), style_rate_hz=RATE_HZ)
    with pytest.raises(ConfigError, match="eval_q is 0"):
        model.open_stream("piano", eval_q=0)
    assert model.control_specs["eval_q"].limits == (1, 6)
    with pytest.raises(ConfigError, match=r"eval_q is 7, the style of .* has 6 codebooks: set 1 to 6"):
        model.open_stream("piano", eval_q=7, style=noise(3.0), style_rate_hz=RATE_HZ)
    with model.open_stream("piano", style=noise(3.0), style_rate_hz=RATE_HZ) as stream:
        with pytest.raises(ConfigError, match="eval_q is 7"):
            stream.set(eval_q=7)
        assert stream.read(640).samples.shape == (2, 640)


def test_a_style_stream_plays_on_and_takes_another_style_at_its_sample() -> None:
    model = streamgen.load_model(str(tiny_checkpoint("style")), device="cpu", precision="fp32")
    rows = {name: spec for name, spec in model.control_specs.items() if name in ("eval_q", "guidance_beta")}
    assert all(spec.supported for spec in rows.values())
    options: dict[str, Any] = {"seed": 3, "context_seconds": 1.0, "excerpt_seconds": 1.0}
    with model.open_stream("piano", style=noise(2.0), style_rate_hz=RATE_HZ, **options) as stream:
        before = stream._sound.tokens.settings.rows.prefixes
        assert stream.set(style=model.style(noise(2.0, 9), RATE_HZ), at_sample=30 * 640) == 30 * 640
        stream.read(20 * 640)
        assert stream._sound.tokens.settings.rows.prefixes == before
        stream.read(30 * 640)
        after = stream._sound.tokens.settings.rows.prefixes
        assert after != before
        assert not torch.equal(after.of(0)[0], before.of(0)[0])
        stream.set(style=None)
        stream.read(640)
        assert stream._sound.tokens.settings.rows.prefixes.length < after.length
        stream.set(guidance_beta=4.0, eval_q=1)
        assert np.isfinite(stream.read(6_400).samples).all()


def test_checkpoints_without_a_style_hide_its_controls() -> None:
    model = streamgen.load_model(str(tiny_checkpoint("mono")), device="cpu", precision="fp32")
    hidden = {name for name, spec in model.control_specs.items() if not spec.supported}
    assert {"eval_q", "excerpt_seconds", "guidance_beta"} <= hidden


# -- MERT -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def with_mert(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Tensor]]:
    """A style checkpoint that hears with a small random MERT, whose weights have the names of its own files."""
    folder = tmp_path_factory.mktemp("mert") / "style"
    shutil.copytree(tiny_checkpoint("style"), folder)
    config = HubertConfig(
        num_hidden_layers=2, intermediate_size=32, conv_dim=[8] * 7, num_conv_pos_embeddings=16, hidden_size=768
    )
    torch.manual_seed(0)
    weights = {name: torch.randn_like(tensor) * 0.1 for name, tensor in HubertModel(config).state_dict().items()}
    old = {name.replace("parametrizations.weight.original0", "weight_g"): tensor for name, tensor in weights.items()}
    old = {name.replace("parametrizations.weight.original1", "weight_v"): tensor for name, tensor in old.items()}
    place = folder / "m-a-p/MERT-v1-95M"
    place.mkdir(parents=True)
    (place / "config.json").write_text(config.to_json_string().replace('"hubert"', '"mert_model"'))
    torch.save({**old, "encoder.more_than_hubert": torch.ones(1)}, place / "pytorch_model.bin")
    package = torch.load(folder / "state_dict.bin", weights_only=True)
    settings, state = yaml.safe_load(package["xp.cfg"]), package["best_state"]
    settings["conditioners"]["self_wav"]["style"] |= {"model_name": "mert"}
    kept = {name: tensor for name, tensor in state.items() if not name.startswith(f"{PART}embed.")}
    kept |= {f"{PART}embed.weight": torch.randn(256, 768) * 0.05, f"{PART}embed.bias": torch.randn(256) * 0.1}
    torch.save({**package, "best_state": kept, "xp.cfg": yaml.safe_dump(settings)}, folder / "state_dict.bin")
    return folder, old


def slow_mert(w: dict[str, Tensor], audio: Tensor) -> Tensor:
    """HuBERT as its paper has it: convolutions, positions by convolution, layers that normalise after the sum."""
    x = audio[None, None]
    for layer, (kernel, stride) in enumerate(zip((10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2), strict=True)):
        weight = w[f"feature_extractor.conv_layers.{layer}.conv.weight"]
        assert weight.shape[-1] == kernel
        x = F.conv1d(x, weight, stride=stride)
        if layer == 0:
            norm = "feature_extractor.conv_layers.0.layer_norm"
            x = F.group_norm(x, 8, w[f"{norm}.weight"], w[f"{norm}.bias"])
        x = F.gelu(x)
    normed = lambda x, name: F.layer_norm(x, x.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"])  # noqa: E731
    linear = lambda x, name: F.linear(x, w[f"{name}.weight"], w[f"{name}.bias"])  # noqa: E731
    x = linear(normed(x[0].t(), "feature_projection.layer_norm"), "feature_projection.projection")
    direction, gain = w["encoder.pos_conv_embed.conv.weight_v"], w["encoder.pos_conv_embed.conv.weight_g"]
    kernel = direction * gain / direction.norm(dim=(0, 1), keepdim=True)
    places = F.conv1d(x.t()[None], kernel, w["encoder.pos_conv_embed.conv.bias"], padding=8, groups=16)[0, :, :-1]
    x = normed(x + F.gelu(places).t(), "encoder.layer_norm")
    for layer in range(2):
        name = f"encoder.layers.{layer}"
        q, k, v = (linear(x, f"{name}.attention.{part}_proj").view(-1, 12, 64).transpose(0, 1) for part in "qkv")
        mixed = ((q @ k.transpose(1, 2)) / 8).softmax(-1) @ v
        x = normed(
            x + linear(mixed.transpose(0, 1).reshape(-1, 768), f"{name}.attention.out_proj"), f"{name}.layer_norm"
        )
        inner = F.gelu(linear(x, f"{name}.feed_forward.intermediate_dense"))
        x = normed(x + linear(inner, f"{name}.feed_forward.output_dense"), f"{name}.final_layer_norm")
    return x


def test_mert_hears_as_written_by_hand(with_mert: tuple[Path, dict[str, Tensor]]) -> None:
    folder, weights = with_mert
    checkpoint = load_checkpoint(str(folder))
    ours = StyleConditioner(checkpoint)
    audio = noise(1.0)
    from streamgen.conditioning.melody import mono_at_rate

    expected = slow_mert(weights, mono_at_rate(audio, RATE_HZ, 24_000, 60))
    assert checkpoint.style_weights is not None
    projected = F.linear(expected, checkpoint.style_weights["embed.weight"], checkpoint.style_weights["embed.bias"])
    torch.testing.assert_close(ours._heard(torch.from_numpy(audio)), projected, atol=2e-4, rtol=1e-4)
    style = ours.style(noise(3.0), RATE_HZ)
    assert len(ours.tokens(style, 3, 3.0, 0)) == ours.positions(style, 3.0) == 15
    tokens = ours.tokens(ours.style(audio, RATE_HZ), 3, 1.0, 0)
    torch.testing.assert_close(tokens, slow_tokens(checkpoint, projected, 3), atol=1e-3, rtol=1e-3)


def test_a_mert_checkpoint_plays(with_mert: tuple[Path, dict[str, Tensor]]) -> None:
    model = streamgen.load_model(str(with_mert[0]), device="cpu", precision="fp32")
    clips = model.generate(["piano", None], 0.5, seed=1, style=[noise(4.0), None], style_rate_hz=RATE_HZ)
    assert all(np.isfinite(clip.samples).all() for clip in clips)


def test_another_mert_is_refused(with_mert: tuple[Path, dict[str, Tensor]], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(with_mert[0], tmp_path / "style"))
    config = folder / "m-a-p/MERT-v1-95M/config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "feature_extractor_cqt": True}))
    with pytest.raises(CheckpointError, match="feature_extractor_cqt is on"):
        load_checkpoint(str(folder))
    shutil.rmtree(folder / "m-a-p")
    with pytest.raises(CheckpointError, match="needs 'm-a-p/MERT-v1-95M'"):
        load_checkpoint(str(folder))
