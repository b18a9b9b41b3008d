"""From prompts to the decoder's rows: a text's keys and values, a melody's prefix, each computed once.

    PromptMix ─► names, coefficients ─┬─ TextRows     MusicGen: TextKV of each text, to attend to
                                      └─ PrefixRows   MusicGen Melody: chroma then text, read first

A stream has one `Conditioner`, which says all that sets the two apart; nobody else asks whether there is a melody.

Rules: joins conditioning and lm; knows no stream and no window. Any thread may ask for rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from streamgen.checkpoint.words import Heard
from streamgen.conditioning.melody import MelodyConditioner, build_prefix
from streamgen.conditioning.prompt_mix import PromptMix
from streamgen.conditioning.text import NewLock, TextCache, TextConditioner
from streamgen.lm.cross import TextKV
from streamgen.lm.step import Rows

__all__ = ["Conditioner", "PrefixRows", "Prompts", "TextRows"]

Audio = NDArray[np.float32]
_KEPT_BYTES = 128 * 2**20  # of texts' keys and values: a long text of a large model has 200 MB


class Conditioner(Protocol):
    """What makes the rows of one stream."""

    @property
    def fades(self) -> bool:
        """Whether rows can change from one frame to the next, so that a mix can fade."""
        ...

    def of(self, mix: PromptMix, guidance_scale: float, like: Rows | None = None) -> Rows:
        """Return the rows of a mix, named by their texts.

        Args:
            mix: prompts.
            guidance_scale: g.
            like: rows in force: what they have in common with the new ones is not computed again.

        Raises:
            PromptError: a text cannot be encoded.
        """
        ...

    def positions(self, mix: PromptMix) -> int:
        """Return how many positions of a window the prefix of a mix takes."""
        ...

    def padded(self, mixes: Iterable[PromptMix]) -> Conditioner:
        """Return one whose rows have room for the longest text of some mixes: a batch shares its length."""
        ...


class Prompts:
    """Texts and melodies of one model, as its decoder takes them.

    Args:
        text: encodes texts.
        chroma: makes prefixes of melodies.
        project: turns text states, float32 [T, D], into keys and values.
        has_melody: whether the checkpoint reads a melody prefix in every stream.
        new_lock: makes a lock, where several threads ask for prompts.
    """

    def __init__(
        self,
        text: TextConditioner,
        chroma: MelodyConditioner,
        project: Callable[[Tensor], TextKV],
        *,
        has_melody: bool,
        new_lock: NewLock = nullcontext,
    ) -> None:
        self.text, self.chroma = text, chroma
        self._project, self._has_melody = project, has_melody
        self._kept: TextCache[TextKV] = TextCache(_KEPT_BYTES, lambda kv: kv.keys.nbytes + kv.values.nbytes, new_lock)

    def conditioner(self, melody: Audio | None = None, rate_hz: int | None = None) -> Conditioner:
        """Return what makes the rows of a stream.

        Args:
            melody: float32 [samples] or [channels, samples] to follow (melody checkpoints).
            rate_hz: its samples a second.

        Raises:
            PromptError: a melody that cannot be used, or for a checkpoint that takes none.
        """
        if melody is None and not self._has_melody:
            return TextRows(self)
        return PrefixRows(self, self.chroma.prefix(melody, rate_hz))

    def learn(self, text: str | None) -> None:
        """Compute now what a stream will ask for.

        Raises:
            PromptError: it cannot be encoded.
        """
        if self._has_melody:
            self.text.encode(text)
        else:
            self.keys(text)

    def heard(self, text: str | None) -> Heard | None:
        """What the checkpoint hears in a text; None where it reads texts as they are typed, and of no text."""
        return self.text.heard(text)

    def keys(self, text: str | None) -> TextKV:
        """Return a text's keys and values.

        Raises:
            PromptError: it cannot be encoded.
        """
        return self._kept.get(text, lambda text: self._project(self.text.encode(text)))


class TextRows:
    """Rows that attend to their texts."""

    fades = True

    def __init__(self, prompts: Prompts) -> None:
        self._prompts = prompts

    def of(self, mix: PromptMix, guidance_scale: float, like: Rows | None = None) -> Rows:
        """See `Conditioner.of`."""
        names, coefficients = mix.rows(guidance_scale)
        known = {} if like is None else dict(zip(like.names, like.texts, strict=True))
        texts = [known[name] if name in known else self._prompts.keys(name) for name in names]
        return Rows(names, tuple(texts), coefficients)

    def positions(self, mix: PromptMix) -> int:  # noqa: ARG002 - whatever the mix
        """None: texts are attended to, not read."""
        return 0

    def padded(self, mixes: Iterable[PromptMix]) -> TextRows:  # noqa: ARG002 - whatever the mixes
        """Return itself: texts take no positions."""
        return self


class PrefixRows:
    """Rows that begin with a melody and their text; the null row, and guidance 0, have the null chroma for a melody.

    Args:
        prompts: of the model.
        melody: chroma prefix float32 [chroma_length, D].
        text_positions: for the text at least.
    """

    fades = False

    def __init__(self, prompts: Prompts, melody: Tensor, text_positions: int = 1) -> None:
        self._prompts, self.melody, self._text_positions = prompts, melody, text_positions

    def of(self, mix: PromptMix, guidance_scale: float, like: Rows | None = None) -> Rows:  # noqa: ARG002
        """See `Conditioner.of`."""
        names, coefficients = mix.rows(guidance_scale, merge=False)
        follows = [guidance_scale > 0 and row < len(mix.prompts) for row in range(len(names))]
        nothing = self._prompts.keys(None)
        return Rows(names, (nothing,) * len(names), coefficients, self._prefixes(names, follows))

    def _prefixes(self, texts: Sequence[str | None], follows: Sequence[bool]) -> Tensor:
        """Return the prefix of each row, float32 [rows, P, D]."""
        states = [self._prompts.text.encode(text) for text in texts]
        longest = max([self._text_positions, *(len(state) for state in states)])
        null = self._prompts.chroma.null_prefix()
        chroma = [self.melody if row_follows else null for row_follows in follows]
        return torch.stack([build_prefix(c, s, longest) for c, s in zip(chroma, states, strict=True)])

    def positions(self, mix: PromptMix) -> int:
        """Return the positions of chroma and longest text, the negative one included."""
        return len(self.melody) + self._longest([mix])

    def padded(self, mixes: Iterable[PromptMix]) -> PrefixRows:
        """Return rows with room for the longest text of some mixes, as in transformers and audiocraft."""
        return PrefixRows(self._prompts, self.melody, self._longest(mixes))

    def _longest(self, mixes: Iterable[PromptMix]) -> int:
        """Positions of the longest text, at least the one of no text."""
        texts = {text for mix in mixes for text in (*(text for text, _ in mix.prompts), mix.negative)}
        return max(self._text_positions, *(len(self._prompts.text.encode(text)) for text in texts))
