"""For users' tests and ours: small random checkpoints that behave like real ones, a model that sings sines, and time.

Rules: public and shipped; needs nothing that streamgen itself does not need; torch is imported when a name that needs
it is first used.
"""

from __future__ import annotations

import math
from importlib import import_module
from typing import TYPE_CHECKING, Any

from streamgen.errors import ConfigError
from streamgen.testing.tiny import TINY_KINDS, tiny_checkpoint

if TYPE_CHECKING:
    from streamgen.testing.fake import FakeModel, fake_pitch_hz

__all__ = ["TINY_KINDS", "FakeClock", "FakeModel", "fake_pitch_hz", "tiny_checkpoint"]


def __getattr__(name: str) -> Any:
    """Import the fake on first use: it is a Model, which needs torch."""
    if name in ("FakeModel", "fake_pitch_hz"):
        return getattr(import_module("streamgen.testing.fake"), name)
    raise AttributeError(f"module 'streamgen.testing' has no attribute {name!r}")


class FakeClock:
    """Time that passes only when told to. Call it for now, like time.monotonic; give its `sleep` where one is awaited.

    Attributes:
        now_seconds: the time.
        slept: every sleep asked for, in seconds, oldest first.
    """

    def __init__(self, now_seconds: float = 0.0) -> None:
        self.now_seconds = now_seconds
        self.slept: list[float] = []

    def __call__(self) -> float:
        """Return the time in seconds."""
        return self.now_seconds

    def advance(self, seconds: float) -> None:
        """Let time pass.

        Raises:
            ConfigError: not a finite number from 0.
        """
        if not (math.isfinite(seconds) and seconds >= 0):
            raise ConfigError(f"seconds is {seconds!r}; time passes by 0 or more")
        self.now_seconds += seconds

    def sleep(self, seconds: float) -> None:
        """Let time pass, and remember that it was slept."""
        self.advance(seconds)
        self.slept.append(seconds)
