"""Audio prompts: what is read, and what is refused with its reason."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from bridge.audio.audio_in import read_audio
from bridge.errors import UsageError


@pytest.mark.parametrize("suffix", ["wav", "flac"])
@pytest.mark.parametrize(("rate_hz", "channels"), [(8_000, 1), (44_100, 2), (96_000, 6)])
def test_any_rate_and_channels_come_as_they_are(tmp_path: Path, suffix: str, rate_hz: int, channels: int) -> None:
    source = np.random.default_rng(0).uniform(-0.9, 0.9, (1_000, channels)).astype(np.float32)
    soundfile.write(tmp_path / f"a.{suffix}", source, rate_hz, subtype="PCM_16")
    samples, got_hz = read_audio(tmp_path / f"a.{suffix}", "--audio-prompt")
    assert (got_hz, samples.shape, samples.dtype) == (rate_hz, (channels, 1_000), np.float32)
    np.testing.assert_allclose(samples.T, source, atol=1 / 32_000)


def test_a_missing_file_is_named_with_its_option(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--melody is '.*no\.wav': there is no such file"):
        read_audio(tmp_path / "no.wav", "--melody")


@pytest.mark.parametrize("content", [b"", b"RIFF", b"this is text, not music\n" * 50])
def test_a_file_that_is_no_audio_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.wav").write_bytes(content)
    with pytest.raises(UsageError, match=r"--melody is '.*a\.wav': .*; wav, flac, ogg and mp3 are read"):
        read_audio(tmp_path / "a.wav", "--melody")


def test_an_empty_recording_is_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros((0, 2)), 32_000)
    with pytest.raises(UsageError, match="holds no audio"):
        read_audio(tmp_path / "a.wav", "--melody")


def test_an_hour_is_refused_before_it_fills_the_memory(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.flac", np.zeros(8_000 * 700, np.int16), 8_000)
    with pytest.raises(UsageError, match="700 s long; at most 600 s"):
        read_audio(tmp_path / "a.flac", "--melody")
