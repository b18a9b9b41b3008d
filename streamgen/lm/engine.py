"""One pass over the weights for many token streams: gather → run → hand out.

Rules: holds the model's decoder, cache and text projector; a stream's memory is in its TokenStream. One thread.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from streamgen.checkpoint.types import Checkpoint
from streamgen.lm.cache import KVCache, attention_dtype
from streamgen.lm.cross import CrossCache, TextProjector
from streamgen.lm.decoder import Decoder, Segment
from streamgen.lm.token_stream import Feed, TokenStream
from streamgen.lm.window_set import Window

__all__ = ["LmEngine"]

_PREFILL_VECTORS = 256  # per piece: bounds the activations of a long audio prompt


class LmEngine:
    """The decoder and its memory.

    Args:
        checkpoint: whose decoder to run.
        device: where.
        dtype: float32, bfloat16 or float16.
        int8: whether the decoder's large matrices are rounded to 8 bits.
        rows: cache rows to start with; it grows when streams need more.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        device: torch.device,
        dtype: torch.dtype,
        int8: bool = False,
        rows: int = 4,
    ) -> None:
        config = checkpoint.decoder
        self.config = config
        self.decoder = Decoder(config, checkpoint.weights, device=device, dtype=dtype, int8=int8)
        self.projector = TextProjector(config, checkpoint.weights, device=device, dtype=dtype)
        self.cache = KVCache(config, rows, dtype=attention_dtype(device, dtype), device=device)
        self.cross = CrossCache()
        self._masked = device.type != "cpu"

    @torch.inference_mode()
    def step(self, streams: Sequence[TokenStream]) -> None:
        """Move every stream on by one column."""
        feeds = [stream.inputs() for stream in streams]
        flat = [feed for stream_feeds in feeds for feed in stream_feeds]
        segments = [
            Segment(feed.window.block, feed.window.fed, start_position=feed.window.start_position) for feed in flat
        ]
        hidden = self.decoder.forward(self._vectors(flat), segments, self.cache, self.cross, masked=self._masked)
        logits = self.decoder.logits(hidden[self._leader_rows(feeds)])
        offset = 0
        for stream in streams:
            stream.accept(logits[offset : offset + stream.rows.count])
            offset += stream.rows.count

    def _vectors(self, feeds: Sequence[Feed]) -> Tensor:
        """Return the input vectors of single steps, [Σ rows, D]."""
        return torch.cat([self._vector(feed) for feed in feeds])

    def _vector(self, feed: Feed) -> Tensor:
        if feed.prefix is not None:
            return feed.prefix.to(self.decoder.device, self.decoder.dtype)
        assert feed.column is not None
        return self.decoder.embed(feed.column.to(self.decoder.device)).expand(feed.window.block.rows, -1)

    @staticmethod
    def _leader_rows(feeds: Sequence[Sequence[Feed]]) -> Tensor | slice:
        """Index of the leaders' rows in the pass: successors' logits are not needed."""
        spans, offset = [], 0
        for stream_feeds in feeds:
            spans.append(range(offset, offset + stream_feeds[0].window.block.rows))
            offset += sum(feed.window.block.rows for feed in stream_feeds)
        if len(spans) == 1:
            return slice(spans[0].start, spans[0].stop)
        return torch.tensor([row for span in spans for row in span])

    @torch.inference_mode()
    def prefill(self, stream: TokenStream, window: Window) -> None:
        """Read a window's prefix and known columns in a few large passes, up to but not including the head."""
        columns = stream.reread(window)
        pieces = [self.decoder.embed(columns.to(self.decoder.device)).expand(stream.rows.count, -1, -1)]
        if stream.rows.prefixes is not None:
            pieces.insert(0, stream.rows.prefixes.to(self.decoder.device, self.decoder.dtype))
        vectors = torch.cat(pieces, dim=1)
        for start in range(0, vectors.shape[1], _PREFILL_VECTORS):
            self._prefill_piece(window, vectors[:, start : start + _PREFILL_VECTORS])

    def _prefill_piece(self, window: Window, piece: Tensor) -> None:
        length = piece.shape[1]
        segment = Segment(window.block, window.fed, length, window.start_position)
        self.decoder.forward(piece.reshape(-1, piece.shape[-1]), [segment], self.cache, self.cross)
        window.fed += length
