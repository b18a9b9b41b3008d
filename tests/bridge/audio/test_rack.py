"""Effects that come, go, move, fail and are exchanged while they play: no sample lost, repeated or mislabelled."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
import pytest

from bridge.audio.chain import Chain
from bridge.audio.effect import Effect, ParameterChange, Pcm
from bridge.audio.faults import EffectFault
from bridge.audio.gain import Gain
from bridge.audio.rack import MAX_SLOTS, Rack
from streamgen.config import ControlSpec, Value, number
from streamgen.errors import CapacityError, ConfigError

RATE_HZ = 48_000
FADE = 960


class Late:
    """Gives back what it gets, so much later and so much louder; it can be told to fail and to be well again."""

    parameters: ClassVar[Mapping[str, ControlSpec]] = {"level": number(0, 9, 1, "", "factor, at once")}
    reserve_samples = 480
    given_up = False

    def __init__(self, latency_samples: int = 0, factor: float = 1.0) -> None:
        self.latency_samples, self.factor = latency_samples, factor
        self.strikes, self.ill, self.closed, self.forgiven = 0, False, False, 0
        self.told: list[ParameterChange] = []

    def prepare(self, rate_hz: int, channels: int, max_block: int) -> None:
        self.reset()

    def reset(self) -> None:
        self._held = np.zeros((2, self.latency_samples), np.float32)

    def process(self, block: Pcm, start_sample: int, changes: Sequence[ParameterChange]) -> Pcm:
        assert not self.closed
        if self.ill:
            self.strikes += 1
            raise EffectFault("it is ill")
        self.told += changes
        audio = np.concatenate((self._held, block * np.float32(self.factor)), axis=1)
        self._held = audio[:, block.shape[1] :]
        return audio[:, : block.shape[1]]

    def recovered(self) -> bool:
        return not self.ill

    def forgive(self) -> None:
        self.forgiven += 1
        self.given_up = False

    def give_up(self) -> None:
        self.latency_samples, self.given_up = 0, True

    def close(self) -> None:
        self.closed = True


def music(count: int, seed: int = 4) -> Pcm:
    smooth = np.convolve(np.random.default_rng(seed).standard_normal(count + 63), np.hanning(64), "valid")
    return np.stack((smooth, -0.5 * smooth)).astype(np.float32) * np.float32(0.05)


class Rig:
    """A chain that is a rack, and everything that came out of it."""

    def __init__(self, block: int = 960, effects: Sequence[Effect] = ()) -> None:
        self.rack, self.block = Rack(), block
        self.music = music(1_200_000)
        self.chain = Chain(RATE_HZ, 2, 4_096, [*effects, self.rack])
        self.went: list[Pcm] = [np.zeros((2, 0), np.float32)]
        self.came: list[Pcm] = [np.zeros((2, 0), np.float32)]

    def play(self, count: int) -> None:
        samples = self.music[:, self.chain.position :][:, :count]
        self.went.append(samples)
        self.came += [self.chain.process(samples[:, at : at + self.block]) for at in range(0, count, self.block)]

    def set(self, values: Mapping[str, Value], at_sample: int | None = None) -> None:
        self.chain.set(values, at_sample)

    def finish(self) -> None:
        self.came.append(self.chain.finish())

    @property
    def input(self) -> Pcm:
        return np.concatenate(self.went, axis=1)

    @property
    def output(self) -> Pcm:
        return np.concatenate(self.came, axis=1)


def assert_same(rig: Rig) -> None:
    assert rig.output.shape == rig.input.shape
    np.testing.assert_allclose(rig.output, rig.input, rtol=0, atol=1e-6)


def test_an_empty_rack_gives_what_it_gets() -> None:
    rig = Rig()
    rig.play(4_800)
    assert rig.rack.latency_samples == 0
    np.testing.assert_array_equal(rig.output, rig.input)


@pytest.mark.parametrize("block", [1, 333, 960, 4_096])
def test_latency_is_summed_reported_and_made_up_for(block: int) -> None:
    rig = Rig(block)
    rig.rack.add(Late(100), "a")
    rig.rack.add(Late(2_000), "b")
    assert rig.chain.latency_samples == rig.rack.latency_samples == 100 + 2_000 + 2 * 480
    rig.play(9_600)
    assert rig.output.shape[1] == 9_600 - 3_060
    rig.finish()
    assert_same(rig)
    rig.play(5_000)
    rig.finish()
    assert_same(rig)


@pytest.mark.parametrize("effects", [[], [Gain()]])
def test_labels_stay_true_through_a_hundred_edits(effects: list[Effect]) -> None:
    """Effects of many latencies come, go, move, take over and fail; what comes out is what went in, at its place."""
    rng, rig, numbers = np.random.default_rng(7), Rig(effects=effects), list[int]()
    everything: list[Late] = []
    for _ in range(200):
        action = rng.choice(["add", "remove", "move", "replace", "fail", "nothing", "pause"])
        late = Late(int(rng.choice([0, 1, 63, 480, 960, 5_000])))
        if action == "add" and len(numbers) < 6:
            numbers.append(rig.rack.add(late, "late", int(rng.integers(0, len(numbers) + 1))))
            everything.append(late)
        elif action == "pause":
            rig.finish()
        elif numbers:
            number = int(rng.choice(numbers))
            if action == "remove":
                numbers.remove(number)
                rig.rack.remove(number)
            elif action == "move":
                rig.rack.move(number, int(rng.integers(0, len(numbers))))
            elif action == "replace":
                rig.rack.replace(number, late, "late")
                everything.append(late)
            elif action == "fail":
                effect = rig.rack.effect(number)
                assert isinstance(effect, Late)
                effect.ill = not effect.ill
        rig.play(int(rng.choice([100, 960, 3_000, 9_600])))
    rig.finish()
    assert_same(rig)
    in_use = [rig.rack.effect(number) for number in numbers]
    assert [late for late in everything if not late.closed and late not in in_use] == []
    assert not any(late.closed for late in everything if late in in_use)


def bends(samples: Pcm) -> float:
    """The sharpest corner of a signal; a step makes one as large as itself."""
    return float(np.abs(np.diff(samples, 2, axis=1)).max())


@pytest.mark.parametrize("block", [480, 1_920])
def test_edits_make_no_step_larger_than_the_programmes_own(block: int) -> None:
    rng, rig, numbers = np.random.default_rng(3), Rig(block), list[int]()
    for turn in range(100):
        late = Late(int(rng.choice([0, 300, 2_000])), factor=float(rng.choice([0.25, 0.5, 1.0])))
        if turn % 4 == 0 or not numbers:
            numbers.append(rig.rack.add(late, "late"))
        elif turn % 4 == 1:
            rig.rack.move(int(rng.choice(numbers)), 0)
        elif turn % 4 == 2:
            rig.rack.replace(int(rng.choice(numbers)), late, "late")
        else:
            rig.rack.remove(numbers.pop(int(rng.integers(0, len(numbers)))))
        rig.play(4_800)
    rig.finish()
    assert rig.output.shape == rig.input.shape
    assert bends(rig.output) < 1.3 * bends(rig.input)


def test_a_fault_fades_to_the_input_over_the_reserve_and_back_when_it_is_well() -> None:
    rig, late = Rig(), Late(700, factor=0.5)
    number = rig.rack.add(late, "half")
    rig.play(9_600)
    late.ill = True
    rig.play(9_600)
    late.ill = False
    rig.play(9_600)
    rig.finish()
    ratio = rig.output[0] / np.where(np.abs(rig.input[0]) > 0.01, rig.input[0], np.nan)
    halves, wholes = np.abs(ratio - 0.5) < 1e-3, np.abs(ratio - 1.0) < 1e-3
    loud = ~np.isnan(ratio)
    assert halves[loud][: 9_600 - 700 - 480].mean() > 0.8
    turn = 9_600 - 700
    assert halves[: turn - 480][loud[: turn - 480]].all(), "until then it was well"
    assert wholes[turn : 2 * 9_600][loud[turn : 2 * 9_600]].all(), "10 ms later its input is heard"
    assert halves[2 * 9_600 + FADE :][loud[2 * 9_600 + FADE :]].all(), "it is back"
    faults = rig.rack.take_faults()
    assert [(fault.slot, fault.name, fault.reason) for fault in faults] == [
        (number, "half", "it is ill"),
        (1, "half", ""),
    ]
    assert rig.rack.take_faults() == []
    assert bends(rig.output) < 1.3 * bends(rig.input)


def test_an_exception_of_an_effect_that_cannot_come_back_leaves_its_input() -> None:
    class Broken(Gain):
        broken = True

        def process(self, block: Pcm, start_sample: int, changes: Sequence[ParameterChange]) -> Pcm:
            if self.broken:
                raise ZeroDivisionError("oops")
            return block * np.float32(0.5)

    rig, broken = Rig(), Broken()
    rig.rack.add(broken, "broken")
    rig.play(9_600)
    np.testing.assert_array_equal(rig.output, rig.input)
    (fault,) = rig.rack.take_faults()
    assert (fault.reason, fault.given_up) == ("ZeroDivisionError: oops", True)
    assert rig.rack.state()[0].failed
    broken.broken = False
    for bypass in (True, False):  # bypassed and back, it has another chance
        rig.set({"plugin/1/bypass": bypass})
        rig.play(960)
    rig.play(12_000)
    np.testing.assert_allclose(rig.output[:, -960:], 0.5 * rig.input[:, -960:], atol=1e-6)
    assert [fault.reason for fault in rig.rack.take_faults()] == [""]


def test_every_slot_has_its_parameters_and_keeps_its_number_when_it_moves() -> None:
    rig, (a, b) = Rig(), (Late(), Late())
    assert [rig.rack.add(a, "a"), rig.rack.add(b, "b")] == [1, 2]
    assert set(rig.rack.parameters) == {
        f"plugin/{number}/{name}" for number in (1, 2) for name in ("level", "bypass", "wet", "gain_db", "input_db")
    }
    assert rig.rack.parameters["plugin/2/level"].name == "plugin/2/level"
    rig.play(960)
    rig.rack.move(2, 0)
    assert [state.slot for state in rig.rack.state()] == [2, 1]
    rig.set({"plugin/2/level": 3.0})
    rig.play(9_600)
    assert ([change.value for change in a.told], [change.value for change in b.told]) == ([], [3.0])
    rig.rack.remove(1)
    assert rig.rack.add(Late(), "c") == 1, "the lowest free number"
    assert "plugin/1/level" in rig.rack.parameters


def test_wrong_edits_are_refused() -> None:
    rig = Rig()
    for edit in (lambda: rig.rack.remove(1), lambda: rig.rack.move(3, 0), lambda: rig.rack.replace(2, Late(), "x")):
        with pytest.raises(ConfigError, match="there is no slot"):
            edit()
    with pytest.raises(ConfigError, match="late"):
        rig.rack.add(Late(RATE_HZ + 1), "too late")
    for _ in range(MAX_SLOTS):
        rig.rack.add(Late(), "x")
    with pytest.raises(CapacityError, match="remove one"):
        rig.rack.add(Late(), "one too many")


@pytest.mark.parametrize("latency", [0, 1_000])
@pytest.mark.parametrize("block", [64, 960])
def test_the_mix_is_exact_and_changes_at_its_samples(latency: int, block: int) -> None:
    rig = Rig(block)
    rig.rack.add(Late(latency, factor=0.5), "half")
    settled = 12_000
    steps: list[tuple[dict[str, Value], float]] = [
        ({}, 0.5),
        ({"plugin/1/wet": 0.25}, 0.25 * 0.5 + 0.75),
        ({"plugin/1/gain_db": 20.0}, 10 * (0.25 * 0.5 + 0.75)),
        ({"plugin/1/input_db": -20.0}, 0.25 * 0.5 + 0.75),
        ({"plugin/1/bypass": True}, 1.0),
        ({"plugin/1/bypass": False, "plugin/1/wet": 1.0}, 0.5),
    ]
    for turn, (values, _) in enumerate(steps):
        rig.set(values, 24_000 * turn)
    rig.play(24_000 * len(steps))
    rig.finish()
    for turn, (_, factor) in enumerate(steps):
        part = slice(24_000 * turn + settled, 24_000 * (turn + 1))
        np.testing.assert_allclose(rig.output[:, part], factor * rig.input[:, part], rtol=1e-4, atol=1e-6)
        if turn:  # nothing of it before its sample
            before = slice(24_000 * turn - 100, 24_000 * turn)
            np.testing.assert_allclose(
                rig.output[:, before], steps[turn - 1][1] * rig.input[:, before], rtol=1e-4, atol=1e-6
            )


def test_what_is_set_while_an_effect_is_away_reaches_it_when_it_is_back() -> None:
    rig, late = Rig(), Late()
    rig.rack.add(late, "late")
    rig.play(960)
    late.ill = True
    rig.play(4_800)
    for value in (2.0, 3.0, 4.0):
        rig.set({"plugin/1/level": value})
        rig.play(960)
    late.ill = False
    rig.play(4_800)
    assert [change.value for change in late.told] == [4.0]


def test_the_end_of_a_bypass_forgives() -> None:
    rig, late = Rig(), Late()
    rig.rack.add(late, "late")
    rig.play(960)
    late.ill = True
    rig.play(4_800)
    rig.set({"plugin/1/bypass": True})
    rig.play(960)
    rig.set({"plugin/1/bypass": False})
    rig.play(960)
    assert late.forgiven == 1


def test_the_tempo_is_heard_of() -> None:
    class Follows(Late):
        listens = frozenset({"tempo"})

    rig, follows = Rig(), Follows()
    rig.rack.add(follows, "follows")
    rig.set({"tempo": 120.0})
    rig.play(960)
    assert [(change.name, change.value) for change in follows.told] == [("tempo", 120.0)]
    assert rig.rack.tempo_bpm == 120.0


def test_a_slot_tells_what_share_of_real_time_it_takes() -> None:
    class Slow(Late):
        def process(self, block: Pcm, start_sample: int, changes: Sequence[ParameterChange]) -> Pcm:
            time.sleep(0.004)
            return super().process(block, start_sample, changes)

    rig = Rig()
    rig.rack.add(Late(), "quick")
    rig.rack.add(Slow(), "slow")
    rig.play(2 * RATE_HZ)
    quick, slow = (state.load for state in rig.rack.state())
    assert quick < 0.1 < 0.15 < slow
