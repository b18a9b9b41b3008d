from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from streamgen.stream import guard as module
from streamgen.stream.guard import PATIENCE_BLOCKS, Guard, SoundFeatures, fault_of, movement
from streamgen.stream.stream import Stream

RATE, HOP = 32_000, 640
Audio = NDArray[np.float32]
MODEL_SECONDS = 14


def sound(of: str, seconds: float = 5.0) -> Audio:
    at, noise = np.arange(round(seconds * RATE)) / RATE, np.random.default_rng(0)
    beat = (at % 0.5 < 0.1) * np.sin(2 * np.pi * 440 * 2 ** (at // 0.5 % 5 / 12) * at)
    made = {
        "": 0.3 * beat + 0.1 * np.sin(2 * np.pi * 110 * at),
        "silence": 0.0005 * beat,
        "stand-still": 0.1 * np.sin(2 * np.pi * 220 * at) + 0.1 * np.sin(2 * np.pi * 331 * at),
        "drone": 0.2 * np.sin(2 * np.pi * 220 * at) * (1 + 0.5 * np.sin(2 * np.pi * 0.7 * at)),
        "noise": 0.1 * noise.normal(size=len(at)),
        "run-away level": 1.2 * np.sign(np.sin(2 * np.pi * (90 + 30 * (at // 0.5 % 3)) * at)),
    }
    return made[of].astype(np.float32)


def listened(pcm: Audio, piece_frames: int = 7) -> Guard:
    guard = Guard(RATE, HOP, margin_frames=30)
    frames = len(pcm) // HOP
    codes = [frame * frame % 11 for frame in range(frames)]
    for start in range(0, frames, piece_frames):
        guard.listen(pcm[start * HOP : (start + piece_frames) * HOP], codes[start : start + piece_frames])
    return guard


@pytest.mark.parametrize("fault", ["silence", "stand-still", "drone", "noise", "run-away level", ""])
def test_it_hears_what_is_wrong_within_four_seconds_and_nothing_in_music(fault: str) -> None:
    guard = listened(sound(fault))
    assert guard.heard.fault == fault
    assert (guard.heard.mend_frame is None) is (fault == "")
    if fault:
        assert guard.heard.mend_frame is not None
        assert guard.heard.mend_frame - 30 <= 4.3 * RATE / HOP


def test_music_moves_a_drone_hardly_and_silence_not() -> None:
    assert movement(sound(""), RATE) > 0.2
    assert 0.0 < movement(sound("drone"), RATE) < module.DRONE_CHANGE
    assert movement(np.zeros(RATE, np.float32), RATE) == 0.0
    assert movement(sound("", 0.3), RATE) == 0.0


def test_one_code_for_ever_is_a_fault_where_the_sound_hardly_moves_and_none_where_it_does() -> None:
    hardly, moving = SoundFeatures(-20, -22, 0.04, 0.01, 0.95), SoundFeatures(-20, -22, 0.2, 0.01, 0.95)
    assert fault_of((hardly,) * PATIENCE_BLOCKS) == "one code"
    assert fault_of((moving,) * PATIENCE_BLOCKS) == ""


@pytest.mark.parametrize("piece_frames", [1, 5, 12, 25])
def test_what_is_heard_depends_on_the_frames_alone(piece_frames: int) -> None:
    pcm = np.concatenate([sound("", 3), sound("drone", 5)])
    one, other = listened(pcm).heard, listened(pcm, piece_frames).heard
    assert one.blocks == other.blocks
    assert (one.mend_frame, one.fault, one.frame) == (other.mend_frame, other.fault, other.frame)


@pytest.mark.parametrize(("least", "fault"), [(0.0, ""), (0.06, "drone"), (0.03, "")])
def test_what_moves_less_for_ten_seconds_than_its_checkpoint_ever_does_is_a_drone(least: float, fault: str) -> None:
    guard = Guard(RATE, HOP, 30, least)
    change, seconds = np.zeros(0), 0.0
    while guard.heard.mend_frame is None and seconds < 14:
        guard.listen(slow(0.5, seconds), [number % 11 for number in range(25)])
        seconds += 0.5
        change = np.array([block.change for block in guard.heard.blocks[-40:]])
    assert 0.035 < change.mean() < 0.055, "more than a drone of anybody's, less than this checkpoint's music"
    assert guard.heard.fault == fault
    assert (10.0 <= seconds <= 10.5) is bool(fault)


def slow(seconds: float, begin: float) -> Audio:
    """A held chord whose level breathes a little."""
    at = begin + np.arange(round(seconds * RATE)) / RATE
    breath = 1 + 0.8 * np.sin(2 * np.pi * 0.9 * at)
    chord = sum(np.sin(2 * np.pi * hertz * at) for hertz in (220, 277, 330))
    return (0.1 * breath * chord).astype(np.float32)


def test_what_sounded_before_a_change_does_not_count() -> None:
    guard = listened(sound("silence", 3.5))
    guard.forget(175)
    guard.listen(sound("silence", 3.0), [0] * 150)
    assert guard.heard.mend_frame is None
    guard.listen(sound("silence", 1.5), [0] * 75)
    assert guard.heard.fault == "silence"


def test_what_cannot_be_mended_is_tried_ever_more_rarely_and_a_healthy_minute_forgives() -> None:
    guard, waits = Guard(RATE, HOP, 30), []
    for _ in range(3):
        begun = guard.heard.frame
        while guard.heard.mend_frame is None:
            guard.listen(sound("silence", 0.5), [0] * 25)
        waits.append(guard.heard.mend_frame - begun)
        guard.mend(guard.heard.mend_frame)
    assert waits[1] > 0.9 * waits[0]
    assert waits[2] > 1.5 * waits[1]
    assert guard.heard.openings == 3
    assert [one.fault for one in guard.heard.mended] == ["silence"] * 3
    guard.mend(guard.heard.frame + round(61 * RATE / HOP))
    assert guard.heard.patience == PATIENCE_BLOCKS


# -- in a stream ------------------------------------------------------------------------------------------------------


def opened(twin: Any, **controls: Any) -> Stream:
    """A stream of a tiny model that stands still: greedy draws of random weights end in a loop of few codes."""
    stream: Stream = twin.model.open_stream(
        "piano", **{"temperature": 0.0, "context_seconds": 1.0, "seed": 1, "guard": True} | controls
    )
    return stream


def played(stream: Stream, pieces: tuple[int, ...], total: int = MODEL_SECONDS * RATE) -> Audio:
    out, at, count = [], 0, 0
    while count < total:
        samples = min(pieces[at % len(pieces)], total - count)
        out.append(stream.read(samples).samples)
        at, count = at + 1, count + samples
    return np.concatenate(out, axis=1)


@pytest.fixture(scope="module")
def mono(short_twin: Any) -> Any:
    return short_twin("mono")


@pytest.fixture
def strict(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let what random weights play count as a drone."""
    monkeypatch.setattr(module, "DRONE_CHANGE", 10.0)


@pytest.mark.slow
@pytest.mark.usefixtures("strict")
def test_a_dead_stream_begins_anew_at_the_same_frame_however_it_is_read(mono: Any) -> None:
    with opened(mono) as one, opened(mono) as other, opened(mono, guard=False) as unguarded:
        first, second, plain = played(one, (RATE,)), played(other, (500, 9_000, 44_000)), played(unguarded, (RATE,))
        assert one.mended
        assert one.mended == other.mended
        assert one.metrics.mends == len(one.mended)
        np.testing.assert_allclose(first, second, atol=1e-5)
        at = one.mended[0].at_sample
        assert 3.9 * RATE < at < 5.5 * RATE
        before = at - 8 * HOP  # the finer codebooks of the last frames are held, and this codec looks ahead
        np.testing.assert_array_equal(first[:, :before], plain[:, :before])
        assert not np.array_equal(first[:, at : at + RATE], plain[:, at : at + RATE])
        assert unguarded.mended == ()


@pytest.mark.usefixtures("strict")
def test_going_back_takes_back_what_was_mended(mono: Any) -> None:
    with opened(mono, rewind_seconds=8.0) as stream:
        stream.read(3 * RATE)
        mark, saved = stream.mark(), stream.snapshot()
        first = stream.read(4 * RATE).samples
        done = stream.mended
        assert done
        stream.rewind(mark)
        assert stream.mended == ()
        np.testing.assert_array_equal(stream.read(4 * RATE).samples, first)
        assert stream.mended == done
        stream.restore(saved)
        assert stream.mended == ()
        np.testing.assert_array_equal(stream.read(4 * RATE).samples, first)


@pytest.mark.parametrize("after", [False, True], ids=["changed while it lives", "changed after it was begun anew"])
def test_what_is_asked_for_after_a_mend_plays_what_it_plays_elsewhere(mono: Any, after: bool) -> None:
    """And so does an audition, which knows nothing of mends: what it chose is what plays."""
    settings = {"temperature": 1.0, "change_context_seconds": 0.0}
    with opened(mono, **settings) as stream, opened(mono, guard=False, **settings) as elsewhere:
        if after:
            guard = stream._sound.guard
            guard.heard = replace(guard.heard, mend_frame=40, fault="drone")
        drawn = []
        for one in (stream, elsewhere):
            at = one.set(take=3, at_sample=2 * RATE) // HOP
            one.read(4 * RATE)
            drawn.append(one._sound.tokens.frames(at, at + 60))
            at = one.set(prompt="rock", candidate=2, at_sample=5 * RATE) // HOP
            one.read(3 * RATE)
            drawn.append(one._sound.tokens.frames(at, at + 60))
        assert len(stream.mended) == after
        assert torch.equal(drawn[0], drawn[2])
        assert torch.equal(drawn[1], drawn[3])


@pytest.mark.usefixtures("strict")
def test_nothing_is_mended_while_prompts_fade(mono: Any) -> None:
    with opened(mono, glide_seconds=20.0) as stream:
        stream.set(prompt="rock")
        played(stream, (RATE,), 8 * RATE)
        assert stream.mended == ()


def test_another_take_begins_anew_and_the_same_one_changes_nothing(mono: Any) -> None:
    settings = {"temperature": 1.0, "guard": False}
    with opened(mono, **settings) as stream, opened(mono, **settings) as plain:
        at = stream.set(take=1, at_sample=2 * RATE)
        stream.set(take=1, at_sample=3 * RATE)
        first, other = stream.read(4 * RATE).samples, plain.read(4 * RATE).samples
        assert stream._sound.tokens.origin == at // HOP
        before = at - 8 * HOP
        np.testing.assert_array_equal(first[:, :before], other[:, :before])
        assert not np.array_equal(first[:, at:], other[:, at:])


def test_a_take_that_is_named_again_comes_again_wherever_it_begins(mono: Any) -> None:
    with opened(mono, temperature=1.0, guard=False, change_context_seconds=0.0) as stream:
        played = []
        for take, second in ((1, 1), (2, 3), (1, 5)):
            at = stream.set(take=take, at_sample=second * RATE) // HOP
            stream.read((second + 2) * RATE - stream.position_samples)
            played.append(stream._sound.tokens.frames(at, at + 90))
        first, other, again = played
        assert torch.equal(first, again)
        assert not torch.equal(first, other)


@pytest.mark.parametrize("length", [8_000, 2_048, 300, 4])
def test_bands_are_the_means_of_their_parts_of_the_spectrum(length: int) -> None:
    """Twin: band after band. Short blocks have bands that share one number of the transform."""
    guard, sound = Guard(32_000, 640, 0), np.random.default_rng(1).normal(size=length).astype(np.float32)
    width = min(2_048, length)
    windows = np.lib.stride_tricks.sliding_window_view(sound, width)[:: max(width // 2, 1)]
    power = (np.abs(np.fft.rfft(windows * np.hanning(width + 1)[:-1])) ** 2).mean(axis=0) * (4 / width) ** 2
    edges = np.minimum((guard._bands * width / 32_000).astype(int), len(power) - 1)
    slow = [power[low : max(high, low + 1)].mean() for low, high in pairwise(edges)]
    assert np.allclose(guard._spectrum(sound), slow, rtol=1e-12, atol=0)
