"""What the operator sets for `serve`: one typed source, from the command line and a TOML file.

Rules: no torch; plain data. An option that was given beats the file, the file beats the default.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["Settings"]


@dataclass(frozen=True)
class Settings:
    """The service's settings."""

    prompt: str = "lofi hip hop, electric piano, drums, 94 bpm"
    host: str = "127.0.0.1"
    port: int = 8711
    osc_port: int = 8712
    token: str = ""
    insecure: bool = False
    allow_origin: tuple[str, ...] = ()
    soundcard: bool = True
    output: str | None = None
    latency: float = 0.15
    session_rate: int = 48_000
    record: Path | None = None
    state: Path | None = None
    fresh: bool = False
