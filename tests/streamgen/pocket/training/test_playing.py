"""The change of prompt, on a model whose pitch tells the prompt."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch

import streamgen
from streamgen import Model
from streamgen.pocket.training.compose import held_out_song
from streamgen.pocket.training.measures import Audio
from streamgen.pocket.training.playing import heard_after_change, play, takeover_share
from streamgen.testing import tiny_checkpoint
from streamgen.testing.fake import FakeModel, fake_pitch_hz


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


SONGS = {song.style: song for song in map(held_out_song, range(60))}
PITCHES = {fake_pitch_hz(f"some {style}"): (song, f"some {style}") for style, song in SONGS.items()}
PROMPTS = list(PITCHES.values())[:5]  # no two of one pitch


def pitch_hz(audio: Audio) -> float:
    spectrum = np.abs(np.fft.rfft(audio * np.hanning(len(audio))))
    return float(spectrum.argmax() / len(audio) * 32_000)


def test_only_the_new_prompt_is_heard() -> None:
    model = cast(Model, FakeModel())
    audio = heard_after_change(model, "some rock", "some jazz", seed=0)
    assert len(audio) == 5 * model.sample_rate_hz
    assert abs(pitch_hz(audio) - fake_pitch_hz("some jazz")) < 1


def test_the_share_counts_changes_that_were_recognised() -> None:
    model: Any = FakeModel()

    def perfect(audio: Audio) -> str:
        distances = {song.style: abs(fake_pitch_hz(text) - pitch_hz(audio)) for song, text in PROMPTS}
        return min(distances, key=lambda style: distances[style])

    assert takeover_share(model, PROMPTS, perfect) == 1.0
    assert takeover_share(model, PROMPTS, lambda _: PROMPTS[0][0].style) == 1 / len(PROMPTS)
