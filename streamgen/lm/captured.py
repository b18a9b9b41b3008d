"""Steps in fixed shapes, which a GPU replays as one graph: hundreds of kernels, launched in one go.

    step ─ copied into ─► static buffers of a pass ─ replayed ─► logits, before the next step overwrites them

A pass is made for so many vectors (a bucket) and so many rows of the cache, and captured when it is first needed.
Places that are left over in it repeat the first vector: what is written twice is the same. Off a GPU the same pass is
computed, not replayed, and so it is in the tests.

Rules: arithmetic is `decoder`'s and `attention.MaskedAttention`'s; knows no stream. Never run on a GPU yet.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from streamgen.checkpoint.types import DecoderConfig
from streamgen.graphs import Recorder, capture_mode, recorder_of, sent
from streamgen.linear import Linear
from streamgen.lm.attention import MaskedAttention, Segment, cache_rows
from streamgen.lm.cache import KVCache
from streamgen.lm.cross import CrossCache, TextKV
from streamgen.lm.decoder import Decoder

__all__ = ["CapturedDecoder"]

_TEXT_POSITIONS = 64  # room for texts comes in pieces of so many


def _computed(compute: Callable[[], None]) -> Callable[[], None]:
    """In place of a capture, where nothing can be captured: what is computed is done again by computing it."""
    return compute


def _nothing() -> None:
    """In place of a replay, before a first capture."""


def _bucket(count: int) -> int:
    """The next power of two."""
    return 1 << max(count - 1, 0).bit_length()


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
        self._keys: Tensor | None = None  # of the cache that the passes are made for
        self._passes: dict[tuple[int, int], _Pass] = {}
        self._record = record or recorder_of(self.device) or _computed

    def step(
        self, x: Tensor, segments: Sequence[Segment], cache: KVCache, cross: CrossCache, wanted: Sequence[int]
    ) -> Tensor:
        """Run single vectors and return the logits of some, float32 [len(wanted), K, V]. As `Decoder.step`."""
        assert all(one.length == 1 for one in segments), "single steps"
        rows = cache_rows(segments)
        at = [one.past for one in segments for _ in range(one.block.rows)]
        positions = [one.position for one in segments for _ in range(one.block.rows)]
        # in the order of their rows, whoever is driest: then a vector's place in the pass has the same text as before
        order = sorted(range(len(rows)), key=rows.__getitem__)
        places = [[line[number] for number in order] for line in (rows, at, positions)]
        chosen = self._pass_of(len(rows), min(_bucket(max(rows) + 1), cache.rows), cache)
        place_of = {number: place for place, number in enumerate(order)}
        # both before the pass: to send anything after it would be to wait for it
        given, asked = self._index(order), self._index([place_of[number] for number in wanted])
        logits = chosen(x.index_select(0, given), places, [cross.text(row) for row in places[0]])
        return logits.index_select(0, asked)

    def _index(self, numbers: list[int]) -> Tensor:
        return sent(torch.tensor(numbers), self.device)

    def _pass_of(self, vectors: int, rows: int, cache: KVCache) -> _Pass:
        if self._keys is not cache.keys:  # it has grown: what was captured writes where nothing is read any more
            self._keys, self._passes = cache.keys, {}
        key = _bucket(vectors), rows
        if key not in self._passes:
            self._passes[key] = _Pass(self._decoder, cache, *key, self._record)
        return self._passes[key]


class _Pass:
    """A step of so many vectors, of the first rows of a cache.

    Args:
        decoder: whose layers run.
        cache: what they remember.
        vectors: N.
        rows: of the cache.
        record: see `Recorder`.
    """

    def __init__(self, decoder: Decoder, cache: KVCache, vectors: int, rows: int, record: Recorder) -> None:
        device, config = decoder.device, decoder.config
        self._decoder, self._keys, self._values = decoder, cache.keys[:, :rows], cache.values[:, :rows]
        self._x = torch.zeros(vectors, config.hidden_size, dtype=decoder.dtype, device=device)
        self._places = torch.zeros(3, vectors, dtype=torch.int64, device=device)  # cache row, place in it, position
        self._texts = _Texts(config, vectors, cache.keys) if config.cross_attention else None
        self._logits = torch.zeros(vectors, config.num_codebooks, config.vocab_size, device=device)
        self._record, self._replay = record, _nothing

    @torch.no_grad()
    def __call__(self, x: Tensor, places: list[list[int]], texts: list[TextKV | None]) -> Tensor:
        """Return logits, float32 [N, K, V], until the next call.

        Args:
            x: [n, D] without positions, n ≤ N.
            places: of each vector its cache row, place in it, and position.
            texts: of each.
        """
        left = len(self._x) - len(x)
        self._x[: len(x)] = x
        self._x[len(x) :] = x[0]
        self._places.copy_(sent(torch.tensor([[*line, *line[:1] * left] for line in places]), self._x.device))
        moved = self._texts is not None and self._texts.put([*texts, *texts[:1] * left])
        with capture_mode():
            if moved or self._replay is _nothing:
                self._replay = self._record(self._compute)  # what it writes to the cache is what the step writes
            self._replay()
        return self._logits

    def _compute(self) -> None:
        rows, at, positions = self._places.unbind()
        decoder, attend = self._decoder, MaskedAttention(rows, at, self._keys, self._values)
        x = self._x + decoder.positions.index_select(0, positions)
        self._logits.copy_(decoder.logits(decoder.run(x, attend, self._texts)))


class _Texts:
    """Keys and values of each vector's text, in one fixed shape; a vector without text attends to a value of zeros.

    Args:
        config: the decoder's shape.
        vectors: N.
        like: of the dtype and device that texts are kept in.
    """

    def __init__(self, config: DecoderConfig, vectors: int, like: Tensor) -> None:
        self._shape, self._like = (config.num_layers, vectors, config.num_heads, config.head_dim), like
        self._held: list[TextKV | None] = []
        self._make_room(_TEXT_POSITIONS)

    def _make_room(self, positions: int) -> None:
        layers, vectors, heads, head_dim = self._shape
        self._keys, self._values = (self._like.new_zeros(layers, vectors, heads, positions, head_dim) for _ in range(2))
        self._mask = torch.zeros(vectors, 1, 1, positions, dtype=torch.bool, device=self._like.device)
        self._mask[..., 0] = True
        self._held = [None] * vectors

    def put(self, texts: Sequence[TextKV | None]) -> bool:
        """Hold these, one for each vector; returns whether more room had to be made, elsewhere."""
        longest = max(0 if text is None else text.length for text in texts)
        grows = longest > self._keys.shape[3]
        if grows:
            self._make_room(-(-longest // _TEXT_POSITIONS) * _TEXT_POSITIONS)
        for slot, text in enumerate(texts):
            if text is not self._held[slot]:
                self._write(slot, text)
        return grows

    def _write(self, slot: int, text: TextKV | None) -> None:
        length = 0 if text is None else text.length
        if text is not None:
            self._keys[:, slot, :, :length], self._values[:, slot, :, :length] = text.keys, text.values
        if length == 0:
            self._keys[:, slot, :, 0], self._values[:, slot, :, 0] = 0, 0
        self._mask[slot] = torch.arange(self._mask.shape[-1], device=self._mask.device) < max(length, 1)
        self._held[slot] = text

    def add(self, layer: int, x: Tensor, norm: Callable[[Tensor], Tensor], query: Linear, out: Linear) -> Tensor:
        """Return x [N, D] with the cross-attention added: of a vector without text that is zero."""
        _, vectors, heads, head_dim = self._shape
        q = query(norm(x)).view(vectors, heads, 1, head_dim).to(self._keys.dtype)
        attended = F.scaled_dot_product_attention(q, self._keys[layer], self._values[layer], attn_mask=self._mask)
        return x + out(attended.to(x.dtype).reshape(vectors, heads * head_dim))
