"""Windows: how an endless stream lives inside a model that knows only so many positions.

MusicGen was trained on at most 1503 positions. Near the limit a *successor* window takes over that holds the last
`context_frames` (C) frames, re-read from its start position. It is not read in one go, which would stall the stream:
while the leader writes its last C frames, each column is fed to the successor too, at the successor's own position, in
the same pass over the weights.

    frames   0 ─────────────── s ──────────────── H ─────────────── s' ─────────────── H'
    leader   ├────────────────────────────────────┤ position `limit − 1`: full
    successor         ·prefix· ├ warming, C frames ┼─ leads ─────────────────────────────┤
    next                                                  ·prefix·  ├ warming, C frames ─┼─ leads ──…

`H` (`handover`) is the first head only the successor is fed; the context then holds frames s … H. A melody prefix of P
positions is read before the context, one position a step. Feeding is one vector per window and step, always: no step
is longer than its neighbours. From `handover` on, tokens equal those of a full re-read of the same context.

Rules: arithmetic only; no tensor, no model. Heads and frames as in `delay`.
"""

from __future__ import annotations

from dataclasses import dataclass

from streamgen.errors import ConfigError

__all__ = ["WindowLayout", "WindowPlan"]


@dataclass(frozen=True)
class WindowPlan:
    """Where windows start and end.

    Attributes:
        limit: positions a window may use, prefix included.
        context_frames: C, frames that survive a rollover.
        start_position: position of a successor's first vector; the first window always starts at 0.
        prefix: P, positions of the melody prefix (0 without).
    """

    limit: int
    context_frames: int
    start_position: int = 0
    prefix: int = 0

    def __post_init__(self) -> None:
        """Check that a successor can be warmed before its leader is full.

        Raises:
            ConfigError: the context is too short or too long for the limit.
        """
        longest = self.longest_context(self.limit, self.start_position, self.prefix)
        if not 1 <= self.context_frames <= longest:
            raise ConfigError(
                f"a context of {self.context_frames} frames from position {self.start_position} does not fit: with "
                f"{self.limit} positions and a prefix of {self.prefix} it must be within 1 … {longest} frames; "
                "choose a shorter context, an earlier start position or a shorter prompt"
            )

    @staticmethod
    def longest_context(limit: int, start_position: int = 0, prefix: int = 0) -> int:
        """Return the largest C for which one successor at a time is enough."""
        return (limit - start_position - 2 * prefix) // 2

    def handover(self, start_frame: int, start_position: int) -> int:
        """Return H: the first head that a window which began at `start_frame` has no position for."""
        return start_frame + self.limit - 1 - start_position - self.prefix

    def successor_start(self, handover: int) -> int:
        """Return s: the first frame of the successor's context."""
        return handover + 1 - self.context_frames

    def warming_start(self, handover: int) -> int:
        """Return the head that is fed to the leader while the successor gets its very first vector."""
        return self.successor_start(handover) - 1 - self.prefix

    def longest_prompt(self) -> int:
        """Return how many frames of audio prompt leave room to warm a successor."""
        return self.warming_start(self.handover(0, 0)) + 1

    def draw(self, windows: int = 3, width: int = 72, frame_rate: float = 50.0) -> str:
        """Draw the first windows to scale: `=` leads, `-` is warmed beside the leader, `.` reads its prefix.

        Args:
            windows: how many to draw.
            width: characters for the whole drawing.
            frame_rate: frames a second, for the scale.
        """
        spans = self._spans(windows)
        scale = width / spans[-1][3]
        lines = [self._line(i, span, scale) for i, span in enumerate(spans)]
        marks = "  ".join(f"{span[3] / frame_rate:.1f}" for span in spans)
        return "\n".join([*lines, f"ends at (seconds): {marks}"])

    def _spans(self, windows: int) -> list[tuple[int, int, int, int]]:
        spans, start, position, leads = [], 0, 0, 0
        for _ in range(windows):
            handover = self.handover(start, position)
            spans.append((max(start - 1 - self.prefix, 0), max(start, 0), leads, handover))
            start, position, leads = self.successor_start(handover), self.start_position, handover
        return spans

    @staticmethod
    def _line(index: int, span: tuple[int, int, int, int], scale: float) -> str:
        first, start, leads, end = (round(at * scale) for at in span)
        return f"window {index}  " + " " * first + "." * (start - first) + "-" * (leads - start) + "=" * (end - leads)


@dataclass(frozen=True)
class WindowLayout:
    """Lays out the windows of one model's streams: from the seconds that users set to positions.

    Attributes:
        limit: positions a window may use beside its prefix.
        frame_rate_hz: frames a second.
        prefix_room: positions beside those for a prefix; a longer one takes of them.
    """

    limit: int
    frame_rate_hz: float
    prefix_room: int = 0

    def longest_context_seconds(self, prefix: int = 0) -> float:
        """Return how much context fits behind a prefix that starts at position 0."""
        return WindowPlan.longest_context(self._limit(prefix), 0, prefix) / self.frame_rate_hz

    def room(self, prefix: int = 0) -> int:
        """Return the positions that a prefix leaves for the music."""
        return self._limit(prefix) - prefix

    def _limit(self, prefix: int) -> int:
        return self.limit + min(prefix, self.prefix_room)

    def plan(self, context_seconds: float, start_seconds: float, prefix: int = 0) -> WindowPlan:
        """Lay out the windows of a new stream.

        Raises:
            ConfigError: they have no room for the context.
        """
        context, start = self._frames(context_seconds, start_seconds)
        longest = WindowPlan.longest_context(self._limit(prefix), start, prefix)
        if context > longest:
            raise self._no_room(context_seconds, longest, start, prefix)
        return WindowPlan(self._limit(prefix), context, start, prefix)

    def fitting_plan(self, context_seconds: float, start_seconds: float, prefix: int = 0) -> WindowPlan:
        """Lay out windows in mid-stream, cut to what a long prompt leaves or a change still ahead will make room for.

        Where the context fits, the plan is that of `plan`.

        Raises:
            ConfigError: the prefix leaves no room at all.
        """
        context, start = self._frames(context_seconds, start_seconds)
        limit = self._limit(prefix)
        start = max(min(start, limit - 2 * prefix - 2), 0)
        longest = WindowPlan.longest_context(limit, start, prefix)
        if longest < 1:
            raise self._no_room(context_seconds, longest, start, prefix)
        return WindowPlan(limit, min(context, longest), start, prefix)

    def _frames(self, context_seconds: float, start_seconds: float) -> tuple[int, int]:
        """Return the context's frames and its start position."""
        return max(round(context_seconds * self.frame_rate_hz), 1), round(start_seconds * self.frame_rate_hz)

    def _no_room(self, context_seconds: float, longest: int, start: int, prefix: int) -> ConfigError:
        positions = f"this checkpoint's windows have {self._limit(prefix)} positions"
        room = f"{max(longest, 0) / self.frame_rate_hz:g} s: {positions}"
        before = f", {start} of them before context_start_seconds" if start else ""
        taken = f", {prefix} of them under melody and prompt, so shorten the prompt" if prefix else ""
        return ConfigError(f"context_seconds is {context_seconds:g}, must be at most {room}{before}{taken}")
