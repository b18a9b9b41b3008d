"""Mixed precision: each group of matrices gets as few bits as a budget of accuracy allows, measured on this checkpoint.

    drawn codes ─► exact logits, float32 ┬─ KL of all in 8 bits
                                         ├─ … with one group in 6 │ in 4        more for fewer bytes: which first?
                                         └─ … as chosen                         within the budget, or chosen again

A group is one kind of matrix in some neighbouring layers: `MEASURED` kinds × `_DEPTHS`. What the roundings of different
groups cost adds up, nearly, so the choice is made by the price of a byte, dearest left as they are; then the whole is
measured, and the budget is drawn tighter where the sum was too kind. Codes are the checkpoint's own, drawn without a
prompt and as its defaults say; matrices of cross-attention, which have no part in that, keep 8 bits, as do the heads.

Rules: measures KL in nats a code, from the exact distribution to the rounded one. Knows no speed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from streamgen.checkpoint.types import Checkpoint, DecoderConfig
from streamgen.kernels import Kernels, PackedMatrix, head_order, pack
from streamgen.lm.attention import Segment
from streamgen.lm.cross import CrossCache
from streamgen.lm.native import NativeDecoder, full_matrix, matrix_names, pack_weights
from streamgen.lm.sampling import Sampling, sample

__all__ = ["KL_BUDGET", "MEASURED", "Lowering", "choose_bits", "exact_logits", "lower_within", "mean_kl"]

KL_BUDGET = 0.01  # nats a code
MEASURED = ("qkv", "out", "ffn_in", "ffn_out")
_DEPTHS = 4  # groups of neighbouring layers
_COLUMNS = 96  # codes that are drawn and read: as many distributions for each codebook


@dataclass(frozen=True)
class Lowering:
    """One group of matrices in fewer bits than 8.

    Attributes:
        names: of the matrices.
        bits: that they would have.
        cost: KL that it adds.
        saved: bytes that a step reads less.
    """

    names: tuple[str, ...]
    bits: int
    cost: float
    saved: int


def choose_bits(checkpoint: Checkpoint, library: Kernels, threads: int) -> tuple[dict[str, int], float]:
    """Measure and choose.

    Returns:
        The bits of each matrix, and the KL of the whole.
    """
    config, defaults = checkpoint.decoder, checkpoint.defaults
    bits = dict.fromkeys(matrix_names(config), 8)
    packed = pack_weights(config, checkpoint.weights, bits, library, threads)
    decoder = NativeDecoder(config, checkpoint.weights, packed, library, threads)
    vectors = _drawn_vectors(decoder, Sampling(defaults.temperature, defaults.top_k, defaults.top_p))
    exact = exact_logits(config, checkpoint.weights, vectors + decoder.positions[: len(vectors)])
    bench = _Bench(checkpoint, decoder, library, threads, vectors, exact)
    start = bench.kl({})
    lowerings = [bench.lowering(names, count, start) for names in _groups(config) for count in (6, 4)]
    while lowerings:
        chosen = bits | lower_within(KL_BUDGET - start, lowerings)
        whole = bench.kl({name: count for name, count in chosen.items() if count < 8})
        if whole <= KL_BUDGET:
            return chosen, whole
        lowerings = sorted(lowerings, key=_price)[: len(lowerings) // 2]
    return bits, start


def _price(one: Lowering) -> float:
    """Of a byte."""
    return max(one.cost, 0.0) / one.saved


def lower_within(budget: float, lowerings: list[Lowering]) -> dict[str, int]:
    """Choose among lowerings, one of each group at most, whose costs stay within a budget together.

    Cheapest first, by the price of a byte; a group that was lowered may be lowered further for the difference.

    Returns:
        The bits of the matrices that are lowered.
    """
    chosen: dict[tuple[str, ...], Lowering] = {}
    spent = 0.0
    for one in sorted(lowerings, key=_price):
        before = chosen.get(one.names)
        if before is not None and before.saved >= one.saved:
            continue
        more = max(one.cost, 0.0) - (max(before.cost, 0.0) if before else 0.0)
        if spent + more <= budget:
            chosen[one.names], spent = one, spent + more
    return {name: one.bits for one in chosen.values() for name in one.names}


def _groups(config: DecoderConfig) -> Iterator[tuple[str, ...]]:
    depths = min(_DEPTHS, config.num_layers)
    for kind in MEASURED:
        for depth in range(depths):
            layers = range(config.num_layers * depth // depths, config.num_layers * (depth + 1) // depths)
            yield tuple(f"{layer}.{kind}" for layer in layers)


def _drawn_vectors(decoder: NativeDecoder, sampling: Sampling) -> Tensor:
    """Let the decoder draw codes without a prompt, undelayed ones, and return what it was fed: [T, D]."""
    config, cache, cross = decoder.config, decoder.new_cache(), CrossCache()
    block = cache.allocate(1)
    column = torch.full((1, config.num_codebooks), config.vocab_size)
    fed: list[Tensor] = []
    for at in range(min(_COLUMNS, config.max_positions - 1)):
        fed.append(decoder.embed(column))
        logits = decoder.step(fed[-1], [Segment(block, at)], cache, cross, (0,))
        drawn = sample(logits[0], sampling, at)
        delays = torch.arange(config.num_codebooks) // config.audio_channels
        column = torch.where(at < delays, config.vocab_size, drawn)[None]
    return torch.cat(fed)


def exact_logits(config: DecoderConfig, weights: Mapping[str, Tensor], x: Tensor) -> Tensor:
    """Run one sequence without text through the decoder in float32, a matrix at a time: memory for one is enough.

    Args:
        config: shape.
        weights: under transformers' names.
        x: float32 [T, D], positions added.

    Returns:
        float32 [T, K, V].
    """

    def times(rows: Tensor, name: str) -> Tensor:
        return torch.matmul(rows, full_matrix(config, weights, name).float().T)

    def norm(rows: Tensor, name: str) -> Tensor:
        weight, bias = (weights[f"model.decoder.{name}.{part}"].float() for part in ("weight", "bias"))
        return torch.layer_norm(rows, rows.shape[-1:], weight, bias)

    def split(rows: Tensor) -> Tensor:
        return rows.view(len(rows), config.num_heads, config.head_dim).transpose(0, 1)

    activation = F.relu if config.activation == "relu" else F.gelu
    for layer in range(config.num_layers):
        q, k, v = (
            split(part) for part in times(norm(x, f"layers.{layer}.self_attn_layer_norm"), f"{layer}.qkv").chunk(3, -1)
        )
        attended = F.scaled_dot_product_attention(q[None], k[None], v[None], is_causal=True)[0]
        x = x + times(attended.transpose(0, 1).flatten(1), f"{layer}.out")
        inner = activation(times(norm(x, f"layers.{layer}.final_layer_norm"), f"{layer}.ffn_in"))
        x = x + times(inner, f"{layer}.ffn_out")
    logits: Tensor = times(norm(x, "layer_norm"), "heads")
    return logits.view(len(x), config.num_codebooks, config.vocab_size)


def mean_kl(exact: Tensor, rounded: Tensor) -> float:
    """Return the mean KL from the distributions of exact logits [..., V] to those of rounded ones, in nats."""
    p, q = exact.double().log_softmax(-1), rounded.double().log_softmax(-1)
    return float((p.exp() * (p - q)).sum(-1).mean())


@dataclass
class _Bench:
    """A decoder whose matrices are exchanged, and what it is measured on."""

    checkpoint: Checkpoint
    decoder: NativeDecoder
    library: Kernels
    threads: int
    vectors: Tensor
    exact: Tensor

    def kl(self, bits: Mapping[str, int]) -> float:
        """Measure with some matrices in fewer bits; they are put back."""
        before = {name: self.decoder.exchange(name, self._packed(name, count)) for name, count in bits.items()}
        cache, cross = self.decoder.new_cache(), CrossCache()
        segment, length = Segment(cache.allocate(1), 0, len(self.vectors)), len(self.vectors)
        logits = self.decoder.step(self.vectors, [segment], cache, cross, range(length))
        for name, matrix in before.items():
            self.decoder.exchange(name, matrix)
        return mean_kl(self.exact, logits)

    def lowering(self, names: tuple[str, ...], bits: int, start: float) -> Lowering:
        """Measure what one group costs in fewer bits."""
        saved = sum(self.decoder.matrices[name].tiles.numel() * (8 - bits) // 8 for name in names)
        return Lowering(names, bits, self.kl(dict.fromkeys(names, bits)) - start, saved)

    def _packed(self, name: str, bits: int) -> PackedMatrix:
        config = self.checkpoint.decoder
        order = head_order(config.num_heads, config.head_dim) if name.endswith("qkv") else None
        full = full_matrix(config, self.checkpoint.weights, name)
        return pack(self.library, self.library.pool(self.threads), full, bits, order)
