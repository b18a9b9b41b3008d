from __future__ import annotations

import numpy as np

from streamgen.audio import AudioChunk


def test_a_chunk_knows_its_length_and_end() -> None:
    chunk = AudioChunk(np.zeros((2, 48_000), np.float32), 320, 32_000)
    assert chunk.seconds == 1.5
    assert chunk.end_sample == 48_320
