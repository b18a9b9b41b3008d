"""Parts in a session: a player of a fake model whose bars are a second long."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from bridge.session.arranger import Arranger, Part
from bridge.session.commands import Action, Set, Transport
from bridge.session.events import Block, Event, Notice
from bridge.session.form import Form
from bridge.session.parameters import Parameters, session_table
from bridge.session.player import Player
from bridge.session.timeline import Moment, Timeline
from streamgen.errors import CapacityError, PromptError
from streamgen.stream.controls import Controls
from streamgen.testing.fake import HOP_SAMPLES as HOP
from streamgen.testing.fake import FakeModel

from .rig import bars_of_a_second as heard

SCENE = (Part("theme", 2, take="a"), Part("break", 1, words="no drums"), Part("higher", 1, semitones=5))
BAR = 50 * HOP


class Stage:
    """A player of a fake model with bars of a second, by a clock of its own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, scene: tuple[Part, ...] = SCENE, **values: Any) -> None:
        self.model = FakeModel()
        monkeypatch.setattr(self.model.runtime.prompts, "heard", lambda text: None if text is None else heard(text))
        self.seconds, self.told = 0.0, list[Block | Event]()
        timeline = Timeline(32_000, lambda: self.seconds, lambda: self.seconds)
        start = {"prompt/1/text": "house", "lead_seconds": 0.5, "seed": 1, "change_context_seconds": 0.0}
        self.player = Player(self.model, self.told.append, timeline, values=start | values, scene=scene)
        self.player.playback.wanted = True

    def play(self, seconds: float) -> None:
        until = self.seconds + seconds
        while self.seconds < until:
            wait = self.player.tick()
            if self.player.playback.needs_audio:
                self.player.make()
            else:
                self.seconds += wait

    def parts(self) -> list[tuple[str, int]]:
        return [
            (one.text, one.applied_at_sample) for one in self.told if isinstance(one, Notice) and one.topic == "part"
        ]

    @property
    def take(self) -> int:
        return int(self.player.generator._stream.controls.take)

    @property
    def sounding(self) -> str | None:
        return self.player.generator._stream.controls.mix.dominant


@pytest.mark.parametrize(("blends", "told"), [(True, "jazz + house"), (False, "jazz; not played beside it: house")])
def test_prompts_that_do_not_blend_are_told_as_one(blends: bool, told: str) -> None:
    texts = {"prompt/1/text": "house", "prompt/1/weight": 0.5, "prompt/2/text": "jazz", "prompt/2/weight": 1.0}
    values = Parameters(session_table(), texts).values
    form = Form(Arranger(SCENE, heard, 50, HOP), heard, blends=blends)
    assert form.heard(values) == told
    assert form.heard(values | {"prompt/1/weight": 0.0}) == "jazz"


def test_where_no_prompt_sounds_what_plays_is_told_of_a_model_that_tells_what_it_hears() -> None:
    texts = {"prompt/1/text": "house", "prompt/1/weight": 0.0, "prompt/2/text": "jazz", "prompt/2/weight": 0.0}
    values = Parameters(session_table(), texts).values
    for hear, told in ((heard, "no prompt, the style is left to chance"), (lambda _text: None, "")):
        assert Form(Arranger(SCENE, hear, 50, HOP), hear, blends=False).heard(values) == told


def test_parts_follow_one_another_on_bar_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(monkeypatch, arrange=True)
    stage.play(6.0)
    names, samples = zip(*stage.parts(), strict=True)
    assert names[:4] == ("break", "higher", "theme", "break")
    bars = [round(sample / BAR, 3) for sample in samples[:4]]
    assert bars == [2, 3, 4, 6]


def test_a_take_that_comes_again_has_the_opening_that_it_had(monkeypatch: pytest.MonkeyPatch) -> None:
    stage, tried = Stage(monkeypatch, arrange=True), list[str]()

    def auditioned(controls: dict[str, Any], *_: Any, **_named: Any) -> dict[str, Any]:
        tried.append(controls["prompts"][0][0])
        return controls | {"candidate": len(tried)}

    monkeypatch.setattr(stage.player.generator, "auditioned", auditioned)
    candidates = []
    for _ in range(90):
        stage.play(0.1)
        candidates.append((stage.sounding, stage.player.generator.candidate))
    themes = {candidate for prompt, candidate in candidates if prompt == "house"}
    assert themes == {0}, "what it began with"
    assert tried[:4] == ["no drums, house", "in D minor, house"] * 2
    stage.player.do(Set({"prompt/1/text": "techno"}, "test"))
    stage.play(9.0)
    assert "house" not in tried
    assert "no drums, techno" in tried


def test_the_opening_of_every_part_is_tried_though_the_part_before_was_one_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = list[str | None]()

    def counted(_runtime: Any, controls: Controls, *_: Any) -> int:
        tried.append(controls.mix.dominant)
        return 1

    monkeypatch.setattr("streamgen.stream.stream.best_candidate", counted)
    monkeypatch.setattr("streamgen.model.best_candidate", counted)
    monkeypatch.setattr("bridge.session.lookahead.Pace.quick", True)
    stage = Stage(monkeypatch, arrange=True, audition=2)
    stage.play(4.0)
    assert tried[:3] == ["house", "no drums, house", "in D minor, house"]
    tried.clear()
    for prompt in ("techno", "rock"):
        stage.player.do(Set({"prompt/1/text": prompt}, "test"))
    assert len(tried) < 2, "a storm of prompts is not"


def test_the_default_plays_one_prompt_and_switching_on_and_off_lands_on_bar_lines(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stage = Stage(monkeypatch)
    stage.play(3.3)
    assert stage.parts() == []
    at = stage.player.do(Set({"arrange": True}, "test"))
    assert at % BAR == 0
    stage.play(5.0)
    assert [name for name, _ in stage.parts()][:2] == ["break", "higher"]
    stage.player.do(Set({"arrange": False}, "test"))
    stage.play(3.0)
    assert stage.sounding == "house"
    told = len(stage.parts())
    stage.play(4.0)
    assert len(stage.parts()) == told


def test_switched_off_it_holds_the_part_that_plays_until_other_music_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scene = (Part("theme", 2, take="a"), Part("answer", 2), Part("break", 2, words="no drums"))
    stage = Stage(monkeypatch, scene, arrange=True, lead_seconds=2.0)
    stage.play(2.5)
    stage.player.do(Set({"arrange": False}, "test"))
    stage.play(7.0)
    assert (stage.sounding, stage.take) == ("house", 2), "what was told for later does not come"
    stage.player.do(Set({"arrange": False}, "test"))
    assert stage.take == 2, "said twice it is the same"
    stage.player.do(Set({"tempo": 60.0}, "test"))
    stage.play(2.0)
    assert (stage.sounding, stage.take) == ("house, 60 bpm", 2)
    stage.player.do(Set({"prompt/1/text": "techno"}, "test"))
    stage.play(2.0)
    assert (stage.sounding, stage.take) == ("techno, 60 bpm", 0), "as a fresh session would play it"


def test_switched_off_in_a_break_the_first_part_comes_back_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(monkeypatch, arrange=True)
    stage.play(2.5)
    assert stage.sounding == "no drums, house"
    stage.player.do(Set({"arrange": False}, "test"))
    stage.play(6.0)
    assert (stage.sounding, stage.take) == ("house", 1)
    stage.player.do(Set({"arrange": True}, "test"))
    stage.play(1.0)
    assert (stage.sounding, stage.take) == ("house", 1), "it goes on from there"


def test_who_asks_for_other_music_in_a_break_hears_the_first_part_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for asked in ({"prompt/1/text": "techno"}, {"take": 7}):
        stage = Stage(monkeypatch, arrange=True)
        stage.play(2.2)
        assert stage.sounding == "no drums, house"
        at = stage.player.do(Set(asked, "test"))
        assert stage.parts()[-1] == ("theme", at)
        stage.play(1.2)
        assert "no drums" not in str(stage.sounding)
    stage = Stage(monkeypatch, arrange=True)
    stage.play(2.2)
    stage.player.do(Set({"tempo": 60.0}, "test"))
    stage.play(0.9)
    assert stage.sounding == "no drums, house, 60 bpm", "another tempo is the same music"


def test_weights_that_move_go_on_in_the_part_until_another_prompt_leads(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(monkeypatch, arrange=True, **{"prompt/2/text": "jazz", "prompt/2/weight": 0.1})
    stage.play(2.2)
    for weight, told in ((0.9, ["break"]), (1.2, ["break", "theme"])):
        stage.player.do(Set({"prompt/2/weight": weight}, "test"))
        assert [name for name, _ in stage.parts()] == told


def test_another_prompt_takes_over_and_the_part_begins_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(monkeypatch, arrange=True, lead_seconds=2.0)
    stage.play(1.2)
    assert stage.player.do(Set({"prompt/1/text": "techno"}, "test")) == 2 * BAR
    seen = set()
    for _ in range(40):
        stage.play(0.1)
        seen.add(stage.sounding)
    assert seen <= {"house", "techno", "no drums, house", "no drums, techno", "in D minor, techno"}
    assert "techno" in seen
    stage.play(2.0)
    assert "house" not in str(stage.sounding)


def test_another_take_is_another_one_of_every_part_and_the_same_the_same_again(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(monkeypatch, arrange=True)
    stage.play(0.5)
    own = [stage.player.generator._stream.controls.take]
    for take in (77, 0):
        stage.player.do(Set({"take": take}, "test"))
        stage.play(1.0)
        own.append(stage.player.generator._stream.controls.take)
    assert stage.parts() == [], "the theme began again each time"
    assert own == [1, 78, 1]


def test_after_the_guard_began_the_music_anew_parts_begin_on_its_bar_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(monkeypatch, arrange=True, guard=True)
    stage.play(0.5)
    guard = stage.player.generator._stream._sound.guard
    guard.heard = replace(guard.heard, mend_frame=guard.heard.frame + 40, fault="drone")
    stage.play(5.0)
    downbeat = next(one.applied_at_sample for one in stage.told if isinstance(one, Notice) and one.topic == "guard")
    assert downbeat % BAR
    assert [(at - downbeat) % BAR for _, at in stage.parts()[:1]] == [0]


def test_a_prompt_without_room_for_a_parts_words_is_refused_and_the_music_plays_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stage = Stage(monkeypatch, arrange=True)
    stage.play(1.0)
    with pytest.raises(PromptError, match="part 'higher'"):
        stage.player.do(Set({"prompt/1/text": "h" * 1_995}, "test"))
    stage.play(3.0)
    assert len(stage.parts()) > 1
    stage.player.do(Set({"arrange": False, "prompt/1/text": "h" * 1_995}, "test"))
    with pytest.raises(PromptError, match="part 'higher'"):
        stage.player.do(Set({"arrange": True}, "test"))


def test_where_there_is_no_room_to_try_openings_the_first_one_plays(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> int:
        raise CapacityError("261 rows needed, the limit is 256; close a stream or use fewer prompts")

    stage = Stage(monkeypatch, arrange=True)
    monkeypatch.setattr("streamgen.stream.stream.best_candidate", full)
    monkeypatch.setattr("bridge.session.lookahead.Pace.quick", True)
    stage.player.do(Set({"audition": 8, "prompt/1/text": "techno"}, "test"))
    stage.play(4.0)
    assert [name for name, _ in stage.parts()][:2] == ["break", "higher"]
    assert "techno" in str(stage.sounding)


@pytest.mark.parametrize("on_bar", [False, True])
def test_another_prompt_begins_the_part_that_is_heard_anew_though_the_next_ones_were_told(
    monkeypatch: pytest.MonkeyPatch, on_bar: bool
) -> None:
    stage = Stage(monkeypatch, arrange=True, lead_seconds=2.0, on_bar=on_bar)
    stage.play(1.2)
    assert [name for name, _ in stage.parts()] == ["break", "higher"], "as far ahead as music is made"
    at = stage.player.do(Set({"prompt/1/text": "techno"}, "test"))
    assert (at == 2 * BAR) is on_bar
    assert stage.parts()[2:] == [("theme", at)]
    heard_there = stage.parts()
    while stage.player.output.position < at + 4 * BAR:
        stage.play(0.1)
    parts = stage.parts()[len(heard_there) :]
    assert parts[:2] == [("break", at + 2 * BAR), ("higher", at + 3 * BAR)], "none is left out"
    stage.player.do(Set({"arrange": False}, "test"))
    assert stage.parts()[-1][0] != parts[-1][0], "what was told for later does not come: the part that stays is told"


def test_a_fresh_stream_begins_with_the_first_part_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(monkeypatch, arrange=True, lead_seconds=2.0)
    stage.play(1.2)
    assert [name for name, _ in stage.parts()] == ["break", "higher"]
    stage.player.do(Transport(Action.RESET, "test"))
    name, at = stage.parts()[-1]
    assert name == "theme"
    assert at < 2 * BAR, "before what was told"
    stage.play(2.5)
    assert stage.parts()[3] == ("break", at + 2 * BAR)


def test_the_second_of_two_changes_stays_though_parts_were_told_for_later(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(monkeypatch, arrange=True, lead_seconds=3.0, on_bar=False)
    stage.play(1.2)
    stage.player.do(Set({"prompt/1/text": "techno"}, "test"))
    stage.player.do(Set({"arrange": False, "prompt/1/text": "rock"}, "test"))
    heard = set[str | None]()
    for _ in range(40):
        stage.play(0.1)
        heard.add(stage.sounding)
    assert heard == {"rock"}


def test_weights_in_motion_leave_parts_their_bars_and_their_music(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamgen.stream.stream.best_candidate", lambda *_: next(numbers))
    numbers = iter(range(1, 1_000))
    stage = Stage(monkeypatch, arrange=True, audition=4, lead_seconds=2.0, **{"prompt/2/text": "jazz"})
    for step in range(40):
        stage.player.do(Set({"prompt/2/weight": 0.01 * step}, "test"))
        stage.play(0.2)
    assert next(numbers) < 10, "what was taken back is not tried again"
    begun = dict(reversed([(at, name) for name, at in stage.parts()]))
    bars = {2: "break", 3: "higher", 4: "theme", 6: "break", 7: "higher", 8: "theme"}
    assert {bar: begun.get(bar * BAR) for bar in bars} == bars
    assert all(not at % BAR for at in begun)


def test_a_part_keeps_its_opening_whatever_was_told_for_later(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = iter(range(1, 1_000))
    for where in ("stream.stream", "model"):
        monkeypatch.setattr(f"streamgen.{where}.best_candidate", lambda *_: next(numbers))
    stage = Stage(monkeypatch, (Part("theme", 2), Part("answer", 2)), arrange=True, audition=4, lead_seconds=2.0)
    stage.play(1.2)
    assert [name for name, _ in stage.parts()] == ["answer"]
    for asked in ({"arrange": True}, {"arrange": False}):
        stage.player.do(Set(asked, "test"))
        stage.play(0.5)
        assert (stage.take, stage.player.generator.candidate) == (1, 1), asked


def test_a_take_in_another_key_or_under_other_words_leaves_the_take_its_opening(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    numbers = iter(range(1, 1_000))
    monkeypatch.setattr("streamgen.stream.stream.best_candidate", lambda *_: next(numbers))
    scene = (
        Part("theme", 1, take="a"),
        Part("higher", 1, take="a", semitones=5),
        Part("end", 1, take="a", words="end"),
    )
    stage, openings = Stage(monkeypatch, scene, arrange=True, audition=2), set()
    for _ in range(90):
        stage.play(0.1)
        openings.add((stage.sounding, stage.player.generator.candidate))
    assert len(openings) == 3


def test_a_tempo_that_is_heard_as_the_same_leaves_the_take_its_opening(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = iter(range(1, 1_000))
    monkeypatch.setattr("streamgen.stream.stream.best_candidate", lambda *_: next(numbers))
    stage = Stage(monkeypatch, arrange=True, audition=2, tempo=60.0)
    untimed = lambda text: None if text is None else heard(text.split(", 6")[0])  # noqa: E731
    monkeypatch.setattr(stage.model.runtime.prompts, "heard", untimed)
    for bpm in (60.1, 60.2, 60.3, 60.4, 60.5, 60.6, 60.7, 60.8, 60.9):
        stage.play(1.0)
        stage.player.do(Set({"tempo": bpm}, "link"))
    assert next(numbers) == 5, "twice of break and of higher, and not of the theme: it was there before"
    assert [at // BAR for _, at in stage.parts()] == [2, 3, 4, 6, 7, 8], "and no part begins anew"


def test_another_text_that_is_heard_as_the_same_has_openings_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    wordings = {"castle": 1, "christmas": 2}
    monkeypatch.setattr("streamgen.stream.stream.best_candidate", lambda _, asked, *__: wordings[asked.mix.dominant])
    monkeypatch.setattr("streamgen.model.best_candidate", lambda _, asked, *__: wordings[asked.mix.dominant])
    monkeypatch.setattr("bridge.session.lookahead.Pace.quick", True)
    stage = Stage(monkeypatch, (Part("theme", 2, take="a"),), arrange=True, audition=2, **{"prompt/1/text": "castle"})
    orchestra = lambda text: None if text is None else replace(heard("orchestra"), wording=wordings[text])  # noqa: E731
    monkeypatch.setattr(stage.model.runtime.prompts, "heard", orchestra)
    for prompt in ("christmas", "castle"):
        stage.play(3.0)
        stage.player.do(Set({"prompt/1/text": prompt}, "test"))
        stage.play(3.0)
        assert (stage.sounding, stage.player.generator.candidate) == (prompt, wordings[prompt])


def test_music_does_not_depend_on_how_far_ahead_it_was_made(monkeypatch: pytest.MonkeyPatch) -> None:
    scene, takes = (Part("theme", 2), Part("answer", 2), Part("turn", 1)), []
    for lead in (0.3, 6.0):
        stage, told = Stage(monkeypatch, scene, arrange=True, lead_seconds=lead), dict[int, int]()
        original = stage.player.generator.set

        def noted(controls: dict[str, Any], at: int | None, ask: Any = original, told: Any = told) -> int:
            told[landed := ask(controls, at)] = controls["take"]
            return int(landed)

        monkeypatch.setattr(stage.player.generator, "set", noted)
        for tempo in (60.0, 61.0):
            stage.play(1.2)
            stage.player.do(Set({"tempo": tempo}, "test"))
        while stage.player.output.position < 12 * BAR:
            stage.play(0.1)
        takes.append({at // BAR: take for at, take in told.items() if at < 12 * BAR and at >= 3 * BAR})
    assert takes[0] == {3: 1, 5: 2, 7: 3, 8: 4, 10: 5}
    assert {bar: takes[1][bar] for bar in takes[0]} == takes[0]


def test_stopped_and_played_again_it_is_the_same_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    stage, heard_takes = Stage(monkeypatch, (Part("theme", 1), Part("answer", 1)), arrange=True), []
    for _ in range(2):
        takes = []
        for _ in range(20):
            stage.play(0.1)
            takes.append(stage.take)
        heard_takes.append(sorted(set(takes)))
        stage.player.do(Transport(Action.STOP, "test"))
        stage.player.do(Transport(Action.PLAY, "test"))
    assert heard_takes[0] == heard_takes[1]


def test_what_is_refused_changes_no_part(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **_named: Any) -> None:
        raise CapacityError("1000 changes are waiting already; let some of them pass first")

    stage = Stage(monkeypatch, arrange=True)
    stage.play(2.2)
    with monkeypatch.context() as patched:
        patched.setattr(stage.player.generator, "auditioned", full)
        patched.setattr(stage.model, "open_stream", full)
        for asked in (Set({"take": 3}, "test"), Set({"prompt/1/text": "techno"}, "test"), Transport(Action.RESET, "")):
            with pytest.raises(CapacityError):
                stage.player.do(asked)
    stage.play(3.0)
    assert [name for name, _ in stage.parts()] == ["break", "higher", "theme"]
    stage.player.do(Set({"tempo": 60.0}, "test"))
    assert [name for name, _ in stage.parts()] == ["break", "higher", "theme"], "the same prompt and take as before"


def test_a_part_that_could_not_be_told_in_time_begins_on_the_next_bar_line(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(monkeypatch, arrange=True, on_bar=False)
    stage.play(0.3)
    with monkeypatch.context() as patched:
        patched.setattr(stage.player, "_take_turn", lambda: None)
        stage.play(2.0)
    stage.play(2.0)
    assert [at / BAR for _, at in stage.parts()] == [3, 4]


def test_switched_on_again_the_held_part_has_all_of_its_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(monkeypatch, arrange=True, lead_seconds=2.0)
    stage.play(0.5)
    stage.player.do(Set({"arrange": False}, "test"))
    assert stage.parts()[-1] == ("theme", BAR), "the break that was told for later does not come"
    stage.play(5.0)
    at = stage.player.do(Set({"arrange": True}, "test"))
    stage.play(3.0)
    assert stage.parts()[2] == ("break", at + 2 * BAR)


def test_what_was_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(monkeypatch, (Part("turn", 1),), arrange=True)
    stage.play(300.0)
    form = stage.player._form
    assert len(form._turns) + len(form._asked) < 10
    assert len(form._openings) <= 256


def test_a_prompt_for_later_holds_up_no_parts_until_then(monkeypatch: pytest.MonkeyPatch) -> None:
    stage, heard_at = Stage(monkeypatch, arrange=True), dict[float, str | None]()
    stage.play(1.0)
    stage.player.do(Set({"prompt/1/text": "techno"}, "test", Moment(sample=9 * BAR)))
    stage.play(2.5)
    stage.player.do(Set({"prompt/1/weight": 0.5}, "test"))
    while (bars := stage.player.generator.drawn / BAR) < 12:
        heard_at[bars] = stage.sounding
        stage.play(0.1)
    parts = [(name, at // BAR) for name, at in stage.parts()]
    assert [one for one in parts if 4 < one[1] < 9] == [("break", 6), ("higher", 7), ("theme", 8)]
    assert all(str(text).endswith("techno" if bars > 9 else "house") for bars, text in heard_at.items())


def test_a_take_for_later_undoes_no_prompt_where_the_parts_have_ended_by_then(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(monkeypatch, arrange=True, on_bar=False)
    stage.play(1.0)
    stage.player.do(Set({"take": 5}, "test", Moment(sample=6 * BAR)))
    stage.player.do(Set({"arrange": False}, "test"))
    stage.player.do(Set({"prompt/1/text": "techno"}, "test"))
    stage.play(7.0)
    assert (stage.sounding, stage.player.generator._stream.controls.take) == ("techno", 5)
