from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from transformers import EncodecModel

from streamgen.pocket.training.codec import new_codec, sound_to_codes
from streamgen.pocket.training.widening import narrowed, widened


@pytest.fixture
def codec() -> Any:
    model: Any = new_codec().eval()
    with torch.no_grad():
        for layer in model.quantizer.layers:
            layer.codebook.embed.normal_()
        for lstm in (model.encoder.layers[-3].lstm, model.decoder.layers[1].lstm):
            for weight in lstm.parameters():
                weight.mul_(4)  # as it matters in a trained one
    model.load_state_dict({name: value.half().float() for name, value in model.state_dict().items()})
    return model


def test_every_code_stays_in_float16_too(codec: Any) -> None:
    pcm = (np.random.default_rng(0).standard_normal(50 * 640) * 3000).astype(np.int16)
    wide = widened(codec, 24)
    wanted = sound_to_codes(codec, pcm)
    assert torch.equal(sound_to_codes(wide, pcm), wanted)
    state = {name: value.half() for name, value in wide.state_dict().items()}
    again = EncodecModel(wide.config).eval()
    again.load_state_dict(state)
    assert torch.equal(sound_to_codes(again, pcm), wanted)
    assert wanted.unique().numel() > 50


def test_the_old_sound_goes_on_and_the_new_channels_can_learn(codec: Any) -> None:
    latents = torch.randn(1, 64, 20)
    wide: Any = widened(codec, 24)
    made, wanted = wide.decoder(latents), codec.decoder(latents)
    assert torch.corrcoef(torch.stack([made.flatten(), wanted.flatten()]))[0, 1] > 0.5
    made.pow(2).mean().backward()
    first = wide.decoder.layers[0].conv.parametrizations.weight.original1.grad
    assert (first[256:].abs().amax((1, 2)) > 0).all()
    assert wide.config.num_filters == 24
    assert codec.config.num_filters == 16


def test_a_narrow_encoder_says_what_the_silent_half_leaves_out(codec: Any) -> None:
    audio = torch.randn(1, 1, 20 * 640)
    wide = widened(codec, 24)
    with torch.no_grad():
        assert torch.equal(narrowed(wide, 16)(audio), codec.encoder(audio))
