"""The session's engine side on a fake clock and a tiny real model: what is final, what is revoked, what is told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np
import pytest
import torch

import streamgen
from bridge.audio.output import Output
from bridge.session.generator import BLOCK_FRAMES
from bridge.session.messages import (
    Action,
    AudioPrompt,
    Block,
    Changed,
    Event,
    Follow,
    Gap,
    Meter,
    Notice,
    PlayerState,
    Set,
    Stats,
    Transport,
    Transported,
)
from bridge.session.player import COMMIT_SECONDS, Player
from bridge.session.timeline import Moment, Timeline
from streamgen.checkpoint import GenerationDefaults
from streamgen.errors import ConfigError, PromptError, StreamgenError
from streamgen.testing import FakeModel, tiny_checkpoint
from streamgen.testing.fake import fake_pitch_hz

RATE_HZ, FRAME = 48_000, 960
BLOCK = BLOCK_FRAMES * FRAME


class Rig:
    """A player, its clock and everything it told."""

    def __init__(self, model: streamgen.Model, rate_hz: int = RATE_HZ, **values: float | str) -> None:
        self.time = 100.0
        self.told: list[Block | Event] = []
        start = {"prompt/1/text": "piano", "seed": 3, "lead_seconds": 1.0}
        self.timeline = Timeline(rate_hz, lambda: self.time, lambda: 1e9 + self.time)
        self.player = Player(model, self.told.append, self.timeline, values={**start, **values})
        self.player.wanted = True

    def run(self, seconds: float, *, make: bool = True, speed: float | None = None) -> None:
        """Let time pass in steps of 10 ms; making is instant, or costs time at a given speed."""
        end = self.time + seconds
        while self.time < end:
            self.player.tick()
            if make and self.player.needs_audio:
                self.player.make()
                if speed is not None:
                    self.time += BLOCK / RATE_HZ / speed
                    self.player.generator.pace.factor = speed  # it saw an instant
            else:
                self.time += 0.01

    @property
    def stream(self) -> streamgen.Stream:
        return self.player.generator._stream

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
        each.player.close()


def contiguous(blocks: list[Block]) -> bool:
    return all(a.end_sample == b.start_sample for a, b in pairwise(blocks))


def test_audio_is_committed_just_before_it_falls_due_and_made_ahead(rig: Callable[..., Rig]) -> None:
    one = rig()
    one.run(3.0)
    blocks = one.blocks()
    assert contiguous(blocks)
    assert blocks[0].start_sample == 0
    final = one.player.output.position / RATE_HZ
    assert final == pytest.approx(3.0, abs=0.05), "due a commit lead after it was first committed"
    assert final - one.timeline.due() / RATE_HZ == pytest.approx(COMMIT_SECONDS, abs=0.06)
    assert one.player.lead_seconds == pytest.approx(1.0 + COMMIT_SECONDS, abs=0.25)
    assert one.player.underruns == 0
    assert one.audio().std() > 0.01


def test_a_change_takes_back_the_lead_and_lands_at_the_first_revocable_frame(rig: Callable[..., Rig]) -> None:
    plain, turned = rig(temperature=0.0), rig(temperature=0.0)
    plain.run(1.0)
    turned.run(1.0)
    before = turned.player.output.frontier
    applied = turned.player.do(Set({"temperature": 4.0}, "test"))
    assert before <= applied <= before + 10 * FRAME, "three delayed frames and the codec's look-ahead"
    plain.run(1.5)
    turned.run(1.5)
    assert contiguous(turned.blocks())
    length = min(plain.audio().shape[1], turned.audio().shape[1])
    difference = np.abs(plain.audio()[:, :length] - turned.audio()[:, :length]).max(axis=0)
    assert difference[: before - 1_200].max() < 1e-6, "what was final stays, but for what the resampler rings ahead"
    assert difference[applied:].max() > 1e-2, "the change is heard"
    changed = turned.events(Changed)
    assert (dict(changed[0].values), changed[0].by, changed[0].applied_at_sample) == (
        {"temperature": 4.0},
        "test",
        applied,
    )


def test_a_change_ahead_lands_within_a_frame_and_delays_nothing(rig: Callable[..., Rig]) -> None:
    one = rig(temperature=0.0)
    one.run(1.0)
    applied = one.player.do(Set({"guidance_scale": 1.0}, "test", Moment(sample=90_000)))
    assert 90_000 <= applied < 90_000 + FRAME
    one.run(2.5)
    assert one.player.underruns == 0
    assert contiguous(one.blocks())
    assert one.stream.controls.guidance_scale == 1.0


def test_a_scheduled_change_survives_an_earlier_one(rig: Callable[..., Rig]) -> None:
    one = rig(temperature=0.0)
    one.run(0.5)
    one.player.do(Set({"top_k": 7}, "a", Moment(sample=96_000)))
    one.run(0.2)
    one.player.do(Set({"guidance_scale": 2.0}, "b"))
    one.run(0.5)
    assert one.stream.controls.guidance_scale == 2.0
    one.run(3.0)
    assert one.stream.controls.top_k == 7


def test_the_block_from_which_other_prompts_play_says_so(rig: Callable[..., Rig]) -> None:
    one = rig()
    one.run(0.5)
    applied = [
        one.player.do(Set({"prompt/1/text": "strings"}, "test", Moment(sample=64_000))),
        one.player.do(Set({"temperature": 0.5}, "test", Moment(sample=80_000))),
        one.player.do(Set({"negative_prompt": "drums"}, "test")),
        one.player.do(Set({"tempo": 90.0}, "test")),
    ]
    one.run(2.5)
    turns = [block for block in one.blocks() if block.prompt_change]
    for block, at in zip(turns, [applied[3], applied[0]], strict=True):
        assert block.start_sample <= at < block.end_sample
    assert 64_000 <= applied[0] < 64_000 + FRAME


def test_another_prompt_begins_anew_where_nothing_survives_it(rig: Callable[..., Rig], model: streamgen.Model) -> None:
    """Twin: a stream of its own. A knob turned at once after it rewinds to before it, and it lets go again."""
    one = rig(temperature=0.0, change_context_seconds=0.0)
    one.run(1.0)
    one.player.do(Set({"prompt/1/text": "rock"}, "test"))
    one.run(0.1)
    applied = one.player.do(Set({"guidance_scale": 2.0, "prompt/1/text": "jazz"}, "test"))
    one.run(1.5)
    tokens = one.stream._tokens
    at = applied // FRAME
    assert tokens.windows[0].start_frame == at
    with model.open_stream("jazz", temperature=0.0, guidance_scale=2.0) as fresh:
        fresh.read(640 * 50)
        assert torch.equal(tokens.frames(at, at + 50), fresh._tokens.frames(0, 50))
    assert contiguous(one.blocks())


def test_a_session_begins_with_what_its_checkpoint_lets_survive() -> None:
    model = FakeModel()
    model.defaults = GenerationDefaults(change_context_seconds=0.0)
    one = Rig(model)
    assert one.player.parameters.values["change_context_seconds"] == 0.0
    one.run(1.0)
    applied = one.player.do(Set({"prompt/1/text": "rock"}, "test"))
    one.run(0.5)
    assert one.stream._tokens.windows[0].start_frame == applied // FRAME
    one.player.do(Set({"change_context_seconds": 30.0}, "test"))
    one.player.do(Set({"prompt/1/text": "jazz"}, "test", Moment(sample=applied + 64_000)))
    one.run(3.0)
    assert one.stream._tokens.windows[0].start_frame == applied // FRAME
    one.player.close()


def test_a_reset_plays_the_prompts_that_were_still_to_come(rig: Callable[..., Rig]) -> None:
    one = rig()
    one.run(0.5)
    one.player.do(Set({"prompt/1/text": "strings"}, "test", Moment(sample=320_000)))
    at = one.player.do(Transport(Action.RESET, "test"))
    one.run(0.5)
    (turn,) = [block for block in one.blocks() if block.prompt_change]
    assert turn.discontinuity
    assert turn.start_sample == at


def test_output_gain_is_cut_at_its_sample(rig: Callable[..., Rig]) -> None:
    one = rig()
    one.run(0.5)
    at = one.player.output.position + 2 * BLOCK + 777
    assert one.player.do(Set({"mute": True}, "test", Moment(sample=at))) == at
    one.run(1.5)
    audio = one.audio()
    assert np.abs(audio[:, at - 3200 : at - 1]).max() > 1e-3
    assert np.abs(audio[:, at + 9600 :]).max() < 1e-4


def test_a_wrong_value_changes_nothing(rig: Callable[..., Rig]) -> None:
    one = rig()
    one.run(0.5)
    values, lead = dict(one.player.parameters.values), one.player.lead_seconds
    for wrong in ({"temperature": 99.0}, {"nonsense": 1}, {"prompt/1/text": "\x00"}, {"mute": "yes"}):
        with pytest.raises(StreamgenError):
            one.player.do(Set(wrong, "test"))
    with pytest.raises(ConfigError, match="there is no parameter 'nonsense'"):
        one.player.do(Set({"nonsense": 1}, "test"))
    assert one.player.parameters.values == values
    assert one.player.lead_seconds == lead
    assert not one.events(Changed)


def test_a_context_that_short_windows_have_no_room_for_is_refused_at_every_door() -> None:
    """WebSocket, OSC and the page all come through here; the limit is in the one line they are told."""
    one = Rig(FakeModel(max_positions=753))
    one.run(0.5)
    for at in (None, Moment(sample=64_000)):
        with pytest.raises(ConfigError, match=r"^context_seconds is 12\.0, must be within 0\.02 … 7\.52 s$"):
            one.player.do(Set({"context_seconds": 12.0}, "test", at))
    assert one.player.parameters.values["context_seconds"] == 7.52
    assert not one.events(Changed)
    one.player.do(Set({"context_seconds": 5.0}, "test"))
    one.run(0.5)
    assert one.player.parameters.values["context_seconds"] == one.stream.controls.context_seconds == 5.0
    one.player.close()


def test_nobody_listening_stops_the_clock_and_keeps_the_lead(rig: Callable[..., Rig]) -> None:
    one = rig()
    one.run(1.0)
    one.player.wanted = False
    one.run(5.0)
    stopped = one.player.output.position
    one.run(5.0)
    assert one.player.output.position == stopped
    one.player.wanted = True
    count = len(one.blocks())
    one.player.tick()
    one.player.tick()
    assert len(one.blocks()) > count, "the first block comes at once"
    one.run(1.0)
    assert contiguous(one.blocks())
    assert one.player.underruns == 0


def test_pause_fades_out_and_play_fades_in(rig: Callable[..., Rig]) -> None:
    one = rig()
    one.run(1.0)
    one.player.do(Transport(Action.PAUSE, "test"))
    one.run(1.0)
    held = one.player.output.position
    one.player.do(Transport(Action.PLAY, "test"))
    one.run(1.0)
    audio, at = one.audio(), held
    edge = np.abs(np.diff(audio[0, at - 5 : at + 5])).max()
    assert edge < 0.02, "no click where the music was cut"
    assert contiguous(one.blocks())
    assert [event.action for event in one.events(Transported)] == ["pause", "play"]


def test_reset_begins_anew_and_says_so(rig: Callable[..., Rig]) -> None:
    one = rig()
    one.run(1.0)
    at = one.player.do(Transport(Action.RESET, "test"))
    one.run(1.0)
    jumps = [block.start_sample for block in one.blocks() if block.discontinuity]
    assert jumps == [at]
    assert contiguous(one.blocks())
    assert one.stream.position_samples < 3 * RATE_HZ


def test_the_first_sound_waits_until_a_stall_would_be_borne(rig: Callable[..., Rig]) -> None:
    one = rig()
    while not one.timeline.running:
        assert one.blocks() == []
        one.player.make()
        one.player.tick()
    one.time += 0.28  # whatever else starts just then
    one.player.tick()
    assert one.player.underruns == 0


def test_a_slow_engine_pauses_for_a_full_lead_instead_of_stuttering(rig: Callable[..., Rig]) -> None:
    one = rig()
    one.run(20.0, speed=0.5)
    gaps = one.events(Gap)
    assert one.player.underruns >= 3
    assert all(gap.reason == "underrun" for gap in gaps)
    assert min(gap.samples for gap in gaps) > 0.3 * RATE_HZ, gaps
    assert len(gaps) <= 20, "long pauses, few of them"
    assert contiguous(one.blocks())


def test_turning_a_knob_all_the_time_starves_nobody_even_after_an_underrun(rig: Callable[..., Rig]) -> None:
    one = rig(lead_seconds=2.0)
    one.run(1.0)
    one.time += 3.0  # the machine was away
    for turn in range(60):
        one.player.do(Set({"guidance_scale": 1.0 + turn / 60}, "knob"))
        one.run(0.05, speed=2.0)
    assert one.player.underruns == 1
    assert contiguous(one.blocks())
    assert one.player.output.position > 3.5 * RATE_HZ
    assert one.stream.controls.guidance_scale > 1.9


def test_a_knob_in_motion_makes_the_engine_work_no_faster_than_the_music(rig: Callable[..., Rig]) -> None:
    one = rig(lead_seconds=2.0)
    one.run(1.0)
    one.player.do(Set({"guidance_scale": 1.0}, "knob"))
    one.run(0.05, speed=2.0)
    drawn, began = one.stream.metrics.steps, one.timeline.due()
    applied = []
    for turn in range(60):
        due = one.timeline.due()
        applied.append((one.player.do(Set({"guidance_scale": 1.0 + turn / 60}, "knob")) - due) / RATE_HZ)
        one.run(0.05, speed=2.0)
    played = (one.timeline.due() - began) / FRAME
    assert one.stream.metrics.steps - drawn < 1.2 * played, "hardly a frame was drawn twice"
    assert 0.3 < min(applied) <= max(applied) < 0.9, "seconds from due to where a turn is heard"
    assert one.player.underruns == 0
    one.run(2.0, speed=2.0)
    assert one.player.lead_seconds > 1.8, "the hand is away: the lead grows again"


def test_a_session_begins_with_its_checkpoints_own_defaults_unless_told(model: streamgen.Model) -> None:
    player = Player(model, lambda _: None, Timeline(RATE_HZ), values={"temperature": 0.7})
    assert player.parameters.values["guidance_scale"] == model.defaults.guidance_scale
    assert player.parameters.table["guidance_scale"].default == model.defaults.guidance_scale
    assert player.parameters.values["temperature"] == 0.7
    player.close()


def test_meters_and_stats_are_told(rig: Callable[..., Rig]) -> None:
    one = rig()
    one.run(3.0)
    meters, stats = one.events(Meter), one.events(Stats)
    assert len(meters) == len(one.blocks())
    assert all(-120 <= meter.left_db <= 0 for meter in meters)
    assert 2 <= len(stats) <= 4
    assert stats[-1].lead_seconds > 0.8
    assert stats[-1].playing


# -- rates, labels, schedules, states ----------------------------------------------------------------------------------


@pytest.mark.parametrize("rate_hz", [32_000, 44_100, 48_000, 96_000])
def test_sample_p_is_the_music_of_position_p_at_every_rate_through_pauses_and_resets(rate_hz: int) -> None:
    """FakeModel's sound is a formula of the position: what is told must lie on it to the sample, limiter and all."""
    one = Rig(FakeModel(), rate_hz)
    one.run(1.0)
    one.player.do(Transport(Action.PAUSE, "test"))
    paused = one.player.output.position
    one.run(0.3)
    one.player.do(Transport(Action.PLAY, "test"))
    one.run(1.0)
    reset = one.player.do(Transport(Action.RESET, "test"))
    one.run(1.0)
    assert contiguous(one.blocks())
    audio, at = one.audio(), np.arange(one.player.output.position)
    expected = 0.25 * np.sin(2 * np.pi * fake_pitch_hz("piano") * np.where(at < reset, at, at - reset) / rate_hz)
    fade = round(0.05 * rate_hz)
    steady = np.ones(len(at), bool)
    for edge in (0, paused, reset, len(at)):
        steady[max(0, edge - fade) : edge + fade] = False
    assert np.abs(audio - expected)[:, steady].max() < 2e-4 if rate_hz == 44_100 else 1e-6
    one.player.close()


def test_the_session_is_the_models_audio_resampled_as_a_whole() -> None:
    """Twin: soxr over all of it at once, then the limiter."""
    one, plain = Rig(FakeModel()), Rig(FakeModel(), 32_000)
    one.run(2.0)
    plain.run(2.0)
    output = Output(32_000, RATE_HZ, 1, 1 << 20)
    whole = np.concatenate((output.process(plain.audio()), output.finish(np.zeros((2, 0), np.float32))), axis=1)
    length = min(whole.shape[1], one.audio().shape[1]) - 2_000
    assert np.abs(one.audio()[:, :length] - whole[:, :length]).max() < 1e-6


def test_mute_is_heard_soon_whatever_the_lead() -> None:
    one = Rig(FakeModel(), lead_seconds=8.0)
    one.run(1.0)
    one.run(8.0)
    delays = []
    for turn in range(20):
        due = one.timeline.due()
        delays.append((one.player.do(Set({"mute": turn % 2 == 0}, "knob")) - due) / RATE_HZ)
        one.run(0.13)
    assert sorted(delays)[10] <= COMMIT_SECONDS + 0.04
    one.player.close()


def test_the_transport_is_told_at_a_sample_and_at_a_time(rig: Callable[..., Rig]) -> None:
    one = rig()
    one.run(1.0)
    at = one.player.output.frontier + 24_000
    assert one.player.do(Transport(Action.PAUSE, "test", Moment(sample=at))) == at
    assert one.player.state is PlayerState.PLAYING
    one.run(2.0)
    assert one.player.state is PlayerState.PAUSED
    assert at <= one.player.output.position <= at + 2 * FRAME
    one.player.do(Transport(Action.PLAY, "test", Moment(unix_seconds=1e9 + one.time + 0.5)))
    one.run(0.4)
    assert one.player.state is PlayerState.PAUSED
    one.run(0.4)
    assert one.player.state is PlayerState.PLAYING


def test_a_change_at_a_time_lands_at_its_sample_and_waits_while_the_clock_stands(rig: Callable[..., Rig]) -> None:
    one = rig()
    one.run(1.0)
    expected = one.timeline.due() + 0.8 * RATE_HZ
    moment = Moment(unix_seconds=one.timeline.wall() + 0.8)
    applied = one.player.do(Set({"mute": True}, "test", moment))
    assert abs(applied - expected) <= 1
    one.player.do(Transport(Action.PAUSE, "test"))
    one.player.do(Set({"temperature": 0.3}, "test", Moment(unix_seconds=one.timeline.wall() + 1.0)))
    one.run(0.9)
    assert one.player.parameters.values["temperature"] != 0.3
    one.run(0.3)
    assert one.player.parameters.values["temperature"] == 0.3


def test_states_are_what_a_button_shows(rig: Callable[..., Rig]) -> None:
    one = rig()
    assert one.player.state is PlayerState.STARTING
    one.run(0.5)
    assert one.player.state is PlayerState.PLAYING
    one.player.do(Transport(Action.PAUSE, "test"))
    one.player.do(Set({"temperature": 0.5}, "test"))
    assert one.player.state is PlayerState.PAUSED
    codes = torch.zeros(4, 20, dtype=torch.int64)
    one.player.do(AudioPrompt(np.zeros((1, 100), np.float32), 32_000, "test", codes))
    assert one.player.state is PlayerState.PAUSED, "an audio prompt does not press play"
    one.player.do(Transport(Action.STOP, "test"))
    assert one.player.state is PlayerState.STOPPED
    one.player.do(Transport(Action.PLAY, "test"))
    one.run(0.5)
    assert one.player.state is PlayerState.PLAYING
    told = [(event.action, event.state) for event in one.events(Transported)]
    assert told == [
        ("pause", PlayerState.PAUSED),
        ("audio_prompt", PlayerState.PAUSED),
        ("stop", PlayerState.STOPPED),
        ("play", PlayerState.STARTING),
    ]


def test_a_player_that_fails_is_paused_and_the_next_command_tries_again(rig: Callable[..., Rig]) -> None:
    one = rig()
    one.run(0.5)
    one.player.fail("no rows are left")
    assert one.player.state is PlayerState.FAILED
    assert not one.player.needs_audio
    one.run(0.5)
    one.player.do(Transport(Action.PLAY, "test"))
    one.run(0.5)
    assert one.player.state is PlayerState.PLAYING
    assert (one.events(Transported)[0].by, one.events(Transported)[0].state) == (
        "engine: no rows are left",
        PlayerState.FAILED,
    )


def test_a_text_is_checked_where_it_is_written_though_its_slot_is_silent(rig: Callable[..., Rig]) -> None:
    player = rig().player
    with pytest.raises(PromptError, match="control character"):
        player.do(Set({"prompt/3/text": "pi\x00ano", "prompt/3/weight": 0.0}, "me"))
    assert player.parameters.values["prompt/3/text"] == ""
    player.do(Set({"prompt/3/text": ""}, "me"))


def test_a_melody_lands_at_its_sample_and_fresh_streams_follow_it() -> None:
    model = streamgen.load_model(str(tiny_checkpoint("melody")), device="cpu", precision="fp32")
    tune = model.melody(np.sin(2 * np.pi * 440 * np.arange(32_000) / 32_000), 32_000)
    one = Rig(model, context_seconds=1.0)
    one.run(0.5)
    at = one.player.output.frontier + RATE_HZ // 2
    applied = one.player.do(Follow("melody", None, 0, "test", Moment(sample=at), tune))
    assert 0 <= applied - at < RATE_HZ * 0.021, "to a frame"
    assert one.stream.controls.melody is None
    one.run(1.0)
    assert one.stream.controls.melody is not None
    assert torch.equal(one.stream.controls.melody.samples, tune.samples)
    assert [(event.topic, event.text) for event in one.events(Notice)][-1] == ("melody", "another melody")
    one.player.do(Transport(Action.RESET, "test"))
    assert one.stream.controls.melody is tune, "what is opened anew follows it from its beginning"
    one.player.do(Follow("melody", None, 0, "test"))
    one.run(0.5)
    assert one.stream.controls.melody is None
    one.player.close()
