"""Blocks to a simulated sound card with a clock of its own: on time, to the sample, and smooth when it must correct."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest

from bridge.audio.conversion import resampler
from bridge.doors.device.drift import Stretcher
from bridge.doors.device.feeder import ClockedRing, Feeder
from bridge.session.events import Block

SOURCE_HZ, DEVICE_HZ = 32_000, 48_000
BLOCK = 3_200
COMMIT_SECONDS = 0.2
LATENCY_SECONDS = 0.1
WALL = 1.7e9


def tone(start: int, count: int, hz: float = 440.0) -> np.ndarray:
    wave = 0.5 * np.sin(2 * np.pi * hz * np.arange(start, start + count) / SOURCE_HZ)
    return np.stack((wave, -wave)).astype(np.float32)


@dataclass
class Stage:
    """A session that commits blocks 0.2 s ahead, and a device that calls back every 10 ms by its own clock."""

    ppm: float = 0.0
    period: int = 480
    margin_seconds: float = 0.05
    left_seconds: float = 0.0
    ahead_seconds: float = 0.0
    stamped: bool = True
    time: float = 100.0
    sample: int = 0
    late_seconds: float = 0.0
    heard: list[np.ndarray] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.feeder = Feeder(
            SOURCE_HZ, DEVICE_HZ, 2, margin_seconds=self.margin_seconds, left_seconds=self.left_seconds,
            ahead_seconds=self.ahead_seconds,
            now=lambda: self.time, wall=lambda: self.time + WALL,
        )  # fmt: skip
        self.feeder.device_latency_seconds = LATENCY_SECONDS
        self.start = self.time + COMMIT_SECONDS  # when sample 0 is due
        self.next_callback = self.time
        self.first_callback = self.time

    def run(self, seconds: float, playing: bool = True) -> None:
        end = self.time + seconds - 1e-9
        while True:
            due = self.start + self.sample / SOURCE_HZ
            next_block = due - COMMIT_SECONDS + self.late_seconds if playing else np.inf
            self.time = min(next_block, self.next_callback)
            if self.time >= end:
                self.time = end
                break
            if next_block < self.next_callback:  # the first callback comes before the first block, as at every device
                stamp = round((due + WALL) * 1e6) if self.stamped else 0
                self.feeder.feed(Block(tone(self.sample, BLOCK), self.sample, time_us=stamp))
                self.sample += BLOCK
            else:
                out = np.full((self.period, 2), np.nan, np.float32)
                self.feeder.ring.read_into(out)
                self.heard.append(out)
                self.next_callback += self.period / (DEVICE_HZ * (1 + self.ppm * 1e-6))
        if not playing:
            self.start += seconds

    def out(self) -> np.ndarray:
        return np.concatenate(self.heard)


def expected(samples: int) -> np.ndarray:
    convert = resampler(SOURCE_HZ, DEVICE_HZ)
    return np.concatenate([convert.process(tone(at, BLOCK)) for at in range(0, samples, BLOCK)], axis=1).T


def roughness(frames: np.ndarray) -> float:
    """How far a 440 Hz tone departs from the one recurrence that every 440 Hz tone obeys: a click stands out."""
    wave = frames[:, 0]
    return float(np.abs(wave[2:] - 2 * np.cos(2 * np.pi * 440 / DEVICE_HZ) * wave[1:-1] + wave[:-2]).max())


def test_the_device_hears_the_resampled_stream_to_the_bit_and_on_time() -> None:
    stage = Stage()
    stage.run(6.0)
    out = stage.out()
    begin = int(np.flatnonzero(np.abs(out[:, 0]) > 0)[0])
    due_frame = (stage.start + stage.feeder.delay_seconds - LATENCY_SECONDS - stage.first_callback) * DEVICE_HZ
    assert begin == pytest.approx(due_frame + Stretcher.LATENCY_FRAMES, abs=2)
    want = expected(4 * SOURCE_HZ)
    fade = 600
    shift = begin - int(np.flatnonzero(np.abs(want[:, 0]) > 0)[0])
    np.testing.assert_array_equal(out[shift + fade : shift + len(want)], want[fade:])
    assert (stage.feeder.starvations, stage.feeder.jumps, stage.feeder.overflow_frames) == (0, 0, 0)


def test_a_device_of_the_sessions_rate_is_given_its_samples_as_they_are() -> None:
    feeder = Feeder(SOURCE_HZ, SOURCE_HZ, 2, margin_seconds=0.05, now=lambda: 100.0)
    noise = np.random.default_rng(3).standard_normal((2, 10 * BLOCK)).astype(np.float32)
    for at in range(0, 10 * BLOCK, BLOCK):
        feeder.feed(Block(noise[:, at : at + BLOCK], at))
    out = np.zeros((feeder.ring.filled_frames, 2), np.float32)
    feeder.ring.read_into(out)
    heard, fade = out[-10 * BLOCK + Stretcher.LATENCY_FRAMES :], 600
    np.testing.assert_array_equal(heard[fade:], noise.T[: len(heard)][fade:])


@pytest.mark.parametrize("first", [0, 77, 3_200])
def test_a_device_is_given_the_same_samples_whenever_it_comes(first: int) -> None:
    whole = np.random.default_rng(4).standard_normal((2, 8 * BLOCK)).astype(np.float32)
    feeder = Feeder(SOURCE_HZ, 44_100, 2, margin_seconds=0.05, now=lambda: 100.0)
    for at in range(first, whole.shape[1] - BLOCK, BLOCK):
        feeder.feed(Block(whole[:, at : at + BLOCK], at))
    out = np.zeros((feeder.ring.filled_frames, 2), np.float32)
    feeder.ring.read_into(out)
    expected = resampler(SOURCE_HZ, 44_100, 2).process(whole).T
    piece = out[-11_025:-2_205]
    near = np.flatnonzero(np.abs(expected[: -len(piece), 0] - piece[0, 0]) < 1e-4)
    assert min(np.abs(expected[at : at + len(piece)] - piece).max() for at in near) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("ppm", [200.0, -200.0])
def test_a_device_that_runs_at_another_speed_never_starves_and_never_clicks(ppm: float) -> None:
    stage = Stage(ppm=ppm)
    stage.run(120.0)
    assert (stage.feeder.starvations, stage.feeder.jumps, stage.feeder.overflow_frames) == (0, 0, 0)
    assert abs(stage.feeder.drift.error_seconds) < 0.008
    steady = stage.out()[DEVICE_HZ:]
    assert roughness(steady) < 5e-5
    assert np.abs(steady).max() == pytest.approx(0.5, abs=1e-3)


def test_a_burst_of_audio_not_yet_due_waits_for_its_time() -> None:
    stage = Stage()
    for _ in range(20):  # two seconds at once, as to a listener who comes late
        due = stage.start + stage.sample / SOURCE_HZ
        stage.feeder.feed(Block(tone(stage.sample, BLOCK), stage.sample, time_us=round((due + WALL) * 1e6)))
        stage.sample += BLOCK
    stage.run(5.0)
    begin = int(np.flatnonzero(np.abs(stage.out()[:, 0]) > 0)[0])
    assert begin == pytest.approx((COMMIT_SECONDS + stage.margin_seconds) * DEVICE_HZ + Stretcher.LATENCY_FRAMES, abs=2)
    assert stage.feeder.jumps == 0


def test_audio_that_is_past_when_the_device_opens_is_skipped() -> None:
    stage = Stage()
    stage.start -= 3.0
    stage.run(2.0)
    assert stage.feeder.jumps == 0
    late = stage.feeder.ring.next_read(DEVICE_HZ) + LATENCY_SECONDS
    due = stage.start + stage.sample / SOURCE_HZ + stage.feeder.delay_seconds
    assert late - due == pytest.approx(0, abs=0.03), "what soxr holds back is all that is missing"
    out = stage.out()
    begin = int(np.flatnonzero(np.abs(out[:, 0]) > 0)[0])
    assert roughness(out[begin + 600 :]) < 5e-5, "placed once, and then left alone"


def test_blocks_that_come_late_from_the_first_on_are_soon_heard_whole_and_when_they_are_due() -> None:
    stage = Stage()
    stage.late_seconds = 0.3
    stage.run(3.0)
    faults = stage.feeder.starvations
    stage.heard.clear()
    stage.run(3.0)
    assert stage.feeder.starvations == faults <= 3
    assert roughness(stage.out()) < 5e-5
    heard = stage.feeder.ring.next_read(DEVICE_HZ) + LATENCY_SECONDS
    due = stage.start + stage.sample / SOURCE_HZ + stage.feeder.delay_seconds
    assert heard - due == pytest.approx(0, abs=0.03)


def test_a_pause_is_no_starvation_and_a_late_engine_is() -> None:
    stage = Stage()
    stage.run(2.0)
    stage.feeder.rest()
    stage.run(3.0, playing=False)
    stage.run(2.0)
    assert stage.feeder.ring.starvations >= 1
    assert stage.feeder.starvations == 0
    stage.late_seconds = 0.4
    stage.run(5.0)
    few = stage.feeder.starvations
    assert 1 <= few <= 5, "each time it plays later, twice as much"
    stage.run(5.0)
    assert stage.feeder.starvations == few, "until it is enough"
    stage.late_seconds = 1.2
    stage.run(3.0)
    assert stage.feeder.starvations > few


def test_starving_and_coming_back_make_no_click() -> None:
    stage = Stage()
    stage.run(2.0)
    stage.run(2.0, playing=False)
    stage.run(2.0)
    out = stage.out()[DEVICE_HZ:]
    assert np.isfinite(out).all()
    assert np.abs(np.diff(out[:, 0])).max() < 1.5 * 0.5 * 2 * np.pi * 440 / DEVICE_HZ


def test_a_machine_that_slept_is_on_time_again_after_one_jump() -> None:
    stage = Stage()
    stage.run(5.0)
    stage.start += 0.5  # the session's clock stood still for half a second; the ring ran on
    stage.run(10.0)
    stage.start -= 0.8
    stage.run(10.0)
    assert abs(stage.feeder.drift.error_seconds) < 0.015
    assert stage.feeder.jumps <= 3
    assert np.abs(np.diff(stage.out()[DEVICE_HZ:, 0])).max() < 1.5 * 0.5 * 2 * np.pi * 440 / DEVICE_HZ


def test_a_session_that_stamps_no_time_plays_from_its_first_block() -> None:
    stage = Stage(stamped=False)
    stage.run(5.0)
    stage.feeder.rest()
    stage.run(3.0, playing=False)
    stage.run(2.0)
    assert (stage.feeder.starvations, stage.feeder.jumps) == (0, 0)
    assert roughness(stage.out()[DEVICE_HZ : 5 * DEVICE_HZ]) < 5e-5
    assert roughness(stage.out()[9 * DEVICE_HZ :]) < 5e-5


def test_a_mono_device_gets_the_mean() -> None:
    feeder = Feeder(DEVICE_HZ, DEVICE_HZ, 1, margin_seconds=0.05)
    feeder.feed(Block(np.stack((np.full(4_800, 0.6), np.full(4_800, 0.2))).astype(np.float32), 0))
    out = np.zeros((feeder.ring.filled_frames, 1), np.float32)
    feeder.ring.read_into(out)
    assert out.max() == pytest.approx(0.4)


@pytest.mark.slow
def test_an_hour_at_200_ppm_with_every_part_in_place() -> None:
    stage = Stage(ppm=200.0, period=960)
    worst = 0.0
    for _ in range(360):
        stage.run(10.0)
        worst = max(worst, abs(stage.feeder.drift.error_seconds))
        if len(stage.heard) > 50:
            assert roughness(np.concatenate(stage.heard[-450:])) < 5e-5
        stage.heard.clear()
    assert worst < 0.014
    assert (stage.feeder.starvations, stage.feeder.jumps, stage.feeder.overflow_frames) == (0, 0, 0)


def test_what_is_played_later_after_a_starvation_is_played_sooner_again_by_and_by() -> None:
    stage = Stage()
    stage.run(2.0)
    usual = stage.feeder.delay_seconds
    stage.late_seconds = 0.35
    stage.run(0.5)
    stage.late_seconds = 0.0
    stage.run(2.0)
    faults = stage.feeder.starvations
    assert 1 <= faults <= 2
    assert 0.02 < stage.feeder.delay_seconds - usual < 0.1
    stage.heard.clear()
    stage.run(90.0)
    assert stage.feeder.delay_seconds == usual
    assert abs(stage.feeder.drift.error_seconds) < 0.015
    assert (stage.feeder.starvations, stage.feeder.jumps) == (faults, 0)
    assert roughness(stage.out()) < 5e-5, "unheard"


@pytest.mark.parametrize("latency_seconds", [0.1, 0.4, 1.0])
def test_what_a_device_takes_at_once_is_there(latency_seconds: float) -> None:
    """PortAudio asks for a quarter of the latency in one callback."""
    stage = Stage(period=round(latency_seconds / 4 * DEVICE_HZ), ppm=150.0, left_seconds=0.05, ahead_seconds=0.16)
    stage.run(20.0)
    assert (stage.feeder.starvations, stage.feeder.jumps) == (0, 0)
    assert roughness(stage.out()[DEVICE_HZ:]) < 5e-5


@pytest.mark.parametrize(("callback_seconds", "waiting_seconds"), [(0.005, 0.08), (0.03, 0.08), (0.075, 0.125)])
def test_what_waits_is_the_margin_or_what_a_callback_takes_and_what_it_leaves(
    callback_seconds: float, waiting_seconds: float
) -> None:
    feeder = Feeder(SOURCE_HZ, DEVICE_HZ, 2, margin_seconds=0.08, left_seconds=0.05)
    feeder.ring.read_into(np.zeros((round(callback_seconds * DEVICE_HZ), 2), np.float32))
    assert feeder.delay_seconds == pytest.approx(waiting_seconds, abs=1e-4)


@pytest.mark.parametrize("newest", range(6))
def test_callbacks_that_come_early_or_late_do_not_move_what_is_placed(newest: int) -> None:
    """A sound server asks for 30 ms each 25 ms and misses each sixth turn; by the newest alone it is 15 to 35 ms."""
    time = 0.0
    ring = ClockedRing(4 * DEVICE_HZ, 2, 1, lambda: time)
    for number in range(18 + newest):
        time += 0.05 if number % 6 == 0 else 0.025
        ring.read_into(np.zeros((1_440, 2), np.float32))
    even = 0.03 * (18 + newest)  # when an even device asks
    assert ring.next_read(DEVICE_HZ) - even == pytest.approx(0.028, abs=0.004)


def test_a_device_that_stood_still_is_where_its_newest_callback_says() -> None:
    time = 0.0
    ring = ClockedRing(4 * DEVICE_HZ, 2, 1, lambda: time)
    for seconds in [0.01] * 20 + [0.5]:
        time += seconds
        ring.read_into(np.zeros((480, 2), np.float32))
    assert ring.next_read(DEVICE_HZ) == pytest.approx(time + 0.01)


def test_a_device_is_filled_once_it_has_taken_its_latency_and_the_callback_that_plays() -> None:
    feeder = Feeder(SOURCE_HZ, DEVICE_HZ, 2, margin_seconds=0.05)
    feeder.device_latency_seconds = 0.3
    out, seen = np.zeros((round(0.075 * DEVICE_HZ), 2), np.float32), [feeder.device_filled]
    for _ in range(5):
        feeder.ring.read_into(out)
        seen.append(feeder.device_filled)
    assert seen == [False] * 5 + [True]
