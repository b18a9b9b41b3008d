"""Options that several commands share, checked before torch is loaded.

Rules: importing this file imports no torch; only load_model() does. Ranges come from parameters.py.
"""

from __future__ import annotations

import argparse
import logging
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bridge.cli.terminal import say
from bridge.errors import UsageError
from bridge.session.parameters import MAX_TEXT, PARAMETERS, in_words, parse
from bridge.threads import set_threads
from streamgen.config import PRECISIONS, THREADS, Range
from streamgen.errors import ConfigError

if TYPE_CHECKING:
    from streamgen.model import Model

__all__ = [
    "add_json_option",
    "add_model_options",
    "add_music_options",
    "add_prompt",
    "load_model",
    "number",
    "prompt_of",
    "stream_options",
]

_MODELS_OWN = ("guidance_scale", "temperature", "top_k", "top_p", "change_context_seconds")
_DEFAULTS = {"seed": "random"} | dict.fromkeys(_MODELS_OWN, "the model's")
_AUDIO_OPTIONS = ("audio_prompt", "melody")


def number(low: float, high: float, unit: str = "", whole: bool = False) -> Callable[[str], float]:
    """Make an argparse type for a number in a range."""
    return _reader("it", Range(low, high, low, unit, "", whole))


def _reader(name: str, row: Range) -> Callable[[str], float]:
    def read(text: str) -> float:
        try:
            return parse(name, row, text)
        except ConfigError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return read


def add_json_option(parser: argparse.ArgumentParser) -> None:
    """Add --json."""
    parser.add_argument("--json", action="store_true", help="print one JSON object, last, on stdout")


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Add what chooses the model and where it runs."""
    group = parser.add_argument_group("model")
    group.add_argument(
        "--model",
        default="pocket",
        metavar="NAME",
        help="pocket (shipped), a Hub id, or a folder; see `streamgen models`",
    )
    threads = number(THREADS.low, THREADS.high, whole=True)
    group.add_argument(
        "--threads", type=threads, metavar="N", help="of the processor (default: 1 for a small model, else all)"
    )
    group.add_argument("--device", default="auto", metavar="D", help="auto, cpu, cuda, cuda:1, … (default: auto)")
    group.add_argument(
        "--precision", default="auto", choices=PRECISIONS, help="auto takes the best that is real time here"
    )


def add_prompt(parser: argparse.ArgumentParser) -> None:
    """Add the text, or the wish for none."""
    parser.add_argument("prompt", nargs="?", metavar="PROMPT", help='what to play, such as "house, 125 bpm, drums"')
    parser.add_argument("--unconditional", action="store_true", help="no text at all, in place of PROMPT")


def add_music_options(parser: argparse.ArgumentParser, without: tuple[str, ...] = ()) -> None:
    """Add what shapes the music: an option for each musical parameter but those named, and the other prompts."""
    group = parser.add_argument_group("music")
    for name, row in ((name, row) for name, row in PARAMETERS.items() if name not in without):
        group.add_argument(
            "--" + name.replace("_", "-"),
            type=_reader("it", row),
            metavar="N" if row.whole else "X",
            help=f"{row.description}; {in_words(row)} (default: {_DEFAULTS.get(name, f'{row.default:g}')})",
        )
    group.add_argument("--negative-prompt", metavar="TEXT", help="what to keep away from")
    group.add_argument("--audio-prompt", type=Path, metavar="FILE", help="music to continue")
    group.add_argument("--melody", type=Path, metavar="FILE", help="a tune to follow; melody models only")


def prompt_of(args: argparse.Namespace) -> str | None:
    """Give the prompt; None is unconditional.

    Raises:
        UsageError: neither or both of PROMPT and --unconditional, or a prompt that is empty or too long.
    """
    if args.unconditional:
        if args.prompt is not None:
            raise UsageError(f"PROMPT is {args.prompt!r} and --unconditional is set: choose one")
        return None
    if args.prompt is None:
        raise UsageError('no PROMPT: say what to play, such as "house, 125 bpm, drums", or --unconditional')
    return _checked_text("PROMPT", args.prompt)


def _checked_text(name: str, text: str) -> str:
    if not text.strip():
        raise UsageError(f"{name} is empty: say what to play")
    if len(text) > MAX_TEXT:
        raise UsageError(f"{name} has {len(text)} characters: at most {MAX_TEXT} are read")
    return text


def stream_options(args: argparse.Namespace) -> dict[str, Any]:
    """Give what Model.open_stream takes, with files read and a seed drawn if none was given.

    Raises:
        UsageError: a text or a file that cannot be used.
    """
    options: dict[str, Any] = {"prompt": prompt_of(args)}
    options |= {name: getattr(args, name) for name in PARAMETERS if getattr(args, name, None) is not None}
    options.setdefault("seed", secrets.randbelow(int(PARAMETERS["seed"].high) + 1))
    if args.negative_prompt is not None:
        options["negative_prompt"] = _checked_text("--negative-prompt", args.negative_prompt)
    from bridge.audio.audio_in import read_audio  # needs soundfile, which bench and doctor must do without

    for name in _AUDIO_OPTIONS:
        path = getattr(args, name)
        if path is not None:
            options[name], options[f"{name}_rate_hz"] = read_audio(path, "--" + name.replace("_", "-"))
    return options


def load_model(args: argparse.Namespace) -> Model:
    """Load the model the options name, saying so, for it takes seconds."""
    say(f"loading {args.model} …")
    _silence_libraries()
    from streamgen.checkpoint.find import find_folder

    set_threads(args.threads, find_folder(args.model))  # before torch is imported
    import streamgen

    model = streamgen.load_model(args.model, device=args.device, precision=args.precision, threads=args.threads)
    say(f"loaded on {model.device}: {model.load_note}")
    if args.model == "pocket":
        _name_larger_ones()
    return model


def _name_larger_ones() -> None:
    """Say where Meta's checkpoints are to be had, until there is one on this machine."""
    from streamgen.checkpoint.known import list_checkpoints

    larger = [known for known in list_checkpoints() if known.name != "pocket"]
    if not any(known.cached for known in larger):
        name, licence = larger[0].name, larger[0].licence
        say(f"pocket is small; Meta's are larger: --model {name} ({licence}), see `streamgen models`")


def _silence_libraries() -> None:
    """Keep the retries of the Hub's client and transformers' remarks off the screen: what matters comes as an error."""
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")  # its import sets the level anew
    for name in ("huggingface_hub", "transformers", "httpx"):
        logging.getLogger(name).setLevel(logging.ERROR)
