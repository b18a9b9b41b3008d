"""Google's own SDK, unmodified, at a streamgen: the loop of its samples. A program of its own; prints what it heard.

SSL_CERT_FILE=cert.pem python lyria_client.py https://127.0.0.1:8711 8
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

from google import genai
from google.genai import types


async def main(url: str, seconds: float) -> None:
    client = genai.Client(api_key="any", http_options=types.HttpOptions(base_url=url))
    heard, gaps, sources = 0, [], []
    async with client.aio.live.music.connect(model="models/lyria-realtime-exp") as session:

        async def receive() -> None:
            nonlocal heard
            last = time.monotonic()
            async for message in session.receive():
                chunk = message.server_content.audio_chunks[0]  # as the samples do: every message must have one
                heard += len(chunk.data) // 4
                sources.append(chunk.source_metadata.music_generation_config.bpm)
                gaps.append(time.monotonic() - last)
                last = time.monotonic()
                await asyncio.sleep(10**-12)

        task = asyncio.create_task(receive())
        await session.set_weighted_prompts(prompts=[types.WeightedPrompt(text="Piano", weight=1.0)])
        await session.set_music_generation_config(config=types.LiveMusicGenerationConfig(bpm=94, temperature=1.0))
        await session.play()
        await asyncio.sleep(seconds / 2)
        await session.set_weighted_prompts(
            prompts=[types.WeightedPrompt(text="Drums", weight=0.7), types.WeightedPrompt(text="Bass", weight=0.3)]
        )
        config = types.LiveMusicGenerationConfig(bpm=125, scale=types.Scale.C_MAJOR_A_MINOR, brightness=0.7)
        await session.set_music_generation_config(config=config)
        await session.reset_context()
        await asyncio.sleep(seconds / 2)
        await session.pause()
        await asyncio.sleep(1)
        paused_at, longest = heard, max(gaps[2:])
        await asyncio.sleep(1)
        paused = heard == paused_at
        await session.play()
        await asyncio.sleep(1.5)
        await session.stop()
        goes_on = heard > paused_at
        task.cancel()
    told = {"seconds": paused_at / 48_000, "longest": longest, "paused": paused, "goes_on": goes_on, "bpm": sources[-1]}
    print(json.dumps(told))


asyncio.run(main(sys.argv[1], float(sys.argv[2])))
