"""What tests of the doors share."""

from __future__ import annotations

import gc

import pytest

from .web_session import SineSession


@pytest.fixture
def sine_session() -> type[SineSession]:
    """The class: a session is made inside the test's own event loop."""
    return SineSession


@pytest.fixture
def no_old_garbage() -> None:
    """Keep what other tests left out of the collector's pauses, from here on."""
    gc.collect()
    gc.freeze()
