"""What waits for a beat: a player on a fake clock, with a model whose bars are one second."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest

import streamgen
from bridge.audio.catalogue import Catalogue
from bridge.audio.conversion import resampler
from bridge.session.commands import Action, EditRack, RackAction, Set, Transport
from bridge.session.events import Beat, Block, Changed, Event, PlayerState, TableChanged, Transported
from bridge.session.player import Player
from bridge.session.timeline import AT_ONCE, Moment, Timeline, quantized
from streamgen.checkpoint.words import Heard
from streamgen.pocket.training import defects
from streamgen.testing import FakeModel

SECOND, FRAME = 48_000, 960
BAR = SECOND


class Rig:
    """A player whose clock moves in hundredths of a second, and all that it told."""

    def __init__(self, model: streamgen.Model, **values: float | str) -> None:
        self.time, self.told = 100.0, list[Block | Event]()
        self.timeline = Timeline(SECOND, lambda: self.time, lambda: 1e9 + self.time)
        start = {"prompt/1/text": "a", "lead_seconds": 1.0, "quantize": "bar", "change_context_seconds": 0.0}
        self.player = Player(model, self.told.append, self.timeline, values=start | values)
        self.player.playback.wanted = True

    def run(self, seconds: float) -> None:
        end = self.time + seconds
        while self.time < end - 1e-9:
            self.player.tick()
            while self.player.playback.needs_audio:
                self.player.make()
            self.time += 0.01

    def of(self, kind: type) -> list:
        return [event for event in self.told if isinstance(event, kind)]

    def audio(self) -> np.ndarray:
        return np.concatenate([block.samples[0] for block in self.of(Block)])


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Rig]]:
    rigs: list[Rig] = []

    def make(**values: float | str) -> Rig:
        model = FakeModel()
        bars = {"125": 96, "": 50}

        def heard(text: str | None) -> Heard | None:
            if text is None:
                return None
            tempo = "125" if "125 bpm" in text else ""
            return Heard(text.split(",")[0] + tempo, "a", (), 240, "C major", (), (), bars[tempo])

        monkeypatch.setattr(model.runtime.prompts, "heard", heard)
        rigs.append(Rig(model, **values))
        return rigs[-1]

    yield make
    for each in rigs:
        each.player.close()


@pytest.mark.parametrize("quantize", ["beat", "bar", "4 bars"])
def test_a_prompt_lands_on_the_next_of_them_to_the_sample(rig: Callable[..., Rig], quantize: str) -> None:
    one, beats = rig(quantize=quantize), {"beat": 1, "bar": 4, "4 bars": 16}[quantize]
    one.run(1.23)
    at = one.player.do(Set({"prompt/1/text": "b"}, "test"))
    assert at % (beats * BAR // 4) == 0
    assert 0 <= at - one.player.landing.soonest <= beats * BAR // 4
    one.run(at / SECOND - 1.23 + 1.0)
    (changed,) = one.of(Changed)
    assert changed.applied_at_sample == at
    assert one.player.generator._stream.controls.mix.dominant == "b"
    assert one.player.generator.bars() == (at * 2 // 3, 32_000), "the music's own bar begins there"
    assert {beat.phase for beat in one.of(Beat)} == {0.0}


def test_a_tempo_that_fits_no_frame_is_met_within_half_a_frame(rig: Callable[..., Rig]) -> None:
    one = rig(tempo=117.3)
    length = 4 * 60 / 117.3 * SECOND
    for text in "bcde":
        one.run(2.3)
        at = one.player.do(Set({"prompt/1/text": text}, "test"))
        assert abs(at - round(at / length) * length) <= FRAME / 2 + 2


def test_knobs_do_not_wait_and_who_says_so_does_not_either(rig: Callable[..., Rig]) -> None:
    one = rig(on_bar=False)
    one.run(1.1)
    assert one.player.do(Set({"gain_db": -3.0}, "test")) <= one.player.output.frontier + FRAME
    assert one.player.do(Set({"prompt/1/text": "b"}, "test", AT_ONCE)) % BAR != 0
    assert one.player.do(Set({"gain_db": -6.0}, "test", quantized(4))) % BAR == 0, "a knob waits where that is said"


def test_a_beat_can_be_named_and_one_that_is_past_is_at_once(rig: Callable[..., Rig]) -> None:
    one = rig(quantize="off", on_bar=False)
    one.run(1.1)
    at = one.player.do(Set({"prompt/1/text": "b"}, "test", Moment(beat=9.0)))
    assert abs(at - 9 * BAR // 4) <= FRAME // 2
    assert one.player.do(Set({"prompt/1/text": "c"}, "test", Moment(beat=1.0))) % BAR != 0


def test_what_waits_far_ahead_moves_with_the_tempo_and_is_one_for_a_knob_in_motion(rig: Callable[..., Rig]) -> None:
    one = rig(tempo=60.0, quantize="8 bars")
    one.run(1.1)
    for weight in (0.2, 0.4, 0.9):
        assert one.player.do(Set({"prompt/2/text": "b", "prompt/2/weight": weight}, "test")) == 32 * SECOND
    assert len(one.player.waiting) == 1
    assert one.of(Changed) == []
    one.player.do(Set({"tempo": 240.0}, "test"))
    beats = one.timeline.beat(one.player.output.frontier)
    one.run((32 - beats) / 4 + 1)
    told = [event for event in one.of(Changed) if "prompt/2/text" in event.values]
    assert [dict(event.values) for event in told] == [{"prompt/2/text": "b", "prompt/2/weight": 0.9}]
    (thirty_two,) = [beat for beat in one.of(Beat) if beat.beat == 32]
    assert abs(told[0].applied_at_sample - thirty_two.applied_at_sample) <= FRAME / 2 + 2


def test_what_could_not_be_played_is_refused_when_it_is_asked_for(rig: Callable[..., Rig]) -> None:
    one = rig(tempo=60.0, quantize="8 bars")
    one.run(0.5)
    with pytest.raises(ValueError, match="prompt"):
        one.player.do(Set({"prompt/1/text": "x" * 1_999}, "test"))
    assert len(one.player.waiting) == 0


def test_the_transport_waits_and_stops_on_the_line(rig: Callable[..., Rig]) -> None:
    one = rig()
    one.run(1.3)
    one.player.do(Transport(Action.PAUSE, "test"))
    assert one.player.playback.state is PlayerState.PLAYING
    one.run(1.0)
    assert one.player.playback.state is PlayerState.PAUSED
    (told,) = one.of(Transported)
    assert told.applied_at_sample == 2 * BAR + round(0.02 * SECOND), "and fades out behind it"
    one.player.do(Transport(Action.PLAY, "test"))
    assert one.player.playback.state is PlayerState.STARTING, (
        "beats of its own stand still with it: nothing to wait for"
    )


def test_the_rack_waits_too(rig: Callable[..., Rig]) -> None:
    one = rig()
    one.run(1.3)
    at = one.player.do(EditRack(RackAction.ADD, "test", effect="equalizer", made=Catalogue().make("equalizer", SECOND)))
    assert at == 2 * BAR
    one.run(0.2)
    assert one.of(TableChanged) == []
    one.run(0.8)
    assert len(one.of(TableChanged)) == 1


def test_where_a_source_leads_music_begins_on_its_beat(rig: Callable[..., Rig]) -> None:
    one = rig()
    one.player.do(Transport(Action.STOP, "test", AT_ONCE))
    one.timeline.follow("link", one.time + 0.111, 7.0, 117.0)
    one.run(0.5)
    one.player.do(Transport(Action.PLAY, "test"))
    one.run(3.0)
    first = one.of(Block)[0]
    beat = 7.0 + (first.time_us / 1e6 - 1e9 - 100.111) * 117 / 60
    assert beat == pytest.approx(round(beat / 4) * 4, abs=1e-4)
    assert one.player.playback.underruns == 0
    at = one.player.do(Set({"prompt/1/text": "b"}, "test"))
    one.run(2.5)
    (line,) = [beat for beat in one.of(Beat) if abs(beat.applied_at_sample - at) <= FRAME // 2 + 2]
    assert line.beat % 4 == 0
    assert abs(line.phase) <= 0.5 * FRAME / BAR * 4 + 0.01, "and what follows begins on the line"


def test_a_tempo_that_the_model_takes_for_the_same_begins_nothing_anew(rig: Callable[..., Rig]) -> None:
    one = rig(quantize="off")
    one.run(1.1)
    ahead = one.player.generator.drawn
    one.player.do(Set({"tempo": 131.0}, "link"))
    assert one.player.generator.drawn == ahead, "nothing was taken back"
    assert one.timeline.bpm(one.player.output.frontier) == pytest.approx(131)
    one.player.do(Set({"tempo": 125.0}, "link"))
    one.run(2.5)
    assert one.player.generator._stream.controls.mix.dominant == "a, 125 bpm"


# -- the shipped checkpoint --------------------------------------------------------------------------------------------


def onsets(audio: np.ndarray) -> np.ndarray:
    """How much louder each band becomes, summed, every 2 ms, as a listener's tracker hears it."""
    windows = np.lib.stride_tricks.sliding_window_view(audio, 512)[::96]
    bands = np.log1p(100 * np.abs(np.fft.rfft(windows * np.hanning(512), axis=1)))
    return np.maximum(np.diff(bands, axis=0), 0).sum(1)


def first_stroke(strength: np.ndarray) -> int:
    """Place of the first peak that is at least half as strong as the strongest."""
    padded = np.pad(strength, 1)
    peaks = (strength >= padded[:-2]) & (strength >= padded[2:]) & (strength >= strength.max() / 2)
    return int(np.flatnonzero(peaks)[0])


@pytest.mark.slow
def test_twenty_prompts_of_pocket_begin_on_their_bars_for_a_listener() -> None:
    """Each one's first onset lies within a codec frame of its bar line, and all of them on one grid of sixteenths.

    The first of half the strongest's strength: the strongest may be a stroke of the music before, or one a frame later
    of music that does not begin with a stroke.
    """
    prompts = ("punchy techno", "drum and bass, drums, 125 bpm", "house, drums", "funk, slap bass, drums")
    one = Rig(streamgen.load_model("pocket"), tempo=125.0, audition=1, **{"prompt/1/text": "techno, drums"})
    try:
        one.run(1.0)
        landed = []
        for number in range(20):
            one.run(0.7 + number % 3 / 2)
            landed.append(one.player.do(Set({"prompt/1/text": prompts[number % 4]}, "test")))
            one.run((landed[-1] - one.player.output.position) / SECOND + 0.3)
        audio, reach = one.audio(), 3 * FRAME // 2
    finally:
        one.player.close()
    bar = 1.92 * SECOND
    assert [at % bar for at in landed] == [0] * 20
    near = [onsets(audio[at - FRAME // 2 : at + reach]) for at in landed]
    firsts = [first_stroke(strength) * 96 + 96 + 256 - FRAME // 2 for strength in near]
    assert max(abs(first) for first in firsts) <= FRAME + 96, firsts
    around = [onsets(audio[at - SECOND // 2 : at + SECOND // 2]) for at in landed]
    assert min(np.mean(more < one.max()) for one, more in zip(near, around, strict=True)) > 0.8, "a real onset"
    assert len(set(landed)) == 20
    model_hz = 32_000
    times, _ = defects.onsets(resampler(SECOND, model_hz, 1).process(audio[None])[0])
    off = (times / 0.12 + 0.5) % 1 - 0.5  # of a sixteenth, from the session's own
    assert len(times) > 100
    assert np.mean(np.abs(off) * 0.12 <= FRAME / SECOND) > 0.95
