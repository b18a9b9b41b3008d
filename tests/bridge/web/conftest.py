"""A real Chromium on the real page, against the toy server."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ...real_parts.chromium import launched

sys.path.insert(0, str(Path(__file__).parent))  # --import-mode=importlib adds no folder by itself
from page_driver import Open, watch
from toy_server import ToyServer, toy_server


@pytest.fixture(scope="module")  # not longer: playwright keeps an event loop running in this thread
def chromium() -> Iterator[Any]:
    """One browser for all tests of a file."""
    with launched() as browser:
        yield browser


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
    opened.connected()
    yield opened
    context.close()
    assert opened.complaints == []
