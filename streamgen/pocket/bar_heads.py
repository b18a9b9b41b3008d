"""Attention heads that copy exactly one bar back, one for each tempo, written into a decoder that can copy already.

Rules: knows a decoder's weights and some sequences to measure them on; no training. The heads of `copy_heads` look one
bar back for any of the bar lengths and lean on tokens that match. That is enough to copy what is clean. What a model
plays is not: a downbeat a frame early matches there, and a loop of 96 frames goes on as one of 95, or jumps to another
tempo's 80. After 3,100 steps of training, 24 clips repeated .59 of their tokens at the bar of the named tempo; with
these heads written in, and not a step more, .92.

    layer 0, cross-attention    one head finds the tempo's word and writes which it is: one of three directions, `flags`
    layer 1, self-attention     a head for each bar length: by place alone, and sharp (31 of 64 directions are the
                                fastest sinusoids); without its tempo's flag it looks at the start token, where there
                                is nothing to copy

Norms and trained weights stand between a residual direction and a score, so amplitudes are measured, not assumed.
The heads that are overwritten were the least missed when they were silenced (under .01 nats each). Where the new ones
look is not left to the optimiser: 250 steps took the .92 back to .35, for scores of fifty are not made for small random
steps. Nor can it stay as it is, for the text encoder learns on. So they are aimed anew every few steps; what they pass
on is trained.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import MusicgenForConditionalGeneration
from transformers.models.musicgen.modeling_musicgen import MusicgenAttention

from streamgen.pocket.copy_heads import HEAD, LAGS, constant_direction, free_of_positions, plane, rotated
from streamgen.pocket.language import embedded, hidden_after, listened, text_states

CROSS_HEAD, BAR_HEADS = 0, (3, 4, 5)
COPYING_HEADS = (0, 1)  # of `copy_heads`, whose values and outputs are taken over
PAIRS = range(31)  # of sinusoids
VOICE = 0.5  # of the copying heads: guidance makes it louder again, for what is played without words has no bar head
FLAG = 8.0  # amplitude in the residual stream, as much as a token's
# Scores before the softmax: the place one bar back (one frame beside it 42, others under 22); the start token with and
# without the tempo's flag; the tempo's word, others having about 0.
PLACE, SINK_OPEN, SINK_SHUT, WORD = 50.0, 24.0, 60.0, 20.0


@torch.no_grad()
def aim_bar_heads(
    model: MusicgenForConditionalGeneration, tempo_words: Sequence[int], ids: Tensor, mask: Tensor, delayed: Tensor
) -> None:
    """Write where the flags' head and the three bar heads look.

    Args:
        model: a decoder with `copy_heads`, trained or not.
        tempo_words: the tokens that name the tempi of `LAGS`, in their order.
        ids: int64 [B, S], captions; each tempo is named in one of them.
        mask: int64 [B, S].
        delayed: int64 [B, K, T], delayed codes of music under those captions.
    """
    decoder: Any = model.decoder
    inner = decoder.model.decoder
    states = text_states(model, ids, mask)
    readers = _word_readers(states[mask > 0], ids[mask > 0], tempo_words)
    first: Any = inner.layers[0]
    asking = first.encoder_attn_layer_norm(listened(first, embedded(inner, delayed)))
    _aim_flags(first.encoder_attn, readers, asking)
    second: Any = inner.layers[1]
    read = second.self_attn_layer_norm(hidden_after(inner, 1, delayed, states, mask))
    flagged = torch.stack([(ids == word).any(1) for word in tempo_words], dim=1)
    _aim_bars(second.self_attn, _flags(first.encoder_attn), _start(inner), read, flagged)


@torch.no_grad()
def install_bar_heads(model: MusicgenForConditionalGeneration) -> None:
    """Write, once, what the heads pass on: the larger half of what both copying heads do, and the flags' directions."""
    decoder: Any = model.decoder
    block: MusicgenAttention = decoder.model.decoder.layers[1].self_attn
    values, outputs = [], []
    for rows in map(_rows, COPYING_HEADS):
        left, strength, right = torch.linalg.svd(block.out_proj.weight[:, rows] @ block.v_proj.weight[rows])
        root = strength[: HEAD // 2].sqrt()
        values.append(root[:, None] * right[: HEAD // 2])
        outputs.append(left[:, : HEAD // 2] * root)
    for rows in map(_rows, BAR_HEADS):
        block.v_proj.weight[rows], block.out_proj.weight[:, rows] = torch.cat(values), VOICE * torch.cat(outputs, dim=1)
    flags = decoder.model.decoder.layers[0].encoder_attn.out_proj.weight[:, _rows(CROSS_HEAD)]
    flags.zero_()
    flags[:, : len(LAGS)] = FLAG * _unused(decoder, len(LAGS)).T


def _unused(decoder: Any, count: int) -> Tensor:
    """Directions [count, hidden] that hold neither positions nor, as far as that goes, what is read or proposed."""
    free = free_of_positions(decoder.config.hidden_size)
    tables = [table.weight for table in (*decoder.model.decoder.embed_tokens, *decoder.lm_heads)]
    used = sum(table.T @ table / table.square().sum() for table in tables)
    least: Tensor = torch.linalg.eigh(free @ used @ free.T)[1][:, :count].T
    return least @ free


def _flags(block: MusicgenAttention) -> Tensor:
    """The directions [3, hidden] into which layer 0's cross-attention writes which tempo is named."""
    return block.out_proj.weight[:, _rows(CROSS_HEAD)][:, : len(LAGS)].T / FLAG


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
    said = wanted.sum(0)
    return (found / torch.where(said > 0, (states @ found * wanted).sum(0) / said.clamp(min=1), 1.0)).T


def _start(inner: Any) -> Tensor:
    """The direction [hidden] of the start token, trained on from `Layout.start`."""
    return torch.nn.functional.normalize(sum(table.weight[-1] for table in inner.embed_tokens), dim=0)


def _aim_flags(block: MusicgenAttention, readers: Tensor, asking: Tensor) -> None:
    """Layer 0's cross-attention: whoever asks finds the tempo's word; what is written says which it is."""
    hidden, rows = asking.shape[-1], _rows(CROSS_HEAD)
    constant = constant_direction(hidden)
    query, key, value = (torch.zeros(HEAD, hidden) for _ in range(3))
    query[0] = constant / (asking @ constant).mean()
    key[0] = readers.sum(0) * WORD * math.sqrt(HEAD)
    value[: len(LAGS)] = readers
    block.q_proj.weight[rows], block.k_proj.weight[rows], block.v_proj.weight[rows] = query, key, value


def _aim_bars(block: MusicgenAttention, flags: Tensor, start: Tensor, read: Tensor, flagged: Tensor) -> None:
    """Layer 1: a head for each bar length; `read` [B, T, hidden] is its input, `flagged` bool [B, 3] names tempi."""
    hidden, constant = read.shape[-1], constant_direction(read.shape[-1])
    one = (read[:, 1:] @ constant).mean()
    places = plane(PAIRS, hidden)
    power = (read[:, 1:] @ places.T).square().sum(-1).mean()  # of all pairs: their score one bar back
    gain = (PLACE * math.sqrt(HEAD) / power).sqrt()
    for number, (lag, head) in enumerate(zip(LAGS, BAR_HEADS, strict=True)):
        if not flagged[:, number].any():
            continue  # no caption to measure by: it stays as it is
        flag = (read[flagged[:, number], 1:] @ flags[number]).mean()
        query, key = torch.zeros(HEAD, hidden), torch.zeros(HEAD, hidden)
        key[: len(places)], query[: len(places)] = gain * places, gain * rotated(PAIRS, hidden, (lag - 1,))
        key[-1] = start / (read[:, 0] @ start).mean()
        query[-1] = SINK_SHUT * constant / one - (SINK_SHUT - SINK_OPEN) * flags[number] / flag
        query[-1] *= math.sqrt(HEAD)
        block.q_proj.weight[_rows(head)], block.k_proj.weight[_rows(head)] = query, key
