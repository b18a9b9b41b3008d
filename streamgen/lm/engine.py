"""One pass over the weights for many streams: gather → run → guide and draw.

Rules: holds the model's decoder, cache and text projector; a stream's memory is in its TokenStream. One thread at a
time.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from streamgen.checkpoint.types import Checkpoint
from streamgen.lm.attention import Segment
from streamgen.lm.cache import KVCache, attention_dtype
from streamgen.lm.cross import CrossCache, TextProjector
from streamgen.lm.decoder import Decoder
from streamgen.lm.guidance import combine
from streamgen.lm.sampling import Uniforms, sample
from streamgen.lm.step import Feed, Step, Unread, Window

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
        self._uniforms = Uniforms()

    @property
    def weight_bytes(self) -> int:
        """Bytes of decoder weights that one step reads."""
        return self.decoder.weight_bytes

    @torch.inference_mode()
    def step(self, steps: Sequence[Step]) -> list[Tensor]:
        """Run one step of each stream.

        Args:
            steps: all that was unread before them is read.

        Returns:
            The column that each stream draws, int64 [K] on the CPU.
        """
        feeds = [feed for step in steps for feed in step.feeds]
        segments = [
            Segment(feed.window.block, feed.window.fed, start_position=feed.window.start_position) for feed in feeds
        ]
        hidden = self.decoder.forward(self._vectors(feeds), segments, self.cache, self.cross, masked=self._masked)
        logits = self.decoder.logits(hidden[_leader_rows(steps)])
        each = [logits] if len(steps) == 1 else logits.split([step.rows.count for step in steps])
        return [self._draw(step, rows) for step, rows in zip(steps, each, strict=True)]

    def _draw(self, step: Step, logits: Tensor) -> Tensor:
        """Guide float32 [rows, K, V] and draw: int64 [K]."""
        guided = combine(logits, step.rows.coefficients)
        if step.bias is not None:
            guided = guided + step.bias.to(guided.device)
        return sample(guided, step.sampling, step.column, self._uniforms).cpu()

    def _vectors(self, feeds: Sequence[Feed]) -> Tensor:
        """Return the input vectors of single steps, [Σ rows, D]."""
        return torch.cat([self._vector(feed) for feed in feeds])

    def _vector(self, feed: Feed) -> Tensor:
        if feed.prefix is not None:
            return feed.prefix.to(self.decoder.device, self.decoder.dtype)
        assert feed.column is not None
        return self.decoder.embed(feed.column.to(self.decoder.device)).expand(feed.window.block.rows, -1)

    @torch.inference_mode()
    def prefill(self, unread: Sequence[Unread]) -> None:
        """Read what windows have to know before their next step, each in a few large passes.

        Interrupted, it leaves a window with what was read: what is unread then is the rest.
        """
        for one in unread:
            rows = one.window.block.rows
            pieces = [self.decoder.embed(one.columns.to(self.decoder.device)).expand(rows, -1, -1)]
            if one.prefixes is not None:
                pieces.insert(0, one.prefixes.to(self.decoder.device, self.decoder.dtype))
            vectors = torch.cat(pieces, dim=1)  # [rows, length, D]
            for start in range(0, vectors.shape[1], _PREFILL_VECTORS):
                self._prefill_piece(one.window, vectors[:, start : start + _PREFILL_VECTORS])

    def _prefill_piece(self, window: Window, piece: Tensor) -> None:
        length = piece.shape[1]
        segment = Segment(window.block, window.fed, length, window.start_position)
        self.decoder.forward(piece.reshape(-1, piece.shape[-1]), [segment], self.cache, self.cross)
        window.fed += length


def _leader_rows(steps: Sequence[Step]) -> Tensor | slice:
    """Index of the leaders' rows in the pass: successors' logits are not needed."""
    spans, offset = [], 0
    for step in steps:
        spans.append(range(offset, offset + step.rows.count))
        offset += sum(feed.window.block.rows for feed in step.feeds)
    if len(spans) == 1:
        return slice(spans[0].start, spans[0].stop)
    return torch.tensor([row for span in spans for row in span])
