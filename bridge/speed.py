"""How fast streams run here: real ones, timed, and the figures that their step times come to; how many keep up.

A rollover is the handover from one window to its warmed successor. Steps that belong to it:

    … quiet │ warm-up: the successor is fed beside the leader │ handover, ± MARGIN_STEPS │ quiet …
            └──────────────── context ───────────────────────┘

Rules: uses a model's public face and the player; no threads, for the engine steps its streams in turn as the service
does. A service asks before it opens its doors: torch is imported where it is needed.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from bridge.session.capacity import SessionCost
from bridge.session.timeline import Timeline
from bridge.settings import music_table
from streamgen.metrics import quantile

if TYPE_CHECKING:
    from torch import Tensor

    from streamgen import Model, Stream

__all__ = [
    "MARGIN_STEPS",
    "RolloverFigures",
    "StepCost",
    "StreamFigures",
    "measure",
    "measure_cost",
    "memory_bytes_per_second",
    "missed_deadlines",
    "rollover_figures",
    "run_stream",
    "step_costs",
]

_ROWS, _PLACES = (1, 2, 4, 8), (0.2, 0.5, 1.0)  # places in the window
MARGIN_STEPS = 5
_QUIET_STEPS = 100  # at least, that a span without a rollover has to say anything
_CHUNK_SECONDS = 0.1
_WARM_UP_SECONDS = 0.5
_LISTENER_LEAD_SECONDS = 0.5
_PROMPT = "house, 125 bpm, drums"
_MEASURE_SECONDS = 1.0
_NO_ROOM, _MOST_TOGETHER = 0.8, 8
_WORK_SECONDS, _SESSION_RATE_HZ = 0.5, 48_000


@dataclass(frozen=True)
class RolloverFigures:
    """What rollovers cost, in medians of a step.

    Attributes:
        rollovers: how many were measured.
        ratio: longest step of a rollover over the median of all steps; the median over the rollovers.
        worst_ratio: the same for the worst of them.
        quiet_ratio: longest step of a span without a handover or a warm-up, the median over such spans: what the
            machine's own noise amounts to. None where no such span was long enough.
    """

    rollovers: int
    ratio: float
    worst_ratio: float
    quiet_ratio: float | None


@dataclass(frozen=True)
class StreamFigures:
    """What a stream did.

    Attributes:
        realtime_factor: audio seconds a wall second, codec included, the first half second left out; the median run's.
        first_audio_seconds: from opening the stream to its first chunk, in the first run.
        step_ms_median, step_ms_p99: of all runs' steps.
        codec_share: the codec's part of the work, 0..1.
        rollover: what rollovers cost; None if none happened.
    """

    realtime_factor: float
    first_audio_seconds: float
    step_ms_median: float
    step_ms_p99: float
    codec_share: float
    rollover: RolloverFigures | None


@dataclass(frozen=True)
class _Run:
    wall_seconds: float
    audio_seconds: float
    first_audio_seconds: float
    step_seconds: list[float]
    handovers: list[int]
    context_seconds: float
    codec_seconds: float
    lm_seconds: float


def run_stream(
    model: Model,
    seconds: float,
    runs: int = 1,
    progress: Callable[[float], None] = lambda _done: None,
) -> StreamFigures:
    """Time a stream over `seconds` of audio, `runs` times with the same seed; `progress` hears how much there is.

    Every run does the same work step by step, so the least time of a step over the runs is its own cost, without what
    other programs on the machine took: rollovers are judged on that.
    """
    done = [_run_once(model, seconds, number * seconds, progress) for number in range(runs)]
    least = [min(times) for times in zip(*(run.step_seconds for run in done), strict=True)]
    steps = [step for run in done for step in run.step_seconds]
    codec, lm = (sum(getattr(run, name) for run in done) for name in ("codec_seconds", "lm_seconds"))
    return StreamFigures(
        median(run.audio_seconds / run.wall_seconds for run in done),
        done[0].first_audio_seconds,
        1e3 * median(steps),
        1e3 * quantile(steps, 0.99),
        codec / (codec + lm),
        rollover_figures(least, done[0].handovers, round(done[0].context_seconds * model.frame_rate_hz)),
    )


def _open(model: Model, seed: int) -> Stream:
    """Open the stream that is timed: unguarded, or the noise that random weights play is begun anew for ever.

    Then no window would ever be full: neither its rollover nor what a step costs at its end would be seen.
    """
    from streamgen import PromptError

    try:
        return model.open_stream(prompt=_PROMPT, seed=seed, audition=1, guard=False)
    except PromptError:  # a decoder alone reads none
        return model.open_stream(seed=seed, audition=1, guard=False)


def _run_once(model: Model, seconds: float, before: float, progress: Callable[[float], None]) -> _Run:
    opened = time.perf_counter()
    with closing(_open(model, seed=0)) as stream:
        chunks = stream.chunks(seconds=_CHUNK_SECONDS)
        warm = next(chunks).seconds
        first_audio = time.perf_counter() - opened
        while warm < _WARM_UP_SECONDS:
            warm += next(chunks).seconds
        metrics, skipped, audio = stream.metrics, stream.metrics.steps, 0.0
        began = time.perf_counter()
        while audio < seconds:
            audio += next(chunks).seconds
            progress(before + audio)
        wall = time.perf_counter() - began
    kept = list(metrics.step_seconds)[skipped - metrics.steps :]
    handovers = [at - (metrics.steps - len(kept)) for at in metrics.rollover_steps]
    context = stream.controls.context_seconds
    return _Run(wall, audio, first_audio, kept, handovers, context, metrics.codec_seconds, metrics.lm_seconds)


def missed_deadlines(model: Model, count: int, seconds: float) -> int:
    """Count the 0.1 s chunks that came too late when `count` listeners began together.

    Each listener starts half a second after its first chunk was due; being ahead is fine, being late is a gap it hears.
    All are served in common passes, as the service does.
    """
    with ExitStack() as stack:
        streams = [stack.enter_context(closing(_open(model, seed))) for seed in range(count)]
        wanted = dict.fromkeys(streams, round(_CHUNK_SECONDS * model.sample_rate_hz))
        model.read_together(wanted)
        began, missed = time.perf_counter() + _LISTENER_LEAD_SECONDS, 0
        for number in range(1, round(seconds / _CHUNK_SECONDS)):
            model.read_together(wanted)
            missed += count * (time.perf_counter() > began + number * _CHUNK_SECONDS)
    return missed


@dataclass(frozen=True)
class StepCost:
    """What a pass of so many rows costs that all stand at one position: the median, in milliseconds."""

    rows: int
    position: int
    ms: float


def step_costs(model: Model) -> list[StepCost]:
    """Measure a pass over rows × positions: the curve that a session's price is read from."""
    last = round(model.window_seconds * model.frame_rate_hz) - 1
    positions = [round(place * last) for place in _PLACES]
    counts = _ROWS if model.device.type == "cpu" else (*_ROWS, 32, 128)
    return [StepCost(rows, at, 1e3 * model.pass_seconds(rows, at)) for rows in counts for at in positions]


def memory_bytes_per_second(device: str) -> float:
    """Measure how fast memory can be read: the best of several sums on the device the model is on.

    Over 256 MB on a CPU, 4 GB on a GPU, which has read less before it has begun.
    """
    import torch

    count = 64_000_000 if torch.device(device).type == "cpu" else 1_000_000_000
    block = torch.ones(count, dtype=torch.float32, device=device)
    times = []
    for _ in range(7):
        began = time.perf_counter()
        block.sum().item()  # item() waits for the device
        times.append(time.perf_counter() - began)
    return block.numel() * block.element_size() / min(times)


# -- how many sessions -------------------------------------------------------------------------------------------------


def measure(model: Model, prompt: str) -> float:
    """Play a second into the void: seconds of audio a second of work, guidance on, after a warm-up."""
    with model.open_stream(prompt or None, seed=0) as stream:
        stream.read(model.sample_rate_hz // 5)
        began = time.perf_counter()
        stream.read(round(_MEASURE_SECONDS * model.sample_rate_hz))
        return _MEASURE_SECONDS / (time.perf_counter() - began)


def measure_cost(model: Model, realtime_factor: float) -> SessionCost:
    """Play some sessions into the void, as the service plays them, and see what one costs and each beside others.

    A machine that has no room for a second session is not asked.
    """
    first = 1 / max(realtime_factor, 1e-9)
    if first > _NO_ROOM:
        return SessionCost(first, first)
    count, codes = max(2, min(_MOST_TOGETHER, int(1 / first))), _half_a_window(model)
    return SessionCost.measured(_work(model, codes, 1), _work(model, codes, count), count)


def _work(model: Model, codes: Tensor, count: int) -> float:
    """Return the seconds of work a second of music that so many sessions cost behind codes, before anybody listens."""
    from bridge.session.engine_thread import share_out  # needs torch, as the player does
    from bridge.session.player import Player

    made = 0.0
    options = {"audio_prompt_codes": codes, "guard": False}
    with ExitStack() as stack:
        players = []
        for seed in range(count):
            timeline = Timeline(_SESSION_RATE_HZ, lambda: made, lambda: made)
            values = {"seed": seed, "audition": 1, "lead_seconds": music_table()["lead_seconds"].limits[0]}
            player = Player(model, lambda _told: None, timeline, values=values, options=options)
            stack.callback(player.close)
            player.playback.wanted = True
            players.append(player)
        share_out(players)
        while made < _WARM_UP_SECONDS + _WORK_SECONDS:
            if made < _WARM_UP_SECONDS:
                began = time.perf_counter()
            for player in players:
                player.tick()
            Player.make_together(players)
            made += players[0].generator.block_seconds
        return (time.perf_counter() - began) / _WORK_SECONDS


def _half_a_window(model: Model) -> Tensor:
    """Return codes for a prompt behind which a successor is warmed beside each stream: there the most is to be done."""
    with model.open_stream(seed=0, audition=1, guard=False) as stream:
        second = stream.tokens(round(model.frame_rate_hz))
    frames = round(model.window_seconds * model.frame_rate_hz / 2) - second.shape[0]
    return second.repeat(1, math.ceil(frames / second.shape[1]))[:, :frames]


# -- rollovers ---------------------------------------------------------------------------------------------------------


def rollover_figures(
    step_seconds: Sequence[float], handovers: Sequence[int], context_steps: int
) -> RolloverFigures | None:
    """Compare the steps around rollovers with the median step; None if no rollover lies within.

    Args:
        step_seconds: duration of each step, oldest first.
        handovers: index into step_seconds of the first step each successor led.
        context_steps: steps of warm-up before a handover.
    """
    typical = median(step_seconds) if step_seconds else 0.0
    spans = [(max(0, at - context_steps - MARGIN_STEPS), at + MARGIN_STEPS + 1) for at in handovers if at >= 0]
    longest = [max(step_seconds[start:stop]) / typical for start, stop in spans if stop <= len(step_seconds)]
    if not longest:
        return None
    quiet = _quiet_maxima(step_seconds, spans)
    quiet_ratio = median(quiet) / typical if quiet else None
    return RolloverFigures(len(longest), median(longest), max(longest), quiet_ratio)


def _quiet_maxima(step_seconds: Sequence[float], spans: Sequence[tuple[int, int]]) -> list[float]:
    """Longest steps of the stretches between rollovers, cut into pieces of a rollover's length at most."""
    edges = [0, *(edge for span in spans for edge in span), len(step_seconds)]
    gaps = [(edges[index], edges[index + 1]) for index in range(0, len(edges), 2)]
    return [max(step_seconds[start:stop]) for start, stop in gaps if stop - start >= _QUIET_STEPS]
