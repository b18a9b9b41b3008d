"""The session's engine side on a fake clock and a tiny real model: what is final, what is revoked, what is told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np
import pytest
import torch

import streamgen
from bridge.session.messages import Block, Changed, Event, Gap, Meter, Set, Stats, Transport, Transported
from bridge.session.player import BLOCK_FRAMES, COMMIT_SECONDS, Performer
from streamgen.checkpoint import GenerationDefaults
from streamgen.errors import ConfigError, StreamgenError
from streamgen.testing import FakeModel, tiny_checkpoint

BLOCK = BLOCK_FRAMES * 640


class Rig:
    """A performer, its clock and everything it told."""

    def __init__(self, model: streamgen.Model, **values: float | str) -> None:
        self.time = 100.0
        self.told: list[Block | Event] = []
        start = {"prompt/1/text": "piano", "seed": 3, "lead_seconds": 1.0}
        self.performer = Performer(model, self.told.append, now=lambda: self.time, values={**start, **values})
        self.performer.wanted = True

    def run(self, seconds: float, *, make: bool = True, speed: float | None = None) -> None:
        """Let time pass in steps of 10 ms; making is instant, or costs time at a given speed."""
        end = self.time + seconds
        while self.time < end:
            self.performer.tick()
            if make and self.performer.hungry:
                self.performer.make()
                if speed is not None:
                    self.time += BLOCK / 32_000 / speed
                    self.performer._pace.factor = speed  # it saw an instant
            else:
                self.time += 0.01

    def blocks(self) -> list[Block]:
        return [item for item in self.told if isinstance(item, Block)]

    def events(self, kind: type) -> list:
        return [item for item in self.told if isinstance(item, kind)]

    def audio(self) -> np.ndarray:
        return np.concatenate([block.samples for block in self.blocks()], axis=1)


@pytest.fixture(scope="module")
def model() -> streamgen.Model:
    return streamgen.load_model(str(tiny_checkpoint("mono")), device="cpu", precision="fp32")


@pytest.fixture
def rig(model: streamgen.Model) -> Iterator[Callable[..., Rig]]:
    rigs: list[Rig] = []

    def make(**values: float | str) -> Rig:
        rigs.append(Rig(model, **values))
        return rigs[-1]

    yield make
    for each in rigs:
        each.performer.close()


def contiguous(blocks: list[Block]) -> bool:
    return all(a.end_sample == b.start_sample for a, b in pairwise(blocks))


def test_audio_is_committed_just_before_it_falls_due_and_made_ahead(rig: Callable[..., Rig]) -> None:
    one = rig()
    one.run(3.0)
    blocks = one.blocks()
    assert contiguous(blocks)
    assert blocks[0].start_sample == 0
    final = one.performer.committed / 32_000
    assert final == pytest.approx(3.0 + COMMIT_SECONDS, abs=0.15)
    assert one.performer.lead_seconds == pytest.approx(1.0 + COMMIT_SECONDS, abs=0.25)
    assert one.performer.underruns == 0
    assert one.audio().std() > 0.01


def test_a_change_takes_back_the_lead_and_lands_at_the_first_revocable_frame(rig: Callable[..., Rig]) -> None:
    plain, turned = rig(temperature=0.0), rig(temperature=0.0)
    plain.run(1.0)
    turned.run(1.0)
    before = turned.performer.committed
    applied = turned.performer.do(Set({"temperature": 4.0}, "test"))
    assert before <= applied <= before + 10 * 640, "three delayed frames and the codec's look-ahead"
    plain.run(1.5)
    turned.run(1.5)
    assert contiguous(turned.blocks())
    length = min(plain.audio().shape[1], turned.audio().shape[1])
    difference = np.abs(plain.audio()[:, :length] - turned.audio()[:, :length]).max(axis=0)
    latency = turned.performer.output.latency_samples
    assert difference[: before + latency].max() < 1e-6, "what was final stays"
    assert difference[applied + latency :].max() > 1e-2, "the change is heard"
    changed = turned.events(Changed)
    assert (dict(changed[0].values), changed[0].by, changed[0].applied_at_sample) == (
        {"temperature": 4.0},
        "test",
        applied,
    )


def test_a_change_ahead_lands_within_a_frame_and_delays_nothing(rig: Callable[..., Rig]) -> None:
    one = rig(temperature=0.0)
    one.run(1.0)
    applied = one.performer.do(Set({"guidance_scale": 1.0}, "test", at_sample=90_000))
    assert 90_000 <= applied < 90_000 + 640
    one.run(2.5)
    assert one.performer.underruns == 0
    assert contiguous(one.blocks())
    assert one.performer._stream.controls.guidance_scale == 1.0


def test_a_scheduled_change_survives_an_earlier_one(rig: Callable[..., Rig]) -> None:
    one = rig(temperature=0.0)
    one.run(0.5)
    one.performer.do(Set({"top_k": 7}, "a", at_sample=96_000))
    one.run(0.2)
    one.performer.do(Set({"guidance_scale": 2.0}, "b"))
    one.run(0.5)
    assert one.performer._stream.controls.guidance_scale == 2.0
    one.run(3.0)
    assert one.performer._stream.controls.top_k == 7


def test_the_block_from_which_other_prompts_play_says_so(rig: Callable[..., Rig]) -> None:
    one = rig()
    one.run(0.5)
    applied = [
        one.performer.do(Set({"prompt/1/text": "strings"}, "test", at_sample=64_000)),
        one.performer.do(Set({"temperature": 0.5}, "test", at_sample=80_000)),
        one.performer.do(Set({"negative_prompt": "drums"}, "test")),
        one.performer.do(Set({"tempo": 90.0}, "test")),
    ]
    one.run(2.5)
    turns = [block for block in one.blocks() if block.prompt_change]
    for block, at in zip(turns, [applied[3], applied[0]], strict=True):
        assert block.start_sample <= at < block.end_sample
    assert 64_000 <= applied[0] < 64_640


def test_another_prompt_begins_anew_where_nothing_survives_it(rig: Callable[..., Rig], model: streamgen.Model) -> None:
    """Twin: a stream of its own. A knob turned at once after it rewinds to before it, and it lets go again."""
    one = rig(temperature=0.0, change_context_seconds=0.0)
    one.run(1.0)
    one.performer.do(Set({"prompt/1/text": "rock"}, "test"))
    one.run(0.1)
    applied = one.performer.do(Set({"guidance_scale": 2.0, "prompt/1/text": "jazz"}, "test"))
    one.run(1.5)
    tokens = one.performer._stream._tokens
    at = applied // 640
    assert tokens.windows[0].start_frame == at
    with model.open_stream("jazz", temperature=0.0, guidance_scale=2.0) as fresh:
        fresh.read(640 * 50)
        assert torch.equal(tokens.frames(at, at + 50), fresh._tokens.frames(0, 50))
    assert contiguous(one.blocks())


def test_a_session_begins_with_what_its_checkpoint_lets_survive() -> None:
    model = FakeModel()
    model.defaults = GenerationDefaults(change_context_seconds=0.0)
    one = Rig(model)
    assert one.performer.values["change_context_seconds"] == 0.0
    one.run(1.0)
    applied = one.performer.do(Set({"prompt/1/text": "rock"}, "test"))
    one.run(0.5)
    assert one.performer._stream._tokens.windows[0].start_frame == applied // 640
    one.performer.do(Set({"change_context_seconds": 30.0}, "test"))
    one.performer.do(Set({"prompt/1/text": "jazz"}, "test", at_sample=applied + 64_000))
    one.run(3.0)
    assert one.performer._stream._tokens.windows[0].start_frame == applied // 640
    one.performer.close()


def test_a_reset_plays_the_prompts_that_were_still_to_come(rig: Callable[..., Rig]) -> None:
    one = rig()
    one.run(0.5)
    one.performer.do(Set({"prompt/1/text": "strings"}, "test", at_sample=320_000))
    at = one.performer.do(Transport("reset", "test"))
    one.run(0.5)
    (turn,) = [block for block in one.blocks() if block.prompt_change]
    assert turn.discontinuity
    assert turn.start_sample == at


def test_output_gain_is_cut_at_its_sample(rig: Callable[..., Rig]) -> None:
    one = rig()
    one.run(0.5)
    at = one.performer.committed + 2 * BLOCK + 777
    assert one.performer.do(Set({"mute": True}, "test", at_sample=at)) == at
    one.run(1.5)
    audio, latency = one.audio(), one.performer.output.latency_samples
    assert np.abs(audio[:, at + latency - 3200 : at + latency - 1]).max() > 1e-3
    assert np.abs(audio[:, at + latency + 9600 :]).max() < 1e-4


def test_a_wrong_value_changes_nothing(rig: Callable[..., Rig]) -> None:
    one = rig()
    one.run(0.5)
    values, lead = dict(one.performer.values), one.performer.lead_seconds
    for wrong in ({"temperature": 99.0}, {"nonsense": 1}, {"prompt/1/text": "\x00"}, {"mute": "yes"}):
        with pytest.raises(StreamgenError):
            one.performer.do(Set(wrong, "test"))
    with pytest.raises(ConfigError, match="there is no parameter 'nonsense'"):
        one.performer.do(Set({"nonsense": 1}, "test"))
    assert one.performer.values == values
    assert one.performer.lead_seconds == lead
    assert not one.events(Changed)


def test_a_context_that_short_windows_have_no_room_for_is_refused_at_every_door() -> None:
    """WebSocket, OSC and the page all come through here; the limit is in the one line they are told."""
    one = Rig(FakeModel(max_positions=753))
    one.run(0.5)
    for at_sample in (None, 64_000):
        with pytest.raises(ConfigError, match=r"^context_seconds is 12, must be at most 7\.52 s: "):
            one.performer.do(Set({"context_seconds": 12.0}, "test", at_sample=at_sample))
    assert one.performer.values["context_seconds"] == 7.52
    assert not one.events(Changed)
    one.performer.do(Set({"context_seconds": 5.0}, "test"))
    one.run(0.5)
    assert one.performer.values["context_seconds"] == one.performer._stream.controls.context_seconds == 5.0
    one.performer.close()


def test_nobody_listening_stops_the_clock_and_keeps_the_lead(rig: Callable[..., Rig]) -> None:
    one = rig()
    one.run(1.0)
    one.performer.wanted = False
    one.run(5.0)
    stopped = one.performer.committed
    one.run(5.0)
    assert one.performer.committed == stopped
    one.performer.wanted = True
    count = len(one.blocks())
    one.performer.tick()
    one.performer.tick()
    assert len(one.blocks()) > count, "the first block comes at once"
    one.run(1.0)
    assert contiguous(one.blocks())
    assert one.performer.underruns == 0


def test_pause_fades_out_and_play_fades_in(rig: Callable[..., Rig]) -> None:
    one = rig()
    one.run(1.0)
    one.performer.do(Transport("pause", "test"))
    one.run(1.0)
    held = one.performer.committed
    one.performer.do(Transport("play", "test"))
    one.run(1.0)
    audio, at = one.audio(), held + one.performer.output.latency_samples
    edge = np.abs(np.diff(audio[0, at - 5 : at + 5])).max()
    assert edge < 0.02, "no click where the music was cut"
    assert contiguous(one.blocks())
    assert [event.action for event in one.events(Transported)] == ["pause", "play"]


def test_reset_begins_anew_and_says_so(rig: Callable[..., Rig]) -> None:
    one = rig()
    one.run(1.0)
    at = one.performer.do(Transport("reset", "test"))
    one.run(1.0)
    jumps = [block.start_sample for block in one.blocks() if block.discontinuity]
    assert jumps == [at]
    assert contiguous(one.blocks())
    assert one.performer._stream.position_samples < 3 * 32_000


def test_the_first_sound_waits_until_a_stall_would_be_borne(rig: Callable[..., Rig]) -> None:
    one = rig()
    while not one.performer._clock.running:
        assert one.blocks() == []
        one.performer.make()
        one.performer.tick()
    one.time += 0.28  # whatever else starts just then
    one.performer.tick()
    assert one.performer.underruns == 0


def test_a_slow_engine_pauses_for_a_full_lead_instead_of_stuttering(rig: Callable[..., Rig]) -> None:
    one = rig()
    one.run(20.0, speed=0.5)
    gaps = one.events(Gap)
    assert one.performer.underruns >= 3
    assert all(gap.reason == "underrun" for gap in gaps)
    assert min(gap.samples for gap in gaps) > 0.3 * 32_000, gaps
    assert len(gaps) <= 20, "long pauses, few of them"
    assert contiguous(one.blocks())


def test_turning_a_knob_all_the_time_starves_nobody_even_after_an_underrun(rig: Callable[..., Rig]) -> None:
    one = rig(lead_seconds=2.0)
    one.run(1.0)
    one.time += 3.0  # the machine was away
    for turn in range(60):
        one.performer.do(Set({"guidance_scale": 1.0 + turn / 60}, "knob"))
        one.run(0.05, speed=2.0)
    assert one.performer.underruns == 1
    assert contiguous(one.blocks())
    assert one.performer.committed > 3.5 * 32_000
    assert one.performer._stream.controls.guidance_scale > 1.9


def test_a_knob_in_motion_makes_the_engine_work_no_faster_than_the_music(rig: Callable[..., Rig]) -> None:
    one = rig(lead_seconds=2.0)
    one.run(1.0)
    one.performer.do(Set({"guidance_scale": 1.0}, "knob"))
    one.run(0.05, speed=2.0)
    drawn, began = one.performer._stream.metrics.steps, one.performer._clock.due()
    applied = []
    for turn in range(60):
        due = one.performer._clock.due()
        applied.append((one.performer.do(Set({"guidance_scale": 1.0 + turn / 60}, "knob")) - due) / 32_000)
        one.run(0.05, speed=2.0)
    played = (one.performer._clock.due() - began) / 640
    assert one.performer._stream.metrics.steps - drawn < 1.2 * played, "hardly a frame was drawn twice"
    assert 0.3 < min(applied) <= max(applied) < 0.9, "seconds from due to where a turn is heard"
    assert one.performer.underruns == 0
    one.run(2.0, speed=2.0)
    assert one.performer.lead_seconds > 1.8, "the hand is away: the lead grows again"


def test_a_session_begins_with_its_checkpoints_own_defaults_unless_told(model: streamgen.Model) -> None:
    performer = Performer(model, lambda _: None, values={"temperature": 0.7})
    assert performer.values["guidance_scale"] == model.defaults.guidance_scale
    assert performer.values["temperature"] == 0.7
    performer.close()


def test_meters_and_stats_are_told(rig: Callable[..., Rig]) -> None:
    one = rig()
    one.run(3.0)
    meters, stats = one.events(Meter), one.events(Stats)
    assert len(meters) == len(one.blocks())
    assert all(-120 <= meter.left_db <= 0 for meter in meters)
    assert 2 <= len(stats) <= 4
    assert stats[-1].lead_seconds > 0.8
    assert stats[-1].playing
