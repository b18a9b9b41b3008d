"""Counters of the whole service, and what `/metrics` shows of them.

    streamgen_step_seconds · lead_seconds · realtime_factor · underruns_total · listeners{door} · refused_total{reason}
    rack_latency_seconds · rack_load · rack_faults_total
    dropped_samples_total{door} · dropped_packets_total{reason} · received_total · commands_total{door} · errors_total
    event_loop_lag_seconds{quantile} · event_loop_held_seconds · what doors count themselves, such as sound_…

Doors that count for themselves are asked whenever somebody looks: what `osc` calls `packets_total` is shown as
`osc_packets_total`; what ends in `_total` is a counter.

Rules: plain numbers that doors and the engine write to; bounded memory; nothing here is on the audio's path. Written
on the event loop, except `step_seconds`, which the engine's thread may extend (a deque's append is atomic).
"""

from __future__ import annotations

import asyncio
import math
import selectors
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from prometheus_client import generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from bridge.session.events import Stats

__all__ = ["Metrics", "WatchedSelector", "quantile"]

_KEPT = 4_096  # a minute and a half of steps or of lag, 0.1 MB each
_LAG_EVERY_SECONDS = 0.02
_LABELS_KEPT = 64  # kinds a counter tells apart: what a client makes up must not grow the table


def _window() -> deque[float]:
    return deque(maxlen=_KEPT)


@dataclass
class Metrics(Collector):
    """What the service has done so far.

    Attributes:
        unhealthy: why `/healthz` should answer 503; "" while all is well.
        step_seconds: wall seconds of the newest LM steps.
        loop_lag_seconds: how late the event loop woke up, newest last.
        loop_held_seconds: the most that the event loop computed in one turn, see WatchedSelector: other programs on the
            machine, and other threads, lengthen the lag but not this.
        lead_seconds, realtime_factor, underruns, position_samples, rack_latency_seconds, rack_load, rack_faults: of the
            session `live`, as of its newest stats.
        refused: connections and requests turned away, by reason.
        dropped_samples: audio not delivered to slow listeners, by door, in samples of the session.
        dropped_packets: OSC not answered, not sent or not in time, by reason.
        received: packets and messages that came, whatever became of them, by door.
        commands: carried out, by door.
        errors: answered to clients, by code.
        sent_bytes: audio payload and headers, by door.
        sessions: open now.
        sources: called before anything is shown; each writes what it knows into these fields.
        doors: what the open doors count for themselves, by the door's name.
    """

    unhealthy: str = ""
    step_seconds: deque[float] = field(default_factory=_window)
    loop_lag_seconds: deque[float] = field(default_factory=_window)
    loop_held_seconds: float = 0.0
    lead_seconds: float = 0.0
    realtime_factor: float = 0.0
    underruns: int = 0
    position_samples: int = 0
    rack_latency_seconds: float = 0.0
    rack_load: float = 0.0
    rack_faults: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    dropped_samples: Counter[str] = field(default_factory=Counter)
    dropped_packets: Counter[str] = field(default_factory=Counter)
    received: Counter[str] = field(default_factory=Counter)
    commands: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    sent_bytes: Counter[str] = field(default_factory=Counter)
    sessions: int = 0
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
        yield _summary("step_seconds", "wall time of one step of the language model", self.step_seconds)
        yield _summary("event_loop_lag_seconds", "how late the event loop wakes up", self.loop_lag_seconds)
        about = "the most the event loop computed in one turn, since it was ready"
        yield _single("event_loop_held_seconds", about, self.loop_held_seconds)
        yield _single("lead_seconds", "audio made but not yet due", self.lead_seconds)
        yield _single("realtime_factor", "seconds of audio made a second of work", self.realtime_factor)
        yield _single("underruns_total", "times the engine was late", self.underruns)
        yield _single("position_samples", "where the live session is", self.position_samples)
        yield _single(
            "rack_latency_seconds", "what the rack's effects hold back, made up for", self.rack_latency_seconds
        )
        yield _single("rack_load", "share of real time that the rack's effects take", self.rack_load)
        yield _single("rack_faults_total", "times an effect failed", self.rack_faults)
        yield _single("sessions", "open now", self.sessions)
        yield _single("uptime_seconds", "since the start", time.monotonic() - self.started_seconds)
        told = {door: stats() for door, stats in self.doors.items()}
        for name, about, label, counter in self._labelled(_listeners(told)):
            family = _family(name, about, [label])
            for kind, count in sorted(counter.most_common(_LABELS_KEPT)):
                family.add_metric([kind], count)
            yield family
        for door, stats in told.items():
            for name, value in stats.items():
                if name == "listeners":  # already told, for all doors in one family
                    continue
                own = name if name.startswith(f"{door}_") else f"{door}_{name}"
                yield _single(own, f"as the door {door} counts it", value)

    def _labelled(self, listeners: Counter[str]) -> Iterable[tuple[str, str, str, Counter[str]]]:
        """What is counted by kind: name, about, label, counts."""
        yield "listeners", "connected now", "door", listeners
        yield "refused_total", "turned away", "reason", self.refused
        yield "dropped_samples_total", "lost by slow listeners", "door", self.dropped_samples
        yield "dropped_packets_total", "OSC lost or unsent", "reason", self.dropped_packets
        yield "received_total", "packets and messages that came", "door", self.received
        yield "commands_total", "carried out", "door", self.commands
        yield "errors_total", "answered to clients", "code", self.errors
        yield "sent_bytes_total", "audio sent", "door", self.sent_bytes


def _listeners(told: Mapping[str, Mapping[str, float]]) -> Counter[str]:
    return Counter({door: int(stats["listeners"]) for door, stats in told.items() if "listeners" in stats})


def _family(name: str, about: str, labels: Sequence[str] = ()) -> CounterMetricFamily | GaugeMetricFamily:
    kind = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
    return kind(f"streamgen_{name}", about, labels=labels)


def _single(name: str, about: str, value: float) -> Metric:
    family = _family(name, about)
    family.add_metric([], value)
    return family


def _summary(name: str, about: str, values: Sequence[float]) -> Metric:
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


def quantile(values: Sequence[float], share: float) -> float:
    """Return the value below which `share` of the values lie (nearest rank); 0 where there are none."""
    if not values:
        return 0.0
    return sorted(values)[min(len(values) - 1, math.ceil(share * len(values)) - 1 if share else 0)]
