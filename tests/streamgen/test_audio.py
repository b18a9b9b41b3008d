from __future__ import annotations

import numpy as np

from streamgen.audio import AudioChunk


def test_a_chunk_knows_its_length_and_end() -> None:
    chunk = AudioChunk(np.zeros((2, 48_000), np.float32), 320, 32_000)
    assert chunk.seconds == 1.5
    assert chunk.end_sample == 48_320


def test_a_chunk_tells_what_it_is_in_one_line() -> None:
    samples = np.zeros((2, 3_200), np.float32)
    samples[1, 7] = -0.25
    text = repr(AudioChunk(samples, 6_400, 32_000))
    assert text == "<AudioChunk 2 × 3,200 samples at 32000 Hz (0.10 s) from sample 6,400, peak 0.250>"
    assert "peak 0.000" in repr(AudioChunk(samples[:, :0], 0, 32_000))
