"""How threads wait and take turns."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import threading
import time

import pytest

from bridge.threads import NICE, take_short_turns, wait_asleep


def test_waiting_threads_sleep_unless_the_user_chose(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    wait_asleep()
    assert os.environ["GOMP_SPINCOUNT"] == "0"
    monkeypatch.setenv("GOMP_SPINCOUNT", "500")
    wait_asleep()
    assert os.environ["GOMP_SPINCOUNT"] == "500"


_ASK_TORCH = """
import os, sys

class Watch:
    def find_spec(self, name, *_):
        if name == "torch":
            print(os.environ.get("GOMP_SPINCOUNT"), flush=True)
            os._exit(7)

sys.meta_path.insert(0, Watch())
from bridge.cli.main import main
main({})
"""


@pytest.mark.parametrize("words", [["render", "a", "--out", "a.wav"], ["doctor"], ["bench"]])
def test_that_is_decided_before_torch_is_loaded(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    done = subprocess.run([sys.executable, "-c", _ASK_TORCH.format(words)], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (7, "0\n"), done.stderr


def test_a_thread_that_only_looks_in_waits_a_short_turn() -> None:
    """A sleep gives the interpreter to the thread that computes, and then waits for the end of its turn."""
    steps, done, usual = itertools.count(), threading.Event(), sys.getswitchinterval()
    reached = [0]

    def compute() -> None:
        for reached[0] in steps:
            if done.is_set():
                break

    busy = threading.Thread(target=compute)
    busy.start()
    sys.setswitchinterval(0.005)  # Python's default
    try:
        long = _looking_in(reached)
        take_short_turns()
        short = _looking_in(reached)
    finally:
        sys.setswitchinterval(usual)
        done.set()
        busy.join()
    assert min(short) < min(long) / 2


def _looking_in(reached: list[int]) -> list[float]:
    """Five times that it took to look in, in seconds.

    Where the other thread found no processor free there was no turn to wait for.
    """
    times: list[float] = []
    while len(times) < 5:
        before, began = reached[0], time.perf_counter()
        time.sleep(1e-6)
        took = time.perf_counter() - began
        if reached[0] - before > 100:  # with fewer it was only just let in
            times.append(took)
    return times


@pytest.mark.skipif(not hasattr(os, "setpriority"), reason="Windows knows no niceness")
@pytest.mark.parametrize(("before", "granted"), [(0, True), (5, True), (0, False)])
def test_it_runs_first_where_the_system_grants_it_and_nobody_said_otherwise(before: int, granted: bool) -> None:
    """In a process of its own: what is granted cannot always be given back."""
    code = f"""
import os, threading
from bridge import threads
def refuse(*_):
    raise PermissionError
os.nice({before})
own = os.getpriority(os.PRIO_PROCESS, 0)
if not {granted}:
    os.setpriority = refuse
threads.go_first()
later = []
thread = threading.Thread(target=lambda: later.append(os.getpriority(os.PRIO_PROCESS, 0)))
thread.start()
thread.join()
print(own, os.getpriority(os.PRIO_PROCESS, 0), later[0])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    own, now, later = map(int, done.stdout.split())
    allowed = granted and own == 0 and _may_go_first()
    assert now == later == (NICE if allowed else own)


def _may_go_first() -> bool:
    code = f"import os; os.setpriority(os.PRIO_PROCESS, 0, {NICE})"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0
