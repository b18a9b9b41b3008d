"""One endless stream whose prompt changes at an exact sample, written to a file.

python examples/change_while_playing.py --seconds 20 --out change.wav
"""

from __future__ import annotations

import argparse

import soundfile

import streamgen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--out", default="change.wav")
    args = parser.parse_args()

    model = streamgen.load_model(args.model)
    total = round(args.seconds * model.sample_rate_hz)
    with (
        model.open_stream("chill hop, 94 bpm, electric piano, bass, drums", seed=7) as stream,
        soundfile.SoundFile(args.out, "w", model.sample_rate_hz, 2) as file,
    ):
        applied = stream.set(prompt="house, 125 bpm, synth bass, drums", glide_seconds=1.0, at_sample=total // 2)
        for chunk in stream.chunks(seconds=0.1):
            file.write(chunk.samples[:, : total - chunk.start_sample].T)
            if chunk.end_sample >= total:
                break
    print(f"{args.out}: the prompt changes at {applied / model.sample_rate_hz:.2f} s")


if __name__ == "__main__":
    main()
