"""What a file of words must hold, so that any prompt can be heard by it: looked at once, when a checkpoint is loaded.

    prompt_words.json ─ check_words ─► vocabulary.py

A style that a hint names and that is not there would show in the midst of a concert, with the first prompt that hints.

Rules: pure; knows the file's plain data, not what is made of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from streamgen.errors import quoted

__all__ = ["check_words"]

TONICS = ("C", "D", "E", "F", "G", "A", "B")
MODES = ("major", "minor")
NAMED = {"tempo_changes": ("faster", "slower"), "modes": (*MODES, "another")}
MOST_LOUDNESS_DB = 24  # either way: beyond, it is no music beside the others
MOST_BPM, MOST_BAR_FRAMES = 1_000, 1_000  # at 50 frames a second, a bar of 20 s
LISTS = ("small_words", "joins", "without", "without_before", "never", "nearest", "as_typed")


def check_words(data: Mapping[str, Any]) -> None:
    """Check what a file says, and that what it names is there.

    Raises:
        ValueError: something is wrong; one line.
    """
    tempi = _tempi(_table(data, "bar_frames", least=1))
    styles = _table(data, "styles", least=1)
    for name, style in styles.items():
        _check_style(f"the style {quoted(name)}", style, tempi)
    _one_of(data.get("default_style"), styles, "default_style", "style")
    for name in _table(data, "hints"):
        _one_of(name, styles, "hints", "style")
    for name, entry in _table(data, "instruments").items():
        _check_instrument(f"the instrument {quoted(name)}", entry, styles)
    for bpm in _table(data, "tempi"):
        _one_of(bpm, [str(known) for known in tempi], "tempi", "tempo of bar_frames")
    for name, phrases in (*data["hints"].items(), *data["tempi"].items()):
        _texts(phrases, f"what means {quoted(name)}")
    for tonic in _texts(data.get("tonics"), "tonics", least=1):
        _one_of(tonic, TONICS, "tonics", "note")
    for name, instead in _table(data, "stand_ins", {}).items():
        for style in (*_table(data["stand_ins"], name), *instead.values()):
            _one_of(style, styles, f"stand_ins of {quoted(name)}", "style")
    for entry, known in NAMED.items():
        for name, phrases in _table(data, entry, {}).items():
            _one_of(name, known, entry, "such")
            _texts(phrases, f"what means {quoted(name)}")
    for name in LISTS:
        _texts(data.get(name, []), name)


def _tempi(bars: Mapping[str, Any]) -> list[int]:
    for bpm, frames in bars.items():
        if not (bpm.isascii() and bpm.isdigit() and len(bpm) < 5 and 1 <= int(bpm) <= MOST_BPM):
            raise ValueError(f"bar_frames has {quoted(bpm)}, must be whole beats a minute within 1 … {MOST_BPM}")
        if not (type(frames) is int and 1 <= frames <= MOST_BAR_FRAMES):
            raise ValueError(f"bar_frames of {bpm} is {quoted(frames)}, must be within 1 … {MOST_BAR_FRAMES} frames")
    return [int(bpm) for bpm in bars]


def _check_style(where: str, style: object, tempi: Iterable[int]) -> None:
    if not isinstance(style, dict):
        raise ValueError(f"{where} is {quoted(style)}, must be a table")
    if not isinstance(style.get("say"), str):
        raise ValueError(f"say of {where} is {quoted(style.get('say'))}, must be a text")
    _one_of(style.get("tempo_bpm"), tempi, f"tempo_bpm of {where}", "tempo of bar_frames")
    _one_of(style.get("key"), [f"{tonic} {mode}" for tonic in TONICS for mode in MODES], f"key of {where}", "key")
    parts = style.get("parts")
    if not (isinstance(parts, list) and parts):
        raise ValueError(f"parts of {where} is {quoted(parts)}, must be a list of lists of instruments")
    for part in parts:
        _texts(part, f"a part of {where}", least=1)
    _texts(style.get("moods"), f"moods of {where}")
    _texts(style.get("phrases"), f"phrases of {where}")
    known = {"", *(name for part in parts for name in part), *map(str, tempi), *TONICS}
    _check_loudness(f"loudness_db of {where}", _table(style, "loudness_db", {}), known)


def _check_loudness(where: str, loudness: Mapping[str, Any], known: Iterable[str]) -> None:
    for name, db in loudness.items():
        _one_of(name, known, where, "instrument, tempo or tonic")
        if not (type(db) in (int, float) and abs(db) <= MOST_LOUDNESS_DB):
            limit = f"a number within {-MOST_LOUDNESS_DB} … {MOST_LOUDNESS_DB}"
            raise ValueError(f"{where}: {quoted(name)} is {quoted(db)}, must be {limit}")


def _check_instrument(where: str, entry: object, styles: Mapping[str, Any]) -> None:
    if not isinstance(entry, dict) or "style" not in entry:
        raise ValueError(f"{where} is {quoted(entry)}, must be a table with its style, or null, and phrases")
    if entry["style"] is not None:
        _one_of(entry["style"], styles, f"style of {where}", "style")
    _texts(entry.get("phrases"), f"phrases of {where}")


def _table(data: Mapping[str, Any], name: str, usual: object = None, *, least: int = 0) -> Mapping[str, Any]:
    found = data.get(name, usual)
    if not isinstance(found, dict) or len(found) < least:
        raise ValueError(f"{name} is {quoted(found)}, must be a table{' with something in it' * least}")
    return found


def _texts(found: object, where: str, *, least: int = 0) -> list[str]:
    if isinstance(found, list) and len(found) >= least and all(isinstance(text, str) for text in found):
        return found
    raise ValueError(f"{where} is {quoted(found)}, must be a list of texts{', at least one' * least}")


def _one_of(found: object, known: Iterable[object], where: str, kind: str) -> None:
    names = list(known)
    if found not in names or isinstance(found, bool | float):
        raise ValueError(f"{where}: there is no {kind} {quoted(found)}; there are {', '.join(map(str, names[:20]))}")
