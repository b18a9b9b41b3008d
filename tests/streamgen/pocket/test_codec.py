from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from streamgen.pocket.codec import CodecPlan, CodecTrainer, codes_to_sound, new_codec, sound_to_codes


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
