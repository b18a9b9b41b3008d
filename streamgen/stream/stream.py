"""One endless stream, as users hold it: controls at a sample → PCM.

    set() ─ at its frame ─► sound_stream.py ─► read(), chunks()          snapshot, restore · mark, rewind

Rules: checks what is asked, and when the stream may be touched: any thread may call, each call waits for the step under
way. What plays is sound_stream.py's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from numbers import Real
from typing import Any, Unpack

from torch import Tensor

from streamgen.audio import AudioChunk
from streamgen.conditioning.rows import Conditioner
from streamgen.config import BEGIN_ANEW, ControlValues
from streamgen.errors import ConfigError
from streamgen.lm.windows import WindowPlan
from streamgen.runtime import Runtime
from streamgen.stream.audition import best_candidate
from streamgen.stream.controls import Controls, frozen, tell_unsupported
from streamgen.stream.guard import Mended
from streamgen.stream.reading import read_together, read_tokens
from streamgen.stream.snapshots import StreamMark, StreamSnapshot
from streamgen.stream.sound_stream import SoundStream

__all__ = ["Stream", "read_streams"]


class Stream:
    """An endless stream of one model. Made by `Model.open_stream`.

    Attributes:
        runtime: what it shares with other streams of its model.
        metrics: counters.
    """

    def __init__(
        self,
        runtime: Runtime,
        controls: Controls,
        conditioner: Conditioner,
        *,
        audio_prompt: Tensor | None = None,
        rewind_seconds: float = 0.0,
    ) -> None:
        keep_frames = math.ceil(rewind_seconds * runtime.frame_rate_hz)
        self._sound = SoundStream(runtime, controls, conditioner, audio_prompt, keep_frames)
        self.runtime, self.metrics = runtime, self._sound.metrics

    def __repr__(self) -> str:
        """Say where it is, what it plays, and whether it was closed."""
        return repr(self._sound)

    @property
    def controls(self) -> Controls:
        """The settings in force."""
        return self._sound.control.controls

    @property
    def sample_rate_hz(self) -> int:
        """Samples a second of all its audio."""
        return self.runtime.codec.sample_rate_hz

    @property
    def seed(self) -> int:
        """The seed in force."""
        return int(self.controls.seed)

    @property
    def position_samples(self) -> int:
        """Position of the next sample that will be read."""
        return self._sound.pcm.position_samples

    @property
    def next_sample(self) -> int:
        """First sample of the frame that is drawn next: where a change made now is heard."""
        return self._sound.next_frame * self.runtime.codec.hop_samples

    @property
    def plan(self) -> WindowPlan:
        """Where this stream's windows begin and end; `plan.draw()` shows it."""
        return self._sound.tokens.settings.plan

    # -- audio ----------------------------------------------------------------------------------------------------

    def read(self, samples: int, between_steps: Callable[[], None] | None = None) -> AudioChunk:
        """Generate and return the next samples.

        Args:
            samples: how many, at least 1.
            between_steps: called after each step that it takes, on this thread; it may use this stream.

        Raises:
            ConfigError: fewer than one, or no whole number.
            CapacityError: the cache has no room for the next window, or for the rows of prompts that are due. Nothing
                is changed: read again once there is room, or after setting fewer prompts.
            CheckpointError: the checkpoint has no codec.
            NumericError: the model's results are NaN or infinite; nothing of it becomes sound.
            SessionClosed: the stream was closed.
        """
        return read_streams({self: samples}, between_steps)[self]

    def tokens(self, frames: int) -> Tensor:
        """Generate and return the codes of the next frames, in the place of their sound: no codec runs.

        A stream is read as sound or as tokens, not both. Controls, marks and snapshots work alike; the guard, which
        listens, does not.

        Args:
            frames: how many, at least 1; there are `Model.frame_rate_hz` a second.

        Returns:
            int64 [K, frames], those of an audio prompt left out; as `Model.logits` and `open_stream` take them.

        Raises:
            ConfigError: fewer than one, no whole number, or the stream was read as sound.
            CapacityError, NumericError, SessionClosed: as in `read`.
        """
        return read_tokens(self._sound, frames)

    def chunks(self, seconds: float = 0.1) -> Iterator[AudioChunk]:
        """Yield the stream until it is closed, `seconds` at a time.

        Raises:
            ConfigError: a chunk shorter than one sample or longer than 60 s.
            SessionClosed: the stream was closed before.
        """
        self._sound.check_open()
        samples = round(seconds * self.sample_rate_hz) if _finite(seconds) else 0
        if not 1 <= samples <= 60 * self.sample_rate_hz:
            raise ConfigError(f"seconds is {seconds!r}, must be within 0.02 … 60: a chunk's length")
        while not self._sound.closed:
            yield self.read(samples)

    @property
    def mended(self) -> tuple[Mended, ...]:
        """What the guard found and where the music began anew for it, newest last; what was rewound never was."""
        return self._sound.guard.heard.mended

    def bars(self) -> tuple[int, int] | None:
        """Return the sample of the downbeat that the music drawn last began with, and the samples of a bar.

        None where the checkpoint does not tell how long its bars are, or the music went on from audio whose bars nobody
        knows.
        """
        heard = self.runtime.prompts.heard(self.controls.mix.dominant)
        tokens, hop = self._sound.tokens, self.runtime.codec.hop_samples
        if heard is None or tokens.downbeat is None:
            return None
        return hop * (tokens.downbeat - tokens.prompt_frames), hop * heard.bar_frames

    def bar_line(self) -> int | None:
        """Return the sample of the first bar line that is not drawn yet; None where `bars` has none."""
        bars = self.bars()
        if bars is None:
            return None
        first, length = bars
        return first + math.ceil(max(self.next_sample - first, 0) / length) * length

    # -- controls -------------------------------------------------------------------------------------------------

    def set(self, *, at_sample: int | None = None, **values: Unpack[ControlValues]) -> int:
        """Change controls: at once, or at a sample ahead.

        Args:
            at_sample: position in the stream; None, or one already drawn, is the next frame that is not drawn yet; for
                other prompts and another take, with `on_bar` and a checkpoint that tells its bars, the next bar line.
            values: `prompt`, `prompts`, `negative_prompt` or any name in `streamgen.config.CONTROLS`; `melody` with
                `melody_rate_hz`, which begins at its sample; `style` with `style_rate_hz`. With a melody, a long prompt
                shortens the context in force if the two do not fit.

        Returns:
            The sample at which the change is applied.

        Raises:
            ConfigError, PromptError: a wrong value; nothing is changed then.
            CapacityError: too many changes are waiting.
            SessionClosed: the stream was closed.
        """
        self._sound.check_open()
        if at_sample is not None and not _finite(at_sample):
            raise ConfigError(f"at_sample is {at_sample!r}, must be a position in samples, or None for the next frame")
        hop, wanted = self.runtime.codec.hop_samples, self.auditioned(self.prepared(values))
        tell_unsupported(self.runtime, wanted)
        at_frame = None if at_sample is None else math.ceil(at_sample / hop)
        with self.runtime.alone():
            self._sound.check_open()
            control, line = self._sound.control, None
            waits = wanted.get("on_bar", control.memory.asked.on_bar) and not BEGIN_ANEW.isdisjoint(wanted)
            if at_frame is None and waits:
                line = self.bar_line()
                at_frame = None if line is None else line // hop
            return hop * control.ask(wanted, at_frame, self._sound.next_frame, on_bar=line is not None)

    def prepared(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return values with a melody among them as streams take it; see `Model.melody`.

        Raises:
            PromptError: it cannot be used.
        """
        with self.runtime.computing():
            return self.runtime.prompts.prepared(frozen(values))

    def auditioned(
        self, values: Mapping[str, Any], between_steps: Callable[[], None] | None = None, *, hold: bool = True
    ) -> dict[str, Any]:
        """Return values with the opening that is to play where they begin the music anew: the best of `audition`.

        Args:
            values: as in `set`, which tries openings itself where values do not come from here.
            between_steps: called after each step that trying takes, on this thread.
            hold: False takes the first opening untried, where there is no time.

        Raises:
            ConfigError, PromptError: a wrong value.
            CapacityError: no room in the cache to try so many.
        """
        with self.runtime.computing():
            control = self._sound.control
            asked, before = control.check(values), control.memory.asked  # prompts are encoded here
        if "candidate" in values or asked.melody or asked.style or not asked.begins_anew(before):
            return dict(values)
        count = int(asked.audition) if hold and asked.mix.dominant is not None else 1
        candidate = best_candidate(self.runtime, asked, count, between_steps) if count > 1 else 0
        return {**values, "candidate": candidate}

    def check(self, **values: Unpack[ControlValues]) -> Controls:
        """Return what the controls would be with these values, changing nothing. Arguments and errors as in `set`.

        Prompts are encoded meanwhile, and remembered: a `set` of the same ones is quick.
        """
        self._sound.check_open()
        wanted = self.prepared(values)
        with self.runtime.computing():
            return self._sound.control.check(wanted)

    # -- life -----------------------------------------------------------------------------------------------------

    def snapshot(self) -> StreamSnapshot:
        """Clone everything this stream remembers.

        Raises:
            SessionClosed: the stream was closed.
        """
        with self.runtime.alone():
            self._sound.check_open()
            return self._sound.snapshot()

    def restore(self, saved: StreamSnapshot) -> None:
        """Go back to a snapshot of this stream, or one that was loaded; it stays valid. Marks made before do not.

        Raises:
            ConfigError: it is another stream's, or of another model, precision, audio prompt or rewind_seconds.
            CapacityError: no room for its rows; nothing is changed then.
            SessionClosed: the stream was closed.
        """
        with self.runtime.alone():
            self._sound.check_open()
            if not isinstance(saved, StreamSnapshot):
                raise ConfigError(f"restore takes a snapshot of this stream, not {type(saved).__name__}")
            self._sound.restore(saved)

    def mark(self) -> StreamMark:
        """Remember this place cheaply (no clone of the cache), for `rewind`.

        Raises:
            SessionClosed: the stream was closed.
        """
        with self.runtime.alone():
            self._sound.check_open()
            return self._sound.mark()

    def rewind(self, mark: StreamMark) -> None:
        """Go back to a mark made at most `rewind_seconds` of music ago: audio generated ahead is revoked.

        Audio, not requests: changes asked for since then stay asked for, those "at once" now come at the mark.

        Raises:
            ConfigError: the mark lies too far back or ahead, or not on this stream's way: made on another stream,
                before a restore, or on music that a rewind has revoked since.
            SessionClosed: the stream was closed.
        """
        with self.runtime.alone():
            self._sound.check_open()
            if not isinstance(mark, StreamMark):
                raise ConfigError(f"rewind takes a mark of this stream, not {type(mark).__name__}")
            self._sound.rewind(mark)

    def forget_before(self, mark: StreamMark) -> None:
        """Give back what only a rewind to before a mark would need: earlier marks are void from now on.

        Who changes prompts many times a second would otherwise keep the rows of every change for `rewind_seconds`.

        Raises:
            SessionClosed: the stream was closed.
        """
        with self.runtime.alone():
            self._sound.check_open()
            self._sound.forget_before(mark)

    def close(self) -> None:
        """Free the stream's memory in the model; closing twice is fine."""
        self._sound.close()

    def __enter__(self) -> Stream:
        """Return the stream; leaving the block closes it."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the stream."""
        self.close()


def _finite(number: object) -> bool:
    return isinstance(number, Real) and math.isfinite(number)


def read_streams(
    wanted: Mapping[Stream, int], between_steps: Callable[[], None] | None = None
) -> dict[Stream, AudioChunk]:
    """Generate and return the next samples of some streams of one model; see `Model.read_together`."""
    chunks = read_together({stream._sound: samples for stream, samples in wanted.items()}, between_steps)
    return {stream: chunks[stream._sound] for stream in wanted}
