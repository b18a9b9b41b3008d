"""Counters of the whole service, and what `/metrics` shows of them: a field of `Metrics` is a row there.

Doors that count for themselves are asked whenever somebody looks: what `osc` calls `packets_total` is shown as
`osc_packets_total`; what ends in `_total` is a counter.

Rules: plain numbers that doors and the engine write to; bounded memory; nothing here is on the audio's path. Written
on the event loop, except `step_seconds`, which the engine's thread may extend (a deque's append is atomic).
"""

from __future__ import annotations

import asyncio
import selectors
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from prometheus_client import generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from bridge.session.events import Stats
from streamgen.metrics import quantile

__all__ = ["Metrics", "WatchedSelector"]

_KEPT = 4_096  # a minute and a half of steps or of lag, 0.1 MB each
_LAG_EVERY_SECONDS = 0.02
_LABELS_KEPT = 64  # kinds a counter tells apart: what a client makes up must not grow the table


def _newest(about: str, shown: str = "") -> Any:
    """Make the field of times, of which quantiles are shown."""
    return field(default_factory=lambda: deque(maxlen=_KEPT), metadata={"about": about, "shown": shown})


def _number(about: str, shown: str = "") -> Any:
    """Make the field of one number."""
    return field(default=0, metadata={"about": about, "shown": shown})


def _counts(about: str, label: str) -> Any:
    """Make the field of what is counted by kind."""
    return field(default_factory=Counter, metadata={"about": about, "label": label})


@dataclass
class Metrics(Collector):
    """What the service has done so far.

    Attributes:
        unhealthy: why `/healthz` should answer 503; "" while all is well.
        loop_held_seconds: see WatchedSelector: other programs on the machine, and other threads, lengthen the lag but
            not this.
        sources: called before anything is shown; each writes what it knows into these fields.
        doors: what the open doors count for themselves, by the door's name.
    """

    unhealthy: str = ""
    step_seconds: deque[float] = _newest("wall time of one step of the language model")
    loop_lag_seconds: deque[float] = _newest("how late the event loop wakes up", "event_loop_lag_seconds")
    loop_held_seconds: float = _number(
        "the most the event loop computed in one turn, since it was ready", "event_loop_held_seconds"
    )
    lead_seconds: float = _number("audio made but not yet due")
    realtime_factor: float = _number("seconds of audio made a second of work")
    underruns: int = _number("times the engine was late", "underruns_total")
    position_samples: int = _number("where the live session is")
    rack_latency_seconds: float = _number("what the rack's effects hold back, made up for")
    rack_load: float = _number("share of real time that the rack's effects take")
    rack_faults: int = _number("times an effect failed", "rack_faults_total")
    sessions: int = _number("open now")
    refused: Counter[str] = _counts("turned away", "reason")
    dropped_samples: Counter[str] = _counts("lost by slow listeners", "door")
    dropped_packets: Counter[str] = _counts("OSC lost or unsent", "reason")
    received: Counter[str] = _counts("packets and messages that came", "door")
    commands: Counter[str] = _counts("carried out", "door")
    errors: Counter[str] = _counts("answered to clients", "code")
    sent_bytes: Counter[str] = _counts("audio sent", "door")
    sources: list[Callable[[], None]] = field(default_factory=list)
    doors: dict[str, Callable[[], Mapping[str, float]]] = field(default_factory=dict)
    started_seconds: float = field(default_factory=time.monotonic)

    @property
    def listeners(self) -> Counter[str]:
        """Connected now, by door: what doors call `listeners`."""
        return _listeners({door: stats() for door, stats in self.doors.items()})

    def refresh(self) -> None:
        """Let every source write what it knows."""
        for source in self.sources:
            source()

    def take(self, stats: Stats) -> None:
        """Note how the live session is doing."""
        self.lead_seconds, self.realtime_factor = stats.lead_seconds, stats.realtime_factor
        self.underruns, self.position_samples = stats.underruns, stats.position_samples
        self.rack_latency_seconds, self.rack_faults = stats.rack_latency_seconds, stats.rack_faults
        self.rack_load = sum(slot.load for slot in stats.slots)

    async def watch_loop(self) -> None:
        """Measure how late the event loop wakes this task up, until cancelled."""
        while True:
            due = time.perf_counter() + _LAG_EVERY_SECONDS
            await asyncio.sleep(_LAG_EVERY_SECONDS)
            self.loop_lag_seconds.append(max(0.0, time.perf_counter() - due))

    def text(self) -> str:
        """Return everything in Prometheus' text format, version 0.0.4."""
        self.refresh()
        return generate_latest(self).decode()

    def collect(self) -> Iterator[Metric]:
        """Give every family, as prometheus_client asks for it."""
        for row in fields(self):
            value, name = getattr(self, row.name), row.metadata.get("shown") or row.name
            if isinstance(value, Counter):
                yield _by_kind(f"{name}_total", row.metadata["about"], row.metadata["label"], value)
            elif isinstance(value, deque):
                yield _summary(name, row.metadata["about"], value)
            elif "about" in row.metadata:
                yield _single(name, row.metadata["about"], value)
        yield _single("uptime_seconds", "since the start", time.monotonic() - self.started_seconds)
        told = {door: stats() for door, stats in self.doors.items()}
        yield _by_kind("listeners", "connected now", "door", _listeners(told))
        for door, stats in told.items():
            for name, value in stats.items():
                if name == "listeners":  # already told, for all doors in one family
                    continue
                own = name if name.startswith(f"{door}_") else f"{door}_{name}"
                yield _single(own, f"as the door {door} counts it", value)


def _listeners(told: Mapping[str, Mapping[str, float]]) -> Counter[str]:
    return Counter({door: int(stats["listeners"]) for door, stats in told.items() if "listeners" in stats})


def _family(name: str, about: str, labels: Sequence[str] = ()) -> CounterMetricFamily | GaugeMetricFamily:
    kind = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
    return kind(f"streamgen_{name}", about, labels=labels)


def _single(name: str, about: str, value: float) -> Metric:
    family = _family(name, about)
    family.add_metric([], value)
    return family


def _by_kind(name: str, about: str, label: str, counts: Counter[str]) -> Metric:
    family = _family(name, about, [label])
    for kind, count in sorted(counts.most_common(_LABELS_KEPT)):
        family.add_metric([kind], count)
    return family


def _summary(name: str, about: str, values: Iterable[float]) -> Metric:
    family = _family(name, about + ", over the newest", ["quantile"])
    for share in (0.5, 0.99, 1):
        family.add_metric([f"{share:g}"], quantile(list(values), share))
    return family


class WatchedSelector(selectors.DefaultSelector):
    """An event loop's selector that notes what each of its turns computes: from one look at the sockets to the next.

    Args:
        metrics: where the most is noted.
    """

    def __init__(self, metrics: Metrics) -> None:
        super().__init__()
        self._metrics = metrics
        self._since: float | None = None

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Wait for sockets."""
        if self._since is not None:
            held = time.thread_time() - self._since
            self._metrics.loop_held_seconds = max(self._metrics.loop_held_seconds, held)
        ready = super().select(timeout)
        self._since = time.thread_time()
        return ready
