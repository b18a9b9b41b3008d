"""Check that a file is what the README promises: playable stereo music of the right length.

Usage: check_music.py FILE SECONDS
"""

from __future__ import annotations

import sys

import numpy as np
import soundfile

FRAME = 2048


def main(path: str, seconds: float) -> None:
    """Read the file and fail with the figure that is wrong."""
    samples, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
    length = len(samples) / rate_hz
    level = np.sqrt((samples**2).mean(axis=0))
    frames = samples.mean(axis=1)[: len(samples) // FRAME * FRAME].reshape(-1, FRAME)
    power = np.abs(np.fft.rfft(frames * np.hanning(FRAME), axis=1)) ** 2 + 1e-10
    flatness = float(np.median(np.exp(np.log(power).mean(axis=1)) / power.mean(axis=1)))
    quiet = float((np.sqrt((frames**2).mean(axis=1)) < 1e-3).mean())
    print(
        f"{path}: {length:g} s, {samples.shape[1]} channels, level {level}, flatness {flatness:.4f}, silent {quiet:.0%}"
    )
    assert samples.shape[1] == 2, f"{samples.shape[1]} channels, not 2"
    assert abs(length - seconds) < 0.01, f"{length} s, not {seconds}"
    assert level.min() > 0.005, f"a channel is nearly silent: {level}"
    assert quiet < 0.5, f"{quiet:.0%} of it is silence"
    assert flatness < 0.3, f"spectral flatness {flatness:.2f}: that is noise"
    assert (np.abs(samples) >= 0.999).mean() < 0.01, "clipped"


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
