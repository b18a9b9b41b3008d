"""Logits and hidden states of codes that are known, against transformers' forward of the same columns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import streamgen
from streamgen.errors import CapacityError, ConfigError
from streamgen.testing import FakeModel, tiny_checkpoint

Twins = Callable[[str], Any]
FRAMES = 23


def some_codes(model: Any, frames: int = FRAMES) -> Tensor:
    shape = (model.runtime.config.num_codebooks, frames)
    return torch.randint(model.runtime.config.vocab_size, shape, generator=torch.Generator().manual_seed(4))


def columns_by_hand(model: Any, codes: Tensor) -> Tensor:
    """The slow, obvious delay pattern, int64 [K, F + max_delay]: the opening column first."""
    pattern, frames = model.runtime.pattern, codes.shape[1]
    columns = torch.full((len(codes), frames + pattern.max_delay), pattern.pad)
    for book, delay in enumerate(pattern.delays):
        for frame in range(frames):
            if frame + 1 + delay < columns.shape[1]:
                columns[book, frame + 1 + delay] = codes[book, frame]
    return columns


@torch.no_grad()
def forward(both: Any, codes: Tensor, text: str | None, **features: Tensor) -> Any:
    """Transformers' forward of the composite; without text the mask is zero."""
    tokens = dict(both.tokenizer([text or "x"], return_tensors="pt"))
    if text is None:
        tokens["attention_mask"].zero_()
    columns = columns_by_hand(both.model, codes)
    return both.reference(**tokens, **features, decoder_input_ids=columns, output_hidden_states=True)


def of_codes(model: Any, logits: Tensor) -> Tensor:
    """Logits after each column, [K, columns, V], as those of each code, [K, F, V], one by one."""
    delays = model.runtime.pattern.delays
    return torch.stack([logits[book, delay : delay + FRAMES] for book, delay in enumerate(delays)])


@pytest.mark.parametrize("kind", ["mono", "stereo"])
@pytest.mark.parametrize("text", ["slow piano", None])
def test_logits_and_hidden_states_are_transformers(twin: Twins, kind: str, text: str | None) -> None:
    both = twin(kind)
    model, codes = both.model, some_codes(both.model)
    theirs = forward(both, codes, text)
    ours = model.logits(codes, text)
    assert ours.shape == (*codes.shape, 64)
    torch.testing.assert_close(ours, of_codes(model, theirs.logits), atol=2e-5, rtol=1e-5)
    assert ours.std() > 0.5, "flat logits would prove nothing"
    hidden = model.hidden_states(codes, text)
    expected = torch.cat(theirs.decoder_hidden_states)
    assert hidden.shape == (4, FRAMES + 3, 64) == expected.shape
    torch.testing.assert_close(hidden, expected, atol=2e-5, rtol=1e-5)


def test_a_melody_s_logits_are_transformers(twin: Twins) -> None:
    both = twin("melody")
    model, codes = both.model, some_codes(both.model)
    melody = torch.sin(2 * torch.pi * 440 * torch.arange(64_000) / 32_000).numpy()
    chroma = model.runtime.prompts.chroma.chroma(melody, 32_000)[None]
    for text in ("slow piano", None):
        theirs = forward(both, codes, "slow piano", input_features=chroma).logits if text else None
        ours = model.logits(codes, text, melody=melody, melody_rate_hz=32_000)
        if theirs is not None:
            torch.testing.assert_close(ours, of_codes(model, theirs[:, -FRAMES - 3 :]), atol=5e-5, rtol=1e-5)
        else:
            assert not torch.allclose(ours, model.logits(codes, "slow piano", melody=melody, melody_rate_hz=32_000))


def test_greedy_tokens_are_the_likeliest_of_their_own_logits(twin: Twins) -> None:
    model = twin("stereo").model
    with model.open_stream("rock", temperature=0.0, guidance_scale=1.0) as stream:
        codes = stream.tokens(303)  # more than is read in one piece
    likeliest = model.logits(codes, "rock").argmax(-1)
    assert torch.equal(likeliest[:, :300], codes[:, :300])
    assert torch.equal(likeliest[:2], codes[:2])  # the finer ones of the last frames were drawn beside frames to come


def test_few_bits_have_logits_and_hidden_states_too(twin: Twins) -> None:
    model = streamgen.load_model(str(tiny_checkpoint("mono")), device="cpu", precision="int8")
    codes, exact = some_codes(model), twin("mono").model.logits(some_codes(model), "piano")
    assert (model.logits(codes, "piano") - exact).abs().max() < 0.5
    hidden, wanted = model.hidden_states(codes, "piano"), twin("mono").model.hidden_states(codes, "piano")
    assert hidden.shape == wanted.shape == (4, FRAMES + 3, 64)
    assert 0 < (hidden - wanted).abs().max() < 0.2


def test_rows_are_given_back_and_codes_checked(twin: Twins) -> None:
    model = twin("mono").model
    with pytest.raises(ConfigError, match=r"codes are torch.int64 \[4, frames\], 0 to 63, not of shape \[3, 9\]"):
        model.logits(torch.zeros(3, 9, dtype=torch.int64))
    with pytest.raises(ConfigError, match=r"not torch\.float32"):
        model.logits(torch.zeros(4, 9))
    with pytest.raises(ConfigError, match="these reach from 0 to 64"):
        model.logits(torch.full((4, 9), 64).index_fill(1, torch.tensor([0]), 0))
    with pytest.raises(ConfigError, match="1501 frames are more than a window holds, 1500: leave some out"):
        model.logits(torch.zeros(4, 1501, dtype=torch.int64))
    with pytest.raises(ConfigError, match="FakeModel has no decoder"):
        FakeModel().logits(torch.zeros(2, 9, dtype=torch.int64))
    assert all(model.runtime.engine.cache._free)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_what_a_pass_attends_to_when_it_is_timed_is_of_the_size_of_music(precision: str) -> None:
    model = streamgen.load_model(str(tiny_checkpoint("mono")), device="cpu", precision=precision)
    engine, read = model.runtime.engine, []
    step = engine.decoder.step

    def looking(x: Any, segments: Any, cache: Any, cross: Any, wanted: Any) -> Any:
        rows = cache.copy_out(segments[0].block, 1000)
        parts = [part for row in rows.rows for part in row] if hasattr(rows, "rows") else [rows.keys, rows.values]
        read.append(min(float((part != 0).float().mean()) for part in parts))
        return step(x, segments, cache, cross, wanted)

    engine.decoder.step = looking
    model.pass_seconds(2, 1000)
    assert min(read) > 0.9, "zeros, where nobody wrote"


def test_a_pass_is_timed_and_its_rows_are_given_back(twin: Twins) -> None:
    model = twin("mono").model
    assert 0 < model.pass_seconds(2, 100) < 60
    assert all(model.runtime.engine.cache._free)
    with pytest.raises(CapacityError):
        model.pass_seconds(10**6, 0)
