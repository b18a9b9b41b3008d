"""Attention over halves beside its slow twins: torch's attention over float32, and the written-out sum."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from streamgen.checkpoint import load_checkpoint
from streamgen.checkpoint.types import DecoderConfig
from streamgen.lm.attention import Segment, SegmentAttention
from streamgen.lm.cache import KVCache, RowRange
from streamgen.lm.cross import CrossCache
from streamgen.lm.engine import LmEngine
from streamgen.lm.halves import HalvesAttention, HalvesCache, halves_pay
from streamgen.lm.mixing import KL_BUDGET, mean_kl
from streamgen.lm.sampling import Sampling, sample
from streamgen.pocket import pocket_folder

CPU = torch.device("cpu")
CONFIG = DecoderConfig(
    hidden_size=48,
    num_layers=2,
    num_heads=3,
    ffn_dim=8,
    num_codebooks=4,
    vocab_size=8,
    audio_channels=1,
    max_positions=300,
)


def caches(rows: int = 6) -> tuple[KVCache, HalvesCache]:
    return KVCache(CONFIG, rows, dtype=torch.float32, device=CPU), HalvesCache(CONFIG, rows)


def rows_of(segments: list[Segment]) -> Tensor:
    """Queries, keys and values of a pass, of numbers that float16 holds."""
    return torch.randn(sum(segment.vectors for segment in segments), 3 * CONFIG.hidden_size).half().float()


@torch.inference_mode()
def both(segments: list[Segment], plain: KVCache, halves: HalvesCache, layer: int = 1) -> tuple[Tensor, Tensor]:
    x = rows_of(segments)
    return (
        SegmentAttention(segments, plain)(layer, x, CONFIG),
        HalvesAttention(segments, halves)(layer, x, CONFIG),
    )


def filled(plain: KVCache, halves: HalvesCache, block: RowRange, length: int) -> None:
    """Let both read the same context."""
    for layer in range(CONFIG.num_layers):
        both([Segment(block, 0, length)], plain, halves, layer)


@pytest.mark.parametrize("past", [1, 126, 127, 128, 129, 255, 256, 299])
def test_a_step_attends_as_torch_does_wherever_its_keys_lie(past: int) -> None:
    plain, halves = caches()
    block = plain.allocate(2)
    assert halves.allocate(2) == block
    filled(plain, halves, block, past)
    wanted, out = both([Segment(block, past)], plain, halves)
    torch.testing.assert_close(out, wanted, atol=3e-3, rtol=0)


def test_the_first_vector_attends_to_itself() -> None:
    plain, halves = caches()
    segment = Segment(plain.allocate(1), 0)
    halves.fill(halves.allocate(1))  # whatever was there before
    wanted, out = both([segment], plain, halves)
    torch.testing.assert_close(out, wanted, atol=1e-3, rtol=0)


def test_segments_at_unlike_places_attend_each_to_their_own() -> None:
    plain, halves = caches()
    leader, successor = plain.allocate(2), plain.allocate(3)
    assert [halves.allocate(2), halves.allocate(3)] == [leader, successor]
    filled(plain, halves, leader, 200)
    filled(plain, halves, successor, 17)
    wanted, out = both([Segment(leader, 200), Segment(successor, 17, start_position=90)], plain, halves)
    torch.testing.assert_close(out, wanted, atol=3e-3, rtol=0)


def test_steps_go_on_from_a_context_read_in_pieces_across_blocks() -> None:
    plain, halves = caches()
    block = plain.allocate(2)
    halves.allocate(2)
    for past, length in ((0, 100), (100, 60), (160, 1), (161, 1), (162, 100), (262, 1)):
        wanted, out = both([Segment(block, past, length)], plain, halves)
        torch.testing.assert_close(out, wanted, atol=3e-3, rtol=0)


@torch.inference_mode()
def test_a_step_is_the_written_out_sum() -> None:
    halves, past = HalvesCache(CONFIG, 1), 140
    block = halves.allocate(1)
    halves.fill(block)
    segment = Segment(block, past)
    x = rows_of([segment])
    out = HalvesAttention([segment], halves)(0, x, CONFIG)[0].view(CONFIG.num_heads, -1)
    q = x[0].view(3, CONFIG.num_heads, -1)[0]
    for head in range(CONFIG.num_heads):
        keys = [halves.keys[0, 0, head, at // 128, :, at % 128].float() for at in range(past + 1)]
        scores = torch.stack([q[head] @ key for key in keys]) / CONFIG.head_dim**0.5
        shares = scores.softmax(0)
        wanted = sum(share * halves.values[0, 0, head, at].float() for at, share in enumerate(shares))
        torch.testing.assert_close(out[head], wanted, atol=3e-3, rtol=0)


@torch.inference_mode()
@pytest.mark.parametrize(
    "pasts", [(20, 290, 130), (20, 5, 126), (0, 127, 63), (128, 255, 256, 257), (7, 7, 8, 140, 141, 9), (3, 299)]
)
def test_a_row_is_what_it_is_alone_bit_for_bit(pasts: tuple[int, ...]) -> None:
    """Whether the others see as many blocks, and are summed with it, or not."""
    halves = HalvesCache(CONFIG, 2 * len(pasts))
    blocks = [halves.allocate(2) for _ in pasts]
    for block in blocks:
        halves.fill(block)
    segments = [Segment(block, past) for block, past in zip(blocks, pasts, strict=True)]
    x = rows_of(segments)
    together = HalvesAttention(segments, halves)(1, x, CONFIG)
    for row in range(2 * len(pasts)):
        block = RowRange(row, row + 1)
        alone = HalvesAttention([Segment(block, segments[row // 2].past)], halves)(1, x[row : row + 1], CONFIG)
        assert torch.equal(alone[0], together[row])


@torch.inference_mode()
def test_what_lies_behind_a_row_s_past_is_not_attended_to() -> None:
    halves = HalvesCache(CONFIG, 1)
    segment = Segment(halves.allocate(1), 130)
    x = rows_of([segment])
    before = HalvesAttention([segment], halves)(0, x, CONFIG)
    halves.keys[:, :, :, 1, :, 3:] = torch.nan
    halves.values[:, :, :, 131:] = torch.nan
    assert torch.equal(HalvesAttention([segment], halves)(0, x, CONFIG), before)


@torch.inference_mode()
def test_what_lies_behind_the_shorter_of_two_pasts_is_not_attended_to() -> None:
    halves = HalvesCache(CONFIG, 2)
    segments = [Segment(halves.allocate(1), 130), Segment(halves.allocate(1), 200)]
    x = rows_of(segments)
    before = HalvesAttention(segments, halves)(0, x, CONFIG)
    halves.keys[:, 0, :, 1, :, 3:] = torch.nan
    halves.values[:, 0, :, 131:] = torch.nan
    assert torch.equal(HalvesAttention(segments, halves)(0, x, CONFIG), before)


def test_growing_keeps_what_was_written() -> None:
    halves = HalvesCache(CONFIG, 2)
    block = halves.allocate(2)
    halves.fill(block)
    keys, values = halves.keys.clone(), halves.values.clone()
    halves.allocate(3)
    assert halves.rows == 5
    assert torch.equal(halves.keys[:, :2], keys)
    assert torch.equal(halves.values[:, :2], values)


@pytest.mark.parametrize("length", [1, 128, 129, 300])
def test_copy_out_is_a_clone_and_copy_in_can_reorder(length: int) -> None:
    halves = HalvesCache(CONFIG, 3)
    halves.allocate(1)
    block = halves.allocate(2)
    halves.keys.normal_()
    halves.values.normal_()
    copy, keys, values = halves.copy_out(block, length), halves.keys.clone(), halves.values.clone()
    halves.keys.zero_()
    halves.values.zero_()
    halves.copy_in(block, copy, [1, 0])
    for at in range(length):
        place = at // 128, slice(None), at % 128
        assert torch.equal(halves.keys[:, 1, :, *place], keys[:, 2, :, *place])
    assert torch.equal(halves.values[:, 2, :, :length], values[:, 1, :, :length])
    assert not halves.keys[:, 0].any(), "the row before the block"
    assert not halves.values[:, 0].any()
    numbers = 2 * 2 * CONFIG.hidden_size * (-(-length // 128) * 128 + length)  # layers, rows; whole blocks of keys
    assert copy.nbytes == 2 * numbers


@pytest.mark.parametrize(
    ("vectors", "tiles", "pay"),
    [("AVX512", False, True), ("AVX2", False, True), ("AVX512", True, False), ("DEFAULT", False, False)],
)
def test_they_are_for_bf16_on_x86_without_tiles(
    monkeypatch: pytest.MonkeyPatch, vectors: str, tiles: bool, pay: bool
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: vectors)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: tiles)
    assert halves_pay(CPU, torch.bfloat16) == pay
    assert not halves_pay(CPU, torch.float32), "exact, whatever is fast"
    assert not halves_pay(torch.device("cuda"), torch.bfloat16)


@torch.inference_mode()
def test_pocket_in_int8_over_halves_stays_within_the_budget_of_accuracy() -> None:
    checkpoint, cross = load_checkpoint(str(pocket_folder())), CrossCache()
    config, defaults = checkpoint.decoder, checkpoint.defaults
    exact = LmEngine.on_torch(checkpoint, device=CPU, dtype=torch.float32, rows=1)
    rounded = LmEngine.on_torch(checkpoint, device=CPU, dtype=torch.bfloat16, int8=True, halves=True, rows=1)
    sampling = Sampling(defaults.temperature, defaults.top_k, defaults.top_p)
    nothing, delays = torch.full((1, config.num_codebooks), config.vocab_size), torch.arange(config.num_codebooks)
    column = nothing
    found: list[list[Tensor]] = []
    for at in range(140):  # past the first block of keys
        segments = [Segment(RowRange(0, 1), at)]
        found.append(
            [one.decoder.step(one.decoder.embed(column), segments, one.cache, cross, (0,)) for one in (exact, rounded)]
        )
        column = torch.where(at < delays, nothing, sample(found[-1][0][0], sampling, at))
    kl = mean_kl(*(torch.cat(logits) for logits in zip(*found, strict=True)))
    assert 0 < kl <= KL_BUDGET
