from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from streamgen import Model
from streamgen.lm.engine import LmEngine, _guided
from streamgen.lm.sampling import Sampling, combine
from streamgen.lm.step import Rows, Step, StepSettings
from streamgen.lm.token_stream import TokenStream
from streamgen.stream.control_state import ControlState
from streamgen.stream.controls import new_controls

Twins = Callable[[str], Any]


def open_tokens(model: Any, prompt: str | None, **values: Any) -> TokenStream:
    settings = settings_of(model, prompt, **values)
    tokens: TokenStream = model.runtime.open_tokens(settings)
    return tokens


def settings_of(model: Any, prompt: str | None, **values: Any) -> StepSettings:
    runtime, wanted = model.runtime, {"prompt": prompt, "temperature": 0.0, "seed": 1, **values}
    conditioner = runtime.prompts.conditioner()
    controls = new_controls(runtime, conditioner, wanted)
    return ControlState(runtime.layout, conditioner, controls).memory.settings


def step(engine: LmEngine, *streams: TokenStream) -> None:
    drawn = engine.step([stream.begin_step(stream.settings) for stream in streams])
    for stream, codes in zip(streams, drawn, strict=True):
        stream.finish_step(codes)


def test_streams_that_join_and_leave_in_between_are_what_they_are_alone(twin: Twins) -> None:
    """One pass for streams at unlike positions, with unlike rows: each is its lonely twin, token for token."""
    model = twin("mono").model
    engine = model.runtime.engine
    settings: list[tuple[str | None, dict[str, Any]]] = [
        ("piano", {}),
        ("drums and bass with slow techno beat", {"guidance_scale": 1.0}),
        (None, {}),
    ]
    alone = []
    for prompt, values in settings:
        stream = open_tokens(model, prompt, **values)
        while stream.frames_done < 60:
            step(engine, stream)
        alone.append(stream.frames(0, 60))
        stream.close()
    streams: list[TokenStream] = []
    results: dict[int, torch.Tensor] = {}
    for number in range(200):
        if number % 20 == 0 and len(streams) < len(settings):
            prompt, values = settings[len(streams)]
            streams.append(open_tokens(model, prompt, **values))
        running = [stream for i, stream in enumerate(streams) if i not in results]
        if running:
            step(engine, *running)
        for i, stream in enumerate(streams):
            if i not in results and stream.frames_done >= 60:
                results[i] = stream.frames(0, 60)
                stream.close()
    assert len(results) == 3
    assert all(torch.equal(results[i], alone[i]) for i in range(3))


def test_a_prefill_equals_steps(twin: Twins, monkeypatch: pytest.MonkeyPatch) -> None:
    """An audio prompt read in one go leaves the same cache as its columns fed one by one.

    On torch's kernels; on the native ones a prefill's vectors are rows as a step's are, bit for bit.
    """
    monkeypatch.setenv("STREAMGEN_KERNELS", "torch")
    model = Model.from_checkpoint(twin("mono").checkpoint, device="cpu", precision="fp32")
    engine = model.runtime.engine
    codes = torch.randint(0, 64, (4, 40))
    bulk, steps = open_tokens(model, "piano"), open_tokens(model, "piano")
    bulk.begin_with(codes)
    engine.prefill(bulk.unread())
    steps.begin_with(codes)
    head, steps.head = steps.head, -1
    while steps.head < head:
        step(engine, steps)
    keys = engine.cache.keys
    a, b = bulk.windows[0], steps.windows[0]
    assert a.fed == b.fed == 40
    assert torch.allclose(keys[:, a.block.slice(), :, :40], keys[:, b.block.slice(), :, :40], atol=1e-4)
    bulk.close()
    steps.close()


def test_an_interrupted_prefill_goes_on_where_it_was(twin: Twins, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twin: one that nothing interrupts."""
    model = twin("mono").model
    engine, whole, parts = model.runtime.engine, open_tokens(model, "piano"), open_tokens(model, "piano")
    monkeypatch.setattr("streamgen.lm.engine._PREFILL_VECTORS", 16)
    codes, read, passes = torch.randint(0, 64, (4, 40)), engine.decoder.read, [0]

    def interrupted(*arguments: Any, **options: Any) -> Any:
        passes[0] += 1
        if passes[0] == 2:
            raise KeyboardInterrupt
        return read(*arguments, **options)

    for stream in (whole, parts):
        stream.begin_with(codes)
    engine.prefill(whole.unread())
    with monkeypatch.context() as disturbed:
        disturbed.setattr(engine.decoder, "read", interrupted)
        with pytest.raises(KeyboardInterrupt):
            engine.prefill(parts.unread())
    assert [one.length for one in parts.unread()] == [24]
    engine.prefill(parts.unread())
    assert parts.unread() == whole.unread() == []
    for _ in range(20):
        step(engine, whole, parts)
        assert torch.equal(whole.column(whole.head), parts.column(parts.head))
    for stream in (whole, parts):
        stream.close()


def test_a_bias_is_added_to_the_guided_logits(twin: Twins) -> None:
    model = twin("mono").model
    stream = open_tokens(model, "piano", guidance_scale=3.0)
    wanted = torch.tensor([3, 1, 4, 5])
    bias = torch.zeros(4, model.runtime.config.vocab_size)
    bias[torch.arange(4), wanted] = 1e6
    begun = stream.begin_step(stream.settings)
    (plain,) = model.runtime.engine.step([replace(begun, bias=torch.zeros_like(bias))])
    (without,) = model.runtime.engine.step([begun])
    (codes,) = model.runtime.engine.step([replace(begun, bias=bias)])
    assert torch.equal(plain, without)
    assert torch.equal(codes, wanted)
    stream.close()


@pytest.mark.parametrize("count", [2, 3])
def test_steps_with_as_many_rows_are_guided_together_to_the_bit(count: int) -> None:
    """Twin: each by itself. Shares of which float32 has no exact ones."""
    logits, steps = torch.randn(4 * count, 4, 64), []
    for number in range(4):
        prompts = [1.1 + number / 7, 0.3][: count - 1]
        shares = (*prompts, 1 - sum(prompts))
        rows = Rows(tuple(range(count)), (None,) * count, shares)  # type: ignore[arg-type]
        steps.append(Step([], [], rows, shares, Sampling(), 0))
    wanted = [combine(own, one.coefficients) for own, one in zip(logits.split(count), steps, strict=True)]
    assert torch.equal(_guided(steps, logits), torch.stack(wanted))
