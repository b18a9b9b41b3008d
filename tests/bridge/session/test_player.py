"""The session's engine side on a fake clock and a tiny real model: what is final, what is revoked, what is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

import streamgen
from bridge.session.commands import Action, AudioPrompt, Follow, Set, Transport
from bridge.session.events import (
    Changed,
    Notice,
    PlayerState,
    Transported,
)
from bridge.session.player import Player
from bridge.session.timeline import Moment, Timeline
from streamgen.checkpoint import GenerationDefaults
from streamgen.errors import ConfigError, PromptError, StreamgenError
from streamgen.testing import FakeModel, tiny_checkpoint

from .rig import BLOCK, FRAME, RATE_HZ, Rig, contiguous


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
    assert one.player.playback.underruns == 0
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


def test_another_prompt_begins_anew_where_nothing_survives_it(
    rig: Callable[..., Rig], tiny_model: streamgen.Model
) -> None:
    """Twin: a stream of its own. A knob turned at once after it rewinds to before it, and it lets go again."""
    one = rig(temperature=0.0, change_context_seconds=0.0)
    one.run(1.0)
    one.player.do(Set({"prompt/1/text": "rock"}, "test"))
    one.run(0.1)
    applied = one.player.do(Set({"guidance_scale": 2.0, "prompt/1/text": "jazz"}, "test"))
    one.run(1.5)
    tokens = one.stream._sound.tokens
    at = applied // FRAME
    assert tokens.windows[0].start_frame == at
    with tiny_model.open_stream("jazz", temperature=0.0, guidance_scale=2.0) as fresh:
        fresh.read(640 * 50)
        assert torch.equal(tokens.frames(at, at + 50), fresh._sound.tokens.frames(0, 50))
    assert contiguous(one.blocks())


def test_a_session_begins_with_what_its_checkpoint_lets_survive() -> None:
    model = FakeModel()
    model.defaults = GenerationDefaults(change_context_seconds=0.0)
    one = Rig(model)
    assert one.player.parameters.values["change_context_seconds"] == 0.0
    one.run(1.0)
    applied = one.player.do(Set({"prompt/1/text": "rock"}, "test"))
    one.run(0.5)
    assert one.stream._sound.tokens.windows[0].start_frame == applied // FRAME
    one.player.do(Set({"change_context_seconds": 30.0}, "test"))
    one.player.do(Set({"prompt/1/text": "jazz"}, "test", Moment(sample=applied + 64_000)))
    one.run(3.0)
    assert one.stream._sound.tokens.windows[0].start_frame == applied // FRAME
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
    values, lead = dict(one.player.parameters.values), one.player.playback.lead_seconds
    for wrong in ({"temperature": 99.0}, {"nonsense": 1}, {"prompt/1/text": "\x00"}, {"mute": "yes"}):
        with pytest.raises(StreamgenError):
            one.player.do(Set(wrong, "test"))
    with pytest.raises(ConfigError, match="there is no parameter 'nonsense'"):
        one.player.do(Set({"nonsense": 1}, "test"))
    assert one.player.parameters.values == values
    assert one.player.playback.lead_seconds == lead
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


def test_reset_begins_anew_and_says_so(rig: Callable[..., Rig]) -> None:
    one = rig()
    one.run(1.0)
    at = one.player.do(Transport(Action.RESET, "test"))
    one.run(1.0)
    jumps = [block.start_sample for block in one.blocks() if block.discontinuity]
    assert jumps == [at]
    assert contiguous(one.blocks())
    assert one.stream.position_samples < 3 * RATE_HZ


def test_a_session_begins_with_its_checkpoints_own_defaults_unless_told(tiny_model: streamgen.Model) -> None:
    player = Player(tiny_model, lambda _: None, Timeline(RATE_HZ), values={"temperature": 0.7})
    assert player.parameters.values["guidance_scale"] == tiny_model.defaults.guidance_scale
    assert player.parameters.table["guidance_scale"].default == tiny_model.defaults.guidance_scale
    assert player.parameters.values["temperature"] == 0.7
    player.close()


def test_the_transport_is_told_at_a_sample_and_at_a_time(rig: Callable[..., Rig]) -> None:
    one = rig()
    one.run(1.0)
    at = one.player.output.frontier + 24_000
    assert one.player.do(Transport(Action.PAUSE, "test", Moment(sample=at))) == at
    assert one.player.playback.state is PlayerState.PLAYING
    one.run(2.0)
    assert one.player.playback.state is PlayerState.PAUSED
    assert at <= one.player.output.position <= at + 2 * FRAME
    one.player.do(Transport(Action.PLAY, "test", Moment(unix_seconds=1e9 + one.time + 0.5)))
    one.run(0.4)
    assert one.player.playback.state is PlayerState.PAUSED
    one.run(0.4)
    assert one.player.playback.state is PlayerState.PLAYING


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
    assert one.player.playback.state is PlayerState.STARTING
    one.run(0.5)
    assert one.player.playback.state is PlayerState.PLAYING
    one.player.do(Transport(Action.PAUSE, "test"))
    one.player.do(Set({"temperature": 0.5}, "test"))
    assert one.player.playback.state is PlayerState.PAUSED
    codes = torch.zeros(4, 20, dtype=torch.int64)
    one.player.do(AudioPrompt(np.zeros((1, 100), np.float32), 32_000, "test", codes))
    assert one.player.playback.state is PlayerState.PAUSED, "an audio prompt does not press play"
    one.player.do(Transport(Action.STOP, "test"))
    assert one.player.playback.state is PlayerState.STOPPED
    one.player.do(Transport(Action.PLAY, "test"))
    one.run(0.5)
    assert one.player.playback.state is PlayerState.PLAYING
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
    assert one.player.playback.state is PlayerState.FAILED
    assert not one.player.playback.needs_audio
    one.run(0.5)
    one.player.do(Transport(Action.PLAY, "test"))
    one.run(0.5)
    assert one.player.playback.state is PlayerState.PLAYING
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


def test_an_audio_prompt_takes_the_place_of_what_the_session_began_with(tiny_model: streamgen.Model) -> None:
    began = {"audio_prompt": np.zeros(6_400, np.float32), "audio_prompt_rate_hz": 32_000}
    player = Player(tiny_model, lambda _: None, Timeline(RATE_HZ, lambda: 0.0, lambda: 0.0), options=began)
    codes = torch.ones(4, 20, dtype=torch.int64)
    player.do(AudioPrompt(np.zeros((1, 100), np.float32), 32_000, "test", codes))
    assert torch.equal(player.generator._stream._sound.tokens.frames(0, 15), codes[:, :15])
    player.close()


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


def test_what_the_checkpoint_was_not_made_for_is_told_once_it_leaves_its_default(rig: Callable[..., Rig]) -> None:
    one = rig()
    row = one.player.parameters.table["guidance_scale"]
    one.player.parameters.table["guidance_scale"] = replace(row, supported=False)
    for value in (row.default, 5.0, 6.0, row.default):
        one.player.do(Set({"guidance_scale": value}, "test"))
    notices = [(notice.topic, notice.text.split(":")[0][-14:]) for notice in one.events(Notice)]
    assert notices == [("unsupported", "guidance_scale")]
