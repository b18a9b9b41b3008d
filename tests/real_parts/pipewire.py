"""A PipeWire of our own, in JACK's place: a dummy driver, nothing connected by itself."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

RATE_HZ = 48_000
_LIBRARIES = Path("/usr/lib/x86_64-linux-gnu/pipewire-0.3/jack")  # as pw-jack has it
_START_SECONDS = 20


@contextmanager
def running_pipewire(period_frames: int = 1024) -> Iterator[dict[str, str]]:
    """Run a server while the block runs; returns the environment of programs that shall find it as JACK."""
    if not shutil.which("pipewire") or not _LIBRARIES.exists():
        pytest.skip("needs pipewire and pipewire-jack")
    with tempfile.TemporaryDirectory(prefix="sg-") as folder:
        environment = os.environ | {
            "HOME": folder,
            "XDG_RUNTIME_DIR": folder,
            "PIPEWIRE_RUNTIME_DIR": folder,
            "PIPEWIRE_QUANTUM": f"{period_frames}/{RATE_HZ}",
            "LD_LIBRARY_PATH": str(_LIBRARIES),
        }
        environment.pop("JACK_DEFAULT_SERVER", None)
        with (Path(folder) / "log").open("wb") as log:
            server = subprocess.Popen(["pipewire"], env=environment, stdout=log, stderr=log)
        try:
            end = time.monotonic() + _START_SECONDS
            while subprocess.run(["pw-cli", "info", "0"], env=environment, capture_output=True, check=False).returncode:
                assert time.monotonic() < end, (Path(folder) / "log").read_text()
                time.sleep(0.1)
            yield environment
        finally:
            server.terminate()
            server.wait(10)
