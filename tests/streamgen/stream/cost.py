"""What each of some streams costs that are read together: processor time a second of music, in milliseconds.

    python tests/streamgen/stream/cost.py --streams 1 4 8 16 --seconds 16

As a service reads: blocks of five frames, a mark before each. All streams begin together, so that their windows roll
over and their successors warm in the same steps; `worst` is the dearest second of all.
"""

from __future__ import annotations

import argparse
import time
from itertools import pairwise

import streamgen
from bridge.session.generator import Generator

PROMPTS = (
    "house, 125 bpm, drums",
    "techno",
    "drum and bass",
    "funk",
    "reggae",
    "lofi hip hop",
    "jazz trio",
    "chiptune",
)


def cost(model: streamgen.Model, count: int, seconds: int) -> tuple[float, float, float]:
    """Return what a stream costs this thread in a second of music, the process, and this thread in the dearest one."""
    options = [{"prompt": PROMPTS[seed % len(PROMPTS)], "seed": seed, "audition": 1} for seed in range(count)]
    streams = [Generator(model, own, time.monotonic, None) for own in options]
    blocks = round(model.sample_rate_hz / streams[0].block_samples)
    marks = [(time.thread_time(), time.process_time())]
    for _ in range(seconds):
        for _ in range(blocks):
            Generator.make_together(streams, lambda: None)
            for stream in streams:
                stream.take(stream.block_samples)
        marks.append((time.thread_time(), time.process_time()))
    for stream in streams:
        stream.close()
    each = [1e3 * (after[0] - before[0]) / count for before, after in pairwise(marks)]
    whole = 1e3 * (marks[-1][1] - marks[0][1]) / count / seconds
    return sum(each) / seconds, whole, max(each)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 4, 8, 16])
    parser.add_argument("--seconds", type=int, default=16)
    parser.add_argument("--threads", type=int)
    wanted = parser.parse_args()
    model = streamgen.load_model("pocket", threads=wanted.threads)
    cost(model, 1, 1)
    for count in wanted.streams:
        thread, process, worst = cost(model, count, wanted.seconds)
        print(
            f"{count:3} streams: {thread:5.1f} ms of its thread, {process:5.1f} of the process, worst {worst:5.1f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
