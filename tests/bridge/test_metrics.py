"""Counters and their text."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable

from prometheus_client.parser import text_string_to_metric_families

from bridge.audio.faults import SlotState
from bridge.metrics import Metrics, WatchedSelector
from bridge.session.events import PlayerState, Stats


def shown(metrics: Metrics) -> dict[str, float]:
    """Read the text as Prometheus does: name, or name{label="value"}, without the prefix."""
    found = {}
    for family in text_string_to_metric_families(metrics.text()):
        for sample in family.samples:
            labels = ",".join(f'{name}="{value}"' for name, value in sample.labels.items())
            found[sample.name.removeprefix("streamgen_") + (f"{{{labels}}}" if labels else "")] = sample.value
    return found


def test_the_text_is_prometheus() -> None:
    metrics = Metrics(doors={"websocket": lambda: {"listeners": 2}, "osc": lambda: {"listeners": 1}})
    slots = SlotState(1, "a", 960, False, 0, 0.25), SlotState(2, "b", 0, False, 0, 0.125)
    metrics.take(Stats(2.5, 1.25, 3, 4, 5, 64_000, True, PlayerState.PLAYING, 0.02, 7, slots))
    metrics.step_seconds.extend([0.01, 0.02, 0.03])
    metrics.refused['a "b"\n\\c'] += 1
    metrics.sent_bytes["websocket"] += 99
    values = shown(metrics)
    assert values["realtime_factor"] == 2.5
    assert values["underruns_total"] == 3
    assert (values["rack_latency_seconds"], values["rack_load"], values["rack_faults_total"]) == (0.02, 0.375, 7)
    assert values["position_samples"] == 64_000
    assert [values[f'step_seconds{{quantile="{share}"}}'] for share in ("0.5", "0.99", "1")] == [0.02, 0.03, 0.03]
    assert (values['listeners{door="websocket"}'], metrics.listeners.total()) == (2, 3)
    assert values['refused_total{reason="a "b"\n\\c"}'] == 1
    assert values['sent_bytes_total{door="websocket"}'] == 99
    kinds = dict(line.split()[2:4] for line in metrics.text().splitlines() if line.startswith("# TYPE"))
    named = {name.removeprefix("streamgen_") for name in kinds}
    assert named >= {
        "step_seconds", "lead_seconds", "underruns_total", "listeners", "refused_total", "dropped_samples_total",
        "dropped_packets_total", "commands_total", "event_loop_lag_seconds", "event_loop_held_seconds", "sessions",
        "received_total", "errors_total", "uptime_seconds",
    }  # fmt: skip
    assert (kinds["streamgen_underruns_total"], kinds["streamgen_listeners"]) == ("counter", "gauge")
    assert not [name for name in named if name.startswith("sound_")], "there is no sound card"
    assert all(name.startswith("streamgen_") for name in kinds), "nothing of Python's or the process's own"


def test_what_a_door_counts_is_shown_under_its_name() -> None:
    sound = {
        "sound_playing": True,
        "sound_delay_seconds": 0.145,
        "sound_starvations_total": 2,
        "sound_drift_ppm": -20.0,
    }
    metrics = Metrics(doors={"sound": lambda: sound, "osc": lambda: {"packets_total": 7}})
    values = shown(metrics)
    assert {name: values[name] for name in sound} == sound
    assert values["osc_packets_total"] == 7
    assert "# TYPE streamgen_sound_starvations_total counter" in metrics.text()
    assert "# TYPE streamgen_sound_playing gauge" in metrics.text()


def test_sources_are_asked_whenever_somebody_looks() -> None:
    metrics, counted = Metrics(), Counter({"osc": 1})
    metrics.sources.append(lambda: metrics.commands.update({"osc": counted["osc"] - metrics.commands["osc"]}))
    assert shown(metrics)['commands_total{door="osc"}'] == 1
    counted["osc"] = 7
    assert shown(metrics)['commands_total{door="osc"}'] == 7


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
