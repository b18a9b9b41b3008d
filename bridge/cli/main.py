"""`streamgen …`: which command, and which exit code.

Rules: importing this file imports neither torch nor numpy, so `--help` answers at once; a command's own file is
imported when that command is asked for. Exit codes: 0 done, 1 failed while running, 2 wrong use. Errors are one line
on stderr.
"""

from __future__ import annotations

import argparse
import atexit
import difflib
import gc
import importlib
import re
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NoReturn, Protocol, cast

from bridge.cli.terminal import lenient_output, say, warnings_as_lines
from bridge.errors import BridgeError, UsageError
from bridge.threads import wait_asleep

__all__ = ["main"]

_COMMANDS = {
    "render": "text to an audio file",
    "play": "text to the sound card, the prompt changeable while it plays",
    "serve": "the service: page, WebSocket, OSC, sound card, all on one session",
    "listen": "play or save what a server sends",
    "certificate": "TLS for this machine's names and addresses, so that phones trust the page",
    "convert": "a checkpoint in the other format: transformers' or audiocraft's",
    "layouts": "surfaces and scripts for TouchOSC, REAPER, Max, Pd, Tidal and others, with every parameter",
    "models": "checkpoints known here, what they are, their licence",
    "plugins": "VST3, LV2 and AU plugins for the rack: scan, list, show",
    "devices": "sound devices, by host API",
    "doctor": "what works on this machine, and what to install",
    "bench": "how fast this machine is",
}

_NAMES = ", ".join(_COMMANDS)
_OTHER_NAMES = {  # of options, as other programs call them
    "bpm": "tempo", "duration": "seconds", "length": "seconds", "time": "seconds", "o": "out", "output": "out",
    "volume": "gain-db", "cfg": "guidance-scale", "gpu": "device", "checkpoint": "model", "m": "model",
}  # fmt: skip
_ABOUT = "MusicGen, live: text in, endless stereo music out."
_EPILOG = """`streamgen COMMAND --help` tells a command's options.
To begin: streamgen render "house, 125 bpm, drums and synth bass" --seconds 20 --out music.wav"""


class _Command(Protocol):
    """What each command's file offers."""

    __doc__: str | None

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the command's options."""

    def run(self, args: argparse.Namespace) -> int:
        """Do it; returns the exit code."""


class _Parser(argparse.ArgumentParser):
    """argparse, with one line for an error instead of usage and error."""

    def error(self, message: str) -> NoReturn:
        end = "" if message.endswith("?") else f"; see `{self.prog} --help`"  # who asks what was meant has said enough
        self.exit(2, f"{self.prog}: {message}{end}\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code.

    Args:
        argv: the words after the program's name; None takes the process's own.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    wait_asleep()
    lenient_output()
    atexit.register(gc.freeze)  # else Python's end looks through a million objects once more, a second of computing
    try:
        with _ended_as_by_hand(), warnings_as_lines():
            return _dispatch(words)
    except KeyboardInterrupt:
        return _fail("interrupted", 1)
    except UsageError as error:
        return _fail(str(error), 2)
    except BridgeError as error:
        return _fail(str(error), 1)


@contextmanager
def _ended_as_by_hand() -> Iterator[None]:
    """Let SIGTERM do what Ctrl-C does, so that temporary folders go and files are closed whoever ends the command."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _dispatch(words: list[str]) -> int:
    if not words or words[0] not in _COMMANDS:
        return _overview(words)
    name = words[0]
    command = cast(_Command, importlib.import_module(f"bridge.cli.{name}"))
    parser = _Parser(prog=f"streamgen {name}", description=_COMMANDS[name], allow_abbrev=False)
    command.add_arguments(parser)
    args, strange = parser.parse_known_args(words[1:])
    if strange:
        parser.error(f"unrecognized arguments: {' '.join(strange)}{_meant(parser, args, strange)}")
    return _run(command, args)


def _meant(parser: argparse.ArgumentParser, args: argparse.Namespace, strange: Sequence[str]) -> str:
    """Say what was probably meant: an option with a typo, or a prompt without its quotes; "" where nobody knows."""
    options = re.findall(r"--[a-z][a-z-]*", parser.format_usage())
    for word in strange:
        if word.startswith("-") and (near := _nearest(word.partition("=")[0].lstrip("-"), options)):
            return f"; did you mean {near}?"
    if strange[0].startswith("-"):  # what follows is its value
        return ""
    said = [str(getattr(args, "prompt", None) or ""), *strange]
    prompt = " ".join(word for word in said if word and not word.startswith("-"))
    if getattr(args, "prompt", None) and prompt != args.prompt:
        return f'; a prompt of several words stands in quotes: "{prompt}"'
    return f'; a prompt is said as --prompt "{prompt}"' if prompt and "--prompt" in options else ""


def _nearest(name: str, options: Sequence[str]) -> str:
    """The option that a name without its dashes is another word for, or nearly is; "" where there is none."""
    if (same := f"--{_OTHER_NAMES.get(name, name)}") in options:
        return same
    near = difflib.get_close_matches(name, [option[2:] for option in options], n=1, cutoff=0.7)
    return f"--{near[0]}" if near else ""


def _run(command: _Command, args: argparse.Namespace) -> int:
    from streamgen.errors import (  # its package needs numpy: too slow for --help
        ConfigError,
        PromptError,
        StreamgenError,
    )

    try:
        return command.run(args)
    except (ConfigError, PromptError) as error:
        return _fail(str(error), 2)
    except StreamgenError as error:
        return _fail(str(error), 1)


def _overview(words: list[str]) -> int:
    parser = _Parser(prog="streamgen", description=_ABOUT, epilog=_EPILOG)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--version", action="store_true", help="print the version")
    if words and not words[0].startswith("-"):
        near = difflib.get_close_matches(words[0], _COMMANDS, n=1)
        parser.error(f"no command {words[0]!r}; " + (f"did you mean {near[0]}?" if near else f"there are {_NAMES}"))
    commands = parser.add_subparsers(title="commands", dest="command", metavar="COMMAND")
    for name, line in _COMMANDS.items():
        commands.add_parser(name, help=line)
    args = parser.parse_args(words)
    if not args.version:
        parser.error(f"no command: choose one of {_NAMES}")
    from importlib.metadata import version

    print(version("streamgen"))
    return 0


def _fail(line: str, code: int) -> int:
    say("streamgen: " + " ".join(line.split()))
    return code


if __name__ == "__main__":
    sys.exit(main())
