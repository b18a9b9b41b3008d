"""From prompts to the decoder's rows: a text's keys and values, a melody's prefix, each computed once.

    Wanted ─► names, coefficients ─┬─ TextRows     MusicGen: TextKV of each text, to attend to
                                   └─ PrefixRows   MusicGen Melody: chroma then text, read first
                                                   MusicGen-Style: style then text, read first
                                                   MusicGen Melody's decoder alone: text states, if there are any

A stream has one `Conditioner`, which says all that sets them apart; nobody else asks whether there is a melody.

Rules: joins conditioning and lm; knows no stream and no window. Any thread may ask for rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from streamgen.audio import check_no_lone_rate
from streamgen.checkpoint.vocabulary import Vocabulary
from streamgen.checkpoint.words import Heard
from streamgen.conditioning.melody import Melody, MelodyConditioner, build_prefix
from streamgen.conditioning.prompt_mix import PromptMix
from streamgen.conditioning.style import Style, StyleConditioner
from streamgen.conditioning.text import NewLock, TextCache, TextConditioner
from streamgen.lm.cross import TextKV
from streamgen.lm.step import Rows

__all__ = ["AudioPart", "Conditioner", "PrefixRows", "Prompts", "TextRows", "Wanted"]

_KEPT_BYTES = 128 * 2**20  # of texts' keys and values: a long text of a large model has 200 MB
_WINDOWS_KEPT = 3  # leader, successor, and one that begins anew


@dataclass(frozen=True)
class Wanted:
    """What rows are made of.

    Attributes:
        mix: prompts.
        guidance_scale: g.
        guidance_beta: β.
        melody, style: to follow, of checkpoints that can.
        eval_q, excerpt_seconds, seed: how a style is heard.
    """

    mix: PromptMix
    guidance_scale: float = 1.0
    guidance_beta: float = 1.0
    melody: Melody | None = None
    style: Style | None = None
    eval_q: int = 3
    excerpt_seconds: float = 3.0
    seed: int = 0


class AudioPart(Protocol):
    """What rows that follow audio read first in every window, and those that do not; equal ones compare as equal."""

    @property
    def length(self) -> int:
        """Positions A that it takes."""
        ...

    def of(self, start_frame: int) -> Tensor:
        """Return it for a window that begins at a frame, float32 [A, D]."""
        ...

    def null(self) -> Tensor:
        """Return what stands in its place in the other rows, float32 [A, D]."""
        ...


@dataclass(frozen=True)
class _MelodyPart:
    chroma: MelodyConditioner
    melody: Melody | None

    @property
    def length(self) -> int:
        return self.chroma.length

    def of(self, start_frame: int) -> Tensor:
        return self.chroma.window(self.melody, start_frame)

    def null(self) -> Tensor:
        return self.chroma.null_prefix()


@dataclass(frozen=True)
class _StylePart:
    conditioner: StyleConditioner
    style: Style | None
    codebooks: int
    excerpt_seconds: float
    seed: int
    length: int

    def of(self, start_frame: int) -> Tensor:  # noqa: ARG002 - the same in every window
        if self.style is None:
            return self.null()
        tokens = self.conditioner.tokens(self.style, self.codebooks, self.excerpt_seconds, self.seed)
        return F.pad(tokens, (0, 0, 0, self.length - len(tokens)))

    def null(self) -> Tensor:
        return torch.zeros(self.length, self.conditioner.width)


class Conditioner(Protocol):
    """What makes the rows of one stream."""

    @property
    def fades(self) -> bool:
        """Whether rows can change from one frame to the next, so that a mix can fade."""
        ...

    def of(self, wanted: Wanted, like: Rows | None = None) -> Rows:
        """Return rows, named by their texts.

        Args:
            wanted: what they are made of.
            like: rows in force: what they have in common with the new ones is not computed again.

        Raises:
            PromptError: a text cannot be encoded.
        """
        ...

    def positions(self, wanted: Wanted) -> int:
        """Return how many positions of a window the prefix takes."""
        ...

    def padded(self, others: Iterable[Wanted]) -> Conditioner:
        """Return one whose rows have room for the longest text of some others: a batch shares its length."""
        ...


class Prompts:
    """Texts and melodies of one model, as its decoder takes them.

    Args:
        text: encodes texts.
        chroma: makes prefixes of melodies.
        project: turns text states, float32 [T, D], into keys and values.
        style: makes tokens of styles.
        reads: what the checkpoint reads first in every stream: "melody", "style", "text" alone, or nothing.
        new_lock: makes a lock, where several threads ask for prompts.
    """

    def __init__(
        self,
        text: TextConditioner,
        chroma: MelodyConditioner,
        project: Callable[[Tensor], TextKV],
        *,
        style: StyleConditioner,
        reads: str | None,
        new_lock: NewLock = nullcontext,
    ) -> None:
        self.text, self.chroma, self.style = text, chroma, style
        self._project, self.reads = project, reads
        self._kept: TextCache[TextKV] = TextCache(_KEPT_BYTES, lambda kv: kv.keys.nbytes + kv.values.nbytes, new_lock)

    def conditioner(self) -> Conditioner:
        """Return what makes the rows of a stream."""
        if self.reads is None:
            return TextRows(self)
        return PrefixRows(self, text_positions=0 if self.reads == "text" else 1)

    def audio_part(self, wanted: Wanted, positions: int = 1) -> AudioPart:
        """Return what the audio gives to the prefix.

        Args:
            wanted: has the audio.
            positions: of a style at least: those of a batch share their number.

        Raises:
            PromptError: a style that is shorter than its excerpt.
            ConfigError: it is told in fewer codebooks than are wanted.
        """
        if self.reads != "style":
            return _MelodyPart(self.chroma, wanted.melody)
        length = max(self.style.positions(wanted.style, wanted.excerpt_seconds), positions)
        if wanted.style is None:
            return _StylePart(self.style, None, 0, 0.0, 0, length)
        self.style.check_codebooks(wanted.eval_q)
        return _StylePart(self.style, wanted.style, wanted.eval_q, wanted.excerpt_seconds, wanted.seed, length)

    def prepared(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return values of controls with the audio among them as rows are made of it.

        Args:
            values: names as in `ControlValues`; `melody` with its `melody_rate_hz`, or what `MelodyConditioner.melody`
                made of them, or None; `style` alike.

        Raises:
            PromptError: audio that cannot be used, or of a kind that the checkpoint does not take.
        """
        found = dict(values)
        for name, prepare, kind in (("melody", self.chroma.melody, Melody), ("style", self.style.style, Style)):
            audio, rate_hz = values.get(name), found.pop(f"{name}_rate_hz", None)
            check_no_lone_rate(name, audio, rate_hz)
            if audio is not None and not isinstance(audio, kind):
                found[name] = prepare(audio, rate_hz)
        return found

    def learn(self, text: str | None) -> None:
        """Compute now what a stream will ask for.

        Raises:
            PromptError: it cannot be encoded.
        """
        if self.reads:
            self.text.encode(text)
        else:
            self.keys(text)

    @property
    def vocabulary(self) -> Vocabulary | None:
        """The words that the checkpoint brings; None where it reads texts as they are typed."""
        return self.text.vocabulary

    def learn_states(self, text: str, states: object) -> None:
        """Let a text mean these states. See `TextConditioner.give`.

        Raises:
            PromptError: they cannot be used.
        """
        self.text.give(text, states)

    def states(self, text: str | None) -> Tensor:
        """Return a text's states, float32 [T, D].

        Raises:
            PromptError: it cannot be encoded.
        """
        return self.text.encode(text)

    def heard(self, text: str | None) -> Heard | None:
        """What the checkpoint hears in a text; None where it reads texts as they are typed, and of no text."""
        return self.text.heard(text)

    def bias(self, text: str | None) -> Tensor | None:
        """What is added to the logits under a text, float32 [M, K, V], as in `Rows`; None where nothing is."""
        return self.text.bias(text)

    def keys(self, text: str | None) -> TextKV:
        """Return a text's keys and values.

        Raises:
            PromptError: it cannot be encoded.
        """
        return self._kept.get(self.text.read_as(text), lambda _: self._project(self.text.encode(text)))

    def forget_unused(self) -> None:
        """Forget what texts came to that nobody asked for since this was called last, but for the newest few."""
        self.text.forget_unused()
        self._kept.forget_unused(_KEPT_BYTES // 8)


class TextRows:
    """Rows that attend to their texts."""

    fades = True

    def __init__(self, prompts: Prompts) -> None:
        self._prompts = prompts

    def of(self, wanted: Wanted, like: Rows | None = None) -> Rows:
        """See `Conditioner.of`."""
        names, coefficients = wanted.mix.rows(wanted.guidance_scale, wanted.guidance_beta)
        known = {} if like is None else dict(zip(like.names, like.texts, strict=True))
        texts = [known[name] if name in known else self._prompts.keys(name) for name in names]
        return Rows(names, tuple(texts), coefficients, bias=self._prompts.bias(wanted.mix.dominant))

    def positions(self, wanted: Wanted) -> int:  # noqa: ARG002 - whatever is wanted
        """None: texts are attended to, not read."""
        return 0

    def padded(self, others: Iterable[Wanted]) -> TextRows:  # noqa: ARG002 - whatever they are
        """Return itself: texts take no positions."""
        return self


class PrefixRows:
    """Rows that begin with audio and their text; the null row, and guidance 0, have none of the audio.

    Args:
        prompts: of the model.
        text_positions: for the text at least.
        audio_positions: for a style at least.
    """

    fades = False

    def __init__(self, prompts: Prompts, text_positions: int = 1, audio_positions: int = 1) -> None:
        self._prompts, self._text_positions, self._audio_positions = prompts, text_positions, audio_positions

    def of(self, wanted: Wanted, like: Rows | None = None) -> Rows:
        """See `Conditioner.of`."""
        names, coefficients, follows = zip(
            *wanted.mix.guided_rows(wanted.guidance_scale, wanted.guidance_beta), strict=True
        )
        states = [self._prompts.text.encode(text) for text in names]
        longest = max([self._text_positions, *(len(state) for state in states)])
        audio = self._prompts.audio_part(wanted, self._audio_positions)
        made = _WindowPrefixes(audio, names, follows, states, longest)
        known = like is not None and like.prefixes == made  # its windows are computed already
        prefixes = like.prefixes if like is not None and known else made
        return Rows(names, (self._prompts.keys(None),) * len(names), coefficients, prefixes)

    def positions(self, wanted: Wanted) -> int:
        """Return the positions of audio and longest text, the negative one included."""
        return self._prompts.audio_part(wanted, self._audio_positions).length + self._longest([wanted])

    def padded(self, others: Iterable[Wanted]) -> PrefixRows:
        """Return rows with room for the longest text and style of some others, as in transformers and audiocraft."""
        others = list(others)
        audio = [self._prompts.audio_part(wanted, self._audio_positions).length for wanted in others]
        return PrefixRows(self._prompts, self._longest(others), max(audio, default=self._audio_positions))

    def _longest(self, wanted: Iterable[Wanted]) -> int:
        """Positions of the longest text, at least the one of no text."""
        mixes = [one.mix for one in wanted]
        texts = {text for mix in mixes for text in (*(text for text, _ in mix.prompts), mix.negative)}
        return max(self._text_positions, *(len(self._prompts.text.encode(text)) for text in texts))


class _WindowPrefixes:
    """The prefixes of some rows in any window; those of the newest windows are kept.

    Args:
        audio: its part.
        names, follows: of each row its text, and whether it follows the audio.
        states: of each row's text, float32 [T, D].
        text_positions: that each text takes.
    """

    def __init__(
        self,
        audio: AudioPart,
        names: Sequence[str | None],
        follows: Sequence[bool],
        states: Sequence[Tensor],
        text_positions: int,
    ) -> None:
        self._audio, self._follows, self._states, self._text_positions = audio, follows, states, text_positions
        self.length = audio.length + text_positions
        self._key = (audio, tuple(names), tuple(follows), text_positions)
        self._kept: dict[int, Tensor] = {}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _WindowPrefixes) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def of(self, start_frame: int) -> Tensor:
        """See `Prefixes.of`."""
        if start_frame not in self._kept:
            if len(self._kept) == _WINDOWS_KEPT:
                del self._kept[next(iter(self._kept))]
            self._kept[start_frame] = self._made(start_frame)
        return self._kept[start_frame]

    def _made(self, start_frame: int) -> Tensor:
        null = self._audio.null()
        followed = self._audio.of(start_frame) if any(self._follows) else null
        audio = [followed if follows else null for follows in self._follows]
        parts = zip(audio, self._states, strict=True)
        return torch.stack([build_prefix(a, s, self._text_positions) for a, s in parts])
