"""Runs over a stream whose step times are known, and figures from step times made by hand."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from bridge import speed
from bridge.session.capacity import SessionCost
from bridge.speed import (
    MARGIN_STEPS,
    measure,
    measure_cost,
    memory_bytes_per_second,
    missed_deadlines,
    rollover_figures,
    run_stream,
    step_costs,
)
from streamgen.metrics import StreamMetrics
from streamgen.testing import FakeClock, FakeModel

from .conftest import ToyModel


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> ToyModel:
    """Time passes only while it works: 8 ms a step and 2 ms of codec for 20 ms of audio."""
    toy = ToyModel(FakeClock(), 0.008)
    decode = toy.runtime.codec.decode

    def timed(codes: object, state: object) -> object:
        toy.clock.advance(0.002 * codes.shape[2])  # type: ignore[attr-defined]
        return decode(codes, state)  # type: ignore[arg-type]

    monkeypatch.setattr(toy.runtime.codec, "decode", timed)
    monkeypatch.setattr(speed.time, "perf_counter", toy.clock)
    return toy


def test_a_stream_that_takes_half_the_time_is_twice_real_time(model: ToyModel) -> None:
    heard: list[float] = []
    figures = run_stream(model, 3.0, progress=heard.append)
    assert figures.realtime_factor == pytest.approx(2.0, rel=0.02)
    assert figures.first_audio_seconds == pytest.approx(0.05, rel=0.2)
    assert (figures.step_ms_median, figures.step_ms_p99) == pytest.approx((8.0, 8.0))
    assert figures.codec_share == pytest.approx(0.2, rel=0.02)
    assert figures.rollover is None
    assert heard[-1] == pytest.approx(3.0, abs=0.11)
    assert model.opened[0][1]["guard"] is False  # the noise of random weights would begin anew, and no window be full
    assert model.all_closed


def test_rollovers_are_judged_on_each_steps_least_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Noise hits another step in every run; what a step really costs is the same in all."""
    model, noise, runs = ToyModel(), [300, 500, 700], []
    record_step = StreamMetrics.record_step

    def record(metrics: StreamMetrics, _seconds: float, _rollovers: int, *rest: int) -> None:
        run = len(model.opened) - 1
        real = 0.003 if metrics.steps == 640 else 0.001
        noisy = 0.1 if metrics.steps == noise[run] else real
        record_step(metrics, noisy, int(metrics.steps >= 650), *rest)
        runs.append(run)

    monkeypatch.setattr(StreamMetrics, "record_step", record)
    figures = run_stream(model, 20.0, runs=3)
    assert set(runs) == {0, 1, 2}
    assert figures.rollover is not None
    assert figures.rollover.ratio == pytest.approx(3.0)
    assert figures.step_ms_median == pytest.approx(1.0)


def test_as_many_listeners_fit_as_one_pass_and_their_codecs_leave_time_for(model: ToyModel) -> None:
    """A pass of 8 ms for all of them and 2 ms of codec for each: six in 20 ms."""
    assert missed_deadlines(model, 1, 5.0) == 0
    assert missed_deadlines(model, 5, 5.0) == 0
    assert missed_deadlines(model, 8, 5.0) > 50
    assert model.all_closed


def test_memory_is_read_at_a_believable_rate() -> None:
    assert 1e9 < memory_bytes_per_second("cpu") < 2e12


def test_the_curve_has_a_cost_for_each_number_of_rows_at_each_place(monkeypatch: pytest.MonkeyPatch) -> None:
    model = FakeModel(max_positions=101)
    monkeypatch.setattr(model, "pass_seconds", lambda rows, position: rows / 1e3 + position / 1e6)
    costs = step_costs(model)
    assert [(cost.rows, cost.position) for cost in costs[:4]] == [(1, 20), (1, 50), (1, 100), (2, 20)]
    assert costs[3].ms == pytest.approx(2.02)
    assert costs[-1].rows == 8


def test_no_rollover_no_figure() -> None:
    assert rollover_figures([1.0] * 100, [], 10) is None
    assert rollover_figures([], [], 10) is None
    assert rollover_figures([1.0] * 100, [98], 10) is None  # its span is not over yet
    assert rollover_figures([1.0] * 100, [-3], 10) is None  # it was before what was kept


def test_the_longest_step_of_each_rollover_is_compared_with_the_median() -> None:
    steps = [1.0] * 2_000
    steps[495], steps[500], steps[1_505], steps[1_300] = 1.4, 1.2, 3.0, 1.1
    figures = rollover_figures(steps, [500, 1_000, 1_500], context_steps=100)
    assert figures is not None
    assert figures.rollovers == 3
    assert figures.ratio == 1.4  # of 1.4, 1.0 and 3.0
    assert figures.worst_ratio == 3.0
    assert figures.quiet_ratio == 1.0  # of 1.0, 1.0, 1.1 and 1.0


@pytest.mark.parametrize("offset", [-100 - MARGIN_STEPS, MARGIN_STEPS])
def test_the_span_reaches_from_the_warm_up_to_just_after_the_handover(offset: int) -> None:
    for distance, ratio in ((0, 9.0), (1 if offset > 0 else -1, 1.0)):
        steps = [1.0] * 1_000
        steps[500 + offset + distance] = 9.0
        figures = rollover_figures(steps, [500], context_steps=100)
        assert figures is not None
        assert figures.ratio == ratio


def test_short_quiet_stretches_say_nothing() -> None:
    figures = rollover_figures([1.0] * 220, [110], context_steps=50)
    assert figures is not None
    assert figures.quiet_ratio == 1.0
    short = rollover_figures([1.0] * 170, [110], context_steps=50)
    assert short is not None
    assert short.quiet_ratio is None


# -- how many sessions -------------------------------------------------------------------------------------------------


def test_a_second_of_music_tells_how_fast_it_is() -> None:
    assert measure(FakeModel(), "a") > 1
    assert measure(FakeModel(), "") > 1, "no prompt is unconditional"


def test_a_machine_without_room_for_a_second_session_is_not_asked_for_it() -> None:
    assert measure_cost(None, realtime_factor=1.1) == SessionCost(1 / 1.1, 1 / 1.1)  # type: ignore[arg-type] # it would fail


def test_what_sessions_cost_is_measured_with_players_that_are_closed_again() -> None:
    model = ToyModel()
    cost = measure_cost(model, realtime_factor=1e9)
    assert 0 < cost.each <= 2 * cost.first
    assert model.all_closed


def test_a_machine_with_torch_and_transformers_alone_measures() -> None:
    """As one with a GPU may be, see tests/gpu.sh: nothing that it asks imports more."""
    beside = (
        "prometheus_client", "websockets", "soundfile", "soxr", "sounddevice", "zeroconf", "pythonosc", "cryptography",
        "pytest",
    )  # fmt: skip
    code = (
        "import sys; sys.modules.update(dict.fromkeys(sys.argv[1:])); import tests.gpu_check;"
        "from bridge.cli.main import main;"
        "main('bench --json --device cpu --precision fp32 --seconds 1 --sessions 2'.split())"
    )
    done = subprocess.run([sys.executable, "-c", code, *beside], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["realtime_factor"] > 0
