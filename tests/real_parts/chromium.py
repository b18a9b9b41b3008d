"""Debian's Chromium: without a screen, with sound, and without a word to its makers."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
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
    "--host-resolver-rules=MAP studio.test 127.0.0.1",  # another host's name, for which browsers trust plain http less
    "--autoplay-policy=no-user-gesture-required",
]


@contextmanager
def launched(environment: dict[str, str] | None = None) -> Iterator[Any]:
    """Run a browser while the block runs; playwright keeps an event loop running in this thread meanwhile.

    Without Chromium or playwright the test is skipped.
    """
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        pytest.skip("needs Debian's chromium")
    api = pytest.importorskip("playwright.sync_api", reason="needs `pip install playwright`")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=program, args=_ARGUMENTS, ignore_default_args=["--mute-audio"], env=environment
        )
        yield browser
        browser.close()
