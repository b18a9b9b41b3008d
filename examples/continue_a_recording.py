"""A batch of clips that go on from a recording: each with its own prompt, one with none.

python examples/continue_a_recording.py --recording my.wav --seconds 8
"""

from __future__ import annotations

import argparse

import soundfile

import streamgen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--recording", help="any wav, flac, ogg or mp3; without one, two seconds are made first")
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--out", default="continued")
    args = parser.parse_args()

    model = streamgen.load_model(args.model)
    if args.recording:
        samples, rate_hz = soundfile.read(args.recording, dtype="float32", always_2d=True)
        recording = samples.T
    else:
        recording, rate_hz = (
            model.generate(["piano piece, 94 bpm"], seconds=2.0, seed=3)[0].samples,
            model.sample_rate_hz,
        )

    prompts = ["piano piece, calm", "jazz trio, piano, double bass, drums", None]
    clips = model.generate(
        prompts, args.seconds, audio_prompt=recording, audio_prompt_rate_hz=rate_hz, include_prompt=True, seed=1
    )
    for number, (prompt, clip) in enumerate(zip(prompts, clips, strict=True), start=1):
        soundfile.write(f"{args.out}-{number}.wav", clip.samples.T, clip.sample_rate_hz)
        print(f"{args.out}-{number}.wav: {prompt or 'unconditional'}, {clip.seconds:.1f} s")


if __name__ == "__main__":
    main()
