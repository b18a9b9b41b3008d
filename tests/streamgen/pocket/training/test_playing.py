from __future__ import annotations

import torch

import streamgen
from streamgen.pocket.training.playing import play
from streamgen.testing import tiny_checkpoint


def test_a_caption_is_played_as_a_stream_plays_it() -> None:
    model = streamgen.load_model(str(tiny_checkpoint("mono")), precision="fp32")
    codes = play(model, "house", 12, seed=5)
    assert codes.shape == (4, 12)
    with model.open_stream("house", seed=5) as stream:
        heard = stream.read(9 * model.hop_samples).samples
    whole = model.runtime.codec.decode(codes[None], model.runtime.codec.new_state(1))[0].numpy()[
        :, : 9 * model.hop_samples
    ]
    assert abs(whole[0] - heard[0, : whole.shape[1]]).max() < 1e-4
    assert not torch.equal(play(model, "house", 12, seed=6), codes)
    assert all(model.runtime.engine.cache._free)
