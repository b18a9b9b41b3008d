from __future__ import annotations

import pytest
import torch

from streamgen.checkpoint.types import DecoderConfig
from streamgen.errors import CapacityError
from streamgen.lm.cache import KVCache, RowRange, attention_dtype

CONFIG = DecoderConfig(
    hidden_size=8,
    num_layers=2,
    num_heads=2,
    ffn_dim=8,
    num_codebooks=4,
    vocab_size=8,
    audio_channels=1,
    max_positions=6,
)


def cache(rows: int = 4, max_rows: int = 8) -> KVCache:
    return KVCache(CONFIG, rows, dtype=torch.float32, device=torch.device("cpu"), max_rows=max_rows)


def test_blocks_are_contiguous_reused_and_never_overlap() -> None:
    kv = cache()
    first, second = kv.allocate(2), kv.allocate(2)
    assert (first, second) == (RowRange(0, 2), RowRange(2, 4))
    kv.release(first)
    assert kv.allocate(1) == RowRange(0, 1)
    assert kv.allocate(2) == RowRange(4, 6), "one free row is no place for two"


def test_growing_keeps_what_was_written() -> None:
    kv = cache(rows=2)
    block = kv.allocate(2)
    kv.keys[:, block.slice()] = torch.arange(2.0).view(1, 2, 1, 1, 1)
    kv.allocate(3)
    assert kv.rows == 5
    assert torch.equal(kv.keys[0, :2, 0, 0, 0], torch.tensor([0.0, 1.0]))


def test_the_limit_is_said() -> None:
    kv = cache(max_rows=4)
    kv.allocate(4)
    with pytest.raises(CapacityError, match="5 rows needed, the limit is 4"):
        kv.allocate(1)


def test_copy_out_is_a_clone_and_copy_in_can_reorder() -> None:
    kv = cache()
    block = kv.allocate(2)
    kv.keys[:, block.slice()] = torch.randn(2, 2, 2, 6, 4)
    copy = kv.copy_out(block, 3)
    before = kv.keys.clone()
    kv.keys.zero_()
    kv.copy_in(block, copy, [1, 0])
    assert torch.equal(kv.keys[:, 0, :, :3], before[:, 1, :, :3])
    assert torch.equal(kv.keys[:, 1, :, :3], before[:, 0, :, :3])
    assert kv.keys[:, :, :, 3:].abs().sum() == 0


def test_growing_begins_at_the_free_rows_of_the_end() -> None:
    kv = cache(rows=4)
    kv.allocate(2)
    assert kv.allocate(5) == RowRange(2, 7)
    assert kv.rows == 7


def test_an_exchange_may_lie_over_what_was_given_and_is_all_or_nothing() -> None:
    kv = cache(max_rows=6)
    mine, _ = kv.allocate(2), kv.allocate(2)
    assert kv.exchange([mine], [1, 2]) == [RowRange(0, 1), RowRange(4, 6)]
    with pytest.raises(CapacityError):
        kv.exchange([RowRange(0, 1), RowRange(4, 6)], [2, 3])
    assert kv._free == [False, True, False, False, False, False]


@pytest.mark.parametrize("tiles", [True, False])
def test_rows_of_bfloat16_keep_their_keys_in_it_where_the_processor_multiplies_tiles_of_it(
    tiles: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: tiles)
    processor, gpu = torch.device("cpu"), torch.device("cuda")
    assert attention_dtype(processor, torch.bfloat16) == (torch.bfloat16 if tiles else torch.float32)
    assert attention_dtype(processor, torch.float32) == torch.float32, "exact, whatever is fast"
    assert attention_dtype(gpu, torch.float16) == torch.float16
