from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from streamgen.checkpoint.code_bias import read_code_bias
from streamgen.checkpoint.words import Heard
from streamgen.pocket.training.arranging import TokenSong
from streamgen.pocket.training.biasing import count, key_tables, log_ratio, place_tables, write_code_bias
from streamgen.pocket.training.compose import FRAMES_PER_STEP

TokenSongs = Callable[[int], TokenSong]


def test_codes_are_counted_one_by_one() -> None:
    codes = torch.randint(0, 9, (4, 200))
    found = count(codes)
    assert found.sum() == codes.numel()
    assert all(found[k, code] == (codes[k] == code).sum() for k in range(4) for code in range(9))


def test_a_ratio_is_against_what_would_be_expected_and_seldom_codes_say_little() -> None:
    counts = torch.tensor([[[90.0, 10.0, 0.0, 0.0]], [[10.0, 90.0, 0.0, 1.0]]], dtype=torch.float64)
    found = log_ratio(counts, shrink=3.0)
    assert found.shape == counts.shape
    assert found[0, 0, 0] == pytest.approx(math.log((90 + 3) / (100 * 100 / 201 + 3)))
    assert found[0, 0, 0] > 0.5 > -0.5 > found[1, 0, 0]
    assert found[0, 0, 2] == 0, "never seen"
    assert abs(found[1, 0, 3]) < 0.2, "seen once"


def test_what_stands_on_sixteenths_is_found_there(token_song: TokenSongs) -> None:
    songs = [token_song(number) for number in range(12)]
    for source in songs:
        source.codes[:, :: FRAMES_PER_STEP[source.song.bpm]] = 7
    for name, table in place_tables(songs).items():
        assert table.shape == (int(name.removeprefix("bar.")) // 16, 4, 1024)
        assert table[0, 0, 7] > 1.0
        assert (table[1:, 0, 7] < -1.0).all()
        assert table[:, :, 8:].abs().mean() < 0.3


def test_what_a_style_never_plays_is_out_of_reach(token_song: TokenSongs) -> None:
    songs = [token_song(number) for number in range(60)]
    for source in songs:
        source.codes[:] %= 8
        source.codes[:, 5] = 9 if source.song.has_drums else 8  # a drum, and what has one of its own
    tables = key_tables(songs)
    for source in songs:
        table, other = tables[f"key.{source.song.style}.{source.song.key}"], 8 if source.song.has_drums else 9
        assert (table[:, other] < -15).all()
        assert (table[:, [7, 17 - other]] > -3).all()


def test_what_is_written_is_read_for_a_prompts_words(tmp_path: Path, token_song: TokenSongs) -> None:
    songs = [token_song(number) for number in range(30)]
    for source in songs:
        source.codes[0, :40] = source.song.tonic  # a code of its own for each key
    write_code_bias(songs, tmp_path)
    bias = read_code_bias(tmp_path, (4, 1024))
    assert bias is not None
    for song in (source.song for source in songs):
        heard = Heard("", song.style, (), song.bpm, song.key, (), (), song.frames_per_bar)
        table, plain = bias.of(heard), bias.bars[song.frames_per_bar].float()
        assert table is not None
        gain = (table - plain).mean(0)[0]
        keys = {other.song.key for other in songs if other.song.style == song.style}
        assert gain[song.tonic] > 0.1 or len(keys) == 1
