"""What the shipped checkpoint makes of three prompts, as one picture: this is how the README's was made.

python examples/spectrograms.py --seconds 8 --out pictures/spectrograms.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import streamgen
from streamgen.pocket.training.pictures import spectrogram, stack, write_png

PROMPTS = (
    "house, 125 bpm, drums and synth bass",
    "rock, 150 bpm, distorted guitar, bass, drums",
    "jazz trio, 125 bpm, piano, double bass, drums",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("spectrograms.png"))
    args = parser.parse_args()

    model = streamgen.load_model(args.model)
    pictures = []
    for prompt in PROMPTS:
        clip = model.generate([prompt], args.seconds, seed=args.seed)[0]
        pictures.append(np.repeat(spectrogram(clip.samples.mean(axis=0)), 3, axis=1))
        print(prompt)
    write_png(args.out, stack(pictures))


if __name__ == "__main__":
    main()
