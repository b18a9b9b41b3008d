"""One table of settings: who says it counts, not what is said; a wrong file is one line; the docs are generated."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import get_type_hints

import pytest

from bridge import settings
from bridge.errors import UsageError
from bridge.session.parameters import session_table
from bridge.settings import OPTIONS, Settings, music_table, reference
from streamgen.config import number


@pytest.fixture
def stage(tmp_path: Path) -> Path:
    return tmp_path / "stage.toml"


def test_a_file_fills_in_and_the_command_line_wins_even_with_the_default(stage: Path) -> None:
    stage.write_text('port = 9001\nhost = "localhost"\ntemperature = 0.5\nseed = 3\n')
    found = Settings.of({"port": 8711, "seed": 0}, stage)
    assert (found.port, found.host, found.osc_port) == (8711, "localhost", 8712)
    assert found.music == {"temperature": 0.5, "seed": 0}
    assert found.said == {"port", "seed"}


def test_a_scene_that_is_named_is_played_unless_somebody_says_otherwise(stage: Path) -> None:
    scene = Path("scene.toml")
    assert Settings.of({"scene": scene}).music == {"arrange": True}
    assert "arrange" in Settings.of({"scene": scene}).said, "it beats what was kept"
    assert Settings.of({"scene": scene, "arrange": False}).music == {"arrange": False}
    assert Settings.of({"scene": None}).music == {}
    stage.write_text('scene = "scene.toml"\n')
    assert Settings.of({}, stage).music == {"arrange": True}
    assert Settings.of({"arrange": False}, stage).music == {"arrange": False}
    assert Settings.of({}, stage).said == frozenset()


def test_every_kind_of_value_comes_in_its_type(stage: Path) -> None:
    stage.write_text(
        'insecure = true\nallow_origin = ["https://a.example", "https://b.example"]\nrecord = "take.flac"\n'
        'latency = 1\nthreads = 2\nsession-rate = 44_100\noutput = "Speakers"\nmute = true\n'
    )
    found = Settings.of({}, stage)
    assert found == replace(
        Settings(), insecure=True, allow_origin=("https://a.example", "https://b.example"), record=Path("take.flac"),
        latency=1.0, threads=2, session_rate=44_100, output="Speakers", music={"mute": True},
    )  # fmt: skip
    assert isinstance(found.latency, float)


@pytest.mark.parametrize(
    ("text", "soundcard"),
    [("no_soundcard = true", False), ("no_soundcard = false", True), ("soundcard = false", False)],
)
def test_a_switch_is_named_as_on_the_command_line_or_plainly(stage: Path, text: str, soundcard: bool) -> None:
    stage.write_text(text)
    assert Settings.of({}, stage).soundcard is soundcard


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("port = 99999", "port is 99999, must be within 0 … 65535; change it there, or leave it out (8711)"),
        ('port = "8711"', "port is the text '8711', must be a number within 0 … 65535"),
        ("port = true", "port is True, must be within 0 … 65535"),
        ("session_rate = 8000", "session_rate is 8000, must be within 32000 … 96000 Hz"),
        ("host = 1", "host is 1, must be a text"),
        ('insecure = "yes"', "insecure is 'yes', must be true or false"),
        ("allow_origin = [1]", "allow_origin is 1, must be a text"),
        ('precision = "fp8"', "precision is 'fp8', must be one of auto, fp32, bf16, fp16, int8, int6, mixed, int4"),
        ("temperature = 9", "temperature is 9, must be within 0 … 5; change it there, or leave it out (1)"),
        ("top_k = 2.5", "top_k is 2.5, must be a whole number"),
        ("[music]\ntop_k = 2", "music is {'top_k': 2}, but there is no such setting"),
        ("volume = 3", "volume is 3, but there is no such setting; `streamgen serve --help` names them all"),
        ("tokn = 3", "tokn is 3, but there is no such setting; do you mean 'token'?"),
        ("music = 1", "there is no such setting"),
        ("said = 1", "there is no such setting"),
        ("port = ", "cannot be read"),
    ],
)
def test_what_is_wrong_in_a_file_is_one_line_with_its_remedy(stage: Path, text: str, words: str) -> None:
    stage.write_text(text)
    with pytest.raises(UsageError) as error:
        Settings.of({}, stage)
    line = str(error.value)
    assert line.startswith(f"--config {str(stage)!r}")
    assert words in line
    assert "\n" not in line


def test_a_file_that_is_not_there_or_no_text_is_told(tmp_path: Path) -> None:
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    for name in ("none.toml", "binary.toml"):
        with pytest.raises(UsageError, match="cannot be read"):
            Settings.of({}, tmp_path / name)


def test_the_defaults_pass_their_own_checks_and_have_their_types() -> None:
    hints = get_type_hints(Settings)
    for name, option in OPTIONS.items():
        value = getattr(Settings(), name)
        assert value == option.default
        if value is not None:
            assert isinstance(value, getattr(hints[name], "__origin__", hints[name]))
        if value:
            assert option.check(value) == value
    assert set(OPTIONS) == {field.name for field in fields(Settings)} - {"music", "said"}


def test_every_option_and_key_stands_in_the_documentation() -> None:
    rows = {row.key: row for row in reference()}
    assert list(rows) == [*OPTIONS, *music_table()]
    assert all(row.description and row.option.startswith("--") and row.default and row.takes for row in rows.values())
    assert rows["port"] == settings.Row("--port N", "port", "0 … 65535", "8711", "page, WebSocket, HTTP")
    assert rows["soundcard"].option == "--soundcard, --no-soundcard"
    assert (rows["record"].takes, rows["record"].default) == ("a file", "no recording")
    assert (rows["seed"].default, rows["temperature"].default) == ("random", "1, or the model's")
    assert rows["master"].default == "off, with pocket gentle"
    assert (rows["gain_db"].takes, rows["gain_db"].default) == ("-60 … 12 dB", "0")


def test_a_parameter_added_to_the_sessions_table_is_a_setting(monkeypatch: pytest.MonkeyPatch, stage: Path) -> None:
    sparkle = replace(number(0, 10, 2, "", "how much it glitters"), name="sparkle")
    monkeypatch.setattr(settings, "session_table", lambda: session_table() | {"sparkle": sparkle})
    stage.write_text("sparkle = 7\n")
    assert Settings.of({}, stage).music == {"sparkle": 7.0}
    assert reference()[-1] == settings.Row("--sparkle X", "sparkle", "0 … 10", "2", "how much it glitters")


def test_names_of_settings_and_of_the_music_do_not_collide() -> None:
    assert not set(OPTIONS) & set(music_table())
