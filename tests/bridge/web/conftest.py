"""A real Chromium on the real page, against the toy server."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # --import-mode=importlib adds no folder by itself
from page_driver import Open, watch
from toy_server import ToyServer, toy_server

PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
]


@pytest.fixture(scope="module")  # not longer: playwright keeps an event loop running in this thread
def chromium() -> Iterator[Any]:
    """One browser for all tests of a file."""
    api = pytest.importorskip("playwright.sync_api", reason="needs `pip install playwright`")
    if PROGRAM is None:
        pytest.skip("needs Debian's chromium")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=PROGRAM, args=ARGUMENTS, ignore_default_args=["--mute-audio"]
        )
        yield browser
        browser.close()


@pytest.fixture
def server() -> Iterator[ToyServer]:
    """A toy server with five prompts, one of them heard."""
    with toy_server() as running:
        for slot, text in enumerate(("piano", "strings", "drums", "bass", "marimba"), 1):
            running.session.values[f"prompt/{slot}/text"] = text
        yield running


@pytest.fixture
def opened(chromium: Any, server: ToyServer) -> Iterator[Open]:
    """The page, connected, wide; a complaint in its console fails the test."""
    context = chromium.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
    opened = watch(context.new_page())
    opened.page.goto(server.url)
    opened.until("document.body.dataset.link === 'open'")
    yield opened
    context.close()
    assert opened.complaints == []
