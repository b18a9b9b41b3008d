"""What is kept of a session's sound, with marks where its prompts change."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from bridge.session import takes
from bridge.session.commands import KeepTake, Set
from bridge.session.events import Block, Changed, Notice
from bridge.session.live_session import LiveSession
from bridge.session.timeline import Moment
from streamgen.errors import ConfigError, StreamgenError

from ..audio.test_markers import cues
from .live import RATE_HZ, Listening, play


async def until(true: Callable[[], object], seconds: float = 20.0) -> None:
    async with asyncio.timeout(seconds):
        while not true():
            await asyncio.sleep(0.01)


def test_a_recording_is_marked_where_prompts_and_seeds_change(tmp_path: Path) -> None:
    at: list[int] = []

    async def scene(session: LiveSession) -> None:
        seed = session.values()["seed"]
        await session.record(tmp_path / "a.wav")
        await until(lambda: session.position_samples() > RATE_HZ // 4)
        for values in ({"prompt/1/text": "techno"}, {"prompt/2/text": "rain", "prompt/2/weight": 0.5}, {"top_k": 3}):
            at.append(await session.do(Set(values, "page", Moment(sample=session.position_samples() + RATE_HZ // 4))))
            await until(lambda: session.position_samples() > at[-1] + 4_800)
        await session.record(None)
        assert cues(tmp_path / "a.wav") == {
            0: f"piano (seed {seed})", at[0]: f"techno (seed {seed})", at[1]: f"techno + rain (seed {seed})",
        }  # fmt: skip

    play(scene)


def test_what_was_heard_last_is_kept_and_everybody_is_told(tmp_path: Path) -> None:
    async def scene(session: LiveSession) -> None:
        ear = Listening()
        session.add(ear)
        await until(lambda: session.timeline.due() > 1.3 * RATE_HZ)
        await session.do(Set({"prompt/1/text": "techno"}, "page"))
        await until(lambda: session.timeline.due() > 2.1 * RATE_HZ)
        await session.do(KeepTake("osc", 2.0))
        (notice,) = [told for told in ear.told(Notice) if told.topic == "kept"]
        (path,) = (tmp_path / "takes").iterdir()
        assert notice.text == f"the last 2 s are {path.name}"
        kept, rate = soundfile.read(path, dtype="float32", always_2d=True)
        assert (rate, len(kept)) == (RATE_HZ, 2 * RATE_HZ)
        heard = ear.audio_so_far
        begins = np.flatnonzero(np.abs(heard[0, : heard.shape[1] - len(kept) + 1] - kept[0, 0]) < 1e-6)
        assert any(np.abs(heard[:, at : at + len(kept)] - kept.T).max() < 1e-6 for at in begins)
        await session.do(KeepTake("osc", 1.0))
        assert len(list((tmp_path / "takes").iterdir())) == 2, "none is written over"
        await session.do(KeepTake("osc", 30.0))
        newest = [told.text for told in ear.told(Notice) if told.topic == "kept"][-1]
        frames = soundfile.info(tmp_path / "takes" / newest.split()[-1]).frames
        assert newest.startswith(f"the last {frames / RATE_HZ:.3g} s are "), "no more than was heard"

    play(scene, takes=tmp_path / "takes")


def test_what_cannot_be_kept_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def nowhere(session: LiveSession) -> None:
        with pytest.raises(ConfigError, match="of the shared session alone"):
            await session.do(KeepTake("page"))

    async def silent(session: LiveSession) -> None:
        with pytest.raises(ConfigError, match="nothing was heard yet"):
            await session.do(KeepTake("page"))
        session.add(Listening())
        await until(lambda: session.timeline.due() > 4_800)
        with pytest.raises(ConfigError, match="seconds is 31, must be within"):
            await session.do(KeepTake("page", 31))
        monkeypatch.setattr(takes, "_MOST_FILES", 1)
        await session.do(KeepTake("page"))
        with pytest.raises(StreamgenError, match="the folder of takes holds 1, the limit"):
            await session.do(KeepTake("page"))

    play(nowhere)
    play(silent, takes=tmp_path)


def test_only_the_last_half_minute_is_held(tmp_path: Path) -> None:
    async def scene(session: LiveSession) -> None:
        kept = takes.Takes(session, tmp_path)
        for at in range(0, 40 * RATE_HZ, RATE_HZ):
            kept.take(Block(np.zeros((2, RATE_HZ), np.float32), at))
        assert sum(block.samples.shape[1] for block in kept._last) <= 31 * RATE_HZ
        kept.take(Block(np.zeros((2, RATE_HZ), np.float32), 90 * RATE_HZ))
        assert len(kept._last) == 1, "what does not follow on is another music"

    play(scene)


def test_changes_while_paused_are_one_mark_however_many(tmp_path: Path) -> None:
    async def scene(session: LiveSession) -> None:
        kept = session._takes
        for number in range(50):
            kept._mark(4_800, f"seed {number}")
        assert [(mark.at_sample, mark.text) for mark in kept._marks] == [(4_800, "seed 49")]

    play(scene)


def test_parts_that_were_told_for_later_and_do_not_come_are_no_marks(tmp_path: Path) -> None:
    async def scene(session: LiveSession) -> None:
        kept, seed = takes.Takes(session, tmp_path / "takes"), session.values()["seed"]
        kept.note(Notice("part", "turn", 24_000))
        await kept.record(tmp_path / "a.wav")
        second = np.zeros((2, RATE_HZ), np.float32)
        kept.take(Block(second, 0))
        for name, at in (("break", 100_000), ("higher", 150_000), ("theme", 90_000), ("break", 240_000)):
            kept.note(Notice("part", name, at))
        kept.take(Block(second, RATE_HZ))
        kept.take(Block(second, 2 * RATE_HZ))
        kept.note(Changed({"arrange": False}, "page", 200_000))
        for start in range(3 * RATE_HZ, 6 * RATE_HZ, RATE_HZ):
            kept.take(Block(second, start))
        await kept.record(None)
        words = f"piano (seed {seed})"
        assert cues(tmp_path / "a.wav") == {0: words, 24_000: f"{words}: turn", 90_000: f"{words}: theme"}
        assert [mark.at_sample for mark in kept._marks] == [24_000, 90_000]


def test_a_mark_that_was_scheduled_is_told_once_though_others_come_sooner(tmp_path: Path) -> None:
    async def scene(session: LiveSession) -> None:
        kept = session._takes
        await session.record(tmp_path / "a.wav")
        await until(lambda: session.position_samples() > RATE_HZ // 4)
        later = Moment(sample=session.position_samples() + RATE_HZ)
        at = await session.do(Set({"prompt/1/text": "drop"}, "automation", later))
        now = await session.do(Set({"prompt/1/text": "rain"}, "page"))
        assert [mark.at_sample for mark in kept._marks][-2:] == [now, at]
        await until(lambda: session.position_samples() > at + 4_800)
        assert [mark.text.split()[0] for mark in kept._marks][-1:] == ["drop"]
        assert kept._recorder is not None
        assert [mark.text.split()[0] for mark in kept._recorder._marks] == ["piano", "drop", "rain"], (
            "the file sorts them"
        )
        await session.record(None)
        marks = cues(tmp_path / "a.wav")
        assert {sample: text.split()[0] for sample, text in marks.items()} == {0: "piano", now: "rain", at: "drop"}

    play(scene)
