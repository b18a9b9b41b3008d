"""The law of the rollover: tokens after it equal those of a full re-read of the same context."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from streamgen.errors import CapacityError
from streamgen.lm.attention import Segment
from streamgen.lm.cross import CrossCache
from streamgen.lm.step import StepSettings
from streamgen.lm.token_stream import TokenStream
from streamgen.stream.control_state import ControlState
from streamgen.stream.controls import new_controls

Twins = Callable[[str], Any]
PROMPT = "drums and bass with slow techno beat"


def settings_of(model: Any, conditioner: Any = None, **values: Any) -> StepSettings:
    """What a stream with these controls would give its first step."""
    runtime, wanted = model.runtime, {"prompt": PROMPT, "temperature": 0.0, "seed": 5, **values}
    conditioner = conditioner or runtime.prompts.conditioner()
    controls = new_controls(runtime, conditioner, wanted)
    return ControlState(runtime.layout, conditioner, controls).memory.settings


def open_tokens(model: Any, conditioner: Any = None, *, keep_frames: int = 0, **values: Any) -> TokenStream:
    tokens: TokenStream = model.runtime.open_tokens(settings_of(model, conditioner, **values), keep_frames)
    model.runtime.engine.prefill(tokens.unread())
    return tokens


def step(model: Any, tokens: TokenStream, settings: StepSettings | None = None) -> None:
    begun = tokens.begin_step(settings or tokens.settings)
    model.runtime.engine.prefill(begun.unread)
    (codes,) = model.runtime.engine.step([begun])
    tokens.finish_step(codes)


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
    tokens = open_tokens(
        twin(kind).model, guidance_scale=guidance, context_seconds=5.0, context_start_seconds=start_seconds
    )
    check_rollovers(twin(kind), tokens, guidance, rollovers=5)


def test_a_rollover_equals_a_full_reread(short_twin: Twins) -> None:
    tokens = open_tokens(short_twin("mono").model, context_seconds=1.0, context_start_seconds=2.0)
    check_rollovers(short_twin("mono"), tokens, 3.0, rollovers=3)


def check_rollovers(both: Any, tokens: TokenStream, guidance: float, *, rollovers: int) -> None:
    model, checked, since = both.model, 0, 0
    while checked < rollovers or since < 12:
        before = tokens.rollovers
        step(model, tokens)
        leader = tokens.windows[0]
        assert leader.position <= model.runtime.config.max_positions
        since = 0 if tokens.rollovers > before else since + 1
        checked += tokens.rollovers > before
        if tokens.rollovers and since < 12:  # the first tokens that the successor drew
            known = check_the_newest_column(both, tokens, guidance)
            assert known == tokens.settings.plan.context_frames + 1 + since, (
                "the opening column and exactly the context"
            )
            assert leader.start_position == tokens.settings.plan.start_position
    tokens.close()


def check_the_newest_column(both: Any, tokens: TokenStream, guidance: float) -> int:
    """Compare what was drawn just now with a full re-read of all that its window knows; returns how many columns."""
    leader = tokens.windows[0]
    start = leader.start_frame
    columns = torch.stack([tokens.column(head, start) for head in range(start - 1, tokens.head)])
    expected = reread_with_transformers(both, columns, leader.start_position, guidance).argmax(-1)
    drawn = torch.arange(len(expected)) // both.model.channels <= tokens.head - tokens.origin  # others are held
    assert torch.equal(tokens.column(tokens.head)[drawn], expected[drawn]), (tokens.rollovers, tokens.head)
    return len(columns)


def test_a_melody_rollover_equals_a_full_reread(short_twin: Twins) -> None:
    """Twin: a fresh window of our own, prefilled with prefix and context in one go (its parts equal transformers)."""
    model = short_twin("melody").model
    tokens = open_tokens(model, model.runtime.prompts.conditioner(), context_seconds=1.0)
    rows = tokens.settings.rows
    while tokens.rollovers < 1:
        step(model, tokens)
    for _ in range(10):
        expected = reread_logits(model, tokens, rows)
        step(model, tokens)
        assert torch.equal(tokens.column(tokens.head), expected.argmax(-1))
    tokens.close()


@torch.inference_mode()
def reread_logits(model: Any, tokens: TokenStream, rows: Any) -> Tensor:
    """Logits of the column after `head`, from one prefill of prefix, opening column and all frames of the leader."""
    engine, leader = model.runtime.engine, tokens.windows[0]
    block = engine.cache.allocate(rows.count)
    columns = torch.stack(
        [tokens.column(h, leader.start_frame) for h in range(leader.start_frame - 1, tokens.head + 1)]
    )
    vectors = torch.cat(
        [rows.prefixes.of(leader.start_frame), engine.decoder.embed(columns).expand(rows.count, -1, -1)], dim=1
    )
    length = vectors.shape[1]
    logits = engine.decoder.evaluate(
        vectors.reshape(-1, vectors.shape[-1]), [Segment(block, 0, length)], engine.cache, CrossCache()
    )
    engine.cache.release(block)
    logits = logits.view(rows.count, length, engine.config.num_codebooks, -1)[:, -1]
    guided: Tensor = logits[1] + (logits[0] - logits[1]) * rows.coefficients[0]
    return guided


def test_a_rollover_changes_no_frame_before_it(short_twin: Twins) -> None:
    """Two plans, one stream of tokens until the earlier handover."""
    model = short_twin("mono").model
    runs = []
    for context in (0.2, 2.0):
        tokens = open_tokens(model, context_seconds=context, temperature=1.0)
        drawn = []
        for _ in range(model.runtime.config.max_positions):
            step(model, tokens)
            drawn.append(tokens.column(tokens.head))
        runs.append(torch.stack(drawn))
        tokens.close()
    assert torch.equal(runs[0], runs[1])


def test_snapshot_and_restore_replay_exactly_also_across_a_handover(short_twin: Twins) -> None:
    model = short_twin("mono").model
    tokens = open_tokens(model, context_seconds=1.0, context_start_seconds=2.0, temperature=1.0)
    for _ in range(180):
        step(model, tokens)
    saved = tokens.snapshot()
    runs = []
    for _ in range(2):
        tokens.restore(saved)
        drawn = []
        for _ in range(120):
            step(model, tokens)
            drawn.append(tokens.column(tokens.head))
        runs.append(torch.stack(drawn))
    assert tokens.rollovers >= 2
    assert torch.equal(runs[0], runs[1])
    tokens.close()


def test_closing_gives_all_rows_back(twin: Twins) -> None:
    model = twin("mono").model
    rows = model.runtime.engine.cache.rows
    for _ in range(20):
        tokens = open_tokens(model)
        step(model, tokens)
        tokens.close()
    assert model.runtime.engine.cache.rows == max(rows, 4), "no row leaks"


def test_a_longer_context_in_mid_stream_reaches_back_only_as_far_as_it_can(short_twin: Twins) -> None:
    both = short_twin("mono")
    model = both.model
    tokens = open_tokens(model, guidance_scale=1.0, context_seconds=0.5)
    while tokens.head < 150:
        step(model, tokens)
    step(model, tokens, replace(tokens.settings, plan=model.runtime.layout.plan(2.0, 0.0)))
    while tokens.rollovers < 1:
        step(model, tokens)
    leader = tokens.windows[0]
    assert leader.start_frame == 151
    columns = torch.stack([tokens.column(h, leader.start_frame) for h in range(leader.start_frame - 1, tokens.head)])
    expected = reread_with_transformers(both, columns, 0, 1.0).argmax(-1)
    assert torch.equal(tokens.column(tokens.head), expected)
    tokens.close()


OTHER = "solo piano"


def dropping(model: Any, tokens: TokenStream, prompt: str | None, frames: int, **values: Any) -> StepSettings:
    """Settings under which another prompt dominates, and only so many frames survive."""
    rows = settings_of(model, prompt=prompt, **values).rows
    return replace(tokens.settings, rows=rows, dominant=object(), surviving_frames=frames)


def drop(model: Any, tokens: TokenStream, prompt: str | None, frames: int, **values: Any) -> None:
    """Begin a step that drops the context, and read what survives."""
    begun = tokens.begin_step(dropping(model, tokens, prompt, frames, **values))
    model.runtime.engine.prefill(begun.unread)


def played(model: Any, tokens: TokenStream, steps: int) -> Tensor:
    """Go on, and return the frames that were completed meanwhile."""
    drawn = []
    for _ in range(steps):
        before = tokens.frames_done
        step(model, tokens)
        drawn.append(tokens.frames(before, tokens.frames_done))
    return torch.cat(drawn, dim=1)


@pytest.mark.parametrize("kind", ["mono", "stereo"])
def test_dropping_all_begins_as_a_fresh_stream_does(short_twin: Twins, kind: str) -> None:
    """Two rollovers far. Twins: a stream that begins with the other prompt, one that goes on with the first."""
    model = short_twin(kind).model
    options: dict[str, Any] = {"context_seconds": 1.0, "context_start_seconds": 2.0}
    tokens, plain, fresh = (open_tokens(model, **options, prompt=text) for text in (OTHER, OTHER, PROMPT))
    delay = model.runtime.pattern.max_delay
    old = played(model, tokens, 60 + delay)[:, : 60 + delay]
    drop(model, tokens, PROMPT, 0)
    new = played(model, tokens, 320)
    unchanged, expected = played(model, plain, 60 + 2 * delay), played(model, fresh, 320)
    assert tokens.rollovers == fresh.rollovers >= 2
    assert torch.equal(new[:, delay:], expected)
    assert torch.equal(torch.cat([old, new[:, :delay]], dim=1)[0], unchanged[0, : 60 + delay])
    assert not torch.equal(new[:, delay : 2 * delay], unchanged[:, -delay:])
    for k, held in enumerate(model.runtime.pattern.delays):
        codes = torch.cat([old[k], new[k, :delay]])
        at = len(codes) - held
        assert torch.equal(codes[:at], unchanged[k, :at])
        assert codes[at:].tolist() == [int(codes[at - 1])] * held
    for each in (tokens, plain, fresh):
        each.close()
    assert all(model.runtime.engine.cache._free)


@pytest.mark.parametrize(("kind", "guidance", "frames"), [("mono", 3.0, 1), ("mono", 1.0, 2), ("stereo", 3.0, 20)])
def test_what_survives_is_read_anew_as_a_whole(short_twin: Twins, kind: str, guidance: float, frames: int) -> None:
    both = short_twin(kind)
    options = {"guidance_scale": guidance, "context_seconds": 1.0, "context_start_seconds": 2.0}
    tokens = open_tokens(both.model, prompt=OTHER, **options)
    played(both.model, tokens, 70)
    drop(both.model, tokens, PROMPT, frames, **options)
    assert (tokens.windows[0].start_frame, tokens.windows[0].start_position) == (70 - frames, 100)
    for number in range(12):
        step(both.model, tokens)
        assert check_the_newest_column(both, tokens, guidance) == frames + 1 + number
    assert tokens.frames(60, tokens.frames_done).max() < both.model.runtime.config.vocab_size
    check_rollovers(both, tokens, guidance, rollovers=2)


def test_more_than_leaves_room_for_a_successor_is_cut(short_twin: Twins) -> None:
    both = short_twin("mono")
    tokens = open_tokens(both.model, prompt=OTHER, context_seconds=1.0, context_start_seconds=0.5)
    while tokens.head < 190:
        step(both.model, tokens)
    drop(both.model, tokens, PROMPT, 180)
    assert tokens.head + 1 - tokens.windows[0].start_frame == 203 - 50 - 25
    assert len(tokens.begin_step(tokens.settings).feeds) == 2, "the successor is warmed from here on"
    check_rollovers(both, tokens, 3.0, rollovers=2)


def test_dropping_twice_within_a_frames_delay_holds_on(short_twin: Twins) -> None:
    model = short_twin("mono").model
    tokens, fresh = open_tokens(model), open_tokens(model, prompt=OTHER)
    played(model, tokens, 30)
    drop(model, tokens, PROMPT, 0)
    held = tokens._ring.frames(20, 30)
    step(model, tokens)
    drop(model, tokens, OTHER, 0)
    new, expected = played(model, tokens, 40), played(model, fresh, 40)
    assert torch.equal(tokens.frames(20, 30), held)
    assert tokens.frames(30, 31)[1:, 0].tolist() == held[1:, -1].tolist()
    assert torch.equal(new[:, 3:], expected)
    for each in (tokens, fresh):
        each.close()


def test_only_what_the_leader_knows_beyond_can_be_dropped(short_twin: Twins) -> None:
    model = short_twin("mono").model
    tokens = open_tokens(model)
    known = []
    for _ in range(6):
        known.append([frames for frames in range(6) if tokens.knows_beyond(frames)])
        step(model, tokens)
    assert known == [[], [], [], [], [0, 1, 2, 3], [0, 1, 2, 3, 4]], "the first complete frame takes four steps"
    drop(model, tokens, OTHER, 2)
    assert [frames for frames in range(6) if tokens.knows_beyond(frames)] == [0, 1]
    tokens.close()


def test_an_audio_prompt_is_held_from_its_end(short_twin: Twins) -> None:
    model = short_twin("mono").model
    tokens = model.runtime.open_tokens(settings_of(model, prompt=OTHER))
    given = torch.arange(4 * 20).view(4, 20) % model.runtime.config.vocab_size
    tokens.begin_with(given)
    model.runtime.engine.prefill(tokens.unread())
    step(model, tokens)
    drop(model, tokens, PROMPT, 0)
    step(model, tokens)
    assert torch.equal(tokens.frames(0, 20), given)
    assert tokens._ring.frames(20, 21)[1:, 0].tolist() == given[1:, -1].tolist()
    tokens.close()


@pytest.mark.parametrize("frames", [2, *(pytest.param(frames, marks=pytest.mark.slow) for frames in (0, 40))])
def test_going_back_to_a_place_before_or_after_dropping(short_twin: Twins, frames: int) -> None:
    """Twins: a stream that never dropped its context, one that did once; both as far as windows are wide."""
    model = short_twin("stereo").model
    tokens, never, once = (open_marked(model) for _ in range(3))
    before = tokens.mark()
    for each in (tokens, once):
        played(model, each, 2)
        drop(model, each, OTHER, frames)
        step(model, each)
    after, saved = tokens.mark(), tokens.snapshot()
    expected = played(model, once, 300)
    assert torch.equal(played(model, tokens, 300), expected)
    tokens.rewind(after)
    assert torch.equal(played(model, tokens, 300), expected)
    tokens.rewind(before)
    assert torch.equal(played(model, tokens, 300), played(model, never, 300))
    tokens.rewind(before)
    played(model, tokens, 2)
    drop(model, tokens, OTHER, frames)
    step(model, tokens)
    assert torch.equal(played(model, tokens, 300), expected)
    tokens.restore(saved)
    assert torch.equal(played(model, tokens, 300), expected)
    for each in (tokens, never, once):
        each.close()
    assert all(model.runtime.engine.cache._free)


def open_marked(model: Any) -> TokenStream:
    """A stream that can go back as far as these tests go, after a second of music."""
    tokens = open_tokens(model, keep_frames=310, temperature=1.0, context_seconds=1.0)
    played(model, tokens, 50)
    return tokens


@pytest.mark.parametrize("keep_frames", [0, 310])
def test_without_room_for_rows_and_successor_nothing_is_changed(
    short_twin: Twins, monkeypatch: pytest.MonkeyPatch, keep_frames: int
) -> None:
    """More rows at the very step that opens a successor: all of it or nothing. Twin: a stream that always has room."""
    model = short_twin("mono").model
    cache = model.runtime.engine.cache
    tokens, other = (open_tokens(model, keep_frames=keep_frames, context_seconds=1.0) for _ in range(2))
    warming = tokens.settings.plan.warming_start(tokens.settings.plan.handover(0, 0))
    for each in (tokens, other):
        played(model, each, warming - each.head)
    wanted = settings_of(model, prompt=None, prompts=[("piano", 1.0), (PROMPT, 3.0)], context_seconds=1.0)
    before, windows = tokens.settings, tokens._set.mark()
    with monkeypatch.context() as narrow:
        narrow.setattr(cache, "max_rows", cache.rows)
        narrow.setattr(cache, "_free", [False] * (cache.rows - 3) + [True] * 3)  # for the three rows, not for six
        for _ in range(2):
            with pytest.raises(CapacityError):
                tokens.begin_step(wanted)
            assert tokens.settings is before
            assert tokens._set.mark() == windows
    for each in (tokens, other):
        step(model, each, wanted)
        assert [window.block.rows for window in each.windows] == [3, 3]
    assert torch.equal(played(model, tokens, 80), played(model, other, 80))
    for each in (tokens, other):
        each.close()
    assert all(cache._free)


def biased(tokens: TokenStream, settings: StepSettings, table: Tensor) -> Tensor | None:
    return tokens.begin_step(replace(settings, rows=replace(settings.rows, bias=table))).bias


def test_a_bias_is_counted_from_the_downbeat_codebook_by_codebook(short_twin: Twins) -> None:
    """Slow twin: each codebook's row by the frame that it is drawn for."""
    model = short_twin("mono").model
    tokens, pattern = open_tokens(model), model.runtime.pattern
    table = torch.randn(5, len(pattern.delays), model.runtime.config.vocab_size)
    for _ in range(7):
        step(model, tokens)
    downbeat = 0
    for head in range(7, 30):
        found = biased(tokens, tokens.settings, table)
        assert found is not None
        for k, delay in enumerate(pattern.delays):
            assert torch.equal(found[k], table[(head - delay - downbeat) % 5, k])
        step(model, tokens)
        if head == 12:
            drop(model, tokens, OTHER, 0)  # another music begins: so do its bars
            downbeat = head + 1
        if head == 20:
            drop(model, tokens, PROMPT, 3)  # the music goes on: so do its bars
    tokens.close()


def test_after_an_audio_prompt_nobody_knows_the_bars(short_twin: Twins) -> None:
    model = short_twin("mono").model
    tokens = model.runtime.open_tokens(settings_of(model))
    tokens.begin_with(torch.zeros(4, 20, dtype=torch.int64))
    model.runtime.engine.prefill(tokens.unread())
    table = torch.zeros(5, 4, model.runtime.config.vocab_size)
    assert biased(tokens, tokens.settings, table) is None
    step(model, tokens)
    drop(model, tokens, OTHER, 0)
    assert biased(tokens, tokens.settings, table) is not None
    tokens.close()
