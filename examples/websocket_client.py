"""Hear a session over the WebSocket, change its prompt at an exact sample, and save what came.

python examples/websocket_client.py --seconds 8 --prompt "techno, 125 bpm" --out heard.wav     (`streamgen serve` runs)
A frame of audio is a header of 32 bytes (HEADER), then interleaved s16le; messages are JSON. Needs only websockets.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import struct
import wave
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

# version, codec, channels, flags, sequence, sample position, server's clock in µs, rate in Hz, frames
HEADER = struct.Struct("<BBBBIQQII")
DISCONTINUITY, PROMPT_CHANGE = 1, 2


async def listen(args: argparse.Namespace) -> None:
    """Read until there are so many seconds."""
    pcm, rate_hz = bytearray(), 0
    async with connect(args.url, compression=None) as socket:
        async for message in socket:
            if isinstance(message, str):
                rate_hz = await told(socket, json.loads(message), args) or rate_hz
                continue
            _, _, channels, flags, _, position, _, rate_hz, _ = HEADER.unpack_from(message)
            if flags & (DISCONTINUITY | PROMPT_CHANGE):
                print(f"{position / rate_hz:8.2f} s: {'a break' if flags & DISCONTINUITY else 'the prompt changes'}")
            pcm += message[HEADER.size :]
            if len(pcm) >= args.seconds * rate_hz * channels * 2:
                break
    save(args.out, bytes(pcm), rate_hz)


async def told(socket: ClientConnection, message: dict[str, Any], args: argparse.Namespace) -> int:
    """Take a message: at the hello, ask for another prompt two seconds from now."""
    if message["type"] != "hello":
        print(json.dumps(message))
        return 0
    rate_hz = int(message["sample_rate_hz"])  # the session's; a client that counts at another says so with rate_hz
    at_sample = message["state"]["position_samples"] + 2 * rate_hz
    change = {"type": "set", "values": {"prompt/1/text": args.prompt}, "at_sample": at_sample, "rate_hz": rate_hz}
    await socket.send(json.dumps(change | {"id": "mine"}))
    return rate_hz


def save(path: Path, pcm: bytes, rate_hz: int) -> None:
    """Write a WAV file."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes(pcm)
    print(f"{path}: {len(pcm) / 4 / rate_hz:.1f} s")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Hear a session over the WebSocket.")
    parser.add_argument("--url", default="ws://127.0.0.1:8711/v1/stream")
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--prompt", default="techno, 125 bpm")
    parser.add_argument("--out", type=Path, default=Path("heard.wav"))
    args = parser.parse_args()
    try:
        asyncio.run(listen(args))
    except ConnectionRefusedError:
        print(f"nobody listens at {args.url}: start `streamgen serve` first")
