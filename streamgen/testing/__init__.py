"""For users' tests and ours: small random checkpoints that behave like real ones, a model that sings sines, and time.

Rules: public and shipped; needs nothing that streamgen itself does not need; torch is imported when a name that needs
it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from streamgen.testing.tiny import TINY_KINDS, tiny_checkpoint

if TYPE_CHECKING:
    from streamgen.testing.fake import FakeClock, FakeModel, fake_pitch_hz

__all__ = ["TINY_KINDS", "FakeClock", "FakeModel", "fake_pitch_hz", "tiny_checkpoint"]


def __getattr__(name: str) -> Any:
    """Import the fake on first use: it is a Model, which needs torch."""
    if name in ("FakeClock", "FakeModel", "fake_pitch_hz"):
        return getattr(import_module("streamgen.testing.fake"), name)
    raise AttributeError(f"module 'streamgen.testing' has no attribute {name!r}")
