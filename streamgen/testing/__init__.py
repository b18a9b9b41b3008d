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
    from streamgen.testing.tiny_vocabulary import tiny_tokenizer

__all__ = ["TINY_KINDS", "FakeClock", "FakeModel", "fake_pitch_hz", "tiny_checkpoint", "tiny_tokenizer"]

_LAZY = {
    "FakeClock": "streamgen.testing.fake",  # a Model, which needs torch
    "FakeModel": "streamgen.testing.fake",
    "fake_pitch_hz": "streamgen.testing.fake",
    "tiny_tokenizer": "streamgen.testing.tiny_vocabulary",
}


def __getattr__(name: str) -> Any:
    """Import what is heavy on first use."""
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'streamgen.testing' has no attribute {name!r}")
