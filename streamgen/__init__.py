"""streamgen plays MusicGen live: text in, endless stereo music out.

    import streamgen
    model = streamgen.load_model("pocket")
    stream = model.open_stream("lofi hip hop, electric piano, drums, 94 bpm", seed=7)
    for chunk in stream.chunks(seconds=0.1):
        chunk.samples  # float32 [2, n] at model.sample_rate_hz

Map of the rooms, the upper ones standing on the lower (import-linter holds them to it):
    model.py       what users hold: load_model, Model;  preparation.py: its half that reads texts and audio ahead
    stream/        an endless stream, a batch of clips: controls in force at their frame, sound, places to go back to
    runtime.py     what the streams of a model share, from any thread
    scheduler.py   which of them step together
    conditioning/  text states, melody chroma, mixes of prompts, all of it as rows of the decoder
    lm/            decoder step, KV cache, delay pattern, sampling, windows, precision
    codec/         incremental EnCodec decode, audio prompt encode
    checkpoint/    finding, reading and checking checkpoints: transformers and audiocraft formats, Hub, folder, shipped
    config.py      THE table: what can be set, and the range of every number
    linear.py      rows times a matrix, as this machine does it fastest;  graphs.py: what a GPU replays
    audio.py errors.py metrics.py
    pocket/        the shipped checkpoint and how it was made
    asynchronous.py  streams on an event loop
    client.py      a user's end of a running service; nothing else here knows a socket
    testing/       tiny random checkpoints for tests, ours and yours; a model that sings sines

Nothing here starts a thread, and nothing but client.py opens a socket. torch is imported when a name that needs it is
first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from streamgen.audio import AudioChunk
from streamgen.errors import (
    CapacityError,
    CheckpointError,
    ConfigError,
    NumericError,
    PromptError,
    SessionClosed,
    StreamgenError,
)

if TYPE_CHECKING:
    from streamgen.conditioning.text import check_text
    from streamgen.model import Model, load_model
    from streamgen.stream.snapshots import StreamMark, StreamSnapshot
    from streamgen.stream.stream import Stream

__all__ = [
    "AudioChunk",
    "CapacityError",
    "CheckpointError",
    "ConfigError",
    "Model",
    "NumericError",
    "PromptError",
    "SessionClosed",
    "Stream",
    "StreamMark",
    "StreamSnapshot",
    "StreamgenError",
    "check_text",
    "load_model",
]

_LAZY = {
    "Model": "streamgen.model",
    "load_model": "streamgen.model",
    "Stream": "streamgen.stream.stream",
    "StreamMark": "streamgen.stream.snapshots",
    "StreamSnapshot": "streamgen.stream.snapshots",
    "check_text": "streamgen.conditioning.text",
}


def __getattr__(name: str) -> Any:
    """Import the parts that need torch on first use, so that a command line can answer `--help` at once."""
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'streamgen' has no attribute {name!r}")
