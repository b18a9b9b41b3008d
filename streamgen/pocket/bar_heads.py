"""Attention heads that copy exactly one bar back, one for each tempo, written into a decoder that can copy already.

Rules: knows a decoder's weights and some sequences to measure them on; no training. The heads of `copy_heads` look one
bar back for any of the bar lengths and lean on tokens that match. That is enough to copy what is clean. What a model
plays is not: a downbeat a frame early matches there, and a loop of 96 frames goes on as one of 95, or jumps to another
tempo's 80. After 3,100 steps of training, 24 clips repeated .59 of their tokens at the bar of the named tempo; with
these heads written in, and not a step more, .92.

    layer 0, cross-attention    one head finds the tempo's word and writes which it is into one of three `flags`
    layer 1, self-attention     a head for each bar length: by place alone, and sharp (31 of 64 directions are the
                                fastest sinusoids); without its tempo's flag it looks at the start token, where there
                                is nothing to copy

Norms and trained weights stand between a residual direction and a score, so amplitudes are measured, not assumed.
The heads that are overwritten were the least missed when they were silenced (under .01 nats each). Where the new ones
look stays as it is written: scores of fifty are not for small random steps, and 250 steps of training took the .92 back
to .35. What they pass on is trained.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import MusicgenForConditionalGeneration
from transformers.models.musicgen.modeling_musicgen import MusicgenAttention

from streamgen.pocket.copy_heads import HEAD, LAGS, Layout, constant_direction, plane, rotated
from streamgen.pocket.language import embedded, hidden_after, listened, text_states

CROSS_HEAD, BAR_HEADS = 0, (3, 4, 5)
COPYING_HEADS = (0, 1)  # of `copy_heads`, whose values and outputs are taken over
PAIRS = range(31)  # of sinusoids
FLAG = 8.0  # amplitude in the residual stream, as much as a token's
# Scores before the softmax: the place one bar back (one frame beside it 42, others under 22); the start token with and
# without the tempo's flag; the tempo's word, others having about 0.
PLACE, SINK_OPEN, SINK_SHUT, WORD = 50.0, 24.0, 60.0, 12.0


@torch.no_grad()
def install_bar_heads(
    model: MusicgenForConditionalGeneration, tempo_words: Sequence[int], ids: Tensor, mask: Tensor, delayed: Tensor
) -> None:
    """Write the flags' head and the three bar heads.

    Args:
        model: a decoder with `copy_heads`, trained or not.
        tempo_words: the tokens that name the tempi of `LAGS`, in their order.
        ids: int64 [B, S], captions; each should name a tempo.
        mask: int64 [B, S].
        delayed: int64 [B, K, T], delayed codes of music under those captions.
    """
    decoder: Any = model.decoder
    inner, layout = decoder.model.decoder, Layout(decoder.config.hidden_size)
    states = text_states(model, ids, mask)
    readers = _word_readers(states[mask > 0], ids[mask > 0], tempo_words)
    first: Any = inner.layers[0]
    asking = first.encoder_attn_layer_norm(listened(first, embedded(inner, delayed)))
    _write_flags(first.encoder_attn, readers, layout, asking)
    second: Any = inner.layers[1]
    read = second.self_attn_layer_norm(hidden_after(inner, 1, delayed, states, mask))
    flagged = torch.stack([(ids == word).any(1) for word in tempo_words], dim=1)
    _write_bars(second.self_attn, layout, read, flagged)


def fixed_rows(model: MusicgenForConditionalGeneration) -> list[Tensor]:
    """The parts of the weights that say where the heads look: views, to be kept as they are in training."""
    layers: Any = model.decoder.model.decoder.layers
    text, past, flags = layers[0].encoder_attn, layers[1].self_attn, _rows(CROSS_HEAD)
    bars = [part.weight[_rows(head)] for part in (past.q_proj, past.k_proj) for head in BAR_HEADS]
    read = [part.weight[flags] for part in (text.q_proj, text.k_proj, text.v_proj)]
    return [*bars, *read, text.out_proj.weight[:, flags]]


def _rows(head: int) -> slice:
    return slice(head * HEAD, (head + 1) * HEAD)


def _word_readers(states: Tensor, ids: Tensor, words: Sequence[int]) -> Tensor:
    """Rows [3, hidden], by ridge regression: each is one on the states [N, hidden] of its word, zero on all others."""
    wanted = torch.stack([(ids == word).float() for word in words], dim=1)
    ridge = 1e-2 * states.var() * torch.eye(states.shape[1])
    found: Tensor = torch.linalg.solve(states.T @ states + ridge, states.T @ wanted)
    return (found / (states @ found * wanted).sum(0) * wanted.sum(0)).T


def _write_flags(block: MusicgenAttention, readers: Tensor, layout: Layout, asking: Tensor) -> None:
    """Layer 0's cross-attention: whoever asks finds the tempo's word; what is written says which it is."""
    constant = constant_direction(asking.shape[-1])
    query, key, value = (torch.zeros(HEAD, asking.shape[-1]) for _ in range(3))
    query[0] = constant / (asking @ constant).mean()
    key[0] = readers.sum(0) * WORD * math.sqrt(HEAD)
    value[: len(LAGS)] = readers
    output = torch.zeros(asking.shape[-1], HEAD)
    output[:, : len(LAGS)] = FLAG * layout.flags.T
    _write(block, _rows(CROSS_HEAD), query, key, value, output)


def _write_bars(block: MusicgenAttention, layout: Layout, read: Tensor, flagged: Tensor) -> None:
    """Layer 1: a head for each bar length; `read` [B, T, hidden] is its input, `flagged` bool [B, 3] names tempi."""
    hidden, constant = read.shape[-1], constant_direction(read.shape[-1])
    start, one = (read[:, 0] @ layout.start).mean(), (read[:, 1:] @ constant).mean()
    places = plane(PAIRS, hidden)
    power = (read[:, 1:] @ places.T).square().sum(-1).mean()  # of all pairs: their score one bar back
    gain = (PLACE * math.sqrt(HEAD) / power).sqrt()
    value, output = _copying(block)
    for number, (lag, head) in enumerate(zip(LAGS, BAR_HEADS, strict=True)):
        flag = (read[flagged[:, number], 1:] @ layout.flags[number]).mean()
        query, key = torch.zeros(HEAD, hidden), torch.zeros(HEAD, hidden)
        key[: len(places)], query[: len(places)] = gain * places, gain * rotated(PAIRS, hidden, (lag - 1,))
        key[-1] = layout.start / start
        query[-1] = SINK_SHUT * constant / one - (SINK_SHUT - SINK_OPEN) * layout.flags[number] / flag
        query[-1] *= math.sqrt(HEAD)
        _write(block, _rows(head), query, key, value, output)


def _copying(block: MusicgenAttention) -> tuple[Tensor, Tensor]:
    """Values [64, hidden] and outputs [hidden, 64] of both copying heads in one: the larger half of each."""
    values, outputs = [], []
    for head in COPYING_HEADS:
        rows = _rows(head)
        left, strength, right = torch.linalg.svd(block.out_proj.weight[:, rows] @ block.v_proj.weight[rows])
        root = strength[: HEAD // 2].sqrt()
        values.append(root[:, None] * right[: HEAD // 2])
        outputs.append(left[:, : HEAD // 2] * root)
    return torch.cat(values), torch.cat(outputs, dim=1)


def _write(block: MusicgenAttention, rows: slice, query: Tensor, key: Tensor, value: Tensor, output: Tensor) -> None:
    block.q_proj.weight[rows], block.k_proj.weight[rows], block.v_proj.weight[rows] = query, key, value
    block.out_proj.weight[:, rows] = output
