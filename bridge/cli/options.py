"""Options made from the tables, checked before torch is loaded; and what they come to.

    settings.OPTIONS ─► --port …            both of them only where they were said: what nobody says is left to the
    music_table()    ─► --temperature …     file and the defaults

Rules: importing this file imports no torch; only load_model() does. No range is spelled here.
"""

from __future__ import annotations

import argparse
import logging
import os
import secrets
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bridge.cli.terminal import say
from bridge.errors import UsageError
from bridge.settings import OPTIONS, Option, Settings, metavar, music_default, music_table
from streamgen import config
from streamgen.config import ControlSpec, Value
from streamgen.errors import StreamgenError

if TYPE_CHECKING:
    from bridge.session.rack_keeper import Beginning
    from streamgen import Model

__all__ = [
    "add_json_option",
    "add_music_options",
    "add_prompt",
    "add_prompt_files",
    "add_settings",
    "beginning",
    "first_values",
    "load_model",
    "number",
    "prompt_files",
    "prompt_of",
    "settings_of",
]

_MODEL = tuple(name for name, option in OPTIONS.items() if option.group == "model")
_PROMPT_FILES = {
    "audio_prompt": "music to continue: its last 30 s at most, less where the model's windows are shorter",
    "melody": "a tune to follow, its first 30 s; melody models only",
    "style": "music to sound like; style models only",
}


def number(low: float, high: float, unit: str = "", whole: bool = False) -> Callable[[str], Value]:
    """Make an argparse type for a number in a range."""
    return _reader(config.number(low, high, low, unit, "", whole=whole))


def _reader(spec: ControlSpec) -> Callable[[str], Value]:
    named = replace(spec, name="it")  # argparse names the option itself

    def read(words: str) -> Value:
        try:
            return named.parse(words)
        except StreamgenError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return read


# -- from the tables ---------------------------------------------------------------------------------------------------


def add_settings(parser: argparse.ArgumentParser, *names: str, model: bool = True) -> None:
    """Add the named settings, and those that choose the model and where it runs."""
    groups: dict[str, Any] = {}
    for name in (*names, *(_MODEL if model else ())):
        option = OPTIONS[name]
        if option.group not in groups:
            groups[option.group] = parser.add_argument_group(option.group)
        _add_option(groups[option.group], option)


def _add_option(group: Any, option: Option) -> None:
    spec = option.spec
    limits = f"; {spec.in_words}" if spec.has_range and spec.type != "bool" and not option.listens else ""
    about = f"{spec.description}{limits} (default: {option.default_in_words})"
    if option.path:
        _add(group, spec, about, type=Path, metavar=option.metavar)
    else:
        _add(group, spec, about, type=_reader(spec), metavar=option.metavar, many=option.many)


def _add(group: Any, spec: ControlSpec, about: str, *, many: bool = False, **how: Any) -> None:
    """Add an option that is in the result only if it was said."""
    flag, words = "--" + spec.name.replace("_", "-"), about.replace("%", "%%")
    common = {"dest": spec.name, "default": argparse.SUPPRESS, "help": words}
    if spec.type == "bool":
        group.add_argument(flag, action=argparse.BooleanOptionalAction, **common)
    elif spec.choices:
        group.add_argument(flag, choices=spec.choices, **common)
    else:
        group.add_argument(flag, action="append" if many else "store", **how, **common)


def add_music_options(parser: argparse.ArgumentParser, without: tuple[str, ...] = ()) -> None:
    """Add an option for each parameter of the music but those named."""
    group = parser.add_argument_group("music")
    for spec in music_table().values():
        if spec.name not in without:
            limits = f"; {spec.in_words}" if spec.has_range and spec.type != "bool" else ""
            about = f"{spec.description}{limits} (default: {music_default(spec)})"
            _add(group, spec, about, type=_reader(spec), metavar=metavar(spec))


def settings_of(args: argparse.Namespace) -> Settings:
    """Put together what was said, the file that --config names and the defaults.

    Raises:
        UsageError: the file says what cannot be.
    """
    said = {name: value for name, value in vars(args).items() if value is not None}
    for name in [name for name, option in OPTIONS.items() if option.many and name in said]:
        said[name] = tuple(said[name])
    return Settings.of(said, said.get("config"))


def first_values(settings: Settings, prompt: str | None, rack: Mapping[str, Value]) -> dict[str, Value]:
    """Return what a session begins with: the prompt, what was said of the music, and a seed that is drawn if need be.

    Args:
        settings: what was said.
        prompt: None is unconditional.
        rack: what the rack's file says of the session; what was said beats it.
    """
    drawn = secrets.randbelow(int(config.CONTROLS["seed"].limits[1]) + 1)
    return {"seed": drawn, **rack, "prompt/1/text": prompt or "", **settings.music}


@contextmanager
def beginning(settings: Settings, deadline_seconds: float | None = None) -> Iterator[Beginning]:
    """Read what the rack begins with, and the scene, before seconds of loading.

    Plugins keep their states in a folder of their own while this lasts.

    Args:
        settings: whose files.
        deadline_seconds: for a plugin's block; None is what live music allows.

    Raises:
        UsageError: the file says what cannot be.
        ConfigError: the scene's does.
    """
    from bridge.audio.plugins.spawn import HostSettings  # needs numpy
    from bridge.session.arranger import read_scene
    from bridge.session.rack_keeper import Beginning

    scene = read_scene(settings.scene)
    with tempfile.TemporaryDirectory(prefix="streamgen-plugins-", ignore_cleanup_errors=True) as folder:
        host = HostSettings(Path(folder))
        if deadline_seconds is not None:
            host = replace(host, deadline_seconds=deadline_seconds)
        yield replace(Beginning.of(settings.rack, host), scene=scene)


# -- what else several commands have -----------------------------------------------------------------------------------


def add_json_option(parser: argparse.ArgumentParser) -> None:
    """Add --json."""
    parser.add_argument("--json", action="store_true", help="print one JSON object, last, on stdout")


def add_prompt(parser: argparse.ArgumentParser) -> None:
    """Add the text, or `None` for unconditional music."""
    parser.add_argument("prompt", nargs="?", metavar="PROMPT", help='what to play, such as "house, 125 bpm, drums"')
    parser.add_argument("--unconditional", action="store_true", help="no text at all, in place of PROMPT")


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
    if not args.prompt.strip():
        raise UsageError("PROMPT is empty: say what to play")
    try:
        return str(replace(OPTIONS["prompt"].spec, name="PROMPT").check(args.prompt))
    except StreamgenError as error:
        raise UsageError(str(error)) from None


def add_prompt_files(parser: argparse.ArgumentParser) -> None:
    """Add the prompts that are files."""
    group = parser.add_argument_group("prompts from files")
    for name, about in _PROMPT_FILES.items():
        group.add_argument("--" + name.replace("_", "-"), type=Path, metavar="FILE", help=about)


def prompt_files(args: argparse.Namespace) -> dict[str, Any]:
    """Read the prompts that are files; returns arguments of `Model.open_stream`.

    Raises:
        UsageError: a file that cannot be used.
    """
    from bridge.audio.audio_in import read_audio  # needs soundfile, which bench and doctor must do without

    options: dict[str, Any] = {}
    for name in _PROMPT_FILES:
        if (path := getattr(args, name)) is not None:
            option, newest = "--" + name.replace("_", "-"), name == "audio_prompt"
            options[name], options[f"{name}_rate_hz"] = read_audio(path, option, newest=newest)
    return options


# -- the model ---------------------------------------------------------------------------------------------------------


def load_model(settings: Settings) -> Model:
    """Load the model that the settings name, saying so, for it takes seconds.

    All that torch does beside it is done on as many threads as it computes on: a command line is nobody's guest.
    """
    say(f"loading {settings.model} …")
    _silence_libraries()
    import torch

    import streamgen

    model = streamgen.load_model(
        settings.model, device=settings.device, precision=settings.precision, threads=settings.threads
    )
    if model.threads is not None:
        torch.set_num_threads(model.threads)
    if not model.has_codec:
        raise streamgen.CheckpointError(
            f"{settings.model} has no codec, so it makes no sound: save the EnCodec it was trained on in its folder "
            "'audio_encoder'; its tokens are to be had in Python (stream.tokens)"
        )
    say(f"loaded on {model.device}: {model.load_note}")
    if settings.model != "pocket":
        for note in model.notes:
            say(note)
    if settings.model == "pocket":
        _name_larger_ones()
    return model


def _name_larger_ones() -> None:
    """Say where Meta's checkpoints are to be had, until there is one on this machine."""
    from streamgen.checkpoint import list_checkpoints

    larger = [known for known in list_checkpoints() if known.name != "pocket"]
    if not any(known.cached for known in larger):
        name, licence = larger[0].name, larger[0].licence
        say(f"pocket is small; Meta's are larger: --model {name}, {licence}; see `streamgen models`")


def _silence_libraries() -> None:
    """Keep the retries of the Hub's client and transformers' remarks off the screen: what matters comes as an error."""
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")  # its import sets the level anew
    for name in ("huggingface_hub", "transformers", "httpx"):
        logging.getLogger(name).setLevel(logging.ERROR)
