"""Runs over a stream whose step times are known."""

from __future__ import annotations

from typing import Any

import pytest

from bridge.measuring import stream_run
from bridge.measuring.stream_run import memory_bytes_per_second, missed_deadlines, run_stream
from streamgen.metrics import StreamMetrics


@pytest.fixture
def clock(sine_model: Any, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Time passes only while a chunk is made: 50 ms for 100 ms of audio."""
    now = [0.0]

    def work(_stream: Any) -> None:
        now[0] += 0.05

    sine_model.before_chunk = work
    monkeypatch.setattr(stream_run.time, "perf_counter", lambda: now[0])
    return now


def test_a_stream_that_takes_half_the_time_is_twice_real_time(clock: list[float], sine_model: Any) -> None:
    heard: list[float] = []
    figures = run_stream(sine_model, 3.0, progress=heard.append)
    assert figures.realtime_factor == pytest.approx(2.0)
    assert figures.first_audio_seconds == pytest.approx(0.05)
    assert (figures.step_ms_median, figures.step_ms_p99) == pytest.approx((1.0, 1.0))
    assert figures.codec_share == pytest.approx(1 / 6)  # 1 ms of codec for 5 steps of 1 ms
    assert figures.rollover is None
    assert heard[-1] == pytest.approx(3.0, abs=0.11)
    assert sine_model.streams[0].closed


def test_rollovers_are_judged_on_each_steps_least_time(sine_model: Any) -> None:
    """Noise hits another step in every run; what a step really costs is the same in all."""
    noise, runs = [300, 500, 700], []

    def record(metrics: Any, seconds: float, *rest: int) -> None:
        number = len(sine_model.streams) - 1
        real = 0.003 if metrics.steps == 640 else seconds
        noisy = 0.1 if metrics.steps == noise[number] else real
        record_step(metrics, noisy, int(metrics.steps >= 650), *rest[1:])
        runs.append(number)

    record_step = StreamMetrics.record_step
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StreamMetrics, "record_step", record)
        figures = run_stream(sine_model, 20.0, runs=3)
    assert set(runs) == {0, 1, 2}
    assert figures.rollover is not None
    assert figures.rollover.ratio == pytest.approx(3.0)
    assert figures.step_ms_median == pytest.approx(1.0)


def test_two_listeners_fit_twice_real_time_and_three_do_not(clock: list[float], sine_model: Any) -> None:
    assert missed_deadlines(sine_model, 1, 5.0) == 0
    assert missed_deadlines(sine_model, 2, 5.0) == 0
    assert missed_deadlines(sine_model, 3, 5.0) > 50
    assert all(stream.closed for stream in sine_model.streams)


def test_memory_is_read_at_a_believable_rate() -> None:
    assert 1e9 < memory_bytes_per_second("cpu") < 2e12
