"""A session's beats as its player makes them: its own beats, where the music's bars lie among them, each beat told.

    tempo 94          the session's own beats come at 94 a minute
    tempo 0           … as the music's bars do, where the checkpoint tells them; else at 120
    a source leads    … as it says; the music's bars lie somewhere in them:

    session   |1 . . . |2 . . . |3 . . .         phase = −0.5 beats: the music's bar begins half a beat late
    music      |1 . . . |2 . . . |3 . . .

Rules: the engine's thread. Counts the session's samples.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from bridge.session.beats import BAR_BEATS, INTERNAL, Line, next_multiple
from bridge.session.events import Beat
from bridge.session.timeline import Timeline

__all__ = ["Metronome"]

_TOLD_AHEAD_SECONDS = 0.2  # where the music stands and the beats go on: as far as audio is final where it plays
_LATE_BEATS = 0.25  # by which a bar may begin before the one that was counted
_AT_MOST = 8  # beats told at once: of more, another count has begun
_SAME_BEAT = 0.01  # a beat that falls on its own sample, rounded

Bars = tuple[float, float]  # a downbeat's sample and a bar's samples


class Metronome:
    """The beats of one session.

    Args:
        timeline: whose beats they are.
        bpm: of the session's own; 0 goes as the music does.

    Attributes:
        heard: a sample on which a beat of the music falls, and the samples from beat to beat, as heard from its sound;
            None where they were not. They are a figure, and lead nothing.
    """

    def __init__(self, timeline: Timeline, bpm: float) -> None:
        self._timeline, self._bpm = timeline, bpm
        self._bars: list[tuple[float, Bars | None]] = [(0.0, None)]  # from which sample on
        self._told: int | None = None
        self.heard: tuple[float, float] | None = None
        if bpm:
            timeline.beats.go_on(Line(0.0, 0.0, self._pace(bpm)))

    def _pace(self, bpm: float) -> float:
        return bpm / 60 / self._timeline.rate_hz

    @property
    def _leads(self) -> bool:
        """Whether the session's own beats are those that count."""
        return self._timeline.source == INTERNAL

    def set_tempo(self, bpm: float, at: float) -> None:
        """Let the session's own beats come at another pace from a sample on; 0: as the music does."""
        self._bpm = bpm
        if not self._leads:
            return
        if bpm:
            self._timeline.beats.go_on(Line(at, self._timeline.beat(at), self._pace(bpm)))
        else:
            self._go_with(self._bars[-1][1], at)

    def begin_bar(self, at: float) -> None:
        """Let a bar of the session's own begin at a sample: the music begins anew there."""
        if self._leads:
            line = self._timeline.beats.line(at)
            self._timeline.beats.go_on(Line(at, next_multiple(line.beat_at(at), BAR_BEATS), line.pace))

    # -- the music's bars -----------------------------------------------------------------------------------------

    def note_bars(self, bars: Bars | None, drawn: float, final: float) -> None:
        """Note the bars of what was drawn last; whatever was noted behind their downbeat has been taken back.

        Args:
            bars: a downbeat's sample and a bar's samples; None where nobody knows.
            drawn: first sample that is not drawn.
            final: first sample that is not final.
        """
        if bars == self._bars[-1][1]:
            return
        start = drawn if bars is None else bars[0]
        before = [one for one in self._bars if one[0] < start]
        self._bars = [*before[-_AT_MOST:], (start, bars)]
        if self._leads and not self._bpm:
            self._go_with(bars, final)

    def _go_with(self, bars: Bars | None, final: float) -> None:
        """Count on with the music's bars, from their downbeat on or from what is not final."""
        if bars is None:
            return
        downbeat, length = bars
        start, pace = max(downbeat, final), BAR_BEATS / length
        in_bar = (start - downbeat) * pace % BAR_BEATS
        before = self._timeline.beat(start) - _LATE_BEATS
        self._timeline.beats.go_on(Line(start, in_bar + next_multiple(before - in_bar, BAR_BEATS), pace))

    def phase(self, sample: float) -> float | None:
        """Return by how many beats the music's bar is ahead of the session's, −2 … 2; None where nobody knows.

        Where only its beats were heard, by how much of a beat these are ahead, −0.5 … 0.5.
        """
        bars = next((bars for start, bars in reversed(self._bars) if start <= sample), None)
        if bars is not None:
            downbeat, length = bars
            return _around((sample - downbeat) / length * BAR_BEATS - self._timeline.beat(sample), BAR_BEATS)
        if self.heard is None:
            return None
        beat, length = self.heard
        # a tracker may hear twice as many, or half as many
        length *= 2 ** round(math.log2(60 * self._timeline.rate_hz / self._timeline.bpm(sample) / length))
        return _around((sample - beat) / length - self._timeline.beat(sample), 1)

    # -- each beat ------------------------------------------------------------------------------------------------

    def beats(self, final: float) -> Iterator[Beat]:
        """Yield the beats that have become certain since the last call.

        Those before a sample, or, where the music stands and a source leads, those of the next moment.
        """
        timeline = self._timeline
        if not timeline.running:
            if self._leads:
                return
            final = timeline.due() + _TOLD_AHEAD_SECONDS * timeline.rate_hz
        newest = math.floor(timeline.beat(final))
        if self._told is None or not self._told - 1 <= newest <= self._told + _AT_MOST:
            self._told = newest - 1
        for beat in range(self._told + 1, newest + 1):
            self._told = beat
            if (told := self._beat(beat)) is not None:
                yield told

    def _beat(self, beat: int) -> Beat | None:
        timeline, seconds = self._timeline, self._timeline.beat_seconds(beat)
        sample = timeline.beats.sample(beat) if seconds is None else self._followed_sample(seconds)
        if abs(timeline.beat(sample) - beat) > _SAME_BEAT:  # a count that went on before it came there
            return None
        return Beat(
            beat=beat,
            bar=beat // BAR_BEATS,
            tempo=timeline.bpm(sample),
            phase=self.phase(sample),
            source=timeline.source,
            applied_at_sample=round(sample),
            time_us=round(timeline.unix_seconds(sample) * 1e6),
        )

    def _followed_sample(self, seconds: float) -> float:
        timeline = self._timeline
        return timeline.due() + (seconds - timeline.now()) * timeline.rate_hz


def _around(beats: float, period: float) -> float:
    """Return beats within half a period around 0."""
    return (beats + period / 2) % period - period / 2
