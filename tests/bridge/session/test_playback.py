"""What keeps a session's time, on a fake clock: when it starts, waits and stands, what is ahead, what is final."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import streamgen
from bridge.audio.effect import ParameterChange, Pcm
from bridge.audio.master import LOUDNESS
from bridge.audio.output import OutputPath
from bridge.session.commands import Action, Set, Transport
from bridge.session.events import (
    COMMIT_SECONDS,
    Gap,
    Meter,
    Stats,
    Transported,
)
from streamgen.checkpoint import Heard
from streamgen.testing import FakeModel
from streamgen.testing.fake import fake_pitch_hz

from .rig import BLOCK, FRAME, RATE_HZ, Rig, bars_of_a_second, contiguous


def test_audio_is_committed_just_before_it_falls_due_and_made_ahead(rig: Callable[..., Rig]) -> None:
    one = rig()
    one.run(3.0)
    blocks = one.blocks()
    assert contiguous(blocks)
    assert blocks[0].start_sample == 0
    final = one.player.output.position / RATE_HZ
    assert final == pytest.approx(3.0, abs=0.05), "due a commit lead after it was first committed"
    assert final - one.timeline.due() / RATE_HZ == pytest.approx(COMMIT_SECONDS, abs=0.06)
    assert one.player.playback.lead_seconds == pytest.approx(1.0 + COMMIT_SECONDS, abs=0.25)
    assert one.player.playback.underruns == 0
    assert one.audio().std() > 0.01


def test_nobody_listening_stops_the_clock_and_keeps_the_lead(rig: Callable[..., Rig]) -> None:
    one = rig()
    one.run(1.0)
    one.player.playback.wanted = False
    one.run(5.0)
    stopped = one.player.output.position
    one.run(5.0)
    assert one.player.output.position == stopped
    one.player.playback.wanted = True
    count = len(one.blocks())
    one.player.tick()
    one.player.tick()
    assert len(one.blocks()) > count, "the first block comes at once"
    one.run(1.0)
    assert contiguous(one.blocks())
    assert one.player.playback.underruns == 0


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


def test_the_first_sound_waits_until_a_stall_would_be_borne(rig: Callable[..., Rig]) -> None:
    one = rig()
    while not one.timeline.running:
        assert one.blocks() == []
        one.player.make()
        one.player.tick()
    one.time += 0.28  # whatever else starts just then
    one.player.tick()
    assert one.player.playback.underruns == 0


def test_a_slow_engine_pauses_for_a_full_lead_instead_of_stuttering(rig: Callable[..., Rig]) -> None:
    one = rig()
    one.run(20.0, speed=0.5)
    gaps = one.events(Gap)
    assert one.player.playback.underruns >= 3
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
    assert one.player.playback.underruns == 1
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
    assert one.player.playback.underruns == 0
    one.run(2.0, speed=2.0)
    assert one.player.playback.lead_seconds > 1.8, "the hand is away: the lead grows again"


def test_meters_and_stats_are_told(rig: Callable[..., Rig]) -> None:
    one = rig()
    one.run(3.0)
    meters, stats = one.events(Meter), one.events(Stats)
    assert len(meters) == len(one.blocks())
    assert all(-120 <= meter.left_db <= 0 for meter in meters)
    assert 2 <= len(stats) <= 4
    assert stats[-1].lead_seconds > 0.8
    assert stats[-1].playing


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
    assert np.abs(audio - expected)[:, steady].max() < (2e-4 if rate_hz == 44_100 else 1e-6)
    one.player.close()


def test_the_session_is_the_models_audio_resampled_as_a_whole() -> None:
    """Twin: soxr over all of it at once, then the limiter."""
    one, plain = Rig(FakeModel()), Rig(FakeModel(), 32_000)
    one.run(2.0)
    plain.run(2.0)
    output = OutputPath(32_000, RATE_HZ, 1, 1 << 20)
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


LOUD_DB = {"piano": 2.0, "loud": 6.0, "quiet": -3.0}


@pytest.fixture
def hearing(rig: Callable[..., Rig], tiny_model: streamgen.Model, monkeypatch: pytest.MonkeyPatch) -> Rig:
    """A session of a model whose bars are a second, and whose prompts are told to be of different loudness."""

    def heard(text: str | None) -> Heard | None:
        return None if text is None else replace(bars_of_a_second(text), loudness_db=LOUD_DB[text])

    monkeypatch.setattr(tiny_model.runtime.prompts, "heard", heard)
    return rig(master="gentle", change_context_seconds=0.0)


def even_from(one: Rig, seconds: float) -> list[tuple[int, float]]:
    """What the master goes by while time passes: from which sample on it does, and how loud it takes the music for."""
    stage: Any = next(stage for stage in one.player.output._chain._stages if stage.knows(LOUDNESS))
    process, seen = stage.effect.process, list[tuple[int, float]]()

    def watched(block: Pcm, start: int, changes: Sequence[ParameterChange]) -> Pcm:
        seen.extend((change.at_sample, float(change.value)) for change in changes if change.name == LOUDNESS)
        return process(block, start, changes)

    stage.effect.process = watched
    one.run(seconds)
    stage.effect.process = process
    return seen


def test_the_master_is_told_how_loud_music_is_at_the_bar_that_it_begins_on(hearing: Rig) -> None:
    assert even_from(hearing, 2.3) == [(0, 2.0)]
    applied = hearing.player.do(Set({"prompt/1/text": "loud"}, "test"))
    assert applied % RATE_HZ == 0, "a bar line"
    assert even_from(hearing, 3.0) == [(applied, 6.0)]
    hearing.player.do(Transport(Action.RESET, "test"))
    assert [db for _, db in even_from(hearing, 2.0)] == [6.0], "a fresh stream of the same prompt"


def test_music_that_was_taken_back_is_not_evened_out(hearing: Rig) -> None:
    hearing.run(2.0)
    applied = hearing.player.do(Set({"prompt/1/text": "loud"}, "test"))
    hearing.run((applied / RATE_HZ - 2.0) - COMMIT_SECONDS - 0.12)
    output = hearing.player.output
    assert output.position < applied < output.session_sample(hearing.player.generator.drawn), "made, and not final"
    again = hearing.player.do(Set({"prompt/1/text": "quiet"}, "test"))
    assert even_from(hearing, 3.0) == [(again, -3.0)]
    hearing.player.do(Set({"prompt/1/text": "loud"}, "test"))
    hearing.player.do(Set({"prompt/1/text": "quiet"}, "test"))
    assert all(db == -3.0 for _, db in even_from(hearing, 3.0)), "nor where it goes on as it was"


def test_what_a_fresh_stream_takes_the_place_of_is_not_evened_out(hearing: Rig) -> None:
    hearing.run(2.0)
    applied = hearing.player.do(Set({"prompt/1/text": "loud"}, "test"))
    hearing.run(applied / RATE_HZ - 2.0 - COMMIT_SECONDS + 0.02)
    hearing.player.do(Set({"prompt/1/text": "quiet"}, "test"))
    assert hearing.player.output.position < applied, "what is loud is drawn, and final, but not yet out"
    hearing.player.do(Transport(Action.RESET, "test"))
    assert [db for _, db in even_from(hearing, 3.0)] == [-3.0], "for good"


def test_music_that_goes_on_under_another_prompt_is_evened_out_within_a_block_of_it(hearing: Rig) -> None:
    """No bar begins anew there, so nobody tells where in its block it is."""
    hearing.player.do(Set({"change_context_seconds": 1.0}, "test"))
    hearing.run(2.0)
    applied = hearing.player.do(Set({"prompt/1/text": "loud"}, "test"))
    (told,) = even_from(hearing, 3.0)
    assert told[1] == 6.0
    assert applied - BLOCK * RATE_HZ // hearing.player.model.sample_rate_hz < told[0] <= applied
