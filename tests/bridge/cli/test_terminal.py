"""What people see and do: bars on a terminal, lines elsewhere, nothing for what is quick; warnings; Ctrl-C."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import signal

import pytest

from bridge.cli import terminal
from bridge.cli.terminal import Progress, print_json, say, stop_on_signals, table, warnings_as_lines


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True

    def lines(self) -> list[str]:
        """What was drawn, without the codes that colour it."""
        return [line for line in re.split(r"\x1b\[[0-9;?]*[A-Za-z]|[\r\n]", self.getvalue()) if line.strip()]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(terminal.time, "monotonic", lambda: now[0])
    return now


def test_words_from_elsewhere_do_not_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    say("the server says: \x1b[2J\x9bred\u202e\ta\nb, naïve – 音")
    assert capsys.readouterr().err == "the server says: \\x1b[2J\\x9bred\\u202e\ta\nb, naïve – 音\n"


def test_nothing_is_drawn_in_the_first_two_seconds(clock: list[float]) -> None:
    file = Terminal()
    progress = Progress(10.0, file)
    clock[0] += 1.9
    progress.update(9.0)
    progress.close()
    assert file.getvalue() == ""


def test_a_terminal_gets_a_bar_with_the_realtime_factor_that_is_cleared_at_the_end(
    clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    file = Terminal()
    progress = Progress(20.0, file)
    clock[0] += 4.0
    progress.update(10.0)
    bar, figures = "".join(file.lines()).split("10.0 of 20 s")
    full, *rest = re.findall(r"m([━╸╺]+)\x1b", file.getvalue())  # the first colour is of what is done
    assert (len(full), len("".join(rest))) == (12, 12)
    assert len(bar.strip()) == 24
    assert figures == "  2.50 × real time  4 s left"
    progress.close()
    assert file.getvalue().endswith("\x1b[2K")


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


def test_columns_are_as_wide_as_their_widest_cell_and_nothing_in_them_is_markup() -> None:
    assert table([("a", "long one", "x"), ("bcd", "s", "[b]:smile:")]) == [
        "a    long one  x",
        "bcd  s         [b]:smile:",
    ]
    assert table([("a", "x" * 300)]) == ["a  " + "x" * 300], "a log's lines are not broken"


def test_warnings_of_the_house_are_lines_and_only_there(capsys: pytest.CaptureFixture[str]) -> None:
    log = logging.getLogger("bridge.somewhere")
    with warnings_as_lines():
        log.warning("the engine was %.2f s late", 0.5)
        log.info("all is well")
        logging.getLogger("streamgen").warning("the audio prompt is cut")
    log.warning("nobody reads it")
    assert capsys.readouterr().err.splitlines()[:2] == ["the engine was 0.50 s late", "the audio prompt is cut"]
    assert logging.getLogger("bridge").handlers == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_sets_the_flag_and_nothing_else(number: int) -> None:
    with stop_on_signals() as stop:
        assert not stop
        os.kill(os.getpid(), number)
        assert stop


def test_the_second_signal_interrupts() -> None:
    with stop_on_signals() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        assert stop


def test_handlers_are_put_back() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with stop_on_signals():
        assert signal.getsignal(signal.SIGINT) != before[0]
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
