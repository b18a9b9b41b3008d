from __future__ import annotations

import base64
import io
import re

import numpy as np
import soundfile

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


def test_a_notebook_shows_a_player_of_its_samples() -> None:
    samples = np.linspace(-1, 1, 6_400, dtype=np.float32).reshape(2, -1)
    shown = AudioChunk(samples, 0, 32_000)._repr_html_()
    found = re.fullmatch(r'<audio controls src="data:audio/wav;base64,([^"]+)"></audio> &lt;AudioChunk .*&gt;', shown)
    assert found is not None, shown[:200]
    heard, rate_hz = soundfile.read(io.BytesIO(base64.b64decode(found[1])), dtype="float32")
    assert rate_hz == 32_000
    assert np.abs(heard.T - samples).max() < 1 / 16_000
