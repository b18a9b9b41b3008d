"""A plugin as an effect in the rack: what it does to itself, nobody loses a sample of."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bridge.audio.chain import Chain
from bridge.audio.faults import SlotFault
from bridge.audio.plugins.engine import Reference
from bridge.audio.plugins.plugin import RESERVE_SECONDS, Plugin
from bridge.audio.plugins.process import PluginProcess
from bridge.audio.plugins.spawn import HostSettings, PluginTrouble
from bridge.audio.rack import Rack

from .conftest import RATE_HZ, Patient, music, wait_until

BLOCK = 960
RESERVE = round(RESERVE_SECONDS * RATE_HZ)
ILLS = ["raise", "segfault", "exit", "hang", "memory", "nan", "inf", "runaway"]


class Rig:
    """A rack with one plugin, and everything that went in and came out."""

    def __init__(self, patient: Patient) -> None:
        self.patient, self.rack = patient, Rack()
        self.chain = Chain(RATE_HZ, 2, 4_096, [self.rack])
        self.rack.add(patient.plugin, "ill")
        self.went: list[np.ndarray] = []
        self.came: list[np.ndarray] = []
        self.faults: list[SlotFault] = []

    def play(self, blocks: int = 1) -> None:
        for _ in range(blocks):
            samples = music(BLOCK, seed=len(self.went))
            self.went.append(samples)
            self.came.append(self.chain.process(samples))
            self.faults += self.rack.take_faults()

    def play_until(self, true: Callable[[], bool]) -> None:
        end = time.monotonic() + 30
        while not true():
            assert time.monotonic() < end, "it did not happen"
            self.play()
            time.sleep(0.01)

    def finish(self) -> tuple[np.ndarray, np.ndarray]:
        self.came.append(self.chain.finish())
        went, came = np.concatenate(self.went, axis=1), np.concatenate(self.came, axis=1)
        assert came.shape == went.shape
        return went, came


def factors(went: np.ndarray, came: np.ndarray) -> np.ndarray:
    """What each sample was multiplied by; NaN where it is too quiet to tell."""
    loud = np.abs(went[0]) > 0.02
    return np.where(loud, came[0] / np.where(loud, went[0], 1), np.nan)


def test_it_is_streamed_and_its_latency_and_reserve_are_made_up_for(patient: Callable[..., Patient]) -> None:
    rig = Rig(patient("latency 200"))
    assert rig.rack.latency_samples == 200 + RESERVE
    rig.play(10)
    went, came = rig.finish()
    np.testing.assert_array_equal(came, 2 * went)


def test_parameters_are_turned_at_their_sample_in_its_units(patient: Callable[..., Patient]) -> None:
    rig = Rig(patient("latency 200"))
    spec = rig.rack.parameters["plugin/1/gain"]
    assert (spec.low, spec.high, spec.default, spec.unit) == (0, 4, 2, "x")
    rig.chain.set({"plugin/1/gain": 0.5}, at_sample=3_333)
    rig.play(10)
    went, came = rig.finish()
    np.testing.assert_allclose(came[:, :3_333], 2 * went[:, :3_333], atol=1e-6)
    np.testing.assert_allclose(came[:, 3_333:], 0.5 * went[:, 3_333:], atol=1e-6)


@pytest.mark.parametrize("ill", ILLS)
def test_it_falls_ill_and_comes_back_as_it_was(patient: Callable[..., Patient], ill: str) -> None:
    rig = Rig(patient("latency 200"))
    rig.chain.set({"plugin/1/gain": 4.0})
    rig.play(20)
    rig.patient.order(ill)
    rig.play_until(lambda: len(rig.faults) == 2)
    rig.play(20)
    went, came = rig.finish()
    assert [bool(fault.reason) for fault in rig.faults] == [True, False]
    assert (rig.faults[0].strikes, rig.faults[0].given_up) == (1, False)
    by = factors(went, came)
    dry = np.flatnonzero(np.abs(by - 1) < 1e-3)
    last_wet = np.flatnonzero(np.abs(by[: dry[0]] - 4) < 1e-3)[-1]
    assert dry[0] - last_wet < 0.03 * RATE_HZ, "the crossfade is short"
    first_wet = dry[-1] + np.flatnonzero(np.abs(by[dry[-1] :] - 4) < 1e-3)[0]
    assert first_wet - dry[-1] < 0.03 * RATE_HZ
    assert np.nanmin(by) > 0.99, "nothing is missing"
    assert np.nanmax(by) < 4.01, "nothing is heard of the illness"


def test_what_was_saved_and_what_was_set_since_come_back(patient: Callable[..., Patient]) -> None:
    rig = Rig(patient(save_seconds=1_000.0))
    plugin = rig.patient.plugin
    rig.chain.set({"plugin/1/gain": 3.0})
    rig.play(2)
    plugin.save()
    rig.play_until(lambda: plugin.saves == 1)
    assert plugin.values()["gain"] == pytest.approx(3.0)
    rig.chain.set({"plugin/1/gain": 4.0})
    rig.play(3)
    rig.patient.order("segfault")
    rig.play_until(lambda: len(rig.faults) == 2)
    rig.play(10)
    rig.patient.order("segfault")
    rig.play_until(lambda: len(rig.faults) == 4)
    rig.play(10)
    went, came = rig.finish()
    by = factors(went, came)
    assert np.nanmean(by[-BLOCK:]) == pytest.approx(3.0, rel=1e-3), (
        "as saved: what was set since may be what it dies of"
    )
    well = by[~np.isnan(by) & (np.abs(by - 1) > 1e-3)]
    assert (np.abs(well - 4) < 1e-3).sum() > 9 * BLOCK / 2, "but once it is tried"


def test_three_strikes_and_it_is_given_up_until_it_is_forgiven(patient: Callable[..., Patient]) -> None:
    rig = Rig(patient())
    for strike in range(1, 4):
        rig.patient.order("segfault")
        rig.play_until(lambda strike=strike: rig.rack.state()[0].strikes == strike)  # type: ignore[misc]
        if strike < 3:
            rig.play_until(lambda: not rig.rack.state()[0].failed)
    assert [fault.given_up for fault in rig.faults if fault.reason] == [False, False, True]
    rig.play(30)
    assert rig.rack.state()[0].failed
    rig.chain.set({"plugin/1/bypass": True})
    rig.play(2)
    rig.chain.set({"plugin/1/bypass": False})
    rig.play_until(lambda: not rig.rack.state()[0].failed)
    rig.play(20)
    went, came = rig.finish()
    assert np.nanmax(factors(went, came)[-BLOCK:]) == pytest.approx(2.0, rel=1e-3)


def test_what_kills_it_every_time_is_not_set_a_third_time(patient: Callable[..., Patient]) -> None:
    rig = Rig(patient())
    rig.play(2)
    rig.chain.set({"plugin/1/crash": True})
    rig.play_until(lambda: rig.rack.state()[0].strikes == 2 and not rig.rack.state()[0].failed)
    rig.play(30)
    assert not rig.rack.state()[0].failed


def test_a_plugin_that_cannot_be_started_again_is_given_up_and_told(patient: Callable[..., Patient]) -> None:
    rig = Rig(patient())
    rig.play(2)
    rig.patient.order("segfault")
    rig.play()
    rig.patient.order("on-load raise")
    rig.play_until(lambda: any(fault.given_up for fault in rig.faults))
    assert rig.faults[-1].reason == "it could not be started again"


def test_another_latency_is_followed_without_a_strike(patient: Callable[..., Patient]) -> None:
    rig = Rig(patient())
    rig.play(5)
    rig.chain.set({"plugin/1/latency": 200})
    rig.play_until(lambda: len(rig.faults) == 2)
    rig.play(10)
    assert rig.rack.latency_samples == 200 + RESERVE
    assert rig.rack.state()[0].strikes == 0
    went, came = rig.finish()
    by = factors(went, came)
    assert np.nanmin(by) > 0.99
    np.testing.assert_allclose(came[:, -BLOCK:], 2 * went[:, -BLOCK:], atol=1e-6)


def test_one_that_gets_later_than_can_be_made_up_for_is_given_up_at_once(patient: Callable[..., Patient]) -> None:
    """The rack would hold back seconds of music, and the listeners would wait for them."""
    rig = Rig(patient())
    rig.play(5)
    rig.patient.order(f"later {5 * RATE_HZ}")
    rig.play(10)
    assert [fault.given_up for fault in rig.faults] == [True, True]
    assert rig.faults[-1].reason == "with it the rack would be 5.01 s late; at most 1 s can be made up for"
    assert rig.rack.held_samples < RATE_HZ / 10
    assert rig.rack.latency_samples == RESERVE
    rig.chain.set({"plugin/1/bypass": False})
    rig.play_until(lambda: not rig.rack.state()[0].failed)
    rig.play(10)
    went, came = rig.finish()
    assert np.nanmin(factors(went, came)) > 0.99, "nothing is missing"
    np.testing.assert_allclose(came[:, -BLOCK:], 2 * went[:, -BLOCK:], atol=1e-6)


def test_one_whose_latency_never_rests_comes_back_less_and_less_often(patient: Callable[..., Patient]) -> None:
    rig = Rig(patient())
    rig.play(5)
    rig.patient.order("restless")
    rig.play(150)
    told = [fault.reason for fault in rig.faults if fault.reason]
    assert len(told) < 8, "not with every block"
    assert told[-1].endswith("s, for it changes often")
    assert rig.rack.state()[0].strikes == 0
    went, came = rig.finish()
    assert np.nanmin(factors(went, came)) > 0.99, "nothing is missing"


def test_one_without_a_state_plays_on_and_is_told_once(
    patient: Callable[..., Patient], caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    rig = Rig(patient("on-state raise", save_seconds=0.01))
    rig.play_until(lambda: rig.patient.plugin.saves > 5)
    assert not rig.faults
    (line,) = [record.message for record in caplog.records if "is not kept" in record.message]
    assert line.startswith("the state of Ill is not kept: RuntimeError: asked to raise;")
    with pytest.raises(PluginTrouble, match="Ill has not given its state: RuntimeError: asked to raise"):
        rig.patient.plugin.save_preset(tmp_path / "a.vstpreset")


def test_a_state_asked_for_is_newer_than_the_question(patient: Callable[..., Patient]) -> None:
    """Though another was asked for just before, and one that died is not waited for."""
    rig = Rig(patient(save_seconds=1_000.0))
    plugin = rig.patient.plugin
    rig.play(2)
    assert [plugin.save(), plugin.save()] == [1, 2]
    rig.play_until(lambda: plugin.saves == 2)
    rig.patient.order("hang")
    wanted = plugin.save()
    rig.play_until(lambda: len(rig.faults) == 2)
    assert plugin.saves >= wanted


def test_an_older_state_takes_back_nothing_that_was_turned_since(patient: Callable[..., Patient]) -> None:
    rig = Rig(patient(save_seconds=1_000.0))
    plugin = rig.patient.plugin
    rig.play(2)
    plugin.save()
    wait_until(lambda: plugin.saves == 1)  # written, and not seen: no block was played since
    plugin._known[0], plugin._asked = 0.75, plugin._asked + 1  # turned then, and being written now
    rig.play(1)
    assert plugin.take_moves() == {}
    assert plugin.values()["gain"] == 3.0


def test_what_cannot_be_understood_is_refused_and_leaves_no_child(
    settings: HostSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[PluginProcess] = []
    start = PluginProcess.start
    monkeypatch.setattr(PluginProcess, "start", lambda *a, **k: started.append(start(*a, **k)) or started[-1])
    monkeypatch.setattr("bridge.audio.plugins.plugin.plugin_parameters", lambda _: 1 / 0)
    with pytest.raises(PluginTrouble, match="what it tells of itself cannot be understood: division by zero"):
        Plugin.open(Reference(str(tmp_path / "orders")), settings, RATE_HZ, "a")
    wait_until(lambda: started[0]._child.poll() is not None)
    (tmp_path / "full").write_text("")
    with pytest.raises(PluginTrouble, match=r"its state in .*full/states. cannot be kept: Not a directory"):
        Plugin.open(Reference(""), replace(settings, folder=tmp_path / "full" / "states"), RATE_HZ, "a")


@pytest.mark.slow
def test_closing_ends_the_child_also_one_that_is_being_started(patient: Callable[..., Patient]) -> None:
    one = patient().plugin
    assert one._process is not None
    pid = one._process.pid
    one.close()

    def gone() -> bool:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        return False

    wait_until(gone)
    two = patient()
    two.order("segfault")
    rig = Rig(two)
    rig.play(2)
    two.plugin.close()
    time.sleep(1.5)
    assert two.plugin._fresh is None


@pytest.mark.slow
@pytest.mark.parametrize("ill", ["raise", "segfault", "hang", "memory", "nan"])
def test_twenty_times_ill_and_no_sample_lost(patient: Callable[..., Patient], ill: str) -> None:
    rig = Rig(patient("latency 200", strikes=100, forgiven_seconds=0.0))
    rig.chain.set({"plugin/1/gain": 4.0})
    rig.play(20)
    for time_ in range(1, 21):
        rig.patient.order(ill)
        rig.play_until(lambda time_=time_: len(rig.faults) == 2 * time_)  # type: ignore[misc]
        rig.play(5)
    went, came = rig.finish()
    by = factors(went, came)
    assert np.nanmin(by) > 0.99
    assert np.nanmax(by) < 4.01
    assert np.nanmean(by[-BLOCK:]) == pytest.approx(4.0, rel=1e-3)


@pytest.mark.slow
def test_a_child_costs_a_small_part_of_a_block(patient: Callable[..., Patient]) -> None:
    """A block lasts 20 ms; a round trip is well below a tenth of that even where others use the cores."""
    rig, costs = Rig(patient()), []
    rig.play(20)
    samples = music(BLOCK)
    for _ in range(500):
        began = time.perf_counter()
        rig.chain.process(samples)
        costs.append(time.perf_counter() - began)
    assert np.median(costs) < 0.05 * BLOCK / RATE_HZ
