"""Counters and their text."""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest

from bridge.doors.sound_card.door import SoundStats
from bridge.metrics import Metrics, WatchedSelector, quantile
from bridge.session.messages import Stats


def test_the_text_is_prometheus() -> None:
    metrics = Metrics()
    metrics.take(Stats(2.5, 1.25, 3, 4, 5, 64_000, True))
    metrics.step_seconds.extend([0.01, 0.02, 0.03])
    metrics.refused['a "b"\n\\c'] += 1
    metrics.listeners.update({"websocket": 2, "osc": 1})
    lines = metrics.text().splitlines()
    for line in lines:
        assert re.fullmatch(r'# (HELP|TYPE) streamgen_\w+ .+|streamgen_\w+(\{\w+="([^"\\\n]|\\.)*"\})? \S+', line), line
    assert "streamgen_realtime_factor 2.5" in lines
    assert "streamgen_underruns_total 3" in lines
    assert 'streamgen_step_seconds{quantile="0.5"} 0.02' in lines
    assert 'streamgen_step_seconds{quantile="0.99"} 0.03' in lines
    assert 'streamgen_step_seconds{quantile="1"} 0.03' in lines
    assert 'streamgen_listeners{door="websocket"} 2' in lines
    assert r'streamgen_refused_total{reason="a \"b\"\n\\c"} 1' in lines
    named = {line.split()[2].removeprefix("streamgen_") for line in lines if line.startswith("# TYPE")}
    assert named >= {
        "step_seconds", "lead_seconds", "underruns_total", "listeners", "refused_total", "dropped_samples_total",
        "dropped_packets_total", "commands_total", "event_loop_lag_seconds", "event_loop_held_seconds", "sessions",
    }  # fmt: skip
    assert not [name for name in named if name.startswith("sound_")], "there is no sound card"


def test_the_sound_card_is_shown_as_its_door_counts() -> None:
    metrics = Metrics(sound=SoundStats("ALSA: Speakers", 0.145, 2, 0.3, 1, 4, 5, 6, 1.5, -20.0))
    lines = metrics.text().splitlines()
    for line in (
        "streamgen_sound_playing 1", "streamgen_sound_delay_seconds 0.145", "streamgen_sound_starvations_total 2",
        "streamgen_sound_starved_seconds_total 0.3", "streamgen_sound_late_callbacks_total 1",
        "streamgen_sound_reopened_total 4", "streamgen_sound_jumps_total 5", "streamgen_sound_dropped_blocks_total 6",
        "streamgen_sound_error_seconds 0.0015", "streamgen_sound_drift_ppm -20",
    ):  # fmt: skip
        assert line in lines
    assert "streamgen_sound_playing 0" in Metrics(sound=replace(metrics.sound, device="")).text()  # type: ignore[type-var]


def test_sources_are_asked_whenever_somebody_looks() -> None:
    metrics, counted = Metrics(), Counter({"osc": 1})
    metrics.sources.append(lambda: metrics.commands.update({"osc": counted["osc"] - metrics.commands["osc"]}))
    assert 'streamgen_commands_total{door="osc"} 1' in metrics.text()
    counted["osc"] = 7
    assert 'streamgen_commands_total{door="osc"} 7' in metrics.text()


@pytest.mark.parametrize(("share", "value"), [(0.0, 1), (0.5, 2), (0.99, 4), (1.0, 4)])
def test_quantiles_are_values_that_occurred(share: float, value: int) -> None:
    assert quantile([4, 1, 3, 2], share) == value
    assert quantile([], share) == 0.0


def test_made_up_labels_do_not_grow_the_text() -> None:
    metrics = Metrics()
    metrics.refused.update({f"reason {number}": 1 for number in range(1_000)})
    assert metrics.text().count("streamgen_refused_total{") == 64


def watched(hold: Callable[[], None]) -> Metrics:
    metrics = Metrics()

    async def go() -> None:
        watching = asyncio.create_task(metrics.watch_loop())
        await asyncio.sleep(0.05)
        hold()
        await asyncio.sleep(0.05)
        watching.cancel()

    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(WatchedSelector(metrics))) as runner:
        runner.run(go())
    return metrics


def test_a_blocked_loop_is_seen() -> None:
    metrics = watched(lambda: time.sleep(0.1))
    assert max(metrics.loop_lag_seconds) > 0.07
    assert len(metrics.loop_lag_seconds) >= 2


def compute(seconds: float) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def test_a_loop_that_computes_is_held_and_one_that_others_kept_waiting_is_not() -> None:
    assert watched(lambda: compute(0.1)).loop_held_seconds >= 0.1
    assert watched(lambda: time.sleep(0.1)).loop_held_seconds < 0.07
