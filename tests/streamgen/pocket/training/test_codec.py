from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from streamgen.pocket.training.codec import CodecPlan, CodecTrainer, codes_to_sound, new_codec, sound_to_codes


def test_moving_mean_and_scale_out_of_the_latent_keeps_the_sound(tmp_path: Path) -> None:
    trainer = CodecTrainer(tmp_path, CodecPlan())
    audio = 0.1 * torch.randn(4, 32 * 640)
    with torch.no_grad():
        trainer.model.encoder.layers[-1].conv.bias.normal_()  # type: ignore[union-attr,operator]
        before = trainer.model.decoder(trainer.model.encoder(audio[:, None]))
        trainer.begin_quantizing([audio] * 10)
        latents = trainer.model.encoder(audio[:, None])
        after = trainer.model.decoder(latents)
    assert abs(latents.std() - 1) < 0.05
    assert latents.mean(dim=(0, 2)).abs().max() < 0.05
    # The first six frames see the zeros before the clip, which are no longer the latent's mean.
    torch.testing.assert_close(
        after[..., 16 * 640 :], before[..., 16 * 640 :], atol=0.02 * float(before.std()), rtol=0.05
    )


def test_the_codec_is_causal() -> None:
    model = new_codec().eval()
    pcm = (np.random.default_rng(0).standard_normal(20 * 640) * 3000).astype(np.int16)
    changed = pcm.copy()
    changed[10 * 640 :] = 0
    assert torch.equal(sound_to_codes(model, pcm)[:, :10], sound_to_codes(model, changed)[:, :10])
    codes = torch.randint(0, 1024, (4, 20))
    other = codes.clone()
    other[:, 10:] = 0
    torch.testing.assert_close(codes_to_sound(model, codes)[: 10 * 640], codes_to_sound(model, other)[: 10 * 640])


@pytest.mark.parametrize("step", [0, CodecPlan().mel_full])
def test_a_step_keeps_to_its_device(step: int, tmp_path: Path) -> None:
    """The meta device stands for a GPU: what is mixed with the CPU's tensors there raises."""
    trainer = CodecTrainer(tmp_path, CodecPlan(), device=torch.device("meta"))
    trainer.step, model = step, trainer.model
    # transformers' convolutions look at their padding, which meta lacks
    model.encoder = nn.Conv1d(1, 64, 640, 640, device="meta")  # type: ignore[assignment]
    model.decoder = nn.ConvTranspose1d(64, 1, 640, 640, device="meta")  # type: ignore[assignment]
    loss, losses = trainer.losses((0.1 * torch.randn(2, 8 * 640)).to(trainer.device))
    loss.backward()
    assert {tensor.device.type for tensor in (loss, *losses.values())} == {"meta"}


@pytest.mark.gpu
def test_a_gpu_trains_as_the_cpu_does(tmp_path: Path) -> None:
    audio, found = 0.1 * torch.randn(4, 32 * 640), []
    for device in ("cpu", "cuda"):
        trainer = CodecTrainer(tmp_path, CodecPlan(), device=torch.device(device))
        trainer.begin_quantizing([audio] * 8)
        trainer.step = CodecPlan().quantize_from
        found.append([trainer.train_step(audio)["mel"] for _ in range(4)])
    torch.testing.assert_close(*map(torch.tensor, found), rtol=0.05, atol=0.0)
