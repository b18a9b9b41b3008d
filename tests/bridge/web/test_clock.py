"""clock.js, with readings that a test makes up, inside a real Chromium."""

# ruff: noqa: E501 (scripts that run in the page)
from __future__ import annotations

from typing import Any

import pytest
from page_driver import Open

pytestmark = pytest.mark.device

START = "const {ServerClock, OutputClock, nowMs} = await import('./clock.js'); "


def run(opened: Open, script: str) -> Any:
    return opened.ask("async () => {" + START + script + "}")


def test_the_quickest_ping_tells_the_offset_and_old_ones_are_forgotten(opened: Open) -> None:
    script = """const clock = new ServerClock(); const before = clock.offsetMs;
    clock.note(1000, 6010e3, 1020); const first = clock.offsetMs; // ten milliseconds there, ten back: 5000 ahead
    clock.note(2000, 7090e3, 2100); const slow = clock.offsetMs; // answered late: 5040, and not believed
    clock.note(3000, 8001e3, 3002); const quick = clock.offsetMs;
    for (let i = 0; i < 16; i++) clock.note(4000, 9107e3, 4010); return {before, first, slow, quick, later: clock.offsetMs, settled: clock.settled}"""
    result = run(opened, script)
    assert result == {"before": None, "first": 5000, "slow": 5000, "quick": 5000, "later": 5102, "settled": True}


def test_readings_of_the_sound_system_are_smoothed(opened: Open) -> None:
    script = """const clock = new OutputClock(); const before = clock.offsetMs; let seed = 1; const offsets = [];
    for (let i = 0; i < 500; i++) { seed = seed * 48271 % 2147483647; clock.note(i * 0.04, 7000 + i * 40 + 20 * (seed / 2147483647 - 0.5)); offsets.push(clock.offsetMs); }
    return {before, first: offsets[0], late: offsets.slice(300)}"""
    result = run(opened, script)
    assert result["before"] is None
    assert abs(result["first"] - 7000) <= 10, "the first is used at once"
    assert max(abs(offset - 7000) for offset in result["late"]) < 3


def test_a_stray_reading_is_ignored_and_an_interruption_is_not(opened: Open) -> None:
    script = """const clock = new OutputClock(); for (let i = 0; i < 100; i++) clock.note(i * 0.04, 7000 + i * 40);
    clock.note(4.04, 7000 + 4040 + 500); const stray = clock.offsetMs; clock.note(4.08, 7000 + 4080); const on = clock.offsetMs;
    for (let i = 0; i < 14; i++) clock.note(5 + i * 0.04, 9500 + 5000 + i * 40); return {stray, on, after: clock.offsetMs}"""
    assert run(opened, script) == {"stray": 7000, "on": 7000, "after": 9500}


def test_one_clock_for_the_page_and_its_workers(opened: Open) -> None:
    assert abs(run(opened, "return nowMs() - Date.now()")) < 50
