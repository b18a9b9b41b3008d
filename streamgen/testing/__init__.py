"""For users' tests and ours: small random checkpoints that behave like real ones, and a model that sings sines.

Rules: public and shipped; needs nothing that streamgen itself does not need; imports torch only when called.
"""

from __future__ import annotations

from streamgen.testing.clock import FakeClock
from streamgen.testing.fake import FakeModel, FakeStream, fake_pitch_hz
from streamgen.testing.tiny import TINY_KINDS, tiny_checkpoint

__all__ = ["TINY_KINDS", "FakeClock", "FakeModel", "FakeStream", "fake_pitch_hz", "tiny_checkpoint"]
