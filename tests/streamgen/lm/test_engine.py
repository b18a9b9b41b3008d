from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

Twins = Callable[[str], Any]


def open_tokens(model: Any, prompt: str | None, **values: Any) -> Any:
    controls = model.controls({"prompt": prompt, "temperature": 0.0, "seed": 1, **values})
    _, rows = model.prompts.of(controls.mix, controls.guidance_scale)
    return model.open_tokens(rows, controls)


def test_streams_that_join_and_leave_in_between_are_what_they_are_alone(twin: Twins) -> None:
    """One pass for streams at unlike positions, with unlike rows: each is its lonely twin, token for token."""
    model = twin("mono").model
    settings: list[tuple[str | None, dict[str, Any]]] = [
        ("piano", {}),
        ("drums and bass with slow techno beat", {"guidance_scale": 1.0}),
        (None, {}),
    ]
    alone = []
    for prompt, values in settings:
        stream = open_tokens(model, prompt, **values)
        while stream.frames_done < 60:
            model.engine.step([stream])
        alone.append(stream.frames(0, 60))
        stream.close()
    streams: list[Any] = []
    results: dict[int, torch.Tensor] = {}
    for step in range(200):
        if step % 20 == 0 and len(streams) < len(settings):
            prompt, values = settings[len(streams)]
            streams.append(open_tokens(model, prompt, **values))
        running = [stream for i, stream in enumerate(streams) if i not in results]
        if running:
            model.engine.step(running)
        for i, stream in enumerate(streams):
            if i not in results and stream.frames_done >= 60:
                results[i] = stream.frames(0, 60)
                stream.close()
    assert len(results) == 3
    assert all(torch.equal(results[i], alone[i]) for i in range(3))


def test_a_prefill_equals_steps(twin: Twins) -> None:
    """An audio prompt read in one go leaves the same cache as its columns fed one by one."""
    model = twin("mono").model
    codes = torch.randint(0, 64, (4, 40))
    bulk, steps = open_tokens(model, "piano"), open_tokens(model, "piano")
    bulk.begin_with(codes)
    model.engine.prefill(bulk, bulk.windows[0])
    steps.begin_with(codes)
    head, steps.head = steps.head, -1
    while steps.head < head:
        model.engine.step([steps])
    keys = model.engine.cache.keys
    a, b = bulk.windows[0], steps.windows[0]
    assert a.fed == b.fed == 40
    assert torch.allclose(keys[:, a.block.slice(), :, :40], keys[:, b.block.slice(), :, :40], atol=1e-4)
    bulk.close()
    steps.close()
