"""The decoder on the native kernels: weights in one arena, a step in one call, each row's memory by itself.

    NativeDecoder   as `decoder.Decoder`: embeds, steps, reads; its cache is a `native_cache.NativeCache`

Weights are rounded, and rows, keys and values to bytes with them; or all is float32 and weights are exact, kept as
halves where that loses nothing, since a step takes as long as reading them.

Every vector is a row of the call, with a cache row and a past of its own, whether it is a step's or a prefill's, and a
row's result does not depend on the others: to read a context at once, in pieces or beside a leader gives the same bits.

Rules: arithmetic is the kernels' own; knows no prompt text, no window plan, no sampling.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from streamgen.checkpoint.types import DecoderConfig
from streamgen.checkpoint.validate import finite
from streamgen.kernels import Kernels, PackedMatrix, head_order, narrowest, pack, pack_exactly
from streamgen.kernels.library import Matrix, Shape, address
from streamgen.kernels.packed import TILE
from streamgen.lm.attention import Segment
from streamgen.lm.cross import CrossCache, TextKV
from streamgen.lm.decoder import sinusoids
from streamgen.lm.native_cache import NativeCache, native_positions

__all__ = [
    "MATRICES",
    "NativeDecoder",
    "PackedWeights",
    "exact_weights",
    "fits_native",
    "full_matrix",
    "matrix_names",
    "pack_weights",
]

MATRICES = ("qkv", "out", "cross_query", "cross_out", "ffn_in", "ffn_out")  # of a layer, in the order of use
_NORMS = ("self_attn_layer_norm", "encoder_attn_layer_norm", "final_layer_norm")
_HALVES = {torch.bfloat16: "bf16", torch.float16: "fp16"}
_HEAD_WIDTHS = (16, 32, 64, 128)
_ROW = np.dtype([("memory", "u8"), ("keys", "u8"), ("values", "u8"), ("text_length", "i4"), ("past", "i4")])


def fits_native(config: DecoderConfig) -> bool:
    """Tell whether the kernels can run a decoder of this shape: all of Meta's are."""
    together = max(TILE // config.head_dim, 1)
    widths = config.hidden_size % TILE == 0 and config.ffn_dim % TILE == 0
    heads = config.head_dim in _HEAD_WIDTHS and config.num_heads % together == 0
    return widths and heads and config.activation in ("gelu", "relu")


# -- weights ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PackedWeights:
    """A decoder's matrices as the kernels read them.

    Attributes:
        matrices: by name: those of `matrix_names`.
        exact: whether all are as they are; else all are rounded.
    """

    matrices: Mapping[str, PackedMatrix]
    exact: bool = False

    @property
    def bytes(self) -> int:
        """What a step reads."""
        return sum(matrix.tiles.numel() for matrix in self.matrices.values())

    @property
    def kept_as(self) -> str:
        """In how many bytes exact weights lie, in words; nothing where there is nothing to say."""
        kinds = {matrix.dtype for matrix in self.matrices.values()}
        names = " and ".join(name for dtype, name in _HALVES.items() if dtype in kinds)
        where = " where that is" if torch.float32 in kinds else ""
        return f"weights kept as {names}{where} without loss" if names else ""


def matrix_names(config: DecoderConfig) -> list[str]:
    """Return the names of a decoder's matrices in their order of use: "0.qkv" … "heads"."""
    kinds = [kind for kind in MATRICES if config.cross_attention or not kind.startswith("cross")]
    return [*(f"{layer}.{kind}" for layer in range(config.num_layers) for kind in kinds), "heads"]


def full_matrix(config: DecoderConfig, weights: Mapping[str, Tensor], name: str) -> Tensor:
    """Put a matrix together, [out, in]: q, k and v in one, all heads in one. NaN or infinity is a CheckpointError."""
    layer, _, kind = name.partition(".")
    parts = {
        "qkv": [f"self_attn.{part}_proj" for part in "qkv"], "out": ["self_attn.out_proj"],
        "cross_query": ["encoder_attn.q_proj"], "cross_out": ["encoder_attn.out_proj"],
        "ffn_in": ["fc1"], "ffn_out": ["fc2"], "": [f"lm_heads.{k}" for k in range(config.num_codebooks)]}  # fmt: skip
    place = f"model.decoder.layers.{layer}." if kind else ""
    found = [finite(f"{place}{part}", weights[f"{place}{part}.weight"]) for part in parts[kind]]
    return torch.cat(found) if len(found) > 1 else found[0]


def pack_weights(
    config: DecoderConfig, weights: Mapping[str, Tensor], bits: Mapping[str, int], library: Kernels, threads: int
) -> PackedWeights:
    """Round and lay out a decoder's matrices.

    Args:
        config: shape.
        weights: under transformers' names (see `Checkpoint.weights`).
        bits: of each matrix, by its name.
        library: any.
        threads: that do it.
    """
    pool = library.pool(threads)
    return PackedWeights(
        {
            name: pack(library, pool, full_matrix(config, weights, name), count, _order(config, name))
            for name, count in bits.items()
        }
    )


def exact_weights(config: DecoderConfig, weights: Mapping[str, Tensor]) -> PackedWeights:
    """Lay out a decoder's matrices as they are. Arguments as in `pack_weights`."""
    names = matrix_names(config)
    return PackedWeights(
        {name: pack_exactly(full_matrix(config, weights, name), _order(config, name)) for name in names}, exact=True
    )


def _order(config: DecoderConfig, name: str) -> list[int] | None:
    """In which order a matrix's rows are laid out; None is their own."""
    return head_order(config.num_heads, config.head_dim) if name.endswith("qkv") else None


def _in_one_arena(packed: PackedWeights, library: Kernels) -> dict[str, PackedMatrix]:
    """Move all tiles into one piece of memory in huge pages, in their order of use."""
    arena, moved, at = library.empty(packed.bytes + 64), {}, 0
    at = -arena.data_ptr() % 64
    for name, matrix in packed.matrices.items():
        tiles = arena[at : at + matrix.tiles.numel()]
        tiles.copy_(matrix.tiles)
        moved[name] = PackedMatrix(tiles, matrix.outputs, matrix.inputs, matrix.bits)
        at += matrix.tiles.numel()
    return moved


# -- the decoder ------------------------------------------------------------------------------------------------------


class NativeDecoder:
    """The decoder's weights and the calls that use them.

    Args:
        config: shape; `fits_native`.
        weights: tensors under transformers' names: embeddings and norms are taken from them.
        packed: the matrices.
        library: that runs them.
        threads: that compute a step.

    Attributes:
        device, dtype: where vectors lie and what they are made of: float32 on the CPU.
        weight_bytes: what a step reads.
        threads: as given.
        matrices: as the kernels read them, in one arena.
        positions: float32 [positions, D], added to what `embed` gives.
    """

    def __init__(
        self,
        config: DecoderConfig,
        weights: Mapping[str, Tensor],
        packed: PackedWeights,
        library: Kernels,
        threads: int,
    ) -> None:
        self.config, self.threads, self.weight_bytes, self._exact = config, threads, packed.bytes, packed.exact
        self.device, self.dtype = torch.device("cpu"), torch.float32
        self._library, self._pool = library, library.pool(threads)
        tables = [f"model.decoder.embed_tokens.{k}.weight" for k in range(config.num_codebooks)]
        table = torch.cat([finite(name, weights[name]) for name in tables])  # a few rows of many are read
        self._embed = narrowest(table) if packed.exact else table.to(torch.bfloat16)
        self._embed_offsets = torch.arange(config.num_codebooks) * (config.vocab_size + 1)
        self.positions = sinusoids(config.positions, config.hidden_size)
        self.matrices = _in_one_arena(packed, library)
        self._norms = {name: finite(name, weights[name]).float().contiguous() for name in _norm_names(config)}
        positions = native_positions(config)
        sizes = (config.hidden_size, config.num_heads, config.ffn_dim, config.num_layers, positions)
        self._handle = library.call.decoder(ctypes.byref(Shape(*sizes, config.activation == "relu", packed.exact)))
        for layer in range(config.num_layers):
            self._hand_over(layer)
        heads, last = self.matrices["heads"].as_argument, "model.decoder.layer_norm"
        norm = [address(self._norms[f"{last}.{part}"]) for part in ("weight", "bias")]
        library.call.decoder_heads(self._handle, ctypes.byref(heads), *norm)

    def _hand_over(self, layer: int) -> None:
        matrices, norms = (Matrix * len(MATRICES))(), (ctypes.c_void_p * (2 * len(_NORMS)))()
        for at, kind in enumerate(MATRICES):
            if f"{layer}.{kind}" in self.matrices:
                matrices[at] = self.matrices[f"{layer}.{kind}"].as_argument
        for at, kind in enumerate(_NORMS):
            for offset, part in enumerate(("weight", "bias")):
                norm = self._norms.get(f"model.decoder.layers.{layer}.{kind}.{part}")
                norms[2 * at + offset] = address(norm)
        self._library.call.decoder_layer(self._handle, layer, matrices, norms)

    def __del__(self) -> None:
        """Give the library's part back."""
        if hasattr(self, "_handle"):
            self._library.call.decoder_end(self._handle)

    def exchange(self, name: str, matrix: PackedMatrix) -> PackedMatrix:
        """Put a layer's matrix in the place of another of its shape; returns that one."""
        before, self.matrices[name] = self.matrices[name], matrix
        self._hand_over(int(name.split(".")[0]))
        return before

    def new_cache(self, rows: int = 1) -> NativeCache:
        """Return memory for keys and values of so many rows to start with."""
        return NativeCache(self.config, self._library, rows, exact=self._exact)

    def embed(self, columns: Tensor) -> Tensor:
        """Sum the K code embeddings of each column, int64 [..., K]: float32 [..., D] without positions."""
        return F.embedding(columns + self._embed_offsets, self._embed).float().sum(dim=-2)

    def step(
        self,
        x: Tensor,
        segments: Sequence[Segment],
        cache: NativeCache,
        cross: CrossCache,
        wanted: Sequence[int],
        seen: Tensor | None = None,
    ) -> Tensor:
        """Run vectors through all layers, write their keys and values, and return the logits of some.

        Args:
            x: [N, D] input vectors without positions; segment after segment, row after row, time last.
            segments: who the vectors belong to; Σ vectors = N.
            cache: written in place after each segment's past.
            cross: text keys and values per cache row.
            wanted: vectors whose logits are wanted.
            seen: is given what each layer reads and what comes of the last norm, float32 [layers + 1, N, D].

        Returns:
            float32 [len(wanted), K, V].
        """
        places = [place for segment in segments for place in _places(segment)]
        rows = np.array([(cache.row_address(row), *_text(cross.text(row)), past) for row, past, _ in places], _ROW)
        positions = torch.tensor([position for _, _, position in places])
        vectors = self.positions.index_select(0, positions).add_(x)
        heads = self.matrices["heads"]
        logits = torch.empty(len(wanted), heads.outputs, dtype=torch.float32)  # whatever a host has set
        indices = np.asarray(wanted, np.int32)
        self._library.call.step(
            self._pool.handle, self._handle, rows.ctypes.data, len(rows), address(vectors),
            indices.ctypes.data, len(indices), address(logits), address(seen),
        )  # fmt: skip
        c = self.config
        return logits[:, : c.num_codebooks * c.vocab_size].view(len(wanted), c.num_codebooks, c.vocab_size)

    def evaluate(self, x: Tensor, segments: Sequence[Segment], cache: NativeCache, cross: CrossCache) -> Tensor:
        """Run vectors through all layers and return all their logits, float32 [N, K, V]. Arguments as in `step`."""
        return self.step(x, segments, cache, cross, range(len(x)))

    def hidden_states(self, x: Tensor, segments: Sequence[Segment], cache: NativeCache, cross: CrossCache) -> Tensor:
        """Return what each layer reads and what comes of the last norm, float32 [layers + 1, N, D]. As in `step`."""
        seen = torch.empty(self.config.num_layers + 1, *x.shape, dtype=torch.float32)
        self.step(x, segments, cache, cross, (), seen)
        return seen

    def read(self, x: Tensor, segments: Sequence[Segment], cache: NativeCache, cross: CrossCache) -> None:
        """Run vectors through all layers for their keys and values alone. Arguments as in `step`."""
        self.step(x, segments, cache, cross, ())


def _text(text: TextKV | None) -> tuple[int, int, int]:
    """Where a row's keys and values of its text lie, and how many there are."""
    if text is None:
        return 0, 0, 0
    assert text.keys.dtype == torch.float32, text.keys.dtype  # as C reads them
    return text.keys.data_ptr(), text.values.data_ptr(), text.length


def _places(segment: Segment) -> Iterator[tuple[int, int, int]]:
    """Cache row, past and position of each vector of a segment."""
    for row in range(segment.block.start, segment.block.stop):
        for at in range(segment.length):
            yield row, segment.past + at, segment.position + at


def _norm_names(config: DecoderConfig) -> list[str]:
    kinds = [kind for kind in _NORMS if config.cross_attention or not kind.startswith("encoder")]
    layers = [f"model.decoder.layers.{layer}.{kind}" for layer in range(config.num_layers) for kind in kinds]
    return [f"{name}.{part}" for name in (*layers, "model.decoder.layer_norm") for part in ("weight", "bias")]
