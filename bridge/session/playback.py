"""What keeps a session's time: whether it plays, how much lies ahead for that, and what is committed when.

            played │ committed: final, with every listener │ ahead: made, still revocable │ not yet made
    ───────────────┼───────────────────────────────────────┼──────────────────────────────┼────────────►
               due (timeline)                           frontier                     frontier + lead

Audio is committed `COMMIT_SECONDS` before it falls due: that is a listener's first burst and its protection against
jitter on the way. What lies beyond is protection against the engine's own stalls, and a change takes it back.

    STOPPED ─► STARTING ─ enough audio ─► PLAYING ─ due catches up with what is committed ─► LATE ─ enough ─► PLAYING
                                             └─ pause ─► PAUSED      any of them ─ the stream cannot go on ─► FAILED

LATE is an underrun, counted and told: the timeline stops until there is audio again, half a second on a machine that is
fast enough, else a full lead, so that one that is too slow plays whole passages with pauses, never stutter. Nobody
listening and nothing recorded, or paused: the timeline stops too, and what lies ahead is kept.

Rules: the engine's thread; makes nothing and changes no music. Inside it counts the model's samples; what it tells
counts the session's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from bridge.audio.master import LOUDNESS
from bridge.session.committer import Committer
from bridge.session.events import COMMIT_SECONDS, Block, Event, Gap, PlayerState, Stats
from bridge.session.generator import Generator
from bridge.session.landing import Landing, PendingCommands
from bridge.session.lookahead import Loudness
from bridge.session.parameters import Parameters
from bridge.session.timeline import Moment, Timeline

__all__ = ["Playback"]

_COMMIT_FRAMES = 2  # committed at once where few play
_BUSY_FRAMES = 2  # a step of the language model, or the codec's part of a block, takes no longer than these
_FRESH_SECONDS = 0.3  # ahead before the first sound: with one block, whatever else starts just then was an underrun
_AGAIN_SECONDS = 0.5  # … and after an underrun, where more is made than is played
_DRY_SECONDS = 0.4
_IN_TIME_SECONDS = 0.05  # a start that would come later than that waits for the next of its beats


class Playback:
    """The clock of one player.

    Args:
        timeline: what it runs.
        generator: what lies ahead.
        committer: the way out of what is final.
        landing: how far back a change reaches.
        parameters: `lead_seconds` among them.
        waiting: what is scheduled, beyond which nothing is committed at once.
        publish: takes gaps.

    Attributes:
        state: what the player does.
        wanted: whether anybody hears it.
        underruns: how often the timeline caught up with what is committed.
        commit_frames: committed at once, at most. Every piece goes through effects and doors by itself, so where many
            sessions play larger ones leave time for the music, and a knob is heard a little later.
    """

    commit_frames = _COMMIT_FRAMES

    def __init__(
        self,
        timeline: Timeline,
        generator: Generator,
        committer: Committer,
        landing: Landing,
        parameters: Parameters,
        waiting: PendingCommands,
        publish: Callable[[Block | Event], None],
    ) -> None:
        self._timeline, self._generator, self._committer, self._landing = timeline, generator, committer, landing
        self._output, self._parameters, self._waiting = committer.output, parameters, waiting
        self._publish = publish
        self.state, self.wanted, self.underruns = PlayerState.STARTING, False, 0
        self._starts_on: Moment | None = None
        self._told_loudness = Loudness()
        self._late_since = -math.inf

    # -- how much lies ahead --------------------------------------------------------------------------------------

    @property
    def lead_seconds(self) -> float:
        """Audio made and not yet due."""
        ahead = self._output.session_sample(self._generator.taken + self._generator.ahead_samples)
        return max(ahead - self._timeline.due(), 0.0) / self._timeline.rate_hz

    @property
    def engaged(self) -> bool:
        """Whether it plays, and somebody hears it."""
        return self.wanted and self.state.plays

    @property
    def needs_audio(self) -> bool:
        """Whether more audio should be made now."""
        return self._has_room_for(0.0)

    @property
    def goes_along(self) -> bool:
        """Whether a block is welcome that costs little, for it is made beside others: it will be needed within one."""
        return self._has_room_for(self._generator.block_seconds)

    def _has_room_for(self, more_seconds: float) -> bool:
        idle = not self.state.plays and self._generator.ahead_samples > 0
        if self.state is PlayerState.FAILED or idle or self._soon_revoked:
            return False
        # what the rack holds back is made beside the lead: a short lead would never get through a long rack
        held = self._output.rack.latency_samples / self._timeline.rate_hz
        return self._generator.ahead_seconds < float(self._parameters.values["lead_seconds"]) + held + more_seconds

    @property
    def runs_dry(self) -> bool:
        """Whether too little lies ahead to do anything else first: under automation, all the time."""
        return self.needs_audio and self.lead_seconds < _DRY_SECONDS

    @property
    def _soon_revoked(self) -> bool:
        """Whether the next turn of a knob in motion would take back what is drawn now.

        Automation that turns one 20 times a second kept a whole core at work for a lead that nobody ever heard, and
        browser and event loop waited for that core.
        """
        turning = self._landing.turning and self.state is not PlayerState.LATE
        return turning and self._generator.drawn > self._landing.kept

    @property
    def _enough(self) -> bool:
        """Whether the timeline may start: with a little audio ahead when fresh, with more after an underrun."""
        rack = self._output.rack.latency_samples if self._output.position == self._output.frontier else 0
        ahead = self._generator.ahead_seconds - rack / self._timeline.rate_hz  # less what the rack will hold back of it
        if ahead <= 0:
            return False
        if self.state is PlayerState.LATE:
            return not self.needs_audio or (self._generator.pace.fast_enough and ahead >= _AGAIN_SECONDS)
        return not self.needs_audio or ahead >= _FRESH_SECONDS

    # -- the clock ------------------------------------------------------------------------------------------------

    def start(self, on: Moment | None) -> None:
        """Play as soon as there is enough audio; on a beat, where one is given."""
        self.state, self._starts_on = PlayerState.STARTING, on

    def halt(self) -> None:
        """Stop playing: what is heard ends with a fade; play fades in again."""
        if self.state.plays:
            self.end_passage()
            self._rest()
            self.state = PlayerState.PAUSED

    def end_passage(self) -> None:
        """Fade out what is heard, and get out what the effects hold back."""
        last = self._take(self._output.fade_samples) if self._timeline.running else None
        self._committer.end(last)

    def _rest(self) -> None:
        """Let the timeline stand where it is."""
        if self._timeline.running:
            self._timeline.stop(min(self._timeline.due(), self._output.position))

    def run_timeline(self) -> None:
        """Start and stop the timeline, as there is audio and somebody who hears it."""
        timeline, position = self._timeline, self._output.position
        if not self.engaged:
            self._rest()
            if self.state.plays:
                self.state = PlayerState.STARTING
        elif self.state is PlayerState.PLAYING and timeline.due() > position:
            self.underruns += 1
            self._late_since, self.state = timeline.now(), PlayerState.LATE
            timeline.stop(position)
        elif self.state is not PlayerState.PLAYING and self._enough and (ahead := self._starts_in) is not None:
            if self.state is PlayerState.LATE:
                late = round((timeline.now() - self._late_since) * timeline.rate_hz)
                self._publish(Gap(position, late, "underrun"))
            timeline.start(position - ahead * timeline.rate_hz)
            self.state, self._starts_on = PlayerState.PLAYING, None
            self._commit(_FRESH_SECONDS)

    @property
    def _starts_in(self) -> float | None:
        """In how many seconds the first sample shall be due; None while it is not yet time for the timeline to start.

        As much later as ever, so that no listener is late from its first sound on; or on the beat that it starts on.
        """
        moment, timeline = self._starts_on, self._timeline
        if moment is None or moment.beat is None or (seconds := timeline.beat_seconds(moment.beat)) is None:
            return COMMIT_SECONDS
        left = seconds - timeline.now()
        if left < _IN_TIME_SECONDS:
            self._starts_on = timeline.next(moment, timeline.due() + _IN_TIME_SECONDS * timeline.rate_hz)
            return None
        return left if left <= COMMIT_SECONDS else None

    # -- what is final --------------------------------------------------------------------------------------------

    def keep_time(self) -> None:
        """Commit what falls due while a block is being made; nothing that was asked for is carried out."""
        self.run_timeline()
        self.commit_due()

    def commit_due(self) -> None:
        """Commit what falls due within `COMMIT_SECONDS`, and no further than to what is scheduled next."""
        if not self._timeline.running:
            return
        # between two steps this thread does not commit: what falls due meanwhile goes out before
        busy_seconds = self._generator.pace.wall_seconds(_BUSY_FRAMES / self._generator.frame_rate_hz)
        self._commit(COMMIT_SECONDS + busy_seconds)

    def _commit(self, seconds: float) -> None:
        """Commit what falls due within some seconds."""
        self._committer.commit(self._taken_until(self._timeline.due() + seconds * self._timeline.rate_hz))

    def _taken_until(self, horizon: float) -> Iterator[NDArray[np.float32]]:
        """Take what lies ahead until its end, less what the rack holds back of it, would lie behind a sample.

        One by one, as they are processed: how much that is may change with every piece.
        """
        while self._output.session_sample(self._generator.taken) - self._output.rack.held_samples < horizon:
            most = self._most()
            samples = self._take(most) if most else None
            if samples is None:
                return
            yield samples

    def _take(self, most: int) -> NDArray[np.float32] | None:
        """Take what is to be processed next, and tell the master how loud it is: what is drawn with it is final."""
        samples, loudness, told = self._generator.take(most), self._generator.loudness, self._told_loudness
        if fresh := loudness.begins < told.begins:  # another stream: what was to come of the one before never will
            self._output.forget({LOUDNESS})
        if fresh or loudness.db != told.db:
            self._output.set({LOUDNESS: loudness.db}, self._output.session_sample(loudness.begins))
        self._told_loudness = loudness
        return samples

    def _most(self) -> int:
        """How many samples may be committed at once: none beyond what is scheduled next."""
        most, until = self.commit_frames * self._generator.hop_samples, self._waiting.next_sample()
        if until is None:
            return most
        return min(most, max(self._output.model_sample(until) - self._generator.taken, 0))

    def stats(self, listeners: int = 0) -> Stats:
        """How the session is doing."""
        rack = self._output.rack
        return Stats(
            realtime_factor=self._generator.pace.factor,
            lead_seconds=self.lead_seconds,
            underruns=self.underruns,
            listeners=listeners,
            window_position=self._generator.window_position,
            position_samples=self._output.position,
            playing=self.state.plays,
            state=self.state,
            rack_latency_seconds=rack.latency_samples / self._timeline.rate_hz,
            rack_faults=rack.faults,
            slots=tuple(rack.state()),
        )
