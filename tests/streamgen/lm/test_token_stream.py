"""The law of the rollover: tokens after it equal those of a full re-read of the same context."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from streamgen.lm.cross import CrossCache
from streamgen.lm.decoder import Segment
from streamgen.lm.token_stream import TokenStream

Twins = Callable[[str], Any]
PROMPT = "drums and bass with slow techno beat"


def open_tokens(model: Any, melody: Tensor | None = None, **values: Any) -> TokenStream:
    settings = {"prompt": PROMPT, "temperature": 0.0, "seed": 5, **values}
    prefix = 0 if melody is None else len(melody) + model.prompts.text_positions([model.mix(settings)])
    controls = model.controls(settings, prefix)
    _, rows = model.prompts.of(controls.mix, controls.guidance_scale, melody)
    tokens: TokenStream = model.open_tokens(rows, controls)
    model.engine.prefill(tokens, tokens.windows[0])
    return tokens


@torch.no_grad()
def reread_with_transformers(both: Any, columns: Tensor, start_position: int, guidance: float) -> Tensor:
    """Logits after reading the columns [n, K] from `start_position` in one go: [K, V], guided."""
    decoder = both.reference.decoder
    text = both.states(PROMPT)[None]
    ids = columns.t().repeat(2, 1) if guidance != 1 else columns.t()
    states = torch.cat([text, torch.zeros_like(text)]) if guidance != 1 else text
    mask = torch.stack([torch.ones(text.shape[1]), torch.zeros(text.shape[1])])[: len(states)].long()
    positions = decoder.model.decoder.embed_positions
    original = positions.forward
    positions.forward = lambda input_ids, past_key_values_length=0: original(
        input_ids, past_key_values_length + start_position
    )
    try:
        out = decoder(input_ids=ids, encoder_hidden_states=states, encoder_attention_mask=mask)
    finally:
        positions.forward = original
    k = columns.shape[1]
    logits = out.logits[:, -1].view(len(states), k, -1)
    return logits[1] + (logits[0] - logits[1]) * guidance if guidance != 1 else logits[0]


@pytest.mark.slow
@pytest.mark.parametrize("start_seconds", [0.0, 3.0, 11.0])
@pytest.mark.parametrize(("kind", "guidance"), [("mono", 3.0), ("mono", 1.0), ("stereo", 3.0)])
def test_five_rollovers_equal_full_rereads(twin: Twins, kind: str, guidance: float, start_seconds: float) -> None:
    check_rollovers(twin(kind), guidance, context_seconds=5.0, start_seconds=start_seconds, rollovers=5)


def test_a_rollover_equals_a_full_reread(short_twin: Twins) -> None:
    check_rollovers(short_twin("mono"), 3.0, context_seconds=1.0, start_seconds=2.0, rollovers=3)


def check_rollovers(
    both: Any, guidance: float, *, context_seconds: float, start_seconds: float, rollovers: int
) -> None:
    model = both.model
    tokens = open_tokens(
        model, guidance_scale=guidance, context_seconds=context_seconds, context_start_seconds=start_seconds
    )
    context, checked, since = round(context_seconds * 50), 0, 0
    while checked < rollovers or since < 12:
        before = tokens.rollovers
        model.engine.step([tokens])
        leader = tokens.windows[0]
        assert leader.position <= model.config.max_positions
        since = 0 if tokens.rollovers > before else since + 1
        checked += tokens.rollovers > before
        if tokens.rollovers and since < 12:  # the first tokens that the successor drew
            drawn = tokens.column(tokens.head)  # head has moved on: this column was drawn just now
            start = leader.start_frame
            columns = torch.stack([tokens.column(head, start) for head in range(start - 1, tokens.head)])
            assert len(columns) == context + 1 + since, "the opening column and exactly the context"
            expected = reread_with_transformers(both, columns, tokens.plan.start_position, guidance).argmax(-1)
            assert torch.equal(drawn, expected), (tokens.rollovers, since)
    tokens.close()


def test_a_melody_rollover_equals_a_full_reread(short_twin: Twins) -> None:
    """Twin: a fresh window of our own, prefilled with prefix and context in one go (its parts equal transformers)."""
    model = short_twin("melody").model
    melody = model.prompts.melody_prefix(None, None)
    tokens = open_tokens(model, melody, context_seconds=1.0)
    rows = tokens.rows
    while tokens.rollovers < 1:
        model.engine.step([tokens])
    for _ in range(10):
        expected = reread_logits(model, tokens, rows)
        model.engine.step([tokens])
        assert torch.equal(tokens.column(tokens.head), expected.argmax(-1))
    tokens.close()


@torch.inference_mode()
def reread_logits(model: Any, tokens: TokenStream, rows: Any) -> Tensor:
    """Logits of the column after `head`, from one prefill of prefix, opening column and all frames of the leader."""
    engine, leader = model.engine, tokens.windows[0]
    block = engine.cache.allocate(rows.count)
    columns = torch.stack(
        [tokens.column(h, leader.start_frame) for h in range(leader.start_frame - 1, tokens.head + 1)]
    )
    vectors = torch.cat([rows.prefixes, engine.decoder.embed(columns).expand(rows.count, -1, -1)], dim=1)
    length = vectors.shape[1]
    hidden = engine.decoder.forward(
        vectors.reshape(-1, vectors.shape[-1]), [Segment(block, 0, length)], engine.cache, CrossCache()
    )
    engine.cache.release(block)
    logits = engine.decoder.logits(hidden).view(rows.count, length, engine.config.num_codebooks, -1)[:, -1]
    guided: Tensor = logits[1] + (logits[0] - logits[1]) * rows.coefficients[0]
    return guided


def test_a_rollover_changes_no_frame_before_it(short_twin: Twins) -> None:
    """Two plans, one stream of tokens until the earlier handover."""
    model = short_twin("mono").model
    runs = []
    for context in (0.2, 2.0):
        tokens = open_tokens(model, context_seconds=context, temperature=1.0)
        drawn = []
        for _ in range(model.config.max_positions):
            model.engine.step([tokens])
            drawn.append(tokens.column(tokens.head))
        runs.append(torch.stack(drawn))
        tokens.close()
    assert torch.equal(runs[0], runs[1])


def test_snapshot_and_restore_replay_exactly_also_across_a_handover(short_twin: Twins) -> None:
    model = short_twin("mono").model
    tokens = open_tokens(model, context_seconds=1.0, context_start_seconds=2.0, temperature=1.0)
    for _ in range(180):
        model.engine.step([tokens])
    saved = tokens.snapshot()
    runs = []
    for _ in range(2):
        tokens.restore(saved)
        drawn = []
        for _ in range(120):
            model.engine.step([tokens])
            drawn.append(tokens.column(tokens.head))
        runs.append(torch.stack(drawn))
    assert tokens.rollovers >= 2
    assert torch.equal(runs[0], runs[1])
    tokens.close()


def test_closing_gives_all_rows_back(twin: Twins) -> None:
    model = twin("mono").model
    rows = model.engine.cache.rows
    for _ in range(20):
        tokens = open_tokens(model)
        model.engine.step([tokens])
        tokens.close()
    assert model.engine.cache.rows == max(rows, 4), "no row leaks"


def test_a_longer_context_in_mid_stream_reaches_back_only_as_far_as_it_can(short_twin: Twins) -> None:
    both = short_twin("mono")
    model = both.model
    tokens = open_tokens(model, guidance_scale=1.0, context_seconds=0.5)
    while tokens.head < 150:
        model.engine.step([tokens])
    tokens.plan = model.plan(model.controls({"context_seconds": 2.0}), 0)
    while tokens.rollovers < 1:
        model.engine.step([tokens])
    leader = tokens.windows[0]
    assert leader.start_frame == 151
    columns = torch.stack([tokens.column(h, leader.start_frame) for h in range(leader.start_frame - 1, tokens.head)])
    expected = reread_with_transformers(both, columns, 0, 1.0).argmax(-1)
    assert torch.equal(tokens.column(tokens.head), expected)
    tokens.close()
