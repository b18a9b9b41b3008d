"""Steps in fixed shapes, which a GPU replays as one graph: hundreds of kernels, launched in one go.

    step ─ copied into ─► static buffers of a pass ─ replayed ─► logits, before the next step overwrites them

A pass is made for so many vectors (a bucket) and so many rows of the cache, and captured when it is first needed. Texts
lie by rows of the cache as keys and values do, for all passes: who joins, leaves or rests moves nobody's.
Places that are left over in it repeat the first vector: what is written twice is the same. Off a GPU the same pass is
computed, not replayed, and so it is in the tests.

Rules: arithmetic is `decoder`'s and `attention.MaskedAttention`'s; knows no stream. Never run on a GPU yet.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from streamgen.checkpoint.types import DecoderConfig
from streamgen.graphs import Recorder, bucket, capture_mode, recorder_of, sent
from streamgen.linear import Linear
from streamgen.lm.attention import MaskedAttention, Segment, attend_by_rows, cache_rows, new_mask
from streamgen.lm.cache import KVCache
from streamgen.lm.cross import CrossCache, TextKV
from streamgen.lm.decoder import Decoder

__all__ = ["CapturedDecoder"]

_TEXT_POSITIONS = 64  # room for texts comes in pieces of so many
_FEW_ROWS = 32  # of which it does not matter how many are read in vain


def _rows_bucket(count: int) -> int:
    """The next power of two, of many the next fourth between two: all that a pass's rows have is read."""
    most = bucket(count)
    return most if count <= _FEW_ROWS else -(-count // (most // 8)) * (most // 8)


class CapturedDecoder:
    """A decoder whose steps have fixed shapes. What it does else is the decoder's own.

    Args:
        decoder: its weights.
        record: see `Recorder`; None is CUDA graphs on a GPU, and computing elsewhere.

    Attributes:
        device, dtype, weight_bytes: the decoder's.
    """

    def __init__(self, decoder: Decoder, record: Recorder | None = None) -> None:
        self._decoder = decoder
        self.device, self.dtype, self.weight_bytes = decoder.device, decoder.dtype, decoder.weight_bytes
        self.embed, self.evaluate, self.read = decoder.embed, decoder.evaluate, decoder.read
        self.hidden_states = decoder.hidden_states
        self._keys: Tensor | None = None  # of the cache that texts and passes are made for
        self._texts: _Texts | None = None
        self._passes: dict[tuple[int, int], _Pass] = {}
        self._record = recorder_of(self.device) if record is None else record

    def step(
        self, x: Tensor, segments: Sequence[Segment], cache: KVCache, cross: CrossCache, wanted: Sequence[int]
    ) -> Tensor:
        """Run single vectors and return the logits of some, float32 [len(wanted), K, V]. As `Decoder.step`."""
        assert all(one.length == 1 for one in segments), "single steps"
        rows = cache_rows(segments)
        at = [one.past for one in segments for _ in range(one.block.rows)]
        positions = [one.position for one in segments for _ in range(one.block.rows)]
        asked = sent(torch.tensor(list(wanted)), self.device)  # before the pass: later it would have to wait for that
        self._make_ready(cache, rows, cross)
        chosen = self._pass_of(len(rows), min(_rows_bucket(max(rows) + 1), cache.rows), cache)
        return chosen(x, [rows, at, positions]).index_select(0, asked)

    def _make_ready(self, cache: KVCache, rows: Sequence[int], cross: CrossCache) -> None:
        """Let texts lie where passes read them; what was captured of memory that lies elsewhere now is forgotten."""
        if self._keys is not cache.keys:  # it has grown
            self._keys, self._passes, self._texts = cache.keys, {}, None
            if self._decoder.config.cross_attention:
                self._texts = _Texts(self._decoder.config, cache.keys)
        if self._texts is not None and self._texts.put(rows, [cross.text(row) for row in rows]):
            self._passes = {}

    def _pass_of(self, vectors: int, rows: int, cache: KVCache) -> _Pass:
        key = bucket(vectors), rows
        if key not in self._passes:
            self._passes[key] = _Pass(self._decoder, cache, self._texts, *key, self._record)
        return self._passes[key]


class _Pass:
    """A step of so many vectors, of the first rows of a cache.

    Args:
        decoder: whose layers run.
        cache: what they remember.
        texts: of its rows; None for none.
        vectors: N.
        rows: of the cache.
        record: see `Recorder`; None computes.
    """

    def __init__(
        self, decoder: Decoder, cache: KVCache, texts: _Texts | None, vectors: int, rows: int, record: Recorder | None
    ) -> None:
        device, config = decoder.device, decoder.config
        self._decoder, self._texts, self._rows = decoder, texts, rows
        self._keys, self._values = cache.keys[:, :rows], cache.values[:, :rows]
        self._x = torch.zeros(vectors, config.hidden_size, dtype=decoder.dtype, device=device)
        self._places = torch.zeros(3, vectors, dtype=torch.int64, device=device)  # cache row, place in it, position
        self._logits = torch.zeros(vectors, config.num_codebooks, config.vocab_size, device=device)
        self._record = record
        self._replay: Callable[[], None] | None = None  # None computes

    @torch.no_grad()
    def __call__(self, x: Tensor, places: list[list[int]]) -> Tensor:
        """Return logits, float32 [N, K, V], until the next call.

        Args:
            x: [n, D] without positions, n ≤ N.
            places: of each vector its cache row, place in it, and position.
        """
        left = len(self._x) - len(x)
        self._x[: len(x)] = x
        self._x[len(x) :] = x[0]
        self._places.copy_(sent(torch.tensor([[*line, *line[:1] * left] for line in places]), self._x.device))
        with capture_mode():
            if self._record is not None:  # what it writes to the cache is what the step writes
                recorded, self._record = self._record(self._compute), None
                # to hold its own method would hold its memory, the cache's as well, past its end
                self._replay = None if recorded == self._compute else recorded
            (self._replay or self._compute)()
        return self._logits

    def _compute(self) -> None:
        rows, at, positions = self._places.unbind()
        decoder, attend = self._decoder, MaskedAttention(rows, at, self._keys, self._values)
        text = None if self._texts is None else self._texts.of(rows, self._rows)
        x = self._x + decoder.positions.index_select(0, positions)
        self._logits.copy_(decoder.logits(decoder.run(x, attend, text)))


class _Texts:
    """Keys and values of each cache row's text, in one fixed shape; a row without text attends to a value of zeros.

    Of rows, not of vectors: whoever joins, leaves or rests, the others' texts stay where they are.

    Args:
        config: the decoder's shape.
        like: the cache's keys, whose rows, dtype and device they have.
    """

    def __init__(self, config: DecoderConfig, like: Tensor) -> None:
        self._shape, self._like = (config.num_layers, like.shape[1], config.num_heads, config.head_dim), like
        self._make_room(_TEXT_POSITIONS)

    def _make_room(self, positions: int) -> None:
        layers, rows, heads, head_dim = self._shape
        self._keys, self._values = (self._like.new_zeros(layers, rows, heads, positions, head_dim) for _ in range(2))
        self._mask = new_mask(rows, positions, self._like)
        self._held: list[TextKV | None] = [None] * rows

    def put(self, rows: Sequence[int], texts: Sequence[TextKV | None]) -> bool:
        """Hold these rows' texts; returns whether more room had to be made, elsewhere."""
        longest = max(0 if text is None else text.length for text in texts)
        grows = longest > self._keys.shape[3]
        if grows:
            self._make_room(-(-longest // _TEXT_POSITIONS) * _TEXT_POSITIONS)
        for row, text in zip(rows, texts, strict=True):
            if text is not self._held[row]:
                self._write(row, text)
        return grows

    def _write(self, row: int, text: TextKV | None) -> None:
        length = 0 if text is None else text.length
        self._keys[:, row], self._values[:, row] = 0, 0  # what is masked is finite, whatever was there
        if text is not None:
            self._keys[:, row, :, :length], self._values[:, row, :, :length] = text.keys, text.values
        self._mask[row, ..., 1:] = -torch.inf
        self._mask[row, ..., : max(length, 1)] = 0
        self._held[row] = text

    def of(self, rows: Tensor, count: int) -> _VectorsTexts:
        """Return the texts of vectors in rows int64 [N], all of the first `count`."""
        return _VectorsTexts(rows, self._keys[:, :count], self._values[:, :count], self._mask[:count])


class _VectorsTexts:
    """Cross-attention of one pass to the texts of its rows, as `MaskedAttention` attends to their past."""

    def __init__(self, rows: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> None:
        self._rows, self._keys, self._values, self._mask = rows, keys, values, mask
        self._queries = keys.new_zeros(keys.shape[1], keys.shape[2], 1, keys.shape[4])

    def add(self, layer: int, x: Tensor, norm: Callable[[Tensor], Tensor], query: Linear, out: Linear) -> Tensor:
        """Return x [N, D] with the cross-attention added: of a vector without text that is zero."""
        _, heads, _, head_dim = self._queries.shape
        q = query(norm(x)).view(len(x), heads, head_dim).to(self._keys.dtype)
        attended = attend_by_rows(q, self._rows, self._queries, self._keys[layer], self._values[layer], self._mask)
        return x + out(attended.to(x.dtype).reshape(len(x), heads * head_dim))
