"""What is scheduled comes at its sample, whatever is turned meanwhile, and every door is told what is in force."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from bridge.audio.output import OutputPath
from bridge.audio.reverb import Reverb
from bridge.session.commands import Action, EditRack, RackAction, Set, Transport
from bridge.session.events import Changed
from bridge.session.metronome import Metronome
from bridge.session.parameters import Parameters, session_table
from bridge.session.scheduled import Coming, Scheduled
from bridge.session.timeline import AT_ONCE, Moment, Timeline
from streamgen.conditioning import PromptMix
from streamgen.errors import CapacityError
from streamgen.testing import FakeModel

from .rig import FRAME, RATE_HZ, Rig, bars_of_a_second, lane, told


@pytest.fixture
def one() -> Iterator[Rig]:
    rig = Rig(FakeModel(), temperature=1.0, tempo=100.0)
    rig.run(1.0)
    yield rig
    rig.player.close()


def in_force(rig: Rig, name: str) -> Any:
    """What plays, asked where it plays."""
    controls = rig.stream.controls
    if name == "temperature":
        return controls.temperature
    if name == "tempo":
        assert lane(rig, "tempo") == pytest.approx(rig.timeline.bpm(rig.player.output.frontier))
        assert controls.mix.dominant == f"piano, {lane(rig, 'tempo'):g} bpm"
    return lane(rig, name)


@pytest.mark.parametrize(
    ("name", "later", "now"), [("temperature", 1.5, 0.5), ("gain_db", -12.0, -3.0), ("tempo", 150.0, 90.0)]
)
@pytest.mark.parametrize("sooner", [None, AT_ONCE, Moment(sample=2 * RATE_HZ)])
def test_the_door_tells_what_plays_before_and_after(
    one: Rig, name: str, later: float, now: float, sooner: Moment | None
) -> None:
    at = one.player.do(Set({name: later}, "automation", Moment(sample=4 * RATE_HZ)))
    assert told(one, name) == later, "what was asked for last"
    one.player.do(Set({name: now}, "hand", sooner))
    one.run(1.7)
    assert told(one, name) == in_force(one, name) == now
    one.run(3.0)
    assert told(one, name) == in_force(one, name) == later
    events = [(dict(event.values), event.by, event.applied_at_sample) for event in one.events(Changed)]
    assert events[0] == events[2] == ({name: later}, "automation", at)
    assert len(events) == 3
    assert abs(at - 4 * RATE_HZ) <= FRAME


def test_a_weight_turned_meanwhile_brings_no_prompt_before_its_sample_and_stays_turned() -> None:
    one = Rig(FakeModel(), **{"prompt/2/text": "rain"})
    one.run(1.0)
    at = one.player.do(Set({"prompt/1/text": "drop"}, "automation", Moment(sample=4 * RATE_HZ)))
    for weight in (0.2, 0.6, 1.0):
        one.player.do(Set({"prompt/2/weight": weight}, "hand"))
    one.run(1.5)
    assert one.stream.controls.mix.prompts == (("piano", 0.5), ("rain", 0.5))
    one.run(3.0)
    assert one.stream.controls.mix.prompts == (("drop", 0.5), ("rain", 0.5))
    assert any(block.prompt_change and block.start_sample <= at < block.end_sample for block in one.blocks())
    one.player.close()


def test_what_nothing_came_between_is_told_once(one: Rig) -> None:
    one.player.do(Set({"gain_db": -3.0}, "hand"))
    one.player.do(Set({"gain_db": -12.0, "temperature": 1.5}, "automation", Moment(sample=3 * RATE_HZ)))
    one.run(4.0)
    assert [dict(event.values) for event in one.events(Changed)] == [
        {"gain_db": -3.0},
        {"gain_db": -12.0, "temperature": 1.5},
    ]


def test_a_glide_ends_where_something_else_was_scheduled(one: Rig) -> None:
    one.player.do(Set({"gain_db": -12.0}, "automation", Moment(sample=3 * RATE_HZ), glide_seconds=1.0))
    one.player.do(Set({"gain_db": -3.0}, "hand", None, glide_seconds=8.0))
    one.run(1.9)
    assert -3.0 < in_force(one, "gain_db") < 0.0, "it is on its way"
    one.run(8.0)
    assert told(one, "gain_db") == in_force(one, "gain_db") == -12.0


def test_of_two_scheduled_prompts_the_nearer_may_be_asked_for_last() -> None:
    one = Rig(FakeModel())
    one.run(1.0)
    one.player.do(Set({"prompt/2/text": "b", "prompt/2/weight": 1.0}, "x", Moment(sample=4 * RATE_HZ)))
    one.player.do(Set({"prompt/1/text": "a", "take": 2}, "x", Moment(sample=3 * RATE_HZ)))
    assert one.player.parameters.values["take"] == 2
    one.run(1.5)
    assert [text for text, _ in one.stream.controls.mix.prompts] == ["a"]
    one.run(2.5)
    assert [text for text, _ in one.stream.controls.mix.prompts] == ["a", "b"]
    assert one.stream.controls.take == 2
    one.player.close()


def test_the_opening_that_was_tried_for_a_scheduled_prompt_stays_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    one = Rig(FakeModel())
    one.run(1.0)
    monkeypatch.setattr(one.player.generator, "auditioned", lambda controls, *_: {**controls, "candidate": 3})
    one.player.do(Set({"prompt/1/text": "drop"}, "automation", Moment(sample=3 * RATE_HZ)))
    monkeypatch.undo()
    one.player.do(Set({"prompt/1/weight": 0.5}, "hand"))
    one.run(0.5)
    assert one.stream.controls.candidate == 0
    one.run(2.0)
    assert (one.stream.controls.mix.dominant, one.stream.controls.candidate) == ("drop", 3)
    one.player.close()


def test_a_prompt_that_waits_for_its_bar_line_leaves_what_comes_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    model = FakeModel()
    monkeypatch.setattr(model.runtime.prompts, "heard", lambda text: text and bars_of_a_second(text))
    one = Rig(model, on_bar=True, **{"prompt/2/text": "rain"})
    one.run(1.1)
    one.player.do(Set({"prompt/2/weight": 0.4}, "automation", Moment(sample=one.player.landing.soonest + 4 * FRAME)))
    line = one.player.do(Set({"prompt/1/text": "drop"}, "hand"))
    assert line == 2 * RATE_HZ
    one.run(2.0)
    assert [text for text, _ in one.stream.controls.mix.prompts] == ["drop", "rain"]
    one.player.close()


def test_of_two_that_were_scheduled_within_one_frame_both_are_played() -> None:
    """Time tags of one message after another differ by milliseconds."""
    one = Rig(FakeModel(), tempo=100.0)
    one.run(1.0)
    at = 3 * RATE_HZ + FRAME // 3
    landed = one.player.do(Set({"prompt/2/text": "rain", "tempo": 90.0}, "automation", Moment(sample=at)))
    assert one.player.do(Set({"prompt/2/weight": 0.5}, "automation", Moment(sample=at + FRAME // 3))) == landed
    one.run(3.0)
    assert one.stream.controls.mix == PromptMix.of(prompts=[("piano, 90 bpm", 1.0), ("rain, 90 bpm", 0.5)])
    one.player.close()


def test_a_tempo_after_a_reset_is_not_undone_by_one_that_was_scheduled_before_it(one: Rig) -> None:
    one.player.do(Set({"tempo": 150.0}, "automation", Moment(sample=4 * RATE_HZ)))
    one.player.do(Transport(Action.RESET, "hand"))
    one.player.do(Set({"tempo": 90.0}, "hand"))
    one.run(4.0)
    assert told(one, "tempo") == in_force(one, "tempo") == 90.0


@pytest.mark.parametrize("edits", [(RackAction.REMOVE, RackAction.ADD), (RackAction.REPLACE,)])
def test_what_was_scheduled_for_an_effect_goes_with_it(one: Rig, edits: tuple[RackAction, ...]) -> None:
    def edit(action: RackAction) -> None:
        made = None if action is RackAction.REMOVE else Reverb()
        one.player.do(EditRack(action, "hand", 1, "reverb", made=made))

    edit(RackAction.ADD)
    at = Moment(sample=3 * RATE_HZ)
    one.player.do(Set({"plugin/1/damping": 0.9, "gain_db": -6.0}, "automation", at))
    for action in edits:
        edit(action)
    one.run(3.0)
    assert one.player.parameters.values["plugin/1/damping"] == Reverb().parameters["damping"].default
    assert told(one, "gain_db") == in_force(one, "gain_db") == -6.0
    assert all(not stage.waiting for stage in one.player.output._chain._stages)
    assert len(one.events(Changed)) == 1


def test_what_is_asked_for_at_once_and_lands_behind_what_was_scheduled_stays(one: Rig) -> None:
    """A change right after it takes the music back to before both. A slow machine leaves some of its lead alone."""
    at = one.player.output.frontier + 6 * FRAME
    one.player.do(Set({"temperature": 1.5}, "automation", Moment(sample=at)))
    while one.player.playback.needs_audio:
        one.player.make()
    one.player.generator.pace.factor = 1.1
    assert one.player.do(Set({"temperature": 0.5}, "hand")) > at
    one.player.generator.pace.factor = 9.0
    assert one.player.do(Set({"top_k": 7}, "hand")) <= at
    one.run(2.0)
    assert told(one, "temperature") == in_force(one, "temperature") == 0.5


def test_what_the_resampler_still_holds_back_has_not_come(one: Rig) -> None:
    at = one.player.output.frontier + 20 * FRAME - 50
    one.player.do(Set({"gain_db": -12.0}, "automation", Moment(sample=at)))
    while one.player.output.frontier < at:
        one.run(0.01)
    assert one.player.output.turns_at < at
    one.player.do(Set({"gain_db": -3.0}, "hand"))
    one.run(1.0)
    assert told(one, "gain_db") == in_force(one, "gain_db") == -12.0, "a hundredth of a second later"


@pytest.mark.parametrize("hundredths", [30, 50])
def test_what_came_while_openings_were_tried_is_kept(monkeypatch: pytest.MonkeyPatch, hundredths: int) -> None:
    one = Rig(FakeModel(), **{"prompt/2/text": "rain"})
    one.run(1.0)
    at = one.player.landing.soonest + 6 * FRAME
    one.player.do(Set({"prompt/2/weight": 0.4}, "automation", Moment(sample=at)))
    while one.player.playback.needs_audio:
        one.player.make()
    assert one.player.landing.soonest < at

    def tried(controls: dict[str, Any], meanwhile: Any) -> dict[str, Any]:
        for _ in range(hundredths):
            one.time += 0.01
            meanwhile()
        return {**controls, "candidate": 2}

    monkeypatch.setattr(one.player.generator, "auditioned", tried)
    assert one.player.do(Set({"prompt/1/text": "drop"}, "hand")) > at
    monkeypatch.undo()
    one.run(1.0)
    assert [text for text, _ in one.stream.controls.mix.prompts] == ["drop", "rain"]
    one.player.close()


def test_a_scheduled_tempo_that_means_the_same_begins_nothing_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    model = FakeModel()
    monkeypatch.setattr(model.runtime.prompts, "heard", lambda text: text and bars_of_a_second(text.split(",")[0]))
    one = Rig(model, tempo=100.0)
    one.run(1.0)
    one.player.do(Set({"tempo": 101.0}, "automation", Moment(sample=5 * RATE_HZ)))
    one.player.do(Set({"prompt/1/text": "drop"}, "hand", AT_ONCE))
    one.run(5.0)
    assert told(one, "tempo") == lane(one, "tempo") == 101.0
    assert one.stream.controls.mix.dominant == "drop, 100 bpm"
    one.player.close()


def test_a_far_beat_is_told_when_it_is_near() -> None:
    one = Rig(FakeModel(), tempo=60.0)
    one.run(1.0)
    one.player.do(Set({"prompt/1/text": "a"}, "automation", Moment(beat=8.0)))
    one.player.do(Set({"prompt/1/text": "b"}, "hand"))
    one.run(2.0)
    assert told(one, "prompt/1/text") == "b"
    one.run(3.0)
    assert told(one, "prompt/1/text") == "a", "within three seconds"
    one.player.do(Set({"prompt/1/text": "c"}, "hand"))
    one.run(1.0)
    assert (told(one, "prompt/1/text"), one.stream.controls.mix.dominant) == ("c", "c, 60 bpm")
    one.run(2.0)
    assert (told(one, "prompt/1/text"), one.stream.controls.mix.dominant) == ("a", "a, 60 bpm")
    one.player.close()


@pytest.mark.parametrize("turns", [range(61, 100, 3), range(80, 180, 2), range(180, 80, -2)])
def test_a_tempo_in_motion_that_waits_for_its_bar_stays_where_it_was_left(turns: range) -> None:
    """Its bar comes sooner with every turn, or later, and goes by: turns do not come in another order."""
    one = Rig(FakeModel(), tempo=100.0, quantize="bar")
    one.run(1.0)
    for bpm in turns:
        one.player.do(Set({"tempo": float(bpm)}, "hand"))
        one.run(0.02)
        assert one.timeline.bpm(one.player.output.frontier) == pytest.approx(bpm), "the beats do not wait"
    one.run(10.0)
    assert told(one, "tempo") == in_force(one, "tempo") == turns[-1]
    assert len(one.events(Changed)) == len(turns)
    one.player.close()


def test_a_tempo_that_waits_for_its_bar_does_not_come_back_after_one_at_once() -> None:
    one = Rig(FakeModel(), tempo=100.0, quantize="bar")
    one.run(1.0)
    one.player.do(Set({"tempo": 69.0}, "hand"))
    one.player.do(Set({"tempo": 133.0}, "page", AT_ONCE))
    one.run(6.0)
    assert told(one, "tempo") == in_force(one, "tempo") == 133.0
    assert len(one.events(Changed)) == 2
    one.player.close()


def test_of_two_prompts_for_one_bar_the_later_counts_though_the_tempo_has_moved_it() -> None:
    one = Rig(FakeModel(), tempo=60.0, quantize="bar")
    one.run(1.0)
    first = one.player.do(Set({"prompt/1/text": "a"}, "hand"))
    one.player.do(Set({"tempo": 70.0}, "hand"))
    assert one.player.do(Set({"prompt/1/text": "b"}, "hand")) < first
    one.run(8.0)
    assert (told(one, "prompt/1/text"), one.stream.controls.mix.dominant) == ("b", "b, 70 bpm")
    one.player.close()


def test_a_time_is_kept_too(one: Rig) -> None:
    one.player.do(Set({"mute": True}, "osc", Moment(unix_seconds=one.timeline.wall() + 1.0)))
    one.player.do(Set({"mute": False}, "hand"))
    one.run(0.5)
    assert told(one, "mute") is in_force(one, "mute") is False
    one.run(1.0)
    assert told(one, "mute") is in_force(one, "mute") is True


def test_fresh_music_begins_with_the_newest_and_what_the_effects_were_told_stays(one: Rig) -> None:
    sooner = Moment(sample=3 * RATE_HZ)
    one.player.do(Set({"temperature": 1.5, "gain_db": -12.0, "tempo": 150.0}, "automation", sooner))
    one.player.do(Set({"temperature": 0.5, "gain_db": -3.0, "tempo": 90.0}, "hand"))
    one.player.do(Transport(Action.RESET, "hand"))
    one.run(0.5)
    for name, value in {"temperature": 0.5, "gain_db": -3.0, "tempo": 90.0}.items():
        assert told(one, name) == in_force(one, name) == value
    one.run(3.0)
    for name, value in {"temperature": 0.5, "gain_db": -12.0, "tempo": 90.0}.items():
        assert told(one, name) == in_force(one, name) == value


def test_a_curve_that_was_sent_ahead_is_told_once_and_again_from_where_a_hand_turned_it(one: Rig) -> None:
    points = [(second, -float(second)) for second in (3, 4, 5)]
    for second, value in points:
        one.player.do(Set({"gain_db": value}, "automation", Moment(sample=second * RATE_HZ)))
    one.run(2.2)
    assert in_force(one, "gain_db") == -3.0
    assert len(one.events(Changed)) == 3
    one.player.do(Set({"gain_db": -9.0}, "hand"))
    for value in (-9.0, -4.0, -5.0):
        one.run(0.2 if value == -9.0 else 1.0)
        assert told(one, "gain_db") == in_force(one, "gain_db") == value
    again = [(event.values["gain_db"], event.applied_at_sample) for event in one.events(Changed)][4:]
    assert again == [(value, second * RATE_HZ) for second, value in points[1:]]


def test_a_knob_in_motion_before_a_scheduled_prompt_fills_no_queue_and_brings_it_no_sooner() -> None:
    one = Rig(FakeModel(), **{"prompt/2/text": "rain"})
    one.run(1.0)
    at = one.player.do(Set({"prompt/1/text": "drop"}, "automation", Moment(sample=4 * RATE_HZ)))
    turns = 0
    while one.player.output.frontier < at + RATE_HZ:
        turns += 1
        one.player.do(Set({"prompt/2/weight": 0.1 + turns % 10 / 10}, "hand"))
        one.run(0.05)
        comes = one.player.output.session_sample(one.player.generator.drawn) > at
        assert [text for text, _ in one.stream.controls.mix.prompts] == ["drop" if comes else "piano", "rain"]
    assert turns > 50
    assert len(one.stream._sound.control.memory.pending) < 10
    one.player.close()


def test_what_cannot_be_told_anew_plays_as_it_was_asked_for(
    one: Rig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    one.player.do(Set({"prompt/1/text": "drop"}, "automation", Moment(sample=4 * RATE_HZ)))
    one.player.do(Set({"prompt/2/text": "rain", "prompt/2/weight": 0.5}, "hand"))
    tell = one.player.generator.set

    def refuse(controls: dict[str, Any], at_sample: int | None) -> int:
        if at_sample is not None:
            raise CapacityError("no room")
        return tell(controls, at_sample)

    monkeypatch.setattr(one.player.generator, "set", refuse)
    one.run(4.0)
    assert [text for text, _ in one.stream.controls.mix.prompts] == ["drop, 100 bpm"]
    assert "automation plays as it was asked for: no room" in caplog.text


def test_what_waits_for_a_bar_beside_a_take_gives_way_to_what_comes_sooner_but_what_effects_were_told_comes() -> None:
    one = Rig(FakeModel(), tempo=60.0, quantize="bar")
    one.run(1.5)
    line = one.player.do(Set({"take": 1, "temperature": 0.9, "gain_db": -3.0}, "hand"))
    one.player.do(Set({"temperature": 1.4, "gain_db": -6.0}, "automation", Moment(sample=2 * RATE_HZ + RATE_HZ // 2)))
    assert one.player.do(Set({"prompt/1/text": "drop"}, "hand")) == line
    one.run(1.5)
    assert (in_force(one, "temperature"), in_force(one, "gain_db")) == (1.4, -6.0)
    one.run(2.0)
    assert told(one, "temperature") == in_force(one, "temperature") == 1.4
    assert told(one, "gain_db") == in_force(one, "gain_db") == -3.0
    assert (one.stream.controls.take, one.stream.controls.mix.dominant) == (1, "drop, 60 bpm")
    one.player.close()


# -- the arithmetic, against all that was asked for in order of time ---------------------------------------------------


def test_what_is_in_force_is_as_if_all_were_sorted_by_time_and_so_it_is_told_in_the_end() -> None:
    rng = np.random.default_rng(4)
    table = {name: spec for name, spec in session_table().items() if name in ("gain_db", "width", "temperature")}
    start = Parameters(table).values
    timeline = Timeline(RATE_HZ)
    for _ in range(100):
        parameters, frontier, twin = Parameters(table), 0, dict(start)
        scheduled = Scheduled(parameters, OutputPath(32_000, RATE_HZ, 1, 640), Metronome(timeline, 0.0))
        asked, doors = list[tuple[int, dict[str, float]]](), dict(parameters.values)
        for _ in range(30):
            frontier += int(rng.integers(0, 4))
            for news in scheduled.landed(frontier):
                doors |= news.values
            values = {name: round(float(rng.random()), 3) for name in table if rng.random() < 0.5}
            named = bool(rng.random() < 0.6)
            at = frontier + (int(rng.integers(1, 12)) if named else 0)
            scheduled.note(Coming(at, "test", dict(values)), at, at_once=not named)
            parameters.values.update(values)
            doors |= values
            asked.append((at, values))
            for sample in range(frontier, frontier + 13):
                twin = dict(start)
                for _, one in sorted((one for one in asked if one[0] <= sample), key=lambda one: one[0]):
                    twin |= one
                assert scheduled.at(sample) == twin
        for news in scheduled.landed(frontier + 12):
            doors |= news.values
        assert doors == parameters.values == scheduled.at(0) == twin
