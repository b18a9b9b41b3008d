"""What stands in a missing codec's place counts, and refuses to sound."""

from __future__ import annotations

import pytest
import torch

from streamgen.codec import NoCodec
from streamgen.errors import CheckpointError


def test_it_counts_frames_and_makes_no_sound() -> None:
    codec = NoCodec("bare", sample_rate_hz=32_000, hop_samples=640, audio_channels=2, num_codebooks=8)
    state = codec.new_state(1)
    state.copy_in(state.copy_out())
    assert not codec.makes_sound
    for refuses in (
        codec.check_makes_sound,
        lambda: codec.decode(torch.zeros(1, 8, 1), state),
        lambda: codec.decode_together([torch.zeros(1, 8, 1)], [state]),
        lambda: codec.finish(state),
    ):
        with pytest.raises(CheckpointError, match=r"bare has no codec, .* read stream.tokens\(\), or save the EnCodec"):
            refuses()
