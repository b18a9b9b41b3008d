"""Counters of the whole service, and their text for Prometheus.

Rules: plain numbers that doors and the engine write to; bounded memory; nothing here is on the audio's path. Written
on the event loop, except `step_seconds`, which the engine's thread may extend (a deque's append is atomic).

    streamgen_step_seconds · lead_seconds · realtime_factor · underruns_total · listeners{door} · refused_total{reason}
    dropped_samples_total{door} · dropped_packets_total{reason} · received_total · commands_total{door} · errors_total
    event_loop_lag_seconds{quantile} · event_loop_held_seconds · sound_…, while a sound card is asked for

Parts that count for themselves are copied by `sources` whenever somebody asks.
"""

from __future__ import annotations

import asyncio
import math
import selectors
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bridge.session.messages import Stats

if TYPE_CHECKING:
    from bridge.doors.sound_card.door import SoundStats

__all__ = ["Metrics", "WatchedSelector", "quantile"]

_KEPT = 4_096  # a minute and a half of steps or of lag, 0.1 MB each
_LAG_EVERY_SECONDS = 0.02
_LABELS_KEPT = 64  # kinds a counter tells apart: what a client makes up must not grow the table


def _window() -> deque[float]:
    return deque(maxlen=_KEPT)


@dataclass
class Metrics:
    """What the service has done so far.

    Attributes:
        unhealthy: why `/healthz` should answer 503; "" while all is well.
        step_seconds: wall seconds of the newest LM steps.
        loop_lag_seconds: how late the event loop woke up, newest last.
        loop_held_seconds: the most that the event loop computed in one turn, see WatchedSelector: other programs on the
            machine, and other threads, lengthen the lag but not this.
        lead_seconds, realtime_factor, underruns, position_samples: of the session `live`, as of its newest stats.
        listeners: connected now, by door.
        refused: connections and requests turned away, by reason.
        dropped_samples: audio not delivered to slow listeners, by door, in samples of the session.
        dropped_packets: OSC not answered, not sent or not in time, by reason.
        received: packets and messages that came, whatever became of them, by door.
        commands: carried out, by door.
        errors: answered to clients, by code.
        sent_bytes: audio payload and headers, by door.
        sessions: open now.
        sound: how the sound card is doing; None without one.
        sources: called before anything is shown; each writes what it knows into these fields.
    """

    unhealthy: str = ""
    step_seconds: deque[float] = field(default_factory=_window)
    loop_lag_seconds: deque[float] = field(default_factory=_window)
    loop_held_seconds: float = 0.0
    lead_seconds: float = 0.0
    realtime_factor: float = 0.0
    underruns: int = 0
    position_samples: int = 0
    listeners: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    dropped_samples: Counter[str] = field(default_factory=Counter)
    dropped_packets: Counter[str] = field(default_factory=Counter)
    received: Counter[str] = field(default_factory=Counter)
    commands: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    sent_bytes: Counter[str] = field(default_factory=Counter)
    sessions: int = 0
    sound: SoundStats | None = None
    sources: list[Callable[[], None]] = field(default_factory=list)
    started_seconds: float = field(default_factory=time.monotonic)

    def refresh(self) -> None:
        """Let every source write what it knows."""
        for source in self.sources:
            source()

    def take(self, stats: Stats) -> None:
        """Note how the live session is doing."""
        self.lead_seconds, self.realtime_factor = stats.lead_seconds, stats.realtime_factor
        self.underruns, self.position_samples = stats.underruns, stats.position_samples

    async def watch_loop(self) -> None:
        """Measure how late the event loop wakes this task up, until cancelled."""
        while True:
            due = time.perf_counter() + _LAG_EVERY_SECONDS
            await asyncio.sleep(_LAG_EVERY_SECONDS)
            self.loop_lag_seconds.append(max(0.0, time.perf_counter() - due))

    def text(self) -> str:
        """Return everything in Prometheus' text format, version 0.0.4."""
        self.refresh()
        lines: list[str] = []
        lines += _summary("step_seconds", "wall time of one step of the language model", list(self.step_seconds))
        lines += _summary("event_loop_lag_seconds", "how late the event loop wakes up", list(self.loop_lag_seconds))
        about = "the most the event loop computed in one turn, since it was ready"
        lines += _single("event_loop_held_seconds", "gauge", about, self.loop_held_seconds)
        lines += _single("lead_seconds", "gauge", "audio made but not yet due", self.lead_seconds)
        lines += _single("realtime_factor", "gauge", "seconds of audio made a second of work", self.realtime_factor)
        lines += _single("underruns_total", "counter", "times the engine was late", self.underruns)
        lines += _single("position_samples", "gauge", "where the live session is", self.position_samples)
        lines += _single("sessions", "gauge", "open now", self.sessions)
        lines += _single("uptime_seconds", "gauge", "since the start", time.monotonic() - self.started_seconds)
        lines += _labelled("listeners", "gauge", "connected now", "door", self.listeners)
        lines += _labelled("refused_total", "counter", "turned away", "reason", self.refused)
        lines += _labelled("dropped_samples_total", "counter", "lost by slow listeners", "door", self.dropped_samples)
        lines += _labelled("dropped_packets_total", "counter", "OSC lost or unsent", "reason", self.dropped_packets)
        lines += _labelled("received_total", "counter", "packets and messages that came", "door", self.received)
        lines += _labelled("commands_total", "counter", "carried out", "door", self.commands)
        lines += _labelled("errors_total", "counter", "answered to clients", "code", self.errors)
        lines += _labelled("sent_bytes_total", "counter", "audio sent", "door", self.sent_bytes)
        lines += [] if self.sound is None else _sound(self.sound)
        return "\n".join(lines) + "\n"


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


def _head(name: str, kind: str, about: str) -> list[str]:
    return [f"# HELP streamgen_{name} {about}", f"# TYPE streamgen_{name} {kind}"]


def _single(name: str, kind: str, about: str, value: float) -> list[str]:
    return [*_head(name, kind, about), f"streamgen_{name} {_number(value)}"]


def _summary(name: str, about: str, values: Sequence[float]) -> list[str]:
    rows = [f'streamgen_{name}{{quantile="{share}"}} {_number(quantile(values, share))}' for share in (0.5, 0.99, 1)]
    return [*_head(name, "gauge", about + ", over the newest"), *rows]


def _sound(stats: SoundStats) -> list[str]:
    rows: list[tuple[str, str, str, float]] = [
        ("playing", "gauge", "1 while the device is open, 0 while it is looked for", int(bool(stats.device))),
        ("reopened_total", "counter", "times the device came back", stats.reopened),
        ("delay_seconds", "gauge", "from due to heard, the device's latency included", stats.delay_seconds),
        ("starvations_total", "counter", "times the device found nothing to play", stats.starvations),
        ("starved_seconds_total", "counter", "silence that came of it", stats.starved_seconds),
        ("late_callbacks_total", "counter", "that the sound system told of", stats.late_callbacks),
        ("jumps_total", "counter", "times audio was skipped or filled to be on time", stats.jumps),
        ("dropped_blocks_total", "counter", "that found no room", stats.dropped_blocks),
        ("error_seconds", "gauge", "heard too late, mean of the newest blocks", stats.error_ms / 1e3),
        ("drift_ppm", "gauge", "correction made to the device's clock", stats.drift_ppm),
    ]
    return [line for name, kind, about, value in rows for line in _single(f"sound_{name}", kind, about, value)]


def _labelled(name: str, kind: str, about: str, label: str, counts: Counter[str]) -> list[str]:
    rows = [f'streamgen_{name}{{{label}="{_escaped(key)}"}} {_number(value)}' for key, value in _kept(counts)]
    return [*_head(name, kind, about), *rows]


def _kept(counts: Counter[str]) -> Iterable[tuple[str, int]]:
    return sorted(counts.most_common(_LABELS_KEPT))


def _escaped(label: str) -> str:
    return label.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return f"{value:.9g}" if isinstance(value, float) else str(value)
