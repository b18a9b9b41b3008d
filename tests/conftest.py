"""What every test starts from: no network, few threads, a known seed."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

# Before transformers is imported: a test that would reach for the Hub must fail at once, the same everywhere.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="streamgen-test-cache-")  # rounded weights are kept there
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest
import torch

from .real_parts.jack import Jack, running_jack
from .real_parts.pulseaudio import PulseAudio, running_pulseaudio

torch.set_num_threads(1)  # tiny models gain nothing from a second thread, and lose much where cores are shared


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Make two groups for `-n 2 --dist loadgroup`: what computes, and what waits for clocks, sockets and devices.

    The second kind must not compete with itself: each of its tests has a core, whatever the first kind does.
    """
    for item in items:
        engine = "streamgen" in item.path.relative_to(Path(__file__).parent).parts[:1]
        item.add_marker(pytest.mark.xdist_group("engine" if engine else "bridge"))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what is marked `gpu` where there is none, whichever marks the run was asked for."""
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("needs a CUDA GPU")


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Start each test from the same global seed, whatever ran before it."""
    torch.manual_seed(0)


@pytest.fixture
def three_threads() -> Iterator[None]:
    """Let torch compute on three threads, as many as nobody sets, for one test."""
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def pulseaudio() -> Iterator[PulseAudio]:
    """A sound server of our own, or the test is skipped."""
    with running_pulseaudio() as server:
        yield server


@pytest.fixture
def jack() -> Iterator[Jack]:
    """A JACK of our own, or the test is skipped."""
    with running_jack() as server:
        yield server
