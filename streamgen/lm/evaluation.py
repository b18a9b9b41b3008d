"""What the decoder makes of codes that are known: logits and hidden states of a whole piece, for research; its pace.

    codes [K, F] ─ delay pattern ─► F + max_delay columns ─ one row, read in order ─► logits after each ─► of each code

The logits of a code are those it would be drawn from: after the columns before it, so codebook k of frame f is found
after column f + delay[k]. Nothing is drawn, guided or added.

Rules: leaves the cache as it was; knows no stream. Columns and frames as in `delay`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor

from streamgen.lm.attention import Segment
from streamgen.lm.cross import CrossCache
from streamgen.lm.delay import CodeRing, DelayPattern
from streamgen.lm.engine import LmEngine
from streamgen.lm.step import Rows

__all__ = ["hidden_states", "logits", "pass_seconds"]

_PIECE_VECTORS = 256  # read at once
_PASSES = 6  # timed; the first warms up

Read = Callable[[Tensor, Segment, CrossCache], Tensor]


def logits(engine: LmEngine, pattern: DelayPattern, rows: Rows, codes: Tensor) -> Tensor:
    """Return the logits of every code, given all that is before it.

    Args:
        engine: whose decoder.
        pattern: its delays.
        rows: one row, its text or prefix.
        codes: int64 [K, F], within the vocabulary.

    Returns:
        float32 [K, F, V] on the CPU.

    Raises:
        CapacityError: no room for a row.
    """
    decoder, cache = engine.decoder, engine.cache
    after = _read(engine, pattern, rows, codes, lambda x, one, cross: decoder.evaluate(x, [one], cache, cross))
    frames = torch.arange(codes.shape[1]) + pattern.offsets()[:, None]
    return after[frames, torch.arange(len(codes))[:, None]]


def hidden_states(engine: LmEngine, pattern: DelayPattern, rows: Rows, codes: Tensor) -> Tensor:
    """Return what each layer reads at each column of the music, and what the heads do. Arguments as in `logits`.

    Returns:
        float32 [layers + 1, F + max_delay, D] on the CPU.

    Raises:
        CapacityError: no room for a row.
    """
    decoder, cache = engine.decoder, engine.cache

    def read(x: Tensor, one: Segment, cross: CrossCache) -> Tensor:
        return decoder.hidden_states(x, [one], cache, cross).transpose(0, 1).float()

    return _read(engine, pattern, rows, codes, read).transpose(0, 1)


@torch.inference_mode()
def pass_seconds(engine: LmEngine, rows: int, position: int) -> float:
    """Time a pass of some rows that all stand at one position: the median of a few, in seconds.

    Raises:
        CapacityError: no room for so many rows.
    """
    block, took = engine.cache.allocate(rows), []
    try:
        engine.cache.fill(block)  # memory that nobody wrote is subnormal, or not there yet: both are slow
        x = torch.randn(rows, engine.config.hidden_size).to(engine.decoder.device, engine.decoder.dtype)
        for _ in range(_PASSES):
            began = time.perf_counter()
            engine.decoder.step(x, [Segment(block, position)], engine.cache, engine.cross, range(rows)).sum().item()
            took.append(time.perf_counter() - began)
    finally:
        engine.cache.release(block)
    return median(took[1:])


@torch.no_grad()
def _read(engine: LmEngine, pattern: DelayPattern, rows: Rows, codes: Tensor, read: Read) -> Tensor:
    """Read prefix and columns in pieces; what comes of the columns, [F + max_delay, …] on the CPU."""
    assert rows.count == 1, rows.names
    block, cross = engine.cache.allocate(1), CrossCache()
    try:
        cross.set(block.start, rows.texts[0])
        vectors, found = _vectors(engine, pattern, rows, codes), []
        for start in range(0, len(vectors), _PIECE_VECTORS):
            piece = vectors[start : start + _PIECE_VECTORS]
            found.append(read(piece, Segment(block, start, len(piece)), cross).cpu())
    finally:
        engine.cache.release(block)
    return torch.cat(found)[rows.prefix :]


def _vectors(engine: LmEngine, pattern: DelayPattern, rows: Rows, codes: Tensor) -> Tensor:
    frames, decoder = codes.shape[1], engine.decoder
    ring = CodeRing(pattern, frames + pattern.max_delay + 1, total_frames=frames)
    ring.give(codes)
    vectors = decoder.embed(ring.columns(-1, frames + pattern.max_delay - 1, 0).to(decoder.device))
    if rows.prefixes is None:
        return vectors
    return torch.cat([rows.prefixes.of(0)[0].to(decoder.device, decoder.dtype), vectors.to(decoder.dtype)])
