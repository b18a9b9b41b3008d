"""A stream's controls: those in force, those asked for, prompts on their way, and the settings of the next step.

    check ─ ask ─► pending ─┐ at its frame
                            ▼
                        controls ─ glide ─► mix of this frame ─► StepSettings ─► the token stream's next step

What comes into force is computed first and committed after the token stream has found room for it: a change is in
force as a whole, or waits. `controls` is what sounds now, `asked` what will once every pending change is in: a further
change is checked against that.

Where another prompt comes to dominate the mix, the music goes on from its newest `change_context_seconds` alone: a
model that copies its past would otherwise play the old prompt's music on. The settings say how much that is; the token
stream does it.

Rules: no audio, no clock, no cache; the conditioner encodes, the layout has room or not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from streamgen.conditioning.prompt_mix import PromptMix
from streamgen.conditioning.rows import Conditioner
from streamgen.config import CONTROLS
from streamgen.lm.step import Rows, StepSettings
from streamgen.lm.windows import WindowLayout, WindowPlan
from streamgen.stream.controls import Controls
from streamgen.stream.schedule import Change, ChangeHistory, Glide, Pending, due, queued

__all__ = ["ControlMemory", "ControlState"]

_OPENINGS = 1_000_000_009  # a prime, as for takes: no seed of one opening is that of another near it


@dataclass(frozen=True)
class ControlMemory:
    """What a stream remembers of its controls; all of it is immutable.

    Attributes:
        controls: in force.
        asked: in force once nothing waits.
        pending: what waits.
        gliding: the fade on its way.
        openings: how often the music was begun anew because it had died.
        settings: of the last step, which was made under these controls.
        settled: how often by the time that controls began other music: it draws as if none before it had died.
    """

    controls: Controls
    asked: Controls
    pending: Pending
    gliding: Glide | None
    settings: StepSettings
    openings: int = 0
    settled: int = 0


class ControlState:
    """The controls of one stream.

    Args:
        layout: of the model's windows.
        conditioner: makes the rows.
        controls: to begin with.
        keep_frames: how far back `rewind` must reach.
        given_frames: of an audio prompt, before the stream's first.

    Attributes:
        memory: what is in force and what waits.

    Raises:
        PromptError, ConfigError: the controls cannot be played.
    """

    def __init__(
        self,
        layout: WindowLayout,
        conditioner: Conditioner,
        controls: Controls,
        keep_frames: int = 0,
        given_frames: int = 0,
    ) -> None:
        self._layout, self._conditioner, self._given_frames = layout, conditioner, given_frames
        self._history = ChangeHistory(keep_frames)
        rows = conditioner.of(controls.wanted())
        plan = layout.plan(controls.context_seconds, controls.context_start_seconds, rows.prefix)
        self.memory = ControlMemory(controls, controls, (), None, self._made(controls, controls.mix, rows, plan))

    @property
    def controls(self) -> Controls:
        """The settings in force."""
        return self.memory.controls

    @property
    def serial(self) -> int:
        """How many changes were asked for so far."""
        return self._history.serial

    def check(self, values: Mapping[str, Any]) -> Controls:
        """Return what the controls would be with these values, changing nothing; prompts are encoded ahead of time.

        Raises:
            ConfigError, PromptError: a wrong value.
        """
        asked = self.memory.asked.changed(values)
        rows = self._conditioner.of(asked.wanted(), self.memory.settings.rows)
        # a melody's text takes positions: a new one, longer than the old, must not be refused for the context it cuts
        says_context = any(name.startswith("context") for name in values)
        lay_out = self._layout.plan if says_context else self._layout.fitting_plan
        lay_out(asked.context_seconds, asked.context_start_seconds, rows.prefix)
        return asked

    def ask(self, values: Mapping[str, Any], at_frame: int | None, next_frame: int, *, on_bar: bool = False) -> int:
        """Ask for a change.

        Args:
            values: names as in `ControlValues`.
            at_frame: when; None, or a frame that is drawn already, is the next one.
            next_frame: whose first codebook is drawn next, counted from the first sample of the stream.
            on_bar: whether that frame is the bar line's, and nobody named it.

        Returns:
            The frame at which it comes into force.

        Raises:
            ConfigError, PromptError: a wrong value; nothing is changed then.
            CapacityError: too many changes are waiting.
        """
        asked, pending = self.check(values), self.memory.pending
        self._history.check(pending)
        frame = next_frame if at_frame is None else max(next_frame, at_frame)
        change = Change(frame, dict(values), self.serial, at_frame is not None, next_frame, on_bar)
        self._history.add(change)
        self.memory = replace(self.memory, asked=asked, pending=queued(pending, [change]))
        return frame

    # -- into force -----------------------------------------------------------------------------------------------

    def coming(self, frame: int, openings: int = 0) -> ControlMemory:
        """Return what is in force at a frame, for `memory` once its settings are accepted; changes nothing itself.

        Args:
            frame: that is drawn next.
            openings: how often the music was begun anew by then; one more than before, and it begins here.
        """
        now = self.memory
        coming = due(now.pending, frame)
        if not coming and now.gliding is None and openings == now.openings:
            return now
        controls, gliding, settled = now.controls, now.gliding, now.settled
        for change in coming:
            before, controls = controls, self._begun(controls.changed(change.values), change, frame)
            settled = openings if controls.begins_anew(before) else settled
            if controls.mix != before.mix:
                gliding = self._glide(
                    before.mix if gliding is None else gliding.mix(before.mix, frame), controls, frame
                )
        mix = controls.mix if gliding is None else gliding.mix(controls.mix, frame)
        return ControlMemory(
            controls=controls,
            asked=now.asked,
            pending=now.pending[len(coming) :],
            gliding=None if mix == controls.mix else gliding,
            settings=self._settings(controls, mix, openings, settled),
            openings=openings,
            settled=settled,
        )

    def _begun(self, controls: Controls, change: Change, frame: int) -> Controls:
        """Let a melody that comes with a change begin at its frame."""
        if change.values.get("melody") is None or controls.melody is None:
            return controls
        return replace(controls, melody=replace(controls.melody, start_frame=frame + self._given_frames))

    def _glide(self, sounding: PromptMix, controls: Controls, frame: int) -> Glide | None:
        """Begin a fade from what sounds now; rows that cannot change from frame to frame do not fade."""
        if controls.glide_seconds == 0 or not self._conditioner.fades:
            return None
        return Glide(sounding, frame, max(round(controls.glide_seconds * self._layout.frame_rate_hz), 1))

    def _settings(self, controls: Controls, mix: PromptMix, openings: int, settled: int) -> StepSettings:
        now = self.memory
        rows = self._conditioner.of(controls.wanted(mix), now.settings.rows)
        plan = self._layout.fitting_plan(controls.context_seconds, controls.context_start_seconds, rows.prefix)
        made = self._made(controls, mix, rows, plan, openings, settled)
        anew = openings != now.openings or controls.take != now.controls.take
        return replace(made, surviving_frames=0) if anew else made

    def _made(
        self, controls: Controls, mix: PromptMix, rows: Rows, plan: WindowPlan, openings: int = 0, settled: int = 0
    ) -> StepSettings:
        sampling, take, recalls = controls.sampling, int(controls.take), controls.recalls
        if recalls:
            sampling = replace(sampling, seed=(sampling.seed + (openings - settled) * _OPENINGS) % 2**63)
        begun = (mix.dominant, take, openings) if take or openings else mix.dominant
        return StepSettings(
            rows, sampling, plan, begun, self._surviving_frames(controls), recalls, int(controls.guidance_interval)
        )

    def _surviving_frames(self, controls: Controls) -> int:
        """How much stays known where another prompt dominates: at the end of the range all that a window can know."""
        seconds = controls.change_context_seconds
        everything = seconds >= CONTROLS["change_context_seconds"].limits[1]
        return self._layout.limit if everything else round(seconds * self._layout.frame_rate_hz)

    def completed(self, memory: ControlMemory) -> StepSettings:
        """Return the settings of controls that come from a file, with what their melody or style comes to."""
        rows = self._conditioner.of(memory.controls.wanted())
        return replace(memory.settings, rows=replace(memory.settings.rows, prefixes=rows.prefixes))

    # -- going back -----------------------------------------------------------------------------------------------

    def rewind(self, memory: ControlMemory, serial: int, frame: int) -> None:
        """Go back to a mark, but what was asked for since stays asked for: "at once" is now this place.

        Args:
            memory: of the mark.
            serial: how many changes had been asked for then.
            frame: that is drawn next from there.
        """
        pending = queued(memory.pending, self._history.since(serial, frame))
        self.memory = replace(memory, asked=self.memory.asked, pending=pending)
