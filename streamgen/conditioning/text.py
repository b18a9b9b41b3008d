"""Text prompts: what is a usable text, and the states that the decoder reads.

Rules: owns the check of a text and the run of T5; knows no weights (prompt_mix.py), no melody, no stream. Every text is
encoded alone, so its states never depend on its neighbours: where transformers encodes a batch of unlike lengths it
masks the padding, which gives the same values. Any thread may ask for a text; locks come from the caller.
"""

from __future__ import annotations

import logging
import unicodedata
from collections import OrderedDict
from collections.abc import Callable, Set
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from streamgen.checkpoint.vocabulary import Vocabulary
from streamgen.checkpoint.words import Heard, hear
from streamgen.config import MAX_TEXT
from streamgen.errors import PromptError

if TYPE_CHECKING:
    from streamgen.checkpoint.types import Checkpoint

__all__ = ["NewLock", "TextCache", "TextConditioner", "check_text"]

Value = TypeVar("Value")
NewLock = Callable[[], AbstractContextManager[Any]]

CACHE_TOKENS = 8192  # states kept: 32 MB for a width of 1024; bounded in tokens because texts differ 500-fold in length
_MOST_TOLD = 1_000
_TEXTS_HEARD = 64
_log = logging.getLogger("streamgen")
_WHITE = "\t\n\r"  # category Cc as well, but the tokenizer reads them as a space


def check_text(text: object) -> str | None:
    """Let a usable text through unchanged, and None (unconditional).

    Args:
        text: what the caller gave as a prompt.
    Returns:
        The same text, or None.
    Raises:
        PromptError: not a str; empty or nothing visible; longer than `MAX_TEXT`; holds a control character or half of a
            surrogate pair (text that was decoded wrongly).
    """
    if text is None:
        return None
    if not isinstance(text, str):
        raise PromptError(f"a prompt is a str, or None for unconditional, not {type(text).__name__}: write it as text")
    if len(text) > MAX_TEXT:
        raise PromptError(f"the prompt has {len(text):,} characters, the limit is {MAX_TEXT:,}: shorten it")
    for position, character in enumerate(text):
        _check_character(character, position)
    if not any(_visible(character) for character in text):
        raise PromptError(f"the prompt {text[:20]!r} is empty: write some words, or say None for unconditional music")
    return text


def _visible(character: str) -> bool:
    return (
        not character.isspace() and unicodedata.category(character) != "Cf"
    )  # Cf: zero-width joiners, direction marks


def _check_character(character: str, position: int) -> None:
    kind = unicodedata.category(character)
    if kind == "Cs" or (kind == "Cc" and character not in _WHITE):
        name = "half of a surrogate pair" if kind == "Cs" else "a control character"
        raise PromptError(f"the prompt holds {name}, U+{ord(character):04X}, at position {position}: remove it")


class TextCache(Generic[Value]):
    """What the newest texts came to; a text that is asked for by two threads at once is computed once.

    Args:
        limit: sizes are kept up to this sum; the newest value is kept whatever its size.
        size: of a value.
        new_lock: makes a lock. A value that is there is never waited for, though another is being computed.
    """

    def __init__(self, limit: int, size: Callable[[Value], int], new_lock: NewLock) -> None:
        self._limit, self._size = limit, size
        self._values: OrderedDict[str | None, Value] = OrderedDict()  # the one asked for last is the last
        self._lately: set[str | None] = set()  # asked for since `forget_unused` was called
        self._reading, self._computing = new_lock(), new_lock()

    def get(self, text: str | None, compute: Callable[[str | None], Value]) -> Value:
        """Return a text's value, computing it if it is not there."""
        found = self._find(text)
        if found is not None:
            return found
        with self._computing:
            found = self._find(text)  # by whoever was waited for
            return self._keep(text, compute(text)) if found is None else found

    def _find(self, text: str | None) -> Value | None:
        with self._reading:
            if text not in self._values:
                return None
            self._lately.add(text)
            self._values.move_to_end(text)
            return self._values[text]

    def _keep(self, text: str | None, value: Value) -> Value:
        with self._reading:
            self._values[text] = value
            self._lately.add(text)
            self._shrink(self._limit, keep=frozenset())
        return value

    def forget_unused(self, least: int) -> None:
        """Forget what was not asked for since this was called last, but for the newest values up to a sum of sizes."""
        with self._reading:
            self._shrink(least, keep=self._lately)
            self._lately = set()

    def _shrink(self, limit: int, keep: Set[str | None]) -> None:
        total = sum(map(self._size, self._values.values()))
        for text in list(self._values)[:-1]:  # oldest first
            if total <= limit:
                return
            if text not in keep:
                total -= self._size(self._values.pop(text))
                self._lately.discard(text)


class TextConditioner:
    """Turns texts into the states that the decoder attends to (or reads as a prefix).

    Where the checkpoint brings a vocabulary, a text is first put into its words.

    Args:
        checkpoint: gives the text encoder, its tokenizer and the projection to the decoder's width. With no text
            encoder (a decoder alone), None is the only valid prompt.
        device: where the encoder runs and the states lie. The checkpoint itself stays on the CPU.
        new_lock: makes a lock, where several threads ask for texts.
        rest: called after the encoder has run.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        device: torch.device | str = "cpu",
        *,
        new_lock: NewLock = nullcontext,
        rest: Callable[[], None] = lambda: None,
    ) -> None:
        self.width = checkpoint.decoder.hidden_size
        self.device = torch.device(device)
        self._name, self._rest = checkpoint.name, rest
        self._tokenizer = checkpoint.tokenizer
        self._encoder = None if checkpoint.text_encoder is None else checkpoint.text_encoder.to(self.device)
        self._projection = _projection_on_device(checkpoint.text_projection, self.device)
        self._words = words = checkpoint.words
        self._code_bias = checkpoint.code_bias
        # asked again at every change, on the thread that makes the music
        self._hear = lru_cache(_TEXTS_HEARD)(lambda text: None if words is None else hear(text, words))
        self._read_as = lru_cache(_TEXTS_HEARD)(self._checked_words)
        self._cache: TextCache[Tensor] = TextCache(CACHE_TOKENS, len, new_lock)
        self._told: set[str] = set()  # words, so that each is told once
        self._given: dict[str, Tensor] = {}

    @property
    def vocabulary(self) -> Vocabulary | None:
        """The words that the checkpoint brings; None where it reads texts as they are typed."""
        return self._words

    def heard(self, text: str | None) -> Heard | None:
        """What the checkpoint hears in a text; None where it reads texts as they are typed, and of no text."""
        return None if text is None or self._words is None else self._hear(text)

    def read_as(self, text: str | None) -> str | None:
        """Return what the encoder is given for a text: many texts are the same to a checkpoint that knows few words.

        Raises:
            PromptError: see `check_text`.
        """
        if not isinstance(text, str):
            return check_text(text)
        # not what anybody can type: no other text is read as one whose states were given
        return f"\0{text}" if text in self._given else self._read_as(text)

    def _checked_words(self, text: str) -> str:
        check_text(text)
        heard = self.heard(text)
        return text if heard is None else heard.prompt

    def forget_unused(self) -> None:
        """Forget the states of texts that nobody asked for since this was called last, but for the newest few."""
        self._cache.forget_unused(CACHE_TOKENS // 8)

    def bias(self, text: str | None) -> Tensor | None:
        """What is added to the logits under a text, float32 [M, K, V], by place in the bar; None where nothing is."""
        heard = self.heard(text)
        return None if heard is None or self._code_bias is None else self._code_bias.of(heard)

    def encode(self, text: str | None) -> Tensor:
        """States of one text, encoded alone.

        Args:
            text: the prompt; None is unconditional.
        Returns:
            float32 [T, D]: T5's last hidden states, projected with bias to the decoder's width, or what `give` was
            given; [0, D] for None. The caller's own copy.
        Raises:
            PromptError: see `check_text`; also a text without a single token, and any text where the checkpoint has no
                text encoder.
        Source: transformers, MusicgenForConditionalGeneration.forward (enc_to_dec_proj, before the attention mask).
        """
        if isinstance(text, str) and text in self._given:
            return self._given[text].clone()
        words = self.read_as(text)
        if words is None:
            return torch.zeros(0, self.width, device=self.device, dtype=torch.float32)
        return self._cache.get(words, self._compute).clone()

    def give(self, text: str, states: object) -> None:
        """Let a text have these states, whatever the encoder would make of it.

        Args:
            text: a prompt.
            states: float [T, D], or of the text encoder's width, which are projected as its own are.
        Raises:
            PromptError: no such tensor, or the text has other states already.
        """
        checked, given = check_text(text), self._usable(states)
        assert checked is not None, "a text"
        before = self._given.get(checked)
        if before is not None and not torch.equal(before, given):
            raise PromptError(f"{checked[:40]!r} has other states already: give these another name")
        self._given[checked] = given

    def _usable(self, states: object) -> Tensor:
        encoded = None if self._encoder is None else int(self._encoder.config.d_model)
        widths = f"{self.width}" if encoded in (None, self.width) else f"{self.width} or {encoded}"
        wanted = f"text states are a float tensor [T, D], D = {widths}, of finite numbers"
        if not isinstance(states, Tensor) or not states.is_floating_point():
            found = f"a tensor of {states.dtype}" if isinstance(states, Tensor) else type(states).__name__
            raise PromptError(f"{wanted}, not {found}")
        if states.ndim != 2 or not len(states) or states.shape[1] not in (self.width, encoded):
            raise PromptError(f"{wanted}, not of shape {list(states.shape)}")
        own = states.detach().to(self.device, torch.float32, copy=True)
        if not own.isfinite().all():
            raise PromptError(f"{wanted}: these have NaN or infinity")
        return own if own.shape[1] == self.width or self._projection is None else self._projected(own)

    def _projected(self, states: Tensor) -> Tensor:
        return states if self._projection is None else nn.functional.linear(states, *self._projection)

    def _compute(self, text: str | None) -> Tensor:
        assert text is not None, "None has no states"
        ids = self._tokens(text)
        assert self._encoder is not None, "tokens without an encoder"
        with torch.no_grad():
            states = self._projected(self._encoder(ids)[0])  # alone: there is no padding to mask
        self._rest()
        return states.float()

    def _tokens(self, text: str) -> Tensor:  # int64 [1, T]
        if self._tokenizer is None or self._encoder is None:
            raise PromptError(
                f"checkpoint {self._name} has no text encoder and can't read {text[:40]!r}: use None (unconditional), "
                "or model.learn_states"
            )
        ids = self._tokenizer.ids(text)
        self._tell_unknown(text, ids)
        if set(ids) <= self._tokenizer.empty:
            raise PromptError(f"nothing is left of the prompt {text[:40]!r} in {self._name}'s tokens: write some words")
        return torch.tensor([ids], device=self.device)

    def _tell_unknown(self, text: str, ids: list[int]) -> None:
        """Say which words the tokenizer has no token for: they are left out, whatever they mean."""
        assert self._tokenizer is not None, "tokens without a tokenizer"
        unknown = self._tokenizer.unknown
        if unknown not in ids:
            return
        words = [word for word in text.split() if unknown in self._tokenizer.ids(word)]
        # as Python writes them: a stranger's words shall not steer the terminal on which they are read
        shown = ", ".join(repr(word) for word in dict.fromkeys(words) if word not in self._told)
        if shown and len(self._told) < _MOST_TOLD:
            _log.warning("%s has no token for %.200s: not heard, use other words", self._name, shown)
        self._told |= set(words[: _MOST_TOLD - len(self._told)])


def _projection_on_device(pair: tuple[Tensor, Tensor] | None, device: torch.device) -> tuple[Tensor, Tensor] | None:
    return None if pair is None else (pair[0].to(device, torch.float32), pair[1].to(device, torch.float32))
