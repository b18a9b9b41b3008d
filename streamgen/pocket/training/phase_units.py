"""Units of the first layer that know where in a sixteenth a frame lies, written into a decoder before training.

Rules: knows a decoder's weights and some sequences to measure them on; no training.

A sixteenth is 5, 6 or 8 frames, and the fastest sinusoid of the positions takes 6.3 frames a turn: nothing linear can
tell the first two, and seven thousand steps did not teach it. What the model played was a frame early or late in half
of its onsets, and the bar heads repeated that faithfully.

    unit j of UNITS     awake at position j and a little beside it: it reads the sinusoids there, less a threshold
    what it writes      onto 5 + 6 + 8 directions, of every step that a tempo has: 1 where the frame to be predicted is
                        that far into its sixteenth, found by ridge regression

Two bars are enough: later ones are copied. The layers above choose the tempo; everything here trains on.
"""

from typing import Any

import torch
from torch import Tensor
from transformers import MusicgenForConditionalGeneration

from streamgen.pocket.training.bar_heads import PAIRS, ridge
from streamgen.pocket.training.captions import NAMES
from streamgen.pocket.training.compose import FRAMES_PER_STEP
from streamgen.pocket.training.copy_heads import plane
from streamgen.pocket.training.language import embedded, informed, text_bias, text_states

UNITS = 256
GAIN, THRESHOLD = 0.15, 20.0  # of a place's score, which is 30 there, 25 one frame beside it, 13 two frames
LOUD = 3.0  # of what is written; a token's amplitude is 8
PHASES = sum(FRAMES_PER_STEP.values())


@torch.no_grad()
def write_phase_units(
    model: MusicgenForConditionalGeneration, ids: Tensor, mask: Tensor, delayed: Tensor, seed: int = 0
) -> None:
    """Make the last units of the first layer's feed-forward part tell the place in the sixteenth.

    Args:
        model: whose bar heads are silent.
        ids: int64 [B, S], some texts.
        mask: int64 [B, S], 1 where there is text.
        delayed: int64 [B, K, T], delayed codes under them, T well over `UNITS`.
        seed: of the directions that are written to.
    """
    parts: Any = model
    decoder: Any = parts.decoder.model.decoder
    first, hidden = decoder.layers[0], parts.decoder.config.hidden_size
    read = read_by_units(model, ids, mask, delayed)
    positions = decoder.embed_positions.weights[: read.shape[1]] @ plane(PAIRS, hidden).T
    known = torch.nn.functional.pad(positions, (0, 1), value=1.0)  # these layers have no bias: one is read as well
    found = ridge(read.flatten(0, 1), known.expand(len(read), -1, -1).flatten(0, 1))
    rows = GAIN * (positions[:UNITS] @ found[:-1] - THRESHOLD * found[-1])
    awake = torch.nn.functional.gelu(read @ rows.T)
    wanted = phases(read.shape[1]) * (torch.arange(read.shape[1]) < UNITS - 8)[:, None]
    writes = ridge(awake.flatten(0, 1), wanted.expand(len(read), -1, -1).flatten(0, 1), 1e-3)
    first.fc1.weight[-UNITS:] = rows
    first.fc2.weight[:, -UNITS:] = LOUD * (writes.T @ directions(hidden, seed)).T


def read_by_units(model: MusicgenForConditionalGeneration, ids: Tensor, mask: Tensor, delayed: Tensor) -> Tensor:
    """What the first layer's feed-forward part reads, float32 [B, T, hidden]."""
    parts: Any = model
    decoder: Any = parts.decoder.model.decoder
    first = decoder.layers[0]
    hidden = informed(first, embedded(decoder, delayed), text_states(model, ids, mask), text_bias(mask))
    return torch.as_tensor(first.final_layer_norm(hidden))


def phases(frames: int) -> Tensor:
    """Float [frames, PHASES]: for each tempo's sixteenth, a one where the frame lies in it."""
    frame = torch.arange(frames)
    ones = [torch.nn.functional.one_hot(frame % steps, steps) for steps in FRAMES_PER_STEP.values()]
    return torch.cat(ones, dim=-1).float()


def directions(hidden: int, seed: int) -> Tensor:
    """Unit rows [PHASES, hidden], at right angles, off the coordinates that places and names keep to themselves."""
    open_to_all = torch.ones(hidden)
    open_to_all[: len(PAIRS)] = open_to_all[hidden // 2 : hidden // 2 + len(PAIRS)] = 0
    open_to_all[hidden - NAMES - 1 :] = 0
    drawn = torch.randn(hidden, PHASES, generator=torch.Generator().manual_seed(seed)) * open_to_all[:, None]
    return torch.as_tensor(torch.linalg.qr(drawn)[0].T)
