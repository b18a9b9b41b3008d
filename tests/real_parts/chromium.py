"""How Debian's Chromium is started: without a screen, with sound, and without a word to its makers."""

from __future__ import annotations

import shutil
from typing import Any

import pytest

_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
]


def launch_options() -> dict[str, Any]:
    """What playwright's `chromium.launch` takes; without Chromium or playwright the test is skipped."""
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        pytest.skip("needs Debian's chromium")
    pytest.importorskip("playwright", reason="needs `pip install playwright`")
    return {"executable_path": program, "args": _ARGUMENTS, "ignore_default_args": ["--mute-audio"]}
