"""What the way out of a session costs: milliseconds of work for a second of the shipped checkpoint's music, by stage.

    python tests/bridge/audio/cost.py [--seconds 60] [--frames 2] [--numpy]

In pieces as the service commits them, with a session's defaults, on one core.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from bridge.audio import chain, compressor, conversion, equalizer, gain, limiter, loudness, master, rack, width
from bridge.session.committer import Committer
from bridge.session.parameters import session_table
from bridge.session.timeline import Timeline
from streamgen import Model, load_model

STAGES: dict[str, tuple[type, str]] = {
    "resampler": (conversion._Soxr, "process"),
    "effects, all": (chain.Chain, "process"),
    "width": (width.Width, "process"),
    "rack, empty": (rack.Rack, "process"),
    "master, all": (master.Master, "process"),
    "master: low cut": (equalizer.HighPass, "process"),
    "master: width and room": (master._RoomReverb, "process"),
    "master: glue": (compressor.Compressor, "process"),
    "master: loudness": (loudness.SlowGain, "process"),
    "gain": (gain.Gain, "process"),
    "limiter": (limiter.Limiter, "process"),
    "meter": (loudness.PeakMeter, "process"),
}


@contextmanager
def timed(spent: dict[str, float]) -> Iterator[None]:
    """Note how long every stage takes."""
    before = {name: getattr(owner, method) for name, (owner, method) in STAGES.items()}
    for name, (owner, method) in STAGES.items():
        setattr(owner, method, _noting(before[name], name, spent))
    yield
    for name, (owner, method) in STAGES.items():
        setattr(owner, method, before[name])


def _noting(call: Callable[..., Any], name: str, spent: dict[str, float]) -> Callable[..., Any]:
    def noting(*arguments: Any, **named: Any) -> Any:
        began = time.thread_time()
        result = call(*arguments, **named)
        spent[name] += time.thread_time() - began
        return result

    return noting


def run(model: Model, music: np.ndarray, piece: int) -> float:
    """Push music through a new session's way out; returns the seconds that it took."""
    committer = Committer(model, Timeline(48_000), lambda item: None, 5 * model.hop_samples)
    committer.output.set({name: spec.default for name, spec in session_table(model).items()})
    began = time.thread_time()
    for at in range(0, music.shape[1], piece):
        committer.commit([music[:, at : at + piece]])
    return time.thread_time() - began


def main() -> None:
    """Print the table."""
    options = argparse.ArgumentParser()
    options.add_argument("--seconds", type=int, default=60)
    options.add_argument("--frames", type=int, default=2, help="committed at once")
    told = options.parse_args()
    model = load_model("pocket")
    stream = model.open_stream(prompt="house, 125 bpm, drums", seed=1)
    wanted, chunks, have = told.seconds * model.sample_rate_hz, [], 0
    while have < wanted:
        chunks.append(stream.read(model.sample_rate_hz).samples)
        have += chunks[-1].shape[1]
    music, piece = np.concatenate(chunks, axis=1)[:, :wanted], told.frames * model.hop_samples
    whole = min(run(model, music, piece) for _ in range(3))
    spent: dict[str, float] = defaultdict(float)
    with timed(spent):
        run(model, music, piece)
    for name in STAGES:
        print(f"{name:24} {1e3 * spent[name] / told.seconds:7.2f}")
    print(f"{'all, untimed inside':24} {1e3 * whole / told.seconds:7.2f}")


if __name__ == "__main__":
    main()
