"""One pass over the weights for many streams: gather → run → guide and draw.

Rules: holds the model's decoder, cache and text projector; a stream's memory is in its TokenStream. One thread at a
time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from streamgen.checkpoint.types import Checkpoint, DecoderConfig
from streamgen.graphs import sent
from streamgen.kernels import Kernels
from streamgen.lm.attention import Segment
from streamgen.lm.cache import CacheRows, KVCache, RowRange, attention_dtype
from streamgen.lm.captured import CapturedDecoder
from streamgen.lm.cross import CrossCache, TextProjector
from streamgen.lm.decoder import Decoder
from streamgen.lm.halves import HalvesCache
from streamgen.lm.native import NativeDecoder, PackedWeights
from streamgen.lm.sampling import Uniforms, combine, sample_together
from streamgen.lm.step import Feed, Step, Unread, Window

__all__ = ["NOT_DRAWN", "LmEngine"]

NOT_DRAWN = -1  # in place of every code of a column whose logits are no numbers

_PREFILL_VECTORS = 256  # per piece: bounds the activations of a long audio prompt
_ROWS = 4  # of the cache to start with: a stream's and its successor's, with guidance
_GPU_ROWS = 1_024  # of the cache at most, there: 256 guided streams and their successors, where memory is enough
_SLICE_VECTORS = 24  # per piece beside streams that play: about as long as a step or two


class AnyDecoder(Protocol):
    """What the engine asks of a decoder, `decoder.Decoder` or `native.NativeDecoder`. The cache is its own kind's."""

    device: torch.device
    dtype: torch.dtype
    weight_bytes: int

    def embed(self, columns: Tensor) -> Tensor:
        """Sum the K code embeddings of each column, int64 [..., K]: [..., D] without positions."""
        ...

    def step(
        self, x: Tensor, segments: Sequence[Segment], cache: Any, cross: CrossCache, wanted: Sequence[int]
    ) -> Tensor:
        """Run single vectors and return the logits of some, float32 [len(wanted), K, V]."""
        ...

    def evaluate(self, x: Tensor, segments: Sequence[Segment], cache: Any, cross: CrossCache) -> Tensor:
        """Run vectors and return all their logits, float32 [N, K, V]."""
        ...

    def hidden_states(self, x: Tensor, segments: Sequence[Segment], cache: Any, cross: CrossCache) -> Tensor:
        """Run vectors and return what each layer reads and what comes of the last norm, [layers + 1, N, D]."""
        ...

    def read(self, x: Tensor, segments: Sequence[Segment], cache: Any, cross: CrossCache) -> None:
        """Run vectors for their keys and values alone."""
        ...


class LmEngine:
    """The decoder and its memory.

    Args:
        config: the decoder's shape.
        decoder: its weights.
        cache: its memory.
        projector: of texts.
    """

    def __init__(
        self, config: DecoderConfig, decoder: AnyDecoder, cache: CacheRows[Any], projector: TextProjector
    ) -> None:
        self.config, self.decoder, self.cache, self.projector = config, decoder, cache, projector
        self.cross = CrossCache()
        self._uniforms = Uniforms()

    @classmethod
    def on_torch(
        cls,
        checkpoint: Checkpoint,
        *,
        device: torch.device,
        dtype: torch.dtype,
        int8: bool = False,
        halves: bool = False,
        rows: int = _ROWS,
    ) -> LmEngine:
        """Run on torch's kernels.

        Args:
            checkpoint: whose decoder to run.
            device: where.
            dtype: float32, bfloat16 or float16.
            int8: whether the decoder's large matrices are rounded to 8 bits.
            halves: whether keys and values are kept in float16, on a CPU (see `halves`).
            rows: cache rows to start with; it grows when streams need more.
        """
        config, weights = checkpoint.decoder, checkpoint.weights
        decoder = Decoder(config, weights, device=device, dtype=dtype, int8=int8)
        kept = attention_dtype(device, dtype)
        projector = TextProjector(config, weights, device=device, dtype=dtype, kept=kept)
        if device.type == "cuda":
            cache = KVCache(config, rows, dtype=kept, device=device, max_rows=_GPU_ROWS)
            return cls(config, CapturedDecoder(decoder), cache, projector)
        cache = HalvesCache(config, rows) if halves else KVCache(config, rows, dtype=kept, device=device)
        return cls(config, decoder, cache, projector)

    @classmethod
    def native(cls, checkpoint: Checkpoint, packed: PackedWeights, library: Kernels, threads: int) -> LmEngine:
        """Run on the native kernels, on a CPU.

        Args:
            checkpoint: whose decoder to run.
            packed: its matrices.
            library: that runs them.
            threads: that compute a step.
        """
        config, weights = checkpoint.decoder, checkpoint.weights
        decoder = NativeDecoder(config, weights, packed, library, threads)
        dtype = torch.float32 if packed.exact else torch.bfloat16
        projector = TextProjector(config, weights, device=decoder.device, dtype=dtype, kept=decoder.dtype)
        return cls(config, decoder, decoder.new_cache(_ROWS), projector)

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
            The column that each stream draws, int64 [K] on the CPU; all `NOT_DRAWN` where its logits were no numbers.
        """
        feeds = [(feed, step.count) for step in steps for feed in step.feeds]
        segments = [_segment(feed.window, count) for feed, count in feeds]
        wanted = _leader_rows(steps)
        logits = self.decoder.step(self._vectors(feeds), segments, self.cache, self.cross, wanted)
        self._remember_for_others(steps)
        guided = _guided(steps, logits)
        samplings, columns = [step.sampling for step in steps], [step.column for step in steps]
        drawn = sample_together(guided, samplings, columns, self._uniforms)
        # one sum tells of every NaN and infinity; the answer travels with the codes: a GPU is not waited for twice
        finite = guided.sum(dim=(1, 2)).isfinite()
        codes = list(torch.where(finite[:, None], drawn, NOT_DRAWN).cpu().unbind())
        for step, one in zip(steps, codes, strict=True):
            if int(one[0]) == NOT_DRAWN:
                for feed in step.feeds:
                    self.cache.spoil(feed.window.block)
        return codes

    def _remember_for_others(self, steps: Sequence[Step]) -> None:
        """Let rows that did not run remember this place as the heaviest of those that did does."""
        rests: list[tuple[int, int, int]] = []
        for step in steps:
            if step.count == step.rows.count:
                continue
            heaviest = max(range(step.count), key=lambda row: step.coefficients[row])
            for block, fed in ((feed.window.block, feed.window.fed) for feed in step.feeds):
                rests += [(row, block.start + heaviest, fed) for row in range(block.start + step.count, block.stop)]
        if rests:
            self.cache.remember_as(*zip(*rests, strict=True))

    def _vectors(self, feeds: Sequence[tuple[Feed, int]]) -> Tensor:
        """Return the input vectors of single steps, [Σ rows, D]: all columns are embedded at once.

        Args:
            feeds: with how many rows of each run.
        """
        columns = [feed.column for feed, _ in feeds if feed.column is not None]
        places = [at for at, (_, count) in enumerate(feeds) for _ in range(count)]
        embedded = self.decoder.embed(torch.stack(columns).to(self.decoder.device)) if columns else ()
        if isinstance(embedded, Tensor) and len(columns) == len(feeds):  # nobody reads a prefix
            one_each = len(columns) == len(places)
            return embedded if one_each else embedded.index_select(0, sent(torch.tensor(places), self.decoder.device))
        pieces = iter(embedded)
        return torch.cat([self._vector(feed, count, pieces) for feed, count in feeds])

    def _vector(self, feed: Feed, count: int, embedded: Iterator[Tensor]) -> Tensor:
        if feed.prefix is not None:
            return feed.prefix.to(self.decoder.device, self.decoder.dtype)
        return next(embedded).expand(count, -1)

    @torch.inference_mode()
    def prefill(self, unread: Sequence[Unread], *, slice_only: bool = False) -> bool:
        """Read what windows have to know before their next step, each in a few large passes.

        Interrupted, it leaves a window with what was read: what is unread then is the rest.

        Args:
            unread: what to read.
            slice_only: read one short piece and leave the rest for the next call: others play.

        Returns:
            Whether all is read.
        """
        for one in unread:
            rows = one.window.block.rows
            pieces = [self.decoder.embed(one.columns.to(self.decoder.device)).expand(rows, -1, -1)]
            if one.prefixes is not None:
                pieces.insert(0, one.prefixes.to(self.decoder.device, self.decoder.dtype))
            vectors = torch.cat(pieces, dim=1)  # [rows, length, D]
            if slice_only:
                most = max(_SLICE_VECTORS // rows, 1)
                self._prefill_piece(one.window, vectors[:, :most])
                return len(unread) == 1 and vectors.shape[1] <= most
            for start in range(0, vectors.shape[1], _PREFILL_VECTORS):
                self._prefill_piece(one.window, vectors[:, start : start + _PREFILL_VECTORS])
        return True

    def _prefill_piece(self, window: Window, piece: Tensor) -> None:
        length = piece.shape[1]
        segment = Segment(window.block, window.fed, length, window.start_position)
        self.decoder.read(piece.reshape(-1, piece.shape[-1]), [segment], self.cache, self.cross)
        window.fed += length


def _segment(window: Window, count: int) -> Segment:
    """The next vector of the first rows of a window."""
    rows = RowRange(window.block.start, window.block.start + count)
    return Segment(rows, window.fed, start_position=window.start_position)


def _guided(steps: Sequence[Step], logits: Tensor) -> Tensor:
    """Guide float32 [Σ rows, K, V] and add what steps add to their logits: float32 [steps, K, V]."""
    guided = logits
    if len(steps) != len(logits):
        guided = _combined(steps, logits)
    added = [step.bias for step in steps if step.bias is not None]
    if len(added) == len(steps):
        return guided + sent(torch.stack(added), guided.device)
    for at, step in enumerate(steps):
        if step.bias is not None:
            guided[at] += sent(step.bias, guided.device)
    return guided


def _combined(steps: Sequence[Step], logits: Tensor) -> Tensor:
    """Combine the rows of each step; of steps with as many rows all at once, for a call costs more than its numbers."""
    counts = {step.count for step in steps}
    if len(counts) == 1:
        shares = torch.tensor([step.coefficients for step in steps], dtype=torch.float32).T[:, :, None, None]
        return combine(logits.unflatten(0, (len(steps), -1)).transpose(0, 1), sent(shares, logits.device))
    each = logits.split([step.count for step in steps])
    return torch.stack([combine(rows, step.coefficients) for step, rows in zip(steps, each, strict=True)])


def _leader_rows(steps: Sequence[Step]) -> list[int]:
    """Index of the leaders' rows in the pass: successors' logits are not needed."""
    wanted: list[int] = []
    offset = 0
    for step in steps:
        wanted += range(offset, offset + step.count)
        offset += step.count * len(step.feeds)
    return wanted
