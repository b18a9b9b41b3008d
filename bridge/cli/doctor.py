"""`streamgen doctor`: what works on this machine, and what to do about what does not.

Rules: each check stands alone and turns its own failure into a line; one bad part never hides the others.

    OK    it works          —    optional, or nothing to do here          FIX   it does not work: what to do
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path

from bridge.cli.options import add_json_option
from bridge.cli.terminal import print_json, say, table
from bridge.doors.sound_card.card import choose_device
from bridge.errors import DeviceError
from streamgen.errors import StreamgenError

__all__ = ["Finding", "add_arguments", "examine", "run"]

_TRIAL_SECONDS = 2.0
_EXTRAS = {  # what each is for: its module, and the package that brings it
    "Opus and radio": ("av", "av"),
    "plugins": ("minihost", "minihost"),
    "MIDI": ("rtmidi", "python-rtmidi"),
    "JACK": ("jack", "JACK-Client"),
    "--announce": ("zeroconf", "zeroconf"),
}


@dataclass(frozen=True)
class Finding:
    """One line: mark is OK, — or FIX."""

    mark: str
    what: str
    text: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's options."""
    add_json_option(parser)


def run(args: argparse.Namespace) -> int:
    """Examine everything; 1 if anything is to be fixed."""
    findings = []
    for what, check in _CHECKS.items():
        findings.append(examine(what, check))
        for line in table([(findings[-1].mark.ljust(3), what.ljust(_WIDTH), findings[-1].text)]):
            say(line)
    if args.json:
        print_json({"findings": [asdict(finding) for finding in findings]})
    return int(any(finding.mark == "FIX" for finding in findings))


def examine(what: str, check: Callable[[], tuple[str, str]]) -> Finding:
    """Run one check; whatever it raises becomes its line, for a doctor must not faint."""
    try:
        mark, text = check()
    except Exception as error:  # noqa: BLE001 - the line names it
        return Finding("FIX", what, f"{type(error).__name__}: {' '.join(str(error).split())}")
    return Finding(mark, what, text)


def _python() -> tuple[str, str]:
    return "OK", f"{platform.python_version()}, {platform.system()} {platform.machine()}"


def _libraries() -> tuple[str, str]:
    import torch
    import transformers

    return "OK", f"torch {torch.__version__}, transformers {transformers.__version__}"


def _processor() -> tuple[str, str]:
    import torch

    flags = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "avx512_vnni") if flag in _cpu_flags()]
    threads = f"{torch.get_num_threads()} threads of {os.cpu_count()} cores"
    return "OK", f"{threads}, {torch.backends.cpu.get_cpu_capability()}{': ' * bool(flags)}{' '.join(flags)}"


def _kernels() -> tuple[str, str]:
    from streamgen.kernels import kernels, why_none

    library = kernels()
    if library is None:
        return "—", f"none, so torch's, several times slower: {why_none()}"
    from bridge.audio.loops import loops

    if loops() is None:
        return "—", f"native, for {library.instruction_set}; not those of the effects: install streamgen again"
    return "OK", f"native, for {library.instruction_set}"


def _cpu_flags() -> set[str]:
    info = Path("/proc/cpuinfo")  # Linux only; elsewhere torch's own word for the capability must do
    lines = info.read_text().splitlines() if info.exists() else []
    return {flag for line in lines if line.startswith(("flags", "Features")) for flag in line.split()}


def _graphics() -> tuple[str, str]:
    import torch

    if not torch.cuda.is_available():
        return "—", "no CUDA device; the processor does the work"
    name, memory = torch.cuda.get_device_name(), torch.cuda.get_device_properties(0).total_memory
    return "OK", f"{name}, {memory / 1e9:.0f} GB"


def _sound() -> tuple[str, str]:
    try:
        device = choose_device()
    except DeviceError as error:
        return "—", f"{error}; `streamgen render` needs none"
    return "OK", f"{device.name} ({device.host_api}, {device.sample_rate_hz} Hz)"


def _files() -> tuple[str, str]:
    import soundfile

    there = set(soundfile.available_formats())
    missing = {"WAV", "FLAC", "OGG"} - there
    if missing:
        return "FIX", f"libsndfile writes no {', '.join(sorted(missing))}: pip install --upgrade soundfile"
    return "OK", f"wav, flac, ogg{', mp3' * ('MP3' in there)} (libsndfile {soundfile.__libsndfile_version__})"


def _extras() -> tuple[str, str]:
    missing = {what: package for what, (module, package) in _EXTRAS.items() if find_spec(module) is None}
    here = ", ".join(what for what in _EXTRAS if what not in missing) or "none here"
    wanted = ", ".join(f"pip install {package} ({what})" for what, package in missing.items())
    return ("—", f"{here}; for more: {wanted}") if missing else ("OK", here)


def _pocket() -> tuple[str, str]:
    from streamgen.pocket import pocket_folder, verify_pocket

    try:
        verify_pocket()
    except StreamgenError as error:
        return "FIX", f"{error}"
    size = sum(file.stat().st_size for file in pocket_folder().rglob("*") if file.is_file())
    return "OK", f"the shipped checkpoint is whole, {size / 1e6:.0f} MB"


def _hub() -> tuple[str, str]:
    from huggingface_hub.constants import HF_HUB_CACHE

    from streamgen.checkpoint import list_checkpoints

    cached = [row.name for row in list_checkpoints() if row.cached and row.name != "pocket"]
    return (
        "OK" if cached else "—"
    ), f"{', '.join(cached) or 'no other checkpoint downloaded yet'}; cache: {HF_HUB_CACHE}"


def _speed() -> tuple[str, str]:
    import streamgen

    model = streamgen.load_model("pocket")
    with closing(model.open_stream(prompt="house, 125 bpm, drums", seed=0)) as stream:
        chunks = stream.chunks(seconds=0.1)
        next(chunks)
        began, audio = time.perf_counter(), 0.0
        while audio < _TRIAL_SECONDS:
            audio += next(chunks).seconds
    factor = audio / (time.perf_counter() - began)
    text = f"pocket makes {factor:.1f} × real time in {model.precision} on {model.device}"
    return ("OK", text) if factor >= 1 else ("—", f"{text}: `render` works, `play` will have gaps")


_CHECKS: dict[str, Callable[[], tuple[str, str]]] = {
    "python": _python,
    "libraries": _libraries,
    "processor": _processor,
    "kernels": _kernels,
    "graphics": _graphics,
    "sound card": _sound,
    "audio files": _files,
    "extras": _extras,
    "pocket": _pocket,
    "Hub cache": _hub,
    "speed": _speed,
}
_WIDTH = max(map(len, _CHECKS))
