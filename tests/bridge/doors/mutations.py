"""Messages of all doors, broken at random: what a careless or hostile client sends. Seeded by the caller."""

from __future__ import annotations

import json
import random
import time

from pythonosc.osc_bundle_builder import IMMEDIATELY, OscBundleBuilder
from pythonosc.osc_message import OscMessage
from pythonosc.osc_message_builder import OscMessageBuilder


def _message(address: str, *arguments: str | float) -> OscMessage:
    builder = OscMessageBuilder(address)
    for argument in arguments:
        builder.add_arg(argument)
    return builder.build()


def encode(address: str, *arguments: str | float) -> bytes:
    """Build a packet of one message."""
    return _message(address, *arguments).dgram


def encode_bundle(when: float | None, messages: list[OscMessage]) -> bytes:
    """Build a packet of a bundle, for a time in Unix seconds or at once."""
    bundle = OscBundleBuilder(IMMEDIATELY if when is None else when)
    for message in messages:
        bundle.add_content(message)
    return bundle.build().dgram


OSC_SEEDS = [
    encode("/streamgen/tempo", 120.0),
    encode("/streamgen/prompt", "techno, 130 bpm"),
    encode("/streamgen/prompt/[1-8]/weight", 0.5),
    encode("/streamgen/temperature/norm", 0.25),
    encode("/streamgen/*"),
    encode("/streamgen/refresh"),
    encode("/streamgen/play", 1),
    encode("/streamgen/subscribe", 9, 50),
    encode("/streamgen/audio/subscribe", 9),
    encode_bundle(None, [_message("/streamgen/seed", 5), _message("/streamgen/mute", 1)]),
    encode_bundle(time.time() + 3, [_message("/streamgen/top_k", 50), _message("/streamgen/pause")]),
    b"/streamgen/" + b"*" * 14 + b"!\0\0,\0\0\0",
    b"/streamgen/tempo\0\0\0\0,IcTFN\0\0\0\0\0a",
]

WAV = b"RIFF\x24\x00\x00\x00WAVEfmt \x10\x00\x00\x00\x01\x00\x02\x00\x44\xac\x00\x00\x10\xb1\x02\x00\x04\x00\x10\x00"
WEB_SEEDS: list[bytes] = [
    json.dumps(message).encode()
    for message in [
        {
            "type": "set",
            "values": {"prompt/1/text": "techno", "guidance_scale": 3.5},
            "at_sample": 96_000,
            "rate_hz": 44_100,
            "id": 1,
        },
        {"type": "set", "values": {"mute": True, "top_k": 250, "seed": 7}, "id": "a"},
        {"type": "transport", "action": "pause", "at_sample": 48_000, "id": 2},
        {"type": "audio", "codec": "f32le", "sample_rate_hz": 48_000, "chunk_ms": 100, "enabled": True},
        {"type": "get", "name": "temperature", "id": 3},
        {"type": "ping", "t": 1.5},
        {"type": "audio_prompt", "bytes": 64, "id": 4},
    ]
] + [WAV + b"data"]
WRONG = [None, True, [], {}, [[1]], "", "x" * 5_000, "\ud800", "\x1b[2J\x00", -1, 0, 0.5, 10**30, 1e308, -1e308, "1"]
PIECES = [b"{", b"[", b'"', b"null", b"1e999", b"-1", b"NaN", b"\\ud800", b"\\u0000", b"9" * 400, b"true", b"\xff"]


def mutated_osc(draw: random.Random) -> bytes:
    """A packet."""
    data = bytearray(draw.choice(OSC_SEEDS))
    for _ in range(draw.choice([0, 1, 1, 2, 4, 16])):
        kind = draw.randrange(4)
        at = draw.randrange(len(data) or 1)
        if kind == 0:
            data[at : at + 1] = bytes([draw.randrange(256)])
        elif kind == 1:
            del data[at : at + draw.randrange(1, 9)]
        elif kind == 2:
            data[at:at] = draw.randbytes(draw.randrange(1, 9))
        else:
            data += draw.choice(OSC_SEEDS)
    return bytes(data)


LYRIA_SEEDS: list[bytes] = [
    json.dumps(message).encode()
    for message in [
        {"setup": {"model": "models/lyria-realtime-exp"}},
        {"clientContent": {"weightedPrompts": [{"text": "piano", "weight": 1.0}, {"text": "drums", "weight": 0.5}]}},
        {"musicGenerationConfig": {"bpm": 120, "temperature": 1.1, "guidance": 4.0, "seed": 7, "muteBass": True}},
        {"playbackControl": "PLAY"},
        {"playbackControl": "RESET_CONTEXT"},
    ]
]
PATHS = ["/", "/healthz", "/metrics", "/streamgen", "/streamgen/temperature?VALUE", "/?HOST_INFO", "/app.js"]
PATHS += ["/listen.mp3", "/listen.m3u", "/listen.ogg", "/v1/stream", "/nowhere"]
METHODS = ["GET", "GET", "GET", "GET", "HEAD", "POST", "OPTIONS", "get", "PRI", "CONNECT"]
HEADERS = ["Host: 127.0.0.1", "Accept: text/html", "Accept: */*", "Icy-MetaData: 1", "Range: bytes=5-2", "Origin: null"]
HEADERS += ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Content-Length: 5"]
HEADERS += ["Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==", "Transfer-Encoding: chunked", "Expect: 100-continue"]


def mutated_web(draw: random.Random) -> str | bytes:
    """A WebSocket message."""
    return _mutated_json(draw, WEB_SEEDS)


def mutated_lyria(draw: random.Random) -> str | bytes:
    """A message of Google's protocol; half of them are JSON, with a wrong value somewhere."""
    if draw.random() < 0.5:
        return _mutated_json(draw, LYRIA_SEEDS)
    message = json.loads(draw.choice(LYRIA_SEEDS))
    place = message
    while isinstance(place, dict | list) and place:
        key = draw.choice([*place] if isinstance(place, dict) else range(len(place)))
        inside = place[key]
        if not isinstance(inside, dict | list) or draw.random() < 0.1:
            place[key] = draw.choice([inside, *WRONG])
            break
        place = inside
    return json.dumps(message)


def mutated_http(draw: random.Random) -> bytes:
    """A request."""
    line = f"{draw.choice(METHODS)} {draw.choice(PATHS)} HTTP/{draw.choice(['1.1', '1.1', '1.1', '1.0', '2.0'])}"
    head = "\r\n".join([line, *draw.sample(HEADERS, draw.randrange(7))])
    data = bytearray(head.encode() + b"\r\n\r\n")
    for _ in range(draw.choice([0, 0, 1, 2, 8])):
        at, kind = draw.randrange(len(data) + 1), draw.randrange(5)
        if kind == 0:
            data[at : at + 1] = draw.randbytes(1)
        elif kind == 1:
            del data[at : at + draw.randrange(1, 20)]
        elif kind == 2:
            data[at:at] = draw.randbytes(draw.randrange(1, 30))
        elif kind == 3:
            data[at:at] = draw.choice([b"A", b"X: y\r\n"]) * draw.choice([10, 600, 20_000])
        else:
            del data[at:]
    return bytes(data)


def _mutated_json(draw: random.Random, seeds: list[bytes]) -> str | bytes:
    data = bytearray(draw.choice(seeds))
    for _ in range(draw.randint(0, 4)):
        at = draw.randrange(len(data) + 1)
        kind = draw.random()
        if kind < 0.3 and at < len(data):
            data[at] = draw.randrange(256)
        elif kind < 0.6:
            data[at:at] = draw.choice(PIECES)
        elif kind < 0.8:
            del data[at : at + draw.randint(1, 12)]
        else:
            data[at:at] = bytes(data[: draw.randint(0, 60)])
    if draw.random() < 0.15:
        return bytes(data)
    return data.decode(errors="replace")
