"""What the way out of a session costs: milliseconds of work for a second of the shipped checkpoint's music, by stage.

    python tests/bridge/audio/cost.py [--seconds 60] [--frames 2] [--runs 5]      STREAMGEN_KERNELS=torch: by numpy

In pieces as the service commits them, with a session's defaults, on one core; a stage's own clock is in its figure.
"""

from __future__ import annotations

import argparse
import time
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
def timed(spent: dict[str, list[float]]) -> Iterator[None]:
    """Note how long every call of every stage takes."""
    before = {name: getattr(owner, method) for name, (owner, method) in STAGES.items()}
    for name, (owner, method) in STAGES.items():
        setattr(owner, method, _noting(before[name], spent[name]))
    yield
    for name, (owner, method) in STAGES.items():
        setattr(owner, method, before[name])


def _noting(call: Callable[..., Any], spent: list[float]) -> Callable[..., Any]:
    def noting(*arguments: Any, **named: Any) -> Any:
        began = time.thread_time()
        result = call(*arguments, **named)
        spent.append(time.thread_time() - began)
        return result

    return noting


def run(model: Model, music: np.ndarray, piece: int) -> list[float]:
    """Push music through a new session's way out; returns the seconds that each piece took."""
    committer = Committer(model, Timeline(48_000), lambda item: None, 5 * model.hop_samples)
    committer.output.set({name: spec.default for name, spec in session_table(model).items()})
    spent: list[float] = []
    commit = _noting(committer.commit, spent)
    for at in range(0, music.shape[1], piece):
        commit([music[:, at : at + piece]])
    return spent


def table(model: Model, music: np.ndarray, piece: int, runs: int) -> dict[str, float]:
    """Milliseconds a second of music, by stage: of every call the least over the runs, for others take the core too."""
    whole, by_stage = [], []
    for _ in range(runs):
        whole.append(run(model, music, piece))
        spent: dict[str, list[float]] = {name: [] for name in STAGES}
        with timed(spent):
            run(model, music, piece)
        by_stage.append(spent)
    least = {name: np.min([spent[name] for spent in by_stage], axis=0) for name in STAGES}
    least["all, by itself"] = np.min(whole, axis=0)
    return {name: 1e3 * float(each.sum()) * model.sample_rate_hz / music.shape[1] for name, each in least.items()}


def main() -> None:
    """Print the table."""
    options = argparse.ArgumentParser()
    options.add_argument("--seconds", type=int, default=60)
    options.add_argument("--frames", type=int, default=2, help="committed at once")
    options.add_argument("--runs", type=int, default=5)
    told = options.parse_args()
    model = load_model("pocket")
    stream = model.open_stream(prompt="house, 125 bpm, drums", seed=1)
    wanted, chunks, have = told.seconds * model.sample_rate_hz, [], 0
    while have < wanted:
        chunks.append(stream.read(model.sample_rate_hz).samples)
        have += chunks[-1].shape[1]
    music, piece = np.concatenate(chunks, axis=1)[:, :wanted], told.frames * model.hop_samples
    for name, milliseconds in table(model, music, piece, told.runs).items():
        print(f"{name:24} {milliseconds:7.2f}")


if __name__ == "__main__":
    main()
