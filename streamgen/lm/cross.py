"""Cross-attention to the text: keys and values of every cache row, computed once per prompt.

A row without text (unconditional, the null row of guidance) has nothing to attend to: transformers feeds it zeros,
whose values project to zeros (no bias), so its cross-attention adds exactly nothing and is skipped here.

Rules: knows rows and text states, not prompts; melody checkpoints have no cross-attention and keep this empty.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from streamgen.checkpoint.types import DecoderConfig
from streamgen.checkpoint.validate import finite
from streamgen.kernels import narrowest
from streamgen.linear import Linear

__all__ = ["CrossCache", "TextKV", "TextProjector"]


@dataclass(frozen=True)
class TextKV:
    """A prompt's keys and values in every layer.

    Attributes:
        keys, values: [layers, heads, T, head_dim]; T = 0 for no text.
    """

    keys: Tensor
    values: Tensor

    @property
    def length(self) -> int:
        """Text positions T."""
        return self.keys.shape[2]


class TextProjector:
    """The decoder's key and value projections of the text.

    Args:
        config: shape.
        weights: under transformers' names.
        device, dtype: where and in what they are multiplied.
        kept: in what the results are.
    """

    def __init__(
        self,
        config: DecoderConfig,
        weights: dict[str, Tensor],
        *,
        device: torch.device,
        dtype: torch.dtype,
        kept: torch.dtype,
    ) -> None:
        self._config, self._device, self._dtype, self._kept = config, device, dtype, kept
        layers = range(config.num_layers) if config.cross_attention else ()
        self._weights = [self._keys_and_values(weights, i) for i in layers]

    def _keys_and_values(self, weights: dict[str, Tensor], layer: int) -> Tensor:
        """A layer's two matrices in one; those of float32 in halves where that loses nothing: they are seldom read."""
        place = f"model.decoder.layers.{layer}.encoder_attn"
        names = [f"{place}.{part}_proj.weight" for part in "kv"]
        both = torch.cat([finite(name, weights[name]) for name in names]).to(self._device)
        return narrowest(both) if self._dtype == torch.float32 else both.to(self._dtype)

    def project(self, states: Tensor) -> TextKV:
        """Compute the keys and values of text states, float32 [T, D]."""
        c = self._config
        if not self._weights or len(states) == 0:
            empty = torch.zeros(c.num_layers, c.num_heads, 0, c.head_dim, dtype=self._kept, device=self._device)
            return TextKV(empty, empty)
        x = states.to(self._device, self._dtype)
        both = torch.cat([F.linear(x, weight.to(self._dtype)) for weight in self._weights], dim=1).to(self._kept)
        both = both.view(len(states), c.num_layers, 2, c.num_heads, c.head_dim).permute(2, 1, 3, 0, 4)
        return TextKV(both[0].contiguous(), both[1].contiguous())


class CrossCache:
    """Which text each cache row attends to. Rows never set have none."""

    def __init__(self) -> None:
        self._texts: dict[int, TextKV] = {}
        self._stacked: dict[tuple[int, ...], tuple[Tensor, Tensor, Tensor | None]] = {}

    def set(self, row: int, text: TextKV | None) -> None:
        """Give a row its text; None or an empty one clears it."""
        if self._texts.get(row) is text:
            return
        if text is None or text.length == 0:
            self._texts.pop(row, None)
        else:
            self._texts[row] = text
        self._stacked.clear()

    def text(self, row: int) -> TextKV | None:
        """Return a row's text; None if it has none."""
        return self._texts.get(row)

    def select(self, rows: list[int], lengths: list[int]) -> _CrossRows | None:
        """Gather the texts of a pass.

        Args:
            rows: cache rows in the pass, in order.
            lengths: vectors of each of those rows.

        Returns:
            What `Decoder.forward` adds in each layer; None if no row has text.
        """
        with_text = tuple(row for row in rows if row in self._texts)
        if not with_text:
            return None
        vectors, offset = [], 0
        for row, length in zip(rows, lengths, strict=True):
            if row in self._texts:
                vectors.append((offset, length))
            offset += length
        return _CrossRows(vectors, offset, *self._stack(with_text))

    def _stack(self, rows: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor | None]:
        if rows not in self._stacked:
            if len(self._stacked) > 8:  # leader, successor, both, prefills: a handful at a time
                self._stacked.clear()
            self._stacked[rows] = _pad_together([self._texts[row] for row in rows])
        return self._stacked[rows]


def _pad_together(texts: list[TextKV]) -> tuple[Tensor, Tensor, Tensor | None]:
    """Stack texts of unlike lengths: [layers, n, heads, T, head_dim] twice, and the mask bool [n, 1, 1, T]."""
    longest = max(text.length for text in texts)
    pad = [(0, 0, 0, longest - text.length) for text in texts]
    keys = torch.stack([F.pad(text.keys, p) for text, p in zip(texts, pad, strict=True)], dim=1)
    values = torch.stack([F.pad(text.values, p) for text, p in zip(texts, pad, strict=True)], dim=1)
    if all(text.length == longest for text in texts):
        return keys, values, None
    lengths = torch.tensor([text.length for text in texts], device=keys.device)
    mask = torch.arange(longest, device=keys.device) < lengths[:, None]
    return keys, values, mask[:, None, None]


class _CrossRows:
    """The rows of one pass that have a text; all of them have the same number of vectors, or are done one by one."""

    def __init__(
        self, vectors: list[tuple[int, int]], total: int, keys: Tensor, values: Tensor, mask: Tensor | None
    ) -> None:
        self._keys, self._values, self._mask = keys, values, mask
        self._everything = sum(length for _, length in vectors) == total
        self._length = vectors[0][1]
        assert all(length == self._length for _, length in vectors), "one prefill, or single steps"
        index = [at for offset, length in vectors for at in range(offset, offset + length)]
        self._index = torch.tensor(index, device=keys.device)

    def add(self, layer: int, x: Tensor, norm: Callable[[Tensor], Tensor], query: Linear, out: Linear) -> Tensor:
        """Return x [N, D] with the cross-attention of the rows that have text added."""
        keys, values = self._keys[layer], self._values[layer]
        count, heads, _, head_dim = keys.shape
        chosen = x if self._everything else x.index_select(0, self._index)
        q = query(norm(chosen)).view(count, self._length, heads, head_dim).transpose(1, 2)
        attended = F.scaled_dot_product_attention(q.to(keys.dtype), keys, values, attn_mask=self._mask).to(x.dtype)
        added = out(attended.transpose(1, 2).reshape(len(chosen), heads * head_dim))
        return x + added if self._everything else x.index_add(0, self._index, added)
