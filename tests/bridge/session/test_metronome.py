from __future__ import annotations

import pytest

from bridge.session.events import Beat
from bridge.session.metronome import Metronome
from bridge.session.timeline import Timeline
from streamgen.testing import FakeClock

SECOND = 48_000


def made(bpm: float = 0.0) -> tuple[Metronome, Timeline, FakeClock]:
    clock = FakeClock(50.0)
    timeline = Timeline(SECOND, clock, lambda: 1e9 + clock())
    timeline.start(0)
    return Metronome(timeline, bpm), timeline, clock


def told(metronome: Metronome, final: float) -> list[tuple[int, int]]:
    return [(beat.beat, beat.applied_at_sample) for beat in metronome.beats(final)]


def test_each_beat_is_told_once_when_it_is_final() -> None:
    metronome, _, _ = made(60)
    assert told(metronome, 10) == [(0, 0)]
    assert told(metronome, SECOND - 1) == []
    assert told(metronome, 2 * SECOND) == [(1, SECOND), (2, 2 * SECOND)]
    (third,) = metronome.beats(3 * SECOND)
    assert third == Beat(3, 0, pytest.approx(60), None, "internal", 3 * SECOND, 1_000_000_053_000_000)


def test_without_a_tempo_the_beats_are_the_music_s() -> None:
    metronome, timeline, _ = made()
    metronome.note_bars((0.0, 2 * SECOND), drawn=SECOND, final=0)
    assert timeline.bpm(0) == pytest.approx(120)
    metronome.note_bars((4 * SECOND, SECOND), drawn=5 * SECOND, final=3 * SECOND)
    assert timeline.beat(4 * SECOND) == pytest.approx(8)
    assert timeline.beat(5 * SECOND) == pytest.approx(12), "twice as fast from the new downbeat on"
    metronome.note_bars((5.3 * SECOND, SECOND), drawn=6 * SECOND, final=5 * SECOND)
    assert timeline.beat(5.3 * SECOND) == pytest.approx(16), "music that begins anew begins a bar"
    assert metronome.phase(6 * SECOND) == pytest.approx(0)


def test_bars_that_were_taken_back_are_forgotten() -> None:
    metronome, timeline, _ = made()
    metronome.note_bars((0.0, 2 * SECOND), drawn=SECOND, final=0)
    metronome.note_bars((4 * SECOND, SECOND), drawn=5 * SECOND, final=2 * SECOND)
    metronome.note_bars((0.0, 2 * SECOND), drawn=3 * SECOND, final=2 * SECOND)
    assert timeline.bpm(5 * SECOND) == pytest.approx(120)
    metronome.note_bars((6 * SECOND, SECOND), drawn=7 * SECOND, final=5 * SECOND)
    assert timeline.beat(6 * SECOND) == pytest.approx(12)


def test_a_tempo_leads_and_the_music_s_phase_is_a_figure() -> None:
    metronome, timeline, _ = made(120)
    metronome.note_bars((SECOND / 4, 2 * SECOND), drawn=SECOND, final=0)
    assert timeline.beat(SECOND / 4) == pytest.approx(0.5), "the session's beats stay"
    assert metronome.phase(SECOND) == pytest.approx(-0.5), "the music's bar begins half a beat late"
    metronome.set_tempo(60, at=SECOND)
    assert (timeline.beat(SECOND), timeline.beat(2 * SECOND)) == (pytest.approx(2), pytest.approx(3))
    metronome.set_tempo(0, at=2 * SECOND)
    assert metronome.phase(3 * SECOND) == pytest.approx(0), "back to the music's own"


def test_beats_that_were_heard_are_a_figure_and_lead_nothing() -> None:
    metronome, timeline, _ = made(60)
    assert metronome.phase(SECOND) is None
    metronome.heard = (2.75 * SECOND, 1.0 * SECOND)
    assert metronome.phase(10 * SECOND) == pytest.approx(0.25)
    metronome.heard = (2.75 * SECOND, 0.5 * SECOND)  # twice as many as there are
    assert metronome.phase(10 * SECOND) == pytest.approx(0.25)
    assert timeline.beat(10 * SECOND) == pytest.approx(10)
    metronome.note_bars((SECOND / 4, 4 * SECOND), drawn=SECOND, final=0)
    assert metronome.phase(10 * SECOND) == pytest.approx(-0.25), "who tells its bars is believed"


def test_music_that_begins_anew_begins_a_bar_of_the_session_s_own() -> None:
    metronome, timeline, _ = made(60)
    metronome.begin_bar(5 * SECOND)
    assert timeline.beat(5 * SECOND) == pytest.approx(8)
    assert timeline.beat(6 * SECOND) == pytest.approx(9)


def test_a_source_is_followed_whatever_the_music_does() -> None:
    metronome, timeline, clock = made(60)
    timeline.follow("link", clock() + 0.25, 100.0, 90.0)
    metronome.set_tempo(120, at=0)
    metronome.begin_bar(SECOND)
    assert timeline.beat(0.25 * SECOND) == pytest.approx(100)
    assert timeline.bpm(0) == pytest.approx(90)
    timeline.stop()
    clock.advance(10)
    assert told(metronome, 0)[-1][0] == 114, "beats go on where the music stands"
    timeline.unfollow("midi")
    assert timeline.source == "link"
    timeline.unfollow("link")
    assert (timeline.source, timeline.bpm(0)) == ("internal", pytest.approx(90))
    assert told(metronome, 0) == [], "the session's own stand still as well"


def test_a_count_that_leaps_is_told_from_where_it_landed() -> None:
    metronome, timeline, clock = made(60)
    assert told(metronome, 2 * SECOND)[-1] == (2, 2 * SECOND)
    timeline.follow("link", clock() + 2, 5_000.0, 60.0)
    assert [beat for beat, _ in told(metronome, 2 * SECOND + 10)] == [5_000]
    timeline.follow("link", clock() + 3, 0.0, 60.0)
    assert [beat for beat, _ in told(metronome, 3 * SECOND + 10)] == [0]
