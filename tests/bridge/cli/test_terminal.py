"""What people see: bars on a terminal, lines elsewhere, and nothing for what is quick."""

from __future__ import annotations

import io
import json

import pytest

from bridge.cli import terminal
from bridge.cli.terminal import Progress, print_json, say, table


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(terminal.time, "monotonic", lambda: now[0])
    return now


def test_nothing_is_drawn_in_the_first_two_seconds(clock: list[float]) -> None:
    file = Terminal()
    progress = Progress(10.0, file)
    clock[0] += 1.9
    progress.update(9.0)
    progress.close()
    assert file.getvalue() == ""


def test_a_terminal_gets_a_bar_with_the_realtime_factor_that_is_cleared_at_the_end(clock: list[float]) -> None:
    file = Terminal()
    progress = Progress(20.0, file)
    clock[0] += 4.0
    progress.update(10.0)
    assert file.getvalue() == "\r" + "█" * 12 + "░" * 12 + "  10.0 of 20 s  2.50 × real time  4 s left\x1b[K"
    progress.close()
    assert file.getvalue().endswith("\r\x1b[K")


def test_a_log_gets_a_plain_line_every_ten_seconds(clock: list[float]) -> None:
    file = io.StringIO()
    progress = Progress(100.0, file)
    for tenths in range(1, 301):
        clock[0] = 100 + tenths / 10 + 1e-6
        progress.update(tenths / 10)
    progress.close()
    assert file.getvalue().splitlines() == [
        "2.0 of 100 s  1.00 × real time  98 s left",
        "12.0 of 100 s  1.00 × real time  88 s left",
        "22.0 of 100 s  1.00 × real time  78 s left",
    ]


def test_before_the_first_audio_it_says_so(clock: list[float]) -> None:
    file = io.StringIO()
    progress = Progress(5.0, file)
    clock[0] += 3.0
    progress.update(0.0)
    assert file.getvalue() == "0.0 of 5 s  0.00 × real time  starting\n"


def test_people_read_stderr_and_programs_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    say("hello")
    print_json({"name": "é", "none": None})
    out, err = capsys.readouterr()
    assert err == "hello\n"
    assert out.count("\n") == 1
    assert json.loads(out) == {"name": "é", "none": None}


def test_no_number_that_is_not_json_gets_out() -> None:
    with pytest.raises(ValueError, match="JSON"):
        print_json({"value": float("nan")})


def test_columns_are_as_wide_as_their_widest_cell() -> None:
    assert table([("a", "long one", "x"), ("bcd", "s", "")]) == ["a    long one  x", "bcd  s"]
