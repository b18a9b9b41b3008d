"""What the model plays on its own, as training material.

Rules: knows a model and captions, no optimiser. A model that only ever reads real songs meets, when it plays, bars that
no codec wrote, and half of its clips then found no loop to hold. So it plays some bars from captions, and learns from
them what it should have played: whatever stood one bar of the named tempo earlier, mistakes and all. (This is the
"dataset aggregation" of imitation learning, Ross and others, 2011, with a repeated bar as the expert.)
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import EncodecModel, MusicgenForConditionalGeneration

from streamgen.pocket.compose import Song
from streamgen.pocket.quantizer import CODEBOOKS

GUIDANCE_SCALE, TEMPERATURE, TOP_K = 2.0, 0.45, 30  # what the exported checkpoint plays with


class CodesInsteadOfSound:
    """While open, the codec's decode only notes the codes it was given."""

    def __init__(self, codec: EncodecModel) -> None:
        """Wait for `with`."""
        self._codec: Any = codec
        self._decode: Any = codec.decode
        self.seen: list[Tensor] = []

    def __enter__(self) -> list[Tensor]:
        """Return the list that fills with codes [1, B, K, frames]."""

        def note(audio_codes: Tensor, audio_scales: object) -> object:  # noqa: ARG001
            self.seen.append(audio_codes.clone())
            return self._decode(audio_codes[..., :4], [None])

        self._codec.decode = note
        return self.seen

    def __exit__(self, *problem: object) -> None:
        """Let the codec decode again."""
        del self._codec.decode


@dataclass(frozen=True)
class Dream:
    """Bars a model played from a caption: the caption, its song's frames per bar, and codes int64 [4, frames]."""

    text: str
    frames_per_bar: int
    codes: Tensor

    def wanted(self) -> Tensor:
        """What it should have played, int64 [4, frames]: the bar before, again; its first bar is taken as it is."""
        bar = self.frames_per_bar
        return torch.cat([self.codes[:, :bar], self.codes[:, :-bar]], dim=1)


@torch.no_grad()
def play(
    model: MusicgenForConditionalGeneration,
    ids: Tensor,
    mask: Tensor,
    frames: int,
    **settings: Any,
) -> Tensor:
    """Codes int64 [B, 4, frames] that a model samples under texts [B, S]; settings are transformers' for `generate`."""
    codec: Any = model.audio_encoder
    with CodesInsteadOfSound(codec) as seen:
        model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=frames + CODEBOOKS - 1, **settings)
    return seen[0][0]


def dream(
    model: MusicgenForConditionalGeneration,
    songs: Sequence[Song],
    texts: Sequence[str],
    tokens: tuple[Tensor, Tensor],
    frames: int,
) -> list[Dream]:
    """Let the model play each caption.

    Args:
        model: the weights, as they are now.
        songs: what the captions were written of; only their tempo is used.
        texts: complete captions: one that names no tempo can't be held to it.
        tokens: ids and mask of the captions, int64 [B, S].
        frames: how long it plays.
    """
    codes = play(
        model,
        *tokens,
        frames,
        do_sample=True,
        guidance_scale=GUIDANCE_SCALE,
        temperature=TEMPERATURE,
        top_k=TOP_K,
    )
    return [Dream(text, song.frames_per_bar, played) for song, text, played in zip(songs, texts, codes, strict=True)]


class Dreams:
    """A pool of dreams, replaced little by little."""

    def __init__(self, size: int, rng: random.Random) -> None:
        """Start empty; beyond `size` the oldest are forgotten."""
        self._size, self._rng = size, rng
        self._kept: list[Dream] = []

    def add(self, new: list[Dream]) -> None:
        """Keep new ones."""
        self._kept = (self._kept + new)[-self._size :]

    def pick(self, count: int) -> list[Dream]:
        """Some of them, drawn with replacement."""
        return self._rng.choices(self._kept, k=count)

    def __len__(self) -> int:
        """How many are kept."""
        return len(self._kept)
