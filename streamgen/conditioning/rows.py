"""From prompts to the decoder's rows: a text's keys and values, a melody's prefix, each computed once.

    PromptMix ─► texts, coefficients ─┬─ cross-attention: TextKV of each text
                                      └─ melody checkpoints: prefix of each row, chroma then text

Rules: joins conditioning and lm; knows no stream and no window.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from streamgen.conditioning import MelodyConditioner, PromptMix, TextConditioner, build_prefix
from streamgen.lm.cross import TextKV
from streamgen.lm.window_set import Rows

__all__ = ["PromptRows"]

_TEXTS_KEPT = 32


class PromptRows:
    """Makes rows for one model's decoder.

    Args:
        text: encodes texts.
        chroma: makes prefixes of melodies.
        project: turns text states, float32 [T, D], into keys and values.
        has_melody: whether the checkpoint reads a melody prefix in every stream.
    """

    def __init__(
        self,
        text: TextConditioner,
        chroma: MelodyConditioner,
        project: Callable[[Tensor], TextKV],
        *,
        has_melody: bool,
    ) -> None:
        self._text, self._chroma, self._project, self._has_melody = text, chroma, project, has_melody
        self._kept: OrderedDict[str | None, TextKV] = OrderedDict()

    def of(
        self, mix: PromptMix, guidance_scale: float, melody: Tensor | None = None, text_positions: int = 0
    ) -> tuple[tuple[str | None, ...], Rows]:
        """Return the texts of the decoder rows that a mix needs, and the rows themselves.

        Args:
            mix: prompts.
            guidance_scale: g.
            melody: chroma prefix float32 [chroma_length, D] of melody checkpoints, else None.
            text_positions: melody checkpoints only: positions for the text at least (a batch shares the longest).

        Raises:
            PromptError: a text cannot be encoded.
        """
        texts, coefficients = mix.rows(guidance_scale, melody=melody is not None)
        if melody is None:
            return texts, Rows(tuple(self._keys(text) for text in texts), coefficients)
        hears = [guidance_scale > 0 and row < len(mix.prompts) for row in range(len(texts))]
        prefixes = self._prefixes(texts, hears, melody, text_positions)
        return texts, Rows(tuple(self._keys(None) for _ in texts), coefficients, prefixes)

    def _keys(self, text: str | None) -> TextKV:
        if text not in self._kept:
            self._kept[text] = self._project(self._text.encode(text))
            if len(self._kept) > _TEXTS_KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(text)
        return self._kept[text]

    def _prefixes(
        self, texts: Sequence[str | None], hears: Sequence[bool], melody: Tensor, text_positions: int
    ) -> Tensor:
        """Return the melody prefix of each row, float32 [rows, P, D]: rows that hear no melody get the null chroma."""
        states = [self._text.encode(text) for text in texts]
        longest = max([text_positions, *(len(state) for state in states)])
        null = self._chroma.null_prefix()
        chroma = [melody if heard else null for heard in hears]
        return torch.stack([build_prefix(c, s, longest) for c, s in zip(chroma, states, strict=True)])

    def melody_prefix(self, melody: NDArray[np.float32] | None, rate_hz: int | None) -> Tensor | None:
        """Return the chroma prefix float32 [chroma_length, D]; None for checkpoints without melody.

        Raises:
            PromptError: a melody that cannot be used, or for a checkpoint that takes none.
        """
        if melody is None and not self._has_melody:
            return None
        return self._chroma.prefix(melody, rate_hz)

    def text_positions(self, mixes: Iterable[PromptMix]) -> int:
        """Return the positions of the longest text in some mixes, at least the one of no text."""
        texts = {text for mix in mixes for text in (*(text for text, _ in mix.prompts), mix.negative)}
        return max(1, *(len(self._text.encode(text)) for text in texts))
