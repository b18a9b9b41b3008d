"""Titles in the stream and playlists, by their bytes."""

from __future__ import annotations

import numpy as np

from bridge.doors.radio.icy import METAINT, Interleaver, m3u, pls


def taken_apart(stream: bytes) -> tuple[bytes, list[str]]:
    """Read a stream as players do: its sound, and its titles."""
    sound, titles, at = b"", [], 0
    while at < len(stream):
        sound, at = sound + stream[at : at + METAINT], at + METAINT
        if at < len(stream):
            size = 16 * stream[at]
            titles += [stream[at + 1 : at + 1 + size].rstrip(b"\0").decode()] if size else []
            at += 1 + size
    return sound, titles


def test_titles_come_where_players_look_for_them_and_once_each() -> None:
    data = np.random.default_rng(0).integers(0, 256, 100_000, np.uint8).tobytes()
    put, out, at = Interleaver(), b"", 0
    for size in np.random.default_rng(1).integers(0, 9_000, 1_000):
        out += put.process(data[at : at + size], "one" if at < 50_000 else "two")
        at += int(size)
    sound, titles = taken_apart(out)
    assert sound == data
    assert titles == ["StreamTitle='one';", "StreamTitle='two';"]


def test_a_title_cannot_end_itself_and_a_long_one_is_cut() -> None:
    _, titles = taken_apart(Interleaver().process(bytes(METAINT + 1), "it's'; StreamUrl='x"))
    assert titles == ["StreamTitle='it’s’; StreamUrl=’x';"]
    _, (long,) = taken_apart(Interleaver().process(bytes(METAINT + 1), "ü" * 5_000))
    assert long.startswith("StreamTitle='üüü")
    assert long.endswith("ü';")


def test_playlists_name_the_stream() -> None:
    url = "http://10.0.0.1:8711/listen.mp3?token=x"
    assert m3u(url, "streamgen").splitlines() == ["#EXTM3U", "#EXTINF:-1,streamgen", url]
    assert f"File1={url}" in pls(url, "streamgen").splitlines()
