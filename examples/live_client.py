"""Hear a running `streamgen serve`, turn its prompt on the way, and keep what was heard.

streamgen serve &
python examples/live_client.py --seconds 8 --prompt "solo piano, 94 bpm" --out heard.wav
"""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

import numpy as np
import soundfile

from streamgen.client import Live, connect


async def follow(live: Live) -> None:
    async for event in live.events():
        if event["type"] == "changed":
            print(f"{event['by']} set {event['values']}")


async def hear(url: str, seconds: float, prompt: str, out: Path) -> None:
    async with connect(url) as live:
        print(f"{live.hello['model']} is {live.state}, {live.sample_rate_hz} Hz")
        following = asyncio.create_task(follow(live))
        heard, count = [], 0
        async for chunk in await live.chunks():
            heard.append(chunk.samples)
            count += chunk.samples.shape[1]
            if len(heard) == 10:
                at = chunk.start_sample + live.sample_rate_hz  # in a second, to the sample
                await live.set({"prompt/1/text": prompt}, at_sample=at)
            if count >= seconds * chunk.sample_rate_hz:
                break
        following.cancel()
        soundfile.write(out, np.concatenate(heard, axis=1).T, live.sample_rate_hz)
        print(f"{count / live.sample_rate_hz:.1f} s in {out}, {live.missed_samples} samples missed")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="http://127.0.0.1:8711")
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--prompt", default="solo piano, 94 bpm")
    parser.add_argument("--out", type=Path, default=Path("heard.wav"))
    args = parser.parse_args()
    asyncio.run(hear(args.url, args.seconds, args.prompt, args.out))


if __name__ == "__main__":
    main()
