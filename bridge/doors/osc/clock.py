"""From a time tag to the sample that sounds then. Sans-I/O.

Rules: the session's own blocks are the clock: each says when its first sample is due. Without fresh ones (nobody
listens, paused) there is no sample to name, and the caller waits for the time itself.
"""

from __future__ import annotations

from bridge.session.messages import Block

__all__ = ["SampleClock"]

_FRESH_SECONDS = 1.0


class SampleClock:
    """The newest block's place in time."""

    def __init__(self, rate_hz: int) -> None:
        self._rate_hz = rate_hz
        self._start, self._end_seconds, self._time_seconds = 0, 0.0, 0.0

    def heard(self, block: Block) -> None:
        """Take note of a block."""
        self._start, self._time_seconds = block.start_sample, block.time_us / 1e6
        self._end_seconds = self._time_seconds + block.samples.shape[1] / self._rate_hz

    def sample_at(self, when: float, now: float) -> int | None:
        """Return the sample due at a time; Unix seconds both.

        None: the clock does not run, for the newest block fell due too long ago.
        """
        if now > self._end_seconds + _FRESH_SECONDS:
            return None
        return max(0, self._start + round((when - self._time_seconds) * self._rate_hz))
