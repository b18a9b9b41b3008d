"""One beginning, two ways on: a snapshot of a stream, restored with another prompt.

python examples/two_futures.py --seconds 8
"""

from __future__ import annotations

import argparse

import numpy as np
import soundfile

import streamgen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--out", default="future")
    args = parser.parse_args()

    model = streamgen.load_model(args.model)
    half = round(args.seconds / 2 * model.sample_rate_hz)
    with model.open_stream("chill hop, 94 bpm, electric piano, bass, drums", seed=1) as stream:
        beginning = stream.read(half).samples
        moment = stream.snapshot()
        for number, prompt in enumerate(
            ("rock, 94 bpm, guitar, bass, drums", "jazz trio, 94 bpm, piano, double bass, drums"), start=1
        ):
            stream.restore(moment)
            stream.set(prompt=prompt)
            whole = np.concatenate([beginning, stream.read(half).samples], axis=1)
            soundfile.write(f"{args.out}-{number}.wav", whole.T, model.sample_rate_hz)
            print(f"{args.out}-{number}.wav: {prompt}")


if __name__ == "__main__":
    main()
