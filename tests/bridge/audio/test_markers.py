"""What a recording tells of itself, read by ffmpeg and by a reader of chunks as the specification has them."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile

from bridge.audio.markers import ROOM_BYTES, HeaderSpace, Mark
from bridge.audio.recorder import Recorder

RATE_HZ = 48_000
TAGS = {"title": "rain", "model": "pocket", "seed": "7"}
needs_ffprobe = pytest.mark.skipif(shutil.which("ffprobe") is None, reason="needs ffmpeg")


def take(path: Path, marks: list[Mark], seconds: float = 2.0) -> np.ndarray:
    samples = np.random.default_rng(3).uniform(-0.5, 0.5, (2, round(seconds * RATE_HZ))).astype(np.float32)
    recorder = Recorder(path, RATE_HZ, tags=TAGS)
    for mark in marks:
        recorder.mark(mark.at_sample, mark.text)
    for at in range(0, samples.shape[1], 4_800):
        recorder.write(samples[:, at : at + 4_800])
    recorder.close()
    assert recorder.error is None
    return samples


def cues(path: Path) -> dict[int, str]:
    """Samples of the cues of a WAV and their labels, read chunk by chunk."""
    data, at, found, labels = path.read_bytes(), 12, dict[int, int](), dict[int, str]()
    assert struct.unpack_from("<I", data, 4)[0] == len(data) - 8
    while at < len(data):
        name, size = struct.unpack_from("<4sI", data, at)
        body = data[at + 8 : at + 8 + size]
        if name == b"cue ":
            for number in range(struct.unpack_from("<I", body)[0]):
                one, position, chunk, _, _, offset = struct.unpack_from("<II4sIII", body, 4 + 24 * number)
                assert (chunk, position) == (b"data", offset)
                found[one] = offset
        elif body.startswith(b"adtl"):
            inner = 4
            while inner < size:
                kind, count, one = struct.unpack_from("<4sII", body, inner)
                assert kind == b"labl"
                labels[one] = body[inner + 12 : inner + 8 + count].rstrip(b"\0").decode()
                inner += 8 + count + count % 2
        at += 8 + size + size % 2
    assert at == len(data)
    return {found[one]: labels[one] for one in found}


def probed(path: Path) -> tuple[dict[str, str], dict[float, str]]:
    """Tags and chapters as ffmpeg finds them."""
    command = ["ffprobe", "-v", "error", "-print_format", "json", "-show_format", "-show_chapters", str(path)]
    told = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    tags = {name.lower(): text for name, text in told["format"].get("tags", {}).items()}
    return tags, {float(one["start_time"]): one["tags"]["title"] for one in told["chapters"]}


MARKS = [Mark(0, "rain (seed 7)"), Mark(30_001, "Nachtmusik für später"), Mark(60_000, "rain (seed 8)")]


def test_a_wav_has_a_cue_to_the_sample_for_each_prompt(tmp_path: Path) -> None:
    samples = take(tmp_path / "a.wav", MARKS)
    assert cues(tmp_path / "a.wav") == {mark.at_sample: mark.text for mark in MARKS}
    np.testing.assert_allclose(soundfile.read(tmp_path / "a.wav")[0].T, samples, atol=2e-7)


@needs_ffprobe
@pytest.mark.parametrize("suffix", [".flac", ".wav"])
def test_players_find_tags_and_the_chapters_of_a_flac(tmp_path: Path, suffix: str) -> None:
    take(path := tmp_path / f"a{suffix}", MARKS)
    tags, chapters = probed(path)
    if suffix == ".wav":
        assert (tags["title"], tags["comment"]) == ("rain", "model pocket, seed 7")
        return
    assert {name: tags[name] for name in TAGS} == TAGS
    assert "comment" not in tags, "the room is not seen"
    assert chapters == {0.0: MARKS[0].text, 0.625: MARKS[1].text, 1.25: MARKS[2].text}


def test_a_flac_is_as_sound_as_one_without_marks(tmp_path: Path) -> None:
    samples = take(tmp_path / "a.flac", MARKS)
    np.testing.assert_allclose(soundfile.read(tmp_path / "a.flac")[0].T, samples, atol=2e-7)
    if shutil.which("flac"):
        assert subprocess.run(["flac", "-ts", tmp_path / "a.flac"], check=False).returncode == 0


@pytest.mark.parametrize("suffix", [".flac", ".wav"])
def test_what_has_no_room_is_left_out_and_the_file_stays_whole(
    tmp_path: Path, suffix: str, caplog: pytest.LogCaptureFixture
) -> None:
    many = [Mark(10 * number, f"{number} " + "x" * 395) for number in range(300)]
    samples = take(path := tmp_path / f"a{suffix}", many)
    np.testing.assert_allclose(soundfile.read(path)[0].T, samples, atol=2e-7)
    assert "and has no room for more" in caplog.text
    if suffix == ".wav":
        assert 100 < len(cues(path)) < 300


@pytest.mark.parametrize("suffix", [".flac", ".wav"])
def test_a_recording_that_goes_on_tells_already_what_it_will(tmp_path: Path, suffix: str) -> None:
    recorder = Recorder(path := tmp_path / f"a{suffix}", RATE_HZ, tags=TAGS)
    recorder.mark(0, "rain")
    recorder.write(np.zeros((2, RATE_HZ), np.float32))
    recorder._queue.put(0)
    while recorder._told_marks < 1:
        recorder.write(np.zeros((2, 4_800), np.float32))
        recorder._thread.join(0.05)
    assert b"rain" in path.read_bytes()[: ROOM_BYTES + 200]
    recorder.close()


def test_files_of_others_have_no_room(tmp_path: Path) -> None:
    for suffix in (".flac", ".wav"):
        soundfile.write(tmp_path / f"a{suffix}", np.zeros((100, 2)), RATE_HZ)
        assert HeaderSpace.found(tmp_path / f"a{suffix}") is None
