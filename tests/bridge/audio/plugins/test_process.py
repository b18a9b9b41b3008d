"""A child: started by any means, asked in time, ended by its id; whatever it dies of is said in words."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bridge.audio.faults import EffectFault
from bridge.audio.plugins.child import read_state
from bridge.audio.plugins.engine import Reference
from bridge.audio.plugins.memory import MAX_BLOCK, BlockMemory
from bridge.audio.plugins.parameters import plugin_parameters
from bridge.audio.plugins.process import PluginProcess
from bridge.audio.plugins.spawn import HostSettings, PluginTrouble

from .conftest import RATE_HZ, music, wait_until


@pytest.fixture
def orders(tmp_path: Path) -> Path:
    return tmp_path / "orders"


@pytest.fixture
def started(settings: HostSettings, orders: Path, tmp_path: Path) -> Iterator[PluginProcess]:
    process = PluginProcess.start(Reference(str(orders)), settings, RATE_HZ, tmp_path / "a.state")
    yield process
    process.kill()


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_it_processes_and_turns_at_the_sample(started: PluginProcess) -> None:
    block = music(MAX_BLOCK)
    np.testing.assert_array_equal(started.process(block, 0, 0.0, [], 1.0), 2 * block)
    made = started.process(block, MAX_BLOCK, 120.0, [(500, 0, 0.25), (501, 0, 1.0)], 1.0)
    factor = np.full(MAX_BLOCK, 4.0, np.float32)
    factor[:500], factor[500] = 2, 1
    np.testing.assert_array_equal(made, block * factor)
    assert started.loaded.info.parameters[0].name == "Gain"
    assert started.loaded.values == [0.5, 0.0, 0.0]


def test_over_a_port_it_is_the_same(settings: HostSettings, orders: Path, tmp_path: Path) -> None:
    process = PluginProcess.start(Reference(str(orders)), settings, RATE_HZ, tmp_path / "a.state", by_port=True)
    block = music(960)
    np.testing.assert_array_equal(process.process(block, 0, 0.0, [], 1.0), 2 * block)
    process.kill()
    wait_until(lambda: gone(process.pid))


@pytest.mark.parametrize(
    ("word", "why"),
    [
        ("raise", "RuntimeError: asked to raise"),
        ("segfault", "died: signal 11"),
        ("exit", "died: exit code 3"),
        ("hang", "hangs: no answer within 200 ms"),
        ("memory", "MemoryError"),
        ("nan", "what is no number"),
        ("inf", "what is no number"),
        ("runaway", "runs away: 180 dBFS"),
    ],
)
def test_what_it_dies_of_is_said(started: PluginProcess, orders: Path, word: str, why: str) -> None:
    orders.write_text(word)
    with pytest.raises(EffectFault, match=why):
        started.process(music(960), 0, 0.0, [], 0.2 if word == "hang" else 10.0)
    started.kill()
    wait_until(lambda: gone(started.pid))


def test_one_that_hangs_up_and_stays_keeps_nobody_waiting(started: PluginProcess, orders: Path) -> None:
    orders.write_text("hang up")
    began = time.monotonic()
    with pytest.raises(EffectFault, match="died: its connection is closed"):
        started.process(music(960), 0, 0.0, [], 10.0)
    assert time.monotonic() - began < 5


def test_a_state_that_cannot_be_had_or_written_is_said_and_it_plays_on(
    started: PluginProcess, orders: Path, tmp_path: Path
) -> None:
    orders.write_text("on-state raise")
    started.tell(b"s")
    wait_until(lambda: started.memory.unsaved == 1)
    assert started.memory.unsaved_text == "RuntimeError: asked to raise"
    orders.unlink()
    (tmp_path / "a.state").mkdir()  # as good as a disk that is full
    started.tell(b"s")
    wait_until(lambda: started.memory.unsaved == 2)
    assert started.memory.unsaved_text == f"{tmp_path}: Is a directory"
    (tmp_path / "a.state").rmdir()
    started.tell(b"s")
    wait_until(lambda: started.memory.saved == 1)
    assert [one.name for one in tmp_path.iterdir()] == ["a.state"]
    np.testing.assert_array_equal(started.process(music(960), 0, 0.0, [], 1.0), 2 * music(960))


def test_what_a_plugin_tells_of_itself_is_mended_or_refused(
    settings: HostSettings, orders: Path, tmp_path: Path
) -> None:
    reference = Reference(str(orders))
    with pytest.raises(PluginTrouble, match=r"tells of 3 parameters and of the values of 1; .* at most 1,024"):
        PluginProcess.start(reference, replace(settings, engine="ill_engine:LyingEngine"), RATE_HZ, None)
    process = PluginProcess.start(reference, replace(settings, engine="ill_engine:OddEngine"), RATE_HZ, None)
    process.kill()
    info = process.loaded.info
    assert (info.name, info.vendor) == ("Odd plugin / ü", "a vendor")
    assert info.parameters[0].name == "In/Out [31m ü name"
    assert [one.value for one in info.parameters] == [0, 0, 0, 0, 0, 0.5]
    assert len(info.parameters[2].texts[3]) == 120
    assert process.loaded.values == [0, 0, 0, 1, 0.5, 0.5]
    rows = plugin_parameters(info.parameters)
    assert list(rows) == ["in_out_31m_name", "parameter", "tempo_2", "tempo_3", "bypass_2", "parameter_2"]
    for row in rows.values():
        assert row.spec.check(row.spec.default) == row.spec.default, "what it begins with is allowed"
        json.dumps(row.spec.as_dict(), allow_nan=False)


def test_a_death_is_noticed_at_once_not_at_the_deadline(started: PluginProcess, orders: Path) -> None:
    orders.write_text("segfault")
    began = time.monotonic()
    with pytest.raises(EffectFault):
        started.process(music(960), 0, 0.0, [], 30.0)
    assert time.monotonic() - began < 10


def test_a_child_that_waits_for_a_core_does_not_hang(
    started: PluginProcess, orders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is late by 0.3 s is waited for if the system says that it had no core, but not for ever."""
    block = music(960)
    monkeypatch.setattr(started, "_starved_seconds", lambda _before, elapsed: elapsed)
    orders.write_text("late")
    np.testing.assert_array_equal(started.process(block, 0, 0.0, [], 0.1), 2 * block)
    orders.write_text("hang")
    began = time.monotonic()
    with pytest.raises(EffectFault, match="hangs"):
        started.process(block, 0, 0.0, [], 0.1)
    assert 0.4 < time.monotonic() - began < 2


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
def test_the_system_tells_a_child_that_sleeps_from_one_that_has_no_core(started: PluginProcess, orders: Path) -> None:
    before = started._scheduled()
    assert before[0] > 0
    wait_until(lambda: started._starved_seconds(started._scheduled(), 1.0) < 0.01)  # for its parent, not for a core
    before = started._scheduled()
    orders.write_text("spin")
    began = time.monotonic()
    with pytest.raises(EffectFault, match="hangs"):
        started.process(music(960), 0, 0.0, [], 0.1)
    ran = started._scheduled()[0] - before[0]
    starved = started._starved_seconds(before, time.monotonic() - began)
    assert starved == pytest.approx(time.monotonic() - began - ran, abs=0.1), "what it did not run it waited"


def test_numbers_too_small_to_hear_are_silence(started: PluginProcess, orders: Path) -> None:
    orders.write_text("denormal")
    assert not started.process(music(960), 0, 0.0, [], 1.0).any()


def test_the_state_is_written_whole_and_restored(
    started: PluginProcess, settings: HostSettings, orders: Path, tmp_path: Path
) -> None:
    started.process(music(960), 0, 0.0, [(0, 0, 0.75)], 1.0)
    started.tell(b"s")
    wait_until(lambda: started.memory.saved == 1)
    values, state = read_state(tmp_path / "a.state")
    assert (values[0], state) == (0.75, b'{"gain": 0.75}')
    again = PluginProcess.start(Reference(str(orders)), settings, RATE_HZ, tmp_path / "b.state", tmp_path / "a.state")
    block = music(960)
    np.testing.assert_array_equal(again.process(block, 0, 0.0, [], 1.0), 3 * block)
    again.kill()


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("on-load raise", "RuntimeError: asked to raise"),
        ("on-load segfault", "ended while it was loaded: signal 11"),
        pytest.param("on-load hang", "not loaded within 2 s", marks=pytest.mark.slow),
        ("on-load memory", "MemoryError"),
    ],
)
def test_what_cannot_be_loaded_says_why_and_leaves_nothing(
    settings: HostSettings, orders: Path, tmp_path: Path, words: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    memories: list[BlockMemory] = []
    create = BlockMemory.create
    monkeypatch.setattr(BlockMemory, "create", lambda: memories.append(create()) or memories[-1])
    orders.write_text(words)
    impatient = replace(settings, load_seconds=2.0 if "hang" in words else 30.0)
    with pytest.raises(PluginTrouble, match=why):
        PluginProcess.start(Reference(str(orders)), impatient, RATE_HZ, tmp_path / "a.state")
    (memory,) = memories
    assert not memory.path.exists()


def test_a_missing_host_for_plugins_is_said(settings: HostSettings, orders: Path) -> None:
    with pytest.raises(PluginTrouble, match="No module named 'nowhere'"):
        PluginProcess.start(Reference(str(orders)), replace(settings, engine="nowhere:Engine"), RATE_HZ, None)


@pytest.mark.slow
def test_a_child_goes_when_its_parent_is_killed(settings: HostSettings, orders: Path, tmp_path: Path) -> None:
    """Even while its plugin hangs."""
    program = f"""
import time
from pathlib import Path
from bridge.audio.plugins.engine import Reference
from bridge.audio.plugins.process import PluginProcess
from bridge.audio.plugins.spawn import HostSettings
settings = HostSettings(Path({str(tmp_path)!r}), engine={settings.engine!r}, python_path={settings.python_path!r})
process = PluginProcess.start(Reference({str(orders)!r}), settings, 48_000, Path({str(tmp_path / "s")!r}))
print(process.pid, flush=True)
process.tell(b"p")
time.sleep(1000)
"""
    orders.write_text("hang")
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    with parent:
        pid = int(parent.stdout.readline())
        parent.kill()
    wait_until(lambda: gone(pid))


def test_parent_and_child_never_fork_and_the_child_has_no_torch() -> None:
    program = "import bridge.audio.plugins.child, sys; print('torch' in sys.modules or 'streamgen' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
