"""What a model makes of texts and audio before it plays them: states, chroma, codes.

    text ─► what is heard in it ─► states      audio ─► melody, style, audio prompt      ahead, beside others' music

Rules: part of `Model`, which users hold; says what a call takes and gives, and hands it on. Any thread may call:
encoding does not wait for a step, and none waits for it.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from streamgen.at_rest import trim
from streamgen.checkpoint import Heard
from streamgen.checkpoint.vocabulary import suggested
from streamgen.conditioning.melody import Melody
from streamgen.conditioning.style import Style
from streamgen.conditioning.text import check_text
from streamgen.errors import PromptError
from streamgen.runtime import Runtime

__all__ = ["Preparation"]

Audio = NDArray[np.float32]


class Preparation:
    """What `Model` does ahead of its music.

    Attributes:
        runtime: the parts it is made of, for those who look inside.
    """

    runtime: Runtime

    def heard(self, text: str | None) -> Heard | None:
        """What the checkpoint hears in a prompt: the words it knows, what was filled in, what was not understood.

        Args:
            text: any prompt.

        Returns:
            What it hears; None for no prompt, and from checkpoints that read prompts as they are typed.

        Raises:
            PromptError: it is no text, or one that cannot be a prompt.
        """
        check_text(text)
        return self.runtime.prompts.heard(text)

    @property
    def suggestions(self) -> tuple[str, ...]:
        """Prompts to begin with, in words that the checkpoint knows where it brings a list of them."""
        return suggested(self.runtime.prompts.vocabulary)

    @property
    def tempi(self) -> tuple[int, ...]:
        """The tempi that it can play, in bpm, slowest first; () where it does not tell."""
        words = self.runtime.prompts.vocabulary
        return () if words is None else tuple(sorted(words.bar_frames))

    def learn(self, texts: Iterable[str | None]) -> None:
        """Encode prompts ahead, on any thread, beside the music: setting them then takes no time.

        Raises:
            PromptError: one cannot be used.
        """
        with self.runtime.computing():
            for text in texts:
                self.runtime.prompts.learn(text)

    def forget_unused(self) -> None:
        """Give back the memory of prompts that nobody asked for since this was called last, but for the newest few.

        For programs that stay: where prompts change all day long it is called every few seconds, on any thread.
        """
        self.runtime.prompts.forget_unused()
        with self.runtime.alone():
            self.runtime.engine.cache.give_back()
        trim()

    def learn_states(self, text: str, states: Tensor) -> None:
        """Let a prompt mean text states of your own, wherever prompts are taken: of a decoder alone, or edited ones.

        Streams that play the prompt already go on as they were.

        Args:
            text: the prompt, any name.
            states: float [T, D], what the decoder is to attend to, as `text_states` gives it; or of the text encoder's
                own width, which are projected first, as transformers' `encoder_outputs` are.

        Raises:
            PromptError: they are no such tensor, or the prompt has other states already.
        """
        with self.runtime.computing():
            self.runtime.prompts.learn_states(text, states)

    def text_states(self, text: str | None) -> Tensor:
        """Return what the decoder attends to (MusicGen) or reads first (Melody, Style) of a prompt.

        Returns:
            float32 [T, D]: the text encoder's last hidden states, projected to the decoder's width; [0, D] for None.

        Raises:
            PromptError: it cannot be used.
        """
        with self.runtime.computing():
            return self.runtime.prompts.states(text)

    def prompt_codes(self, audio: Audio | None, rate_hz: int | None) -> Tensor | None:
        """Encode the newest window's worth of an audio prompt, on any thread and beside the music.

        Args:
            audio: float32 [samples] or [channels, samples], nominally within ±1.
            rate_hz: its samples a second.

        Returns:
            int64 [K, frames], for `open_stream`; None for None.

        Raises:
            PromptError: it is no audio that the codec can read.
        """
        return self.runtime.prompt_codes(audio, rate_hz)

    def _given_codes(self, audio: Audio | None, rate_hz: int | None, codes: Tensor | None) -> Tensor | None:
        """Return the codes of an audio prompt that comes as audio, or as codes.

        Raises:
            PromptError: it comes as both, or is no audio that the codec can read.
            ConfigError: codes of another shape, type or range.
        """
        if codes is None:
            return self.prompt_codes(audio, rate_hz)
        if audio is not None or rate_hz is not None:
            raise PromptError("audio_prompt_codes is given beside an audio_prompt: give one of the two")
        self.runtime.check_codes(codes)
        return codes

    def melody(self, audio: Audio, rate_hz: int) -> Melody:
        """Prepare a melody on any thread and beside the music, for `open_stream` and `Stream.set`.

        Args:
            audio: float32 [samples] or [channels, samples], nominally within ±1; at most 10 minutes count.
            rate_hz: its samples a second.

        Raises:
            PromptError: it cannot be used, or the checkpoint takes none.
        """
        with self.runtime.computing():
            prepared = self.runtime.prompts.prepared({"melody": audio, "melody_rate_hz": rate_hz})
        melody: Melody = prepared["melody"]
        return melody

    def style(self, audio: Audio, rate_hz: int) -> Style:
        """Prepare a style as `melody` prepares a melody. Arguments and errors as there."""
        with self.runtime.computing():
            prepared = self.runtime.prompts.prepared({"style": audio, "style_rate_hz": rate_hz})
        style: Style = prepared["style"]
        return style
