"""Attention heads that copy from exactly one, two and three bars back, written into a trained decoder.

Rules: knows a decoder's weights and some sequences to measure them on; no training. The heads of `copy_heads` look one
bar back for any of the bar lengths and lean on tokens that match. That is enough to copy what is clean. What a model
plays is not: a downbeat a frame early matches there, and a loop of 96 frames goes on as one of 95, or jumps to another
tempo's 80. And whoever copies from one bar alone keeps a mistake for ever: a tail held too long was held a little
longer in every bar, until nothing else was left. Three bars that vote forget it.

    layer 0, cross-attention        three heads find the words that name tempo, style and key, and write what they name
                                    into the `channel`: 21 coordinates that nothing else writes or reads, and a
                                    22nd that stays zero: layer norms subtract the mean
    layers 1, 2, 3, self-attention  a head for each bar length, which looks one, two, three bars back: by place alone
                                    (58 of its 64 directions are the fastest sinusoids), where the channel named the
                                    same tempo. Without its tempo's name, or before there is anything to copy, it looks
                                    at the start token, which says nothing

In training these heads are silent, and nobody writes over places or channel: scores of fifty are not made for small
random steps, and where they were trained on, loops slipped again (tokens equal to those a bar earlier fell from .92 to
.35 in 250 steps). Few are missed: of the heads of layers 1 to 3 most cost under .01 nats when they are silenced. What
heads read is found by ridge regression on what the trained layers make of it. A head that should rest must do so: while
one token in eight leaked out of heads with nothing to copy yet, first bars cost .89 nats instead of .61, and of 24
clips .21 had their key instead of .67.

Style and key are named in the channel, but no head reads them there: heads that let go when a prompt names another
style rested as they should, and the loop held all the same, by the heads of `copy_heads`.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import MusicgenForConditionalGeneration
from transformers.models.musicgen.modeling_musicgen import MusicgenAttention

from streamgen.pocket.training.captions import GROUPS, NAMES
from streamgen.pocket.training.copy_heads import HEAD, LAGS, plane, rotated
from streamgen.pocket.training.language import embedded, hidden_after, listened, text_states
from streamgen.pocket.training.quantizer import CODEBOOKS

NAMING_HEADS, BAR_HEADS = (0, 1, 2), (3, 4, 5)
BARS_BACK = (1, 2, 3)  # by the heads of the layer of that number
COPYING_HEADS = (0, 1)  # of `copy_heads`, whose values and outputs are taken over
PAIRS = range(30)  # of sinusoids
LOOKED_BY = PAIRS[:-1]  # a direction more for the start token: its two halves differ a hundredfold, too much for 8 bits
VOICES = (0.7, 0.45, 0.45)  # of the heads one, two, three bars back, of what the copying heads have
LOUD = 3.0  # a name's amplitude in the channel; a token's is 8
RIDGE = 1e-5  # of the variance of what is read
REST = 300.0  # how much more it counts, when values are fitted, that the start token says nothing
# Scores before the softmax: the place looked for (one frame beside it 50, others under 30); the start token with and
# without the tempo's name, and what it has more before there is anything to copy; a tempo that is no longer named, off
# the place's; a word that names a tempo, others having about 0.
PLACE, START_OPEN, START_SHUT, EARLY, OTHER_TEMPO, WORD = 60.0, 24.0, 150.0, 90.0, 40.0, 20.0


@dataclass(frozen=True)
class Captions:
    """Captions to find names in: ids and mask int64 [B, S], and what each token names, float32 [B, S, 21]."""

    ids: Tensor
    mask: Tensor
    named: Tensor

    def to(self, device: torch.device) -> "Captions":
        """The same on another device."""
        return Captions(self.ids.to(device), self.mask.to(device), self.named.to(device))


@dataclass(frozen=True)
class Music:
    """Music under captions.

    Attributes:
        ids, mask: int64 [B, S].
        named: float32 [B, 21], what the captions name.
        delayed: int64 [B, K, T], delayed codes.
    """

    ids: Tensor
    mask: Tensor
    named: Tensor
    delayed: Tensor


def reserved(model: MusicgenForConditionalGeneration) -> list[Tensor]:
    """Views of the weights that stay zero in training: what the heads pass on; what would blur places or channel."""
    parts: Any = model
    decoder, hidden = parts.decoder.model.decoder, parts.decoder.config.hidden_size
    private = slice(hidden - NAMES - 1, hidden)
    blurring = [slice(0, len(PAIRS)), slice(hidden // 2, hidden // 2 + len(PAIRS)), private]
    writing = [table.weight.T for table in decoder.embed_tokens]
    for layer in decoder.layers[: max(BARS_BACK)]:
        writing += [layer.self_attn.out_proj.weight, layer.encoder_attn.out_proj.weight, layer.fc2.weight]
    reading = [head.weight for head in parts.decoder.lm_heads]
    for layer in decoder.layers:
        past, text = layer.self_attn, layer.encoder_attn
        reading += [part.weight for part in (past.q_proj, past.k_proj, past.v_proj, text.q_proj, layer.fc1)]
    return [
        *[decoder.layers[layer].self_attn.out_proj.weight[:, _rows(head)] for layer in BARS_BACK for head in BAR_HEADS],
        *[decoder.layers[0].encoder_attn.out_proj.weight[:, _rows(head)] for head in NAMING_HEADS],
        *[weight[rows] for weight in writing for rows in blurring],
        *[weight[:, private] for weight in reading],
    ]


@torch.no_grad()
def silence(model: MusicgenForConditionalGeneration) -> None:
    """Take the voice from the heads that are to be written, and clear places and channel."""
    for view in reserved(model):
        view.zero_()


@torch.no_grad()
def write_bar_heads(model: MusicgenForConditionalGeneration, captions: Captions, music: Music) -> None:
    """Write the naming heads and the bar heads.

    Args:
        model: a decoder that began with `copy_heads`, trained or not, its bar heads silent.
        captions: many of them.
        music: some sequences at every tempo, as long as a window.
    """
    parts: Any = model
    decoder: Any = parts.decoder.model.decoder
    first = decoder.layers[0]
    asking = first.encoder_attn_layer_norm(listened(first, embedded(decoder, music.delayed)))
    _write_names(first.encoder_attn, text_states(model, captions.ids, captions.mask), captions, _asks(asking))

    copied, proposed = _copying(decoder.layers[1].self_attn)
    states = text_states(model, music.ids, music.mask)
    tokens = _read(decoder, 1, music, states) @ copied.T
    for bars, voice in zip(BARS_BACK, VOICES, strict=True):
        block, norm = decoder.layers[bars].self_attn, decoder.layers[bars].self_attn_layer_norm
        norm.weight[-NAMES - 1 :], norm.bias[-NAMES - 1 :] = 1, 0  # nobody else reads there
        read = _read(decoder, bars, music, states)
        readers = _Readers(read, decoder.embed_positions.weights, music.named, tokens, bars)
        for number, head in enumerate(BAR_HEADS):
            _write_bar(block, head, readers, number, bars * LAGS[number] - 1)
            block.out_proj.weight[:, _rows(head)] = voice * proposed


class _Readers:
    """Rows that read things off a layer's normed input, each found by ridge regression.

    Attributes:
        places: [58, hidden], the fastest sinusoids.
        one: [hidden], what a tempo's name is where it is named, whether one is named or not.
        start: [hidden], one at the start token, zero elsewhere.
        tempi: [3, hidden], one where that tempo is named.
        early: [3, hidden], one where that tempo's bar was not played yet.
        tokens: [64, hidden], what the copying heads of layer 1 take from a step.
    """

    def __init__(self, read: Tensor, positions: Tensor, named: Tensor, tokens: Tensor, bars: int) -> None:
        """Fit them to `read` [B, T, hidden] at `positions` [T or more, hidden], under captions that name `named`."""
        rows, steps, hidden = read.shape
        start, channel = _start(rows, steps), slice(hidden - NAMES - 1, hidden)
        sinusoids = (positions[:steps] @ plane(LOOKED_BY, hidden).T).expand(rows, -1, -1)
        public, names = read.clone(), torch.eye(NAMES, hidden).roll(-NAMES, 1)
        public[..., channel] = 0  # some captions name nothing: what is always there must be read elsewhere
        names[:, -NAMES - 1] = -1
        early = torch.stack([torch.arange(steps) < bars * lag - 1 for lag in LAGS], dim=1).float().expand(rows, -1, -1)
        found = ridge(public.flatten(0, 1), torch.cat([start, early, sinusoids], dim=-1).flatten(0, 1))
        self.start = found[0] / (read[:, 0] @ found[0]).mean()
        self.early, self.places = found[1:].split([len(LAGS), 2 * len(LOOKED_BY)])
        weight = 1 + REST * start
        self.tokens = ridge((weight * public).flatten(0, 1), (weight * tokens * (start == 0)).flatten(0, 1))
        tempi, named = names[: len(LAGS)], named[:, : len(LAGS)]
        self.tempi = tempi * named.sum() / (read[:, CODEBOOKS:].mean(1) @ tempi.T * named).sum()
        # Layer norms make a name louder here and softer there; what is weighed against it has to follow.
        sure = named.sum(-1) > 0
        loud = (read[sure] @ self.tempi.T).sum(-1)
        self.one = ridge(public[sure].flatten(0, 1), loud.flatten()[:, None])[0]


def _start(rows: int, steps: int) -> Tensor:
    """How much of a step is start tokens, [rows, steps, 1]: the later codebooks' come later."""
    start = torch.zeros(rows, steps, 1)
    start[:, :CODEBOOKS, 0] = torch.linspace(1, 1 / CODEBOOKS, CODEBOOKS)
    return start


def ridge(read: Tensor, wanted: Tensor, penalty_share: float = RIDGE) -> Tensor:
    """Rows [M, hidden] whose products with `read` [N, hidden] come near to `wanted` [N, M]."""
    penalty = penalty_share * read.square().mean() * len(read) * torch.eye(read.shape[1])
    found: Tensor = torch.linalg.solve(read.T @ read + penalty, read.T @ wanted)
    return found.T


def _read(decoder: Any, layer: int, music: Music, states: Tensor) -> Tensor:
    """What a layer's attention to the past reads, [B, T, hidden], under text states [B, S, hidden]."""
    normed = decoder.layers[layer].self_attn_layer_norm
    return torch.as_tensor(normed(hidden_after(decoder, layer, music.delayed, states, music.mask)))


def _copying(block: MusicgenAttention) -> tuple[Tensor, Tensor]:
    """The larger half of what both copying heads do: values [64, hidden] and outputs [hidden, 64]."""
    values, outputs = [], []
    for rows in map(_rows, COPYING_HEADS):
        left, strength, right = torch.linalg.svd(block.out_proj.weight[:, rows] @ block.v_proj.weight[rows])
        root = strength[: HEAD // 2].sqrt()
        values.append(root[:, None] * right[: HEAD // 2])
        outputs.append(left[:, : HEAD // 2] * root)
    return torch.cat(values), torch.cat(outputs, dim=1)


def _rows(head: int) -> slice:
    return slice(head * HEAD, (head + 1) * HEAD)


def _asks(asking: Tensor) -> Tensor:
    """A row [hidden] that is one on what asks for words, and minus one on the start token, which is to say nothing."""
    wanted = 1 - 2 * _start(len(asking), asking.shape[1])
    found: Tensor = ridge(asking.flatten(0, 1), wanted.flatten(0, 1))[0]
    return found


def _write_names(block: MusicgenAttention, states: Tensor, captions: Captions, asks: Tensor) -> None:
    """Layer 0's cross-attention: a head each for tempo, style and key finds the words, and writes what they name."""
    hidden, heard, begin = block.embed_dim, captions.mask > 0, 0
    for head, size in zip(NAMING_HEADS, GROUPS, strict=True):
        group = slice(begin, begin + size)
        is_name = captions.named[..., group].sum(-1)
        finds = WORD * ridge(states[heard], is_name[heard][:, None])[0]
        found = (states @ finds).masked_fill(~heard, -torch.inf).softmax(-1)
        read = ridge((found[..., None] * states).sum(1), captions.named.amax(1)[:, group])
        query, key, value, out = (torch.zeros(HEAD, hidden) for _ in range(4))
        query[0], key[0], value[:size] = asks, finds * math.sqrt(HEAD), read
        out[:size, hidden - NAMES + begin : hidden - NAMES + begin + size] = LOUD * torch.eye(size)
        rows, begin = _rows(head), begin + size
        block.q_proj.weight[rows], block.k_proj.weight[rows], block.v_proj.weight[rows] = query, key, value
        block.out_proj.weight[:, rows] = out.T


def _write_bar(block: MusicgenAttention, head: int, readers: _Readers, tempo: int, distance: int) -> None:
    """A head that looks some steps back while its tempo is named, and reads the tokens there."""
    root = math.sqrt(HEAD)
    turned = rotated(LOOKED_BY, block.embed_dim, (distance,)) @ plane(LOOKED_BY, block.embed_dim).T
    gain = math.sqrt(PLACE * root / len(LOOKED_BY))
    shut = START_SHUT * readers.one + EARLY * readers.early[tempo]
    opened = -(START_SHUT - START_OPEN) * readers.tempi[tempo]
    others = OTHER_TEMPO * (1 - torch.eye(len(LAGS)))  # of each tempo, those it excludes
    key = torch.cat([gain * readers.places, readers.tempi, readers.start.expand(2, -1)])
    start = root * torch.stack([shut, opened])
    query = torch.cat([gain * turned @ readers.places, -root * others @ readers.tempi, start])
    spare = torch.zeros(HEAD - len(key), block.embed_dim)
    rows = _rows(head)
    block.k_proj.weight[rows], block.q_proj.weight[rows] = torch.cat([key, spare]), torch.cat([query, spare])
    block.v_proj.weight[rows] = readers.tokens
