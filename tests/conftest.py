"""What every test starts from: no network, few threads, a known seed; and which tests run beside which."""

from __future__ import annotations

import gc
import os
import tempfile
from collections.abc import Iterator
from typing import Any

# Before transformers is imported: a test that would reach for the Hub must fail at once, the same everywhere.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="streamgen-test-cache-")  # rounded weights are kept there
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest

from .real_parts.jack import Jack, running_jack
from .real_parts.pulseaudio import PulseAudio, running_pulseaudio

# torch is imported where it is used: the process that hands tests to others has no use for it

LONGEST = ("stream", "pocket", "checkpoint", "codec", "lm")  # rooms of tests/streamgen, slow tests included
STEPPED_BACK = pytest.StashKey[bool]()


def computes(path: str) -> bool:
    """Tell what computes from what waits: for clocks, sockets, devices, other programs."""
    room = path.removeprefix("tests/").split("/")
    return room[0] in ("golden", "streamgen") or (room[:2] == ["bridge", "audio"] and room[2:3] != ["plugins"])


def group_of(nodeid: str) -> str:
    """Return with which others a test runs, one after another in one process.

    What waits: those of its file. What computes: those of its room, which share the models they load.
    """
    path = nodeid.partition("::")[0]
    return "/".join(path.split("/")[:3]) if computes(path) else path


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put first what waits, then the rooms that take longest: what is short fills the end."""
    order = {f"tests/streamgen/{room}": place for place, room in enumerate(LONGEST, start=1)}
    items.sort(key=lambda item: order.get(group_of(item.nodeid), len(order) + 1) if computes(item.nodeid) else 0)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Hand groups out to whichever process has nothing to do: two wait, the others compute beside them.

    More than two that wait would compete for a core. Not by pytest-xdist's `--dist loadgroup`: its marks are written
    (3.8) where pytest (9.2) does not read them, and single tests are handed out.
    """
    from xdist.scheduler import LoadScopeScheduling

    class Groups(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group_of(nodeid)

        def _assign_work_unit(self, node: Any) -> None:
            waits_first = self.nodes.index(node) < 2
            scope = next((scope for scope in self.workqueue if computes(scope) != waits_first), None)
            if scope is not None:
                self.workqueue.move_to_end(scope, last=False)
            super()._assign_work_unit(node)

        def _reschedule(self, node: Any) -> None:
            stepped_back = any(map(computes, self.assigned_work[node]))
            if stepped_back and not any(map(computes, self.workqueue)) and not node.shutting_down:
                node.shutdown()  # what is left waits, and is for those that never computed
            else:
                super()._reschedule(node)

    config.option.loadscopereorder = False  # they are in their order
    return Groups(config, log)


def pytest_collection_finish() -> None:
    """Let Python's collector look only through what tests make: all that is loaded by now takes it 0.3 s each time."""
    gc.freeze()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what is marked `gpu` where there is none, whichever marks the run was asked for; step back to compute.

    A process steps back for good: it gets nothing that waits any more.
    """
    stash = item.session.stash
    if computes(item.nodeid) and "PYTEST_XDIST_WORKER" in os.environ and not stash.get(STEPPED_BACK, False):
        stash[STEPPED_BACK] = True
        if hasattr(os, "nice"):  # Windows has none
            os.nice(10)
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("needs a CUDA GPU")


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Let torch compute on one: tiny models gain nothing from a second, and lose much where cores are shared."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Start each test from the same global seed, whatever ran before it."""
    import torch

    torch.manual_seed(0)


@pytest.fixture
def three_threads() -> Iterator[None]:
    """Let torch compute on three threads, as many as nobody sets, for one test."""
    import torch

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
