"""A stream's controls: those in force, those asked for, prompts on their way, and the decoder rows they come to.

    check ─ ask ─► pending ─┐ at its frame
                            ▼
                        controls ─ glide ─► mix of this frame ─► rows of the token stream

A change comes into force as a whole or, where its rows find no room, not at all: then it waits. `controls` is what
sounds now, `asked` what will once every pending change is in: a further change is checked against that.

When another prompt becomes the foremost of the mix, the music goes on from its newest `change_context_seconds` alone: a
model that copies its past would else play the old prompt's music on.

Rules: no audio, no clock; the model encodes and lays windows out, the token stream holds the rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from streamgen.conditioning import PromptMix
from streamgen.config import CONTROLS
from streamgen.errors import CapacityError
from streamgen.lm.token_stream import TokenStream
from streamgen.lm.window_set import Rows
from streamgen.stream.controls import Controls
from streamgen.stream.schedule import Change, ChangeQueue, Glide

if TYPE_CHECKING:
    from streamgen.model import Model

__all__ = ["Steering", "SteeringMemory"]

Texts = tuple[str | None, ...]


@dataclass(frozen=True)
class SteeringMemory:
    """What a stream's steering remembers; all of it is immutable."""

    controls: Controls
    asked: Controls
    pending: tuple[Change, ...]
    gliding: Glide | None
    texts: Texts
    foremost: str | None


class Steering:
    """The controls of one stream.

    Args:
        model: encodes prompts.
        tokens: what is steered; its rows are those of `controls`.
        controls: the settings to begin with.
        texts: of those rows.
        melody: prefix float32 [chroma_length, D] of melody checkpoints, else None.

    Attributes:
        controls: the settings in force.
        texts: of the rows in force.
        foremost: text of the heaviest prompt in force.
    """

    def __init__(
        self, model: Model, tokens: TokenStream, controls: Controls, texts: Texts, melody: Tensor | None
    ) -> None:
        self._model, self._tokens, self._melody = model, tokens, melody
        self.controls = self._asked = controls
        self.texts, self.foremost = texts, controls.mix.foremost
        self._changes = ChangeQueue()
        self._gliding: Glide | None = None

    @property
    def next_frame(self) -> int:
        """Frame, counted from the first sample of the stream, whose first codebook is drawn next."""
        return self._tokens.head + 1 - self._tokens.prompt_frames

    @property
    def serial(self) -> int:
        """How many changes were asked for so far."""
        return self._changes.serial

    def check(self, values: Mapping[str, Any]) -> Controls:
        """Return what the controls would be with these values, changing nothing.

        Raises:
            ConfigError, PromptError: a wrong value.
        """
        asked = self._asked.changed(values)
        # a melody's text takes positions: a new one, longer than the old, must not be refused for the context it cuts
        says_context = any(name.startswith("context") for name in values)
        self._model.prepare(asked, self._melody, cut_context=not says_context)
        return asked

    def ask(self, values: Mapping[str, Any], at_frame: int | None) -> int:
        """Ask for a change at a frame, None for the next one.

        Returns:
            The frame at which it comes into force.

        Raises:
            ConfigError, PromptError: a wrong value; nothing is changed then.
            CapacityError: too many changes are waiting.
        """
        asked = self.check(values)
        scheduled = at_frame is not None
        frame = self.next_frame if at_frame is None else max(self.next_frame, at_frame)
        head, keep_frames = self._tokens.head, self._tokens.keep_frames
        self._changes.ask(values, frame, head=head, scheduled=scheduled, keep_frames=keep_frames)
        self._asked = asked
        return frame

    # -- into force -----------------------------------------------------------------------------------------------

    def come_into_force(self) -> None:
        """Bring controls and rows up to the next frame.

        Raises:
            CapacityError: the rows find no room. Nothing is changed: all waits.
        """
        before = self.controls, self._gliding, self._changes.pending
        sampling, plan = self._tokens.sampling, self._tokens.plan
        due = self._changes.due(self.next_frame)
        try:
            for change in due:
                self._apply(self.controls.changed(change.values))
            if due or self._gliding is not None:
                self._apply_mix()
        except CapacityError:
            self.controls, self._gliding, self._changes.pending = before
            self._tokens.sampling, self._tokens.plan = sampling, plan
            raise

    def _apply(self, new: Controls) -> None:
        old, self.controls = self.controls, new
        self._tokens.sampling = new.sampling
        if (new.context_seconds, new.context_start_seconds) != (old.context_seconds, old.context_start_seconds):
            self._tokens.plan = self._model.fitting_plan(new, self._tokens.rows.prefix)
        if new.mix != old.mix:
            self._gliding = self._glide_from(old.mix, new.glide_seconds)

    def _glide_from(self, mix: PromptMix, seconds: float) -> Glide | None:
        """Begin a fade from what sounds now; a melody's prefix is read whole, so it cannot fade."""
        if seconds == 0 or self._melody is not None:
            return None
        now = mix if self._gliding is None else self._gliding.mix(mix, self.next_frame)
        return Glide(now, self.next_frame, max(round(seconds * self._model.frame_rate_hz), 1))

    def _apply_mix(self) -> None:
        """Bring the decoder's rows up to the mix of this frame."""
        mix, scale = self._sounding_mix(), self.controls.guidance_scale
        texts, coefficients = mix.rows(scale, melody=self._melody is not None)
        if mix.foremost != self.foremost and self._tokens.knows_beyond(self._surviving_frames):
            self._let_go(self._model.prompts.of(mix, scale, self._melody)[1])
        elif texts == self.texts and self._melody is None:
            self._tokens.rows = replace(self._tokens.rows, coefficients=coefficients)
        else:
            self._change_rows(texts, self._model.prompts.of(mix, scale, self._melody)[1])
        self.texts, self.foremost = texts, mix.foremost

    def _change_rows(self, texts: Texts, rows: Rows) -> None:
        if rows.prefixes is None:
            self._tokens.set_rows(rows, _sources(self.texts, self._tokens.rows.coefficients, texts))
        elif texts == self.texts and torch.equal(rows.prefixes, self._prefixes()):
            self._tokens.rows = rows
        else:  # other texts, or the same ones of which others hear the melody
            self._reread(rows)

    def _sounding_mix(self) -> PromptMix:
        """Return the mix of this frame; a fade that has arrived ends."""
        if self._gliding is None:
            return self.controls.mix
        mix = self._gliding.mix(self.controls.mix, self.next_frame)
        self._gliding = None if mix == self.controls.mix else self._gliding
        return mix

    def _prefixes(self) -> Tensor:
        prefixes = self._tokens.rows.prefixes
        assert prefixes is not None, "every row of a melody checkpoint has a prefix"
        return prefixes

    def _reread(self, rows: Rows) -> None:
        """Start a fresh window under a new melody prefix: the only way to change what stands at its beginning."""
        window = self._tokens.fresh_window(rows, self._model.fitting_plan(self.controls, rows.prefix))
        self._model.engine.prefill(self._tokens, window)

    @property
    def _surviving_frames(self) -> int:
        """How much stays known under another foremost prompt: at the end of the range all that a window can know."""
        seconds = self.controls.change_context_seconds
        everything = seconds >= CONTROLS["change_context_seconds"].limits[1]
        return self._tokens.plan.limit if everything else round(seconds * self._model.frame_rate_hz)

    def _let_go(self, rows: Rows) -> None:
        """Start a fresh window that knows only what survives; a melody's would be read anew in any case."""
        plan, frames = self._model.fitting_plan(self.controls, rows.prefix), self._surviving_frames
        if self._melody is not None:
            frames = min(frames, plan.context_frames)
        self._model.engine.prefill(self._tokens, self._tokens.let_go(rows, plan, frames))

    # -- memory ---------------------------------------------------------------------------------------------------

    def remember(self) -> SteeringMemory:
        """Return what `recall` needs to go on from here."""
        return SteeringMemory(
            self.controls, self._asked, self._changes.pending, self._gliding, self.texts, self.foremost
        )

    def recall(self, memory: SteeringMemory) -> None:
        """Go back; what was asked for since is forgotten. The token stream goes back by itself."""
        self.controls, self._asked, self._changes.pending = memory.controls, memory.asked, memory.pending
        self._gliding, self.texts, self.foremost = memory.gliding, memory.texts, memory.foremost

    def rewind(self, memory: SteeringMemory, serial: int) -> None:
        """Go back, but what was asked for since stays asked for: "at once" is now this place.

        Args:
            memory: of the place, to which the token stream has gone already.
            serial: how many changes had been asked for then.
        """
        asked = self._asked
        self.recall(memory)
        self._asked = asked
        self._changes.rewind(memory.pending, serial, self.next_frame)


def _sources(old: Texts, coefficients: tuple[float, ...], new: Texts) -> list[int]:
    """Choose for each new row the old row whose past it continues: its own text's, its own place's, the heaviest."""
    heaviest = max(range(len(old)), key=lambda row: coefficients[row])
    same_places = len(old) == len(new)
    return [old.index(text) if text in old else (row if same_places else heaviest) for row, text in enumerate(new)]
