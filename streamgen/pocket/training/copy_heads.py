"""Attention heads that copy one bar back, written into a decoder before training.

Rules: knows a decoder's weights and nothing of data. Without copying there is no beat, and two million frames did not
teach a model of this size to copy; so the first two layers start with the classic two-step circuit, and train on.

    layer 0, head 0    looks one step back and writes what it finds into the directions called `before`
    layer 1, heads 0,1 look at the step whose `before` is what I am now AND that lies one bar back (any of the bar
                       lengths), and write that step's tokens into `proposed`, which the output heads read
    the start token    is where those two look when nothing fits; it holds no token, so nothing is copied

Positions are sinusoids added at the input. A head looks D steps back if its key is the identity on some (cos, sin)
pairs and its query their rotation by D: the score is then the sum over pairs of cos(w (distance - D)). With the delay
pattern, the step that read all four codebooks' tokens of one bar ago is bar - 1 steps back, the same for all four.

Tokens need directions that positions leave alone. The slowest half of the sinusoids moves within some ten dimensions
while positions run to 1503; of the 182 that are left there, `own` (tokens read) and `proposed` take 80 each.
"""

import math
from typing import Any

import torch
from torch import Tensor
from transformers import MusicgenForCausalLM
from transformers.models.musicgen.modeling_musicgen import MusicgenAttention

LAGS = (80, 96, 128)  # bar lengths in frames
TOKEN_DIMS = 20  # directions for each codebook
STRENGTH = 8.0  # norm of a token's vector; the positions' norm is 14
HEAD = 64
SINK = 9.5  # the start token then scores about 20: above a place without fitting tokens, below one with them


class Layout:
    """Which directions of the residual stream hold what; all [n, hidden], orthonormal rows.

    Attributes:
        own: per codebook, the tokens read at this step.
        proposed: per codebook, the tokens proposed for the next.
        before: the tokens of the previous step, mixed.
        start: the start token's own direction.
    """

    def __init__(self, hidden: int, seed: int = 0) -> None:
        """Find directions free of positions and share them out; the same seed finds the same."""
        books = 4 * TOKEN_DIMS
        generator = torch.Generator().manual_seed(seed)
        random = torch.randn(2 * books + 1, hidden, generator=generator)
        free = free_of_positions(hidden)  # some basis of a space: another on another number of threads
        mixed: Tensor = torch.linalg.qr((random @ free.T @ free).T)[0].T
        self.own = mixed[:books].reshape(4, TOKEN_DIMS, hidden)
        self.proposed = mixed[books : 2 * books].reshape(4, TOKEN_DIMS, hidden)
        self.start = mixed[2 * books]
        self.before = plane(range(40, 40 + HEAD // 2), hidden)


def _frequencies(hidden: int) -> Tensor:
    half = hidden // 2
    return torch.exp(torch.arange(half, dtype=torch.float32) * -(math.log(10000) / (half - 1)))


def free_of_positions(hidden: int, positions: int = 1503) -> Tensor:
    """Orthonormal rows spanning the slow half of the sinusoids less the directions positions and constants move in."""
    slow = torch.arange(hidden // 4, hidden // 2)
    angles = torch.arange(positions)[:, None] * _frequencies(hidden)[slow]
    curve = torch.zeros(positions + 2, hidden)
    curve[:-2, slow], curve[:-2, slow + hidden // 2] = angles.cos(), angles.sin()
    inside = torch.zeros(hidden, dtype=torch.bool)
    inside[slow] = inside[slow + hidden // 2] = True
    curve[-1] = inside * math.sqrt(positions)  # layer norms subtract the mean
    curve[-2] = constant_direction(hidden) * positions
    values, vectors = torch.linalg.eigh(curve.T @ curve)
    unused = vectors[:, (values < 1e-3 * positions)].T
    rows: Tensor = torch.linalg.qr(unused[unused[:, ~inside].abs().amax(1) < 1e-3].T)[0].T
    return rows


def constant_direction(hidden: int) -> Tensor:
    """A direction in which every position is about one: the mean of the 20 slowest cosines."""
    row = torch.zeros(hidden)
    row[hidden // 2 - 20 : hidden // 2] = 1 / 20
    return row


def plane(pairs: range, hidden: int) -> Tensor:
    """Rows [2 n, hidden] that read the (cos, sin) pairs of some sinusoids."""
    rows = torch.zeros(2 * len(pairs), hidden)
    for row, pair in enumerate(pairs):
        rows[2 * row, pair] = rows[2 * row + 1, pair + hidden // 2] = 1.0
    return rows


def install_copy_heads(decoder: MusicgenForCausalLM, seed: int = 0) -> None:
    """Write embeddings, output heads and the circuit's three attention heads into a fresh decoder."""
    generator = torch.Generator().manual_seed(seed + 1)
    layout = Layout(decoder.config.hidden_size, seed)
    with torch.no_grad():
        _write_tokens(decoder, layout, generator)
        layers: Any = decoder.model.decoder.layers
        _write_look_back(layers[0].self_attn, layout)
        for head in (0, 1):
            _write_copy(layers[1].self_attn, head, layout, generator)


def _write_tokens(decoder: Any, layout: Layout, generator: torch.Generator) -> None:
    for book, (table, output) in enumerate(zip(decoder.model.decoder.embed_tokens, decoder.lm_heads, strict=True)):
        codes = torch.nn.functional.normalize(torch.randn(output.out_features, TOKEN_DIMS, generator=generator), dim=1)
        noise = 0.02 * torch.randn(output.out_features, table.embedding_dim)
        table.weight[:-1] = STRENGTH * codes @ layout.own[book] + noise
        table.weight[-1] = STRENGTH * layout.start
        output.weight.copy_(3.0 * codes @ layout.proposed[book] + 0.5 * output.weight)


def _write_look_back(block: MusicgenAttention, layout: Layout) -> None:
    """Layer 0, head 0: one step back, tokens of all codebooks from `own` to `before`, 16 directions for each."""
    hidden = block.embed_dim
    rows = slice(0, HEAD)
    block.k_proj.weight[rows] = 4.0 * plane(range(HEAD // 2), hidden)
    block.q_proj.weight[rows] = 4.0 * rotated(range(HEAD // 2), hidden, (1,))
    block.v_proj.weight[rows] = layout.own[:, :16].flatten(0, 1)
    block.out_proj.weight[:, rows] = layout.before.T


def _write_copy(block: MusicgenAttention, head: int, layout: Layout, generator: torch.Generator) -> None:
    """Layer 1: heads 0 and 1 copy two codebooks each from one bar back, where the step before was like this one."""
    hidden = block.embed_dim
    rows = slice(head * HEAD, (head + 1) * HEAD)
    pairs = range(0, 38, 2)
    place, tokens = 2 * len(pairs), HEAD - 2 * len(pairs) - 1
    mix = torch.linalg.qr(torch.randn(HEAD, tokens, generator=generator))[0].T * math.sqrt(HEAD / tokens)
    scale = math.sqrt(8.0)  # scores are divided by sqrt(64)
    key, query = torch.zeros(HEAD, hidden), torch.zeros(HEAD, hidden)
    key[:place], query[:place] = plane(pairs, hidden), rotated(pairs, hidden, tuple(lag - 1 for lag in LAGS))
    fit = 0.3  # a full match of tokens weighs about half as much as a place
    key[place:-1] = fit * mix @ layout.before
    query[place:-1] = fit * mix @ layout.own[:, :16].flatten(0, 1)
    key[-1], query[-1] = layout.start * (SINK / STRENGTH), constant_direction(hidden)
    block.k_proj.weight[rows], block.q_proj.weight[rows] = 1.3 * scale * key, 1.3 * scale * query
    books = slice(2 * head, 2 * head + 2)
    values = torch.zeros(HEAD, hidden)
    values[: 2 * TOKEN_DIMS] = layout.own[books].flatten(0, 1)
    block.v_proj.weight[rows] = values
    outputs = torch.zeros(hidden, HEAD)
    outputs[:, : 2 * TOKEN_DIMS] = layout.proposed[books].flatten(0, 1).T
    block.out_proj.weight[:, rows] = outputs * 1.2


def rotated(pairs: range, hidden: int, distances: tuple[int, ...]) -> Tensor:
    """Rows that turn each (cos, sin) pair back by the given distances, summed over them."""
    rows, half = torch.zeros(2 * len(pairs), hidden), hidden // 2
    speeds = _frequencies(hidden)
    for row, pair in enumerate(pairs):
        angles = torch.tensor(distances, dtype=torch.float32) * speeds[pair]
        c, s = float(angles.cos().sum()), float(angles.sin().sum())
        rows[2 * row, pair], rows[2 * row, pair + half] = c, s  # cos(w (p - d))
        rows[2 * row + 1, pair], rows[2 * row + 1, pair + half] = -s, c  # sin(w (p - d))
    return rows
