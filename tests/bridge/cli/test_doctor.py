"""`streamgen doctor`: one line a check, and a failing check is a line too."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from bridge.cli import doctor
from bridge.doors.sound_card.card import OutputDevice
from bridge.errors import DeviceError
from streamgen.errors import CheckpointError

from ..conftest import ToyModel

Run = Callable[..., Any]

WHAT = [
    "python",
    "libraries",
    "processor",
    "kernels",
    "graphics",
    "sound card",
    "audio files",
    "extras",
    "pocket",
    "Hub cache",
    "speed",
]


def test_every_part_gets_one_line_and_one_json_row(
    run: Run, toy_model: ToyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    checks = {what: (lambda: ("OK", "fine")) if what == "pocket" else check for what, check in doctor._CHECKS.items()}
    monkeypatch.setattr(doctor, "_CHECKS", checks)
    answer = run("doctor", "--json")
    assert answer.code == 0
    assert [row["what"] for row in answer.fields["findings"]] == WHAT
    assert len(answer.err.splitlines()) == len(WHAT)
    assert all(line.startswith(("OK   ", "—    ")) for line in answer.err.splitlines())
    assert "× real time in fp32 on cpu" in answer.err


def test_what_a_check_raises_becomes_its_line_and_the_others_still_run(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> tuple[str, str]:
        raise RuntimeError("two\nlines")

    monkeypatch.setattr(doctor, "_CHECKS", {"one": broken, "two": lambda: ("OK", "fine")})
    answer = run("doctor")
    assert answer.code == 1
    assert [" ".join(line.split()) for line in answer.err.splitlines()] == [
        "FIX one RuntimeError: two lines",
        "OK two fine",
    ]


def test_a_damaged_pocket_says_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    import streamgen.pocket

    def damaged() -> None:
        raise CheckpointError("model.safetensors differs; reinstall streamgen")

    monkeypatch.setattr(streamgen.pocket, "verify_pocket", damaged)
    assert doctor._pocket() == ("FIX", "model.safetensors differs; reinstall streamgen")


def test_no_sound_is_no_fault_for_files_do_without(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> OutputDevice:
        raise DeviceError("no sound device")

    monkeypatch.setattr(doctor, "choose_device", none)
    assert doctor._sound() == ("—", "no sound device; `streamgen render` needs none")


def test_an_extra_that_is_missing_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    extras = {"sound": ("json", "a"), "light": ("no_such_module", "no-such-package")}
    monkeypatch.setattr(doctor, "_EXTRAS", extras)
    assert doctor._extras() == ("—", "sound; for more: pip install no-such-package (light)")
    monkeypatch.setattr(doctor, "_EXTRAS", {"sound": ("json", "a")})
    assert doctor._extras() == ("OK", "sound")


def test_a_missing_file_format_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import soundfile

    monkeypatch.setattr(soundfile, "available_formats", lambda: {"WAV": "", "FLAC": ""})
    assert doctor._files() == ("FIX", "libsndfile writes no OGG: pip install --upgrade soundfile")
    monkeypatch.setattr(soundfile, "available_formats", lambda: {"WAV": "", "FLAC": "", "OGG": ""})
    assert doctor._files()[1].startswith("wav, flac, ogg (libsndfile "), "an old one writes no mp3, and render says so"


def test_slower_than_real_time_is_said_plainly(toy_model: ToyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    toy_model.step_seconds = 0.04  # for 20 ms of audio
    monkeypatch.setattr(doctor.time, "perf_counter", toy_model.clock)
    assert doctor._speed() == (
        "—",
        "pocket makes 0.5 × real time in fp32 on cpu: `render` works, `play` will have gaps",
    )


def test_effects_that_were_not_built_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamgen.kernels.kernels", lambda: SimpleNamespace(instruction_set="avx2"))
    monkeypatch.setattr("bridge.audio.loops.loops", lambda: None)
    assert doctor._kernels() == ("—", "native, for avx2; not those of the effects: install streamgen again")


def test_without_native_kernels_one_line_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamgen.kernels.library.built_for", list)
    monkeypatch.delenv("STREAMGEN_KERNELS", raising=False)
    finding = doctor.examine("kernels", doctor._kernels)
    assert (finding.mark, finding.text) == (
        "—",
        "none, so torch's, several times slower: this streamgen was installed without a C++ compiler: "
        "install one (g++ 11), then streamgen again",
    )
    monkeypatch.setenv("STREAMGEN_KERNELS", "torch")
    assert doctor._kernels() == (
        "—",
        "none, so torch's, several times slower: STREAMGEN_KERNELS is 'torch': unset it to have them",
    )
