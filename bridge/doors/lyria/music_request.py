"""What a Lyria client asks for, in the session's own parameters, and what of it cannot be. No I/O.

    weightedPrompts          ─► prompt/1 … 8, the heaviest at weight 1
    bpm, scale               ─► tempo, words of a key: only when the context begins anew, as at Google's
    density, mute…, only…    ─► words in every prompt, and negative_prompt
    brightness, muteBass     ─► an equalizer in the session's rack
    temperature, topK, seed, guidance                              left out: the checkpoint's own

Rules: plain values; every request that is not honoured in full is told in words, once for each message.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from streamgen.config import MAX_PROMPTS, MAX_TEXT, ControlSpec, Value

__all__ = ["MusicRequest"]

_NUMBERS = {
    "temperature": (0.0, 3.0, "temperature"),
    "topK": (1, 1000, "top_k"),
    "guidance": (0.0, 6.0, "guidance_scale"),
    "seed": (0, 2**31 - 1, "seed"),
}
_RANGES = {"bpm": (60, 200), "density": (0.0, 1.0), "brightness": (0.0, 1.0)}
_FLAGS = ("muteBass", "muteDrums", "onlyBassAndDrums")
_KEYS = ["C", "D_FLAT", "D", "E_FLAT", "E", "F", "G_FLAT", "G", "A_FLAT", "A", "B_FLAT", "B"]
_MODES = ("QUALITY", "DIVERSITY", "VOCALIZATION", "MUSIC_GENERATION_MODE_UNSPECIFIED")
_BRIGHTNESS_DB, _BASS_DB = 12.0, -18.0
_IN_PART = {
    "muteBass": "the equalizer takes the low end away, and the prompt says so",
    "muteDrums": "as far as the prompt's words go",
    "onlyBassAndDrums": "as far as the prompt's words go",
    "density": "as far as the prompt's words go: sparse, as it is, dense",
}
_TEMPO_LETTERS = len(", 200 bpm")  # which the session adds


@dataclass
class MusicRequest:
    """What one client has asked for so far.

    Attributes:
        prompts: texts with weights, as they came.
        config: the newest configuration, as it came.
        warnings: what was not honoured in full and not told yet.
    """

    prompts: tuple[tuple[str, float], ...] = ()
    config: Mapping[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    _context: Mapping[str, Any] = field(default_factory=dict)  # bpm and scale of the music that plays

    def prompt(self, weighted: tuple[tuple[str, float], ...]) -> None:
        """Take other prompts; the newest take the place of all before."""
        sounding = [(text, weight) for text, weight in weighted if text.strip() and weight > 0]
        if len(sounding) < len(weighted):
            self.warnings.append("prompts of weight 0 or less, or without words, are silent")
        if len(sounding) > MAX_PROMPTS:
            self.warnings.append(f"the {MAX_PROMPTS} heaviest of {len(sounding)} prompts sound")
            sounding = sorted(sounding, key=lambda prompt: -prompt[1])[:MAX_PROMPTS]
        if sounding:
            self.prompts = tuple(sounding)
        else:
            self.warnings.append("no prompt sounds: those before go on")

    def configure(self, fields: Mapping[str, Any]) -> None:
        """Take another configuration, whole: what is not in it is as at the beginning."""
        self.config = {name: value for name, value in fields.items() if self._usable(name, value)}
        waits = [name for name in ("bpm", "scale") if self.config.get(name) != self._context.get(name)]
        if waits and self._context:
            self.warnings.append(f"{' and '.join(waits)}: after RESET_CONTEXT")
        for name, text in _IN_PART.items():
            if self.config.get(name):
                self.warnings.append(f"{name}: {text}")
        if self.config.get("musicGenerationMode", _MODES[0]) != _MODES[0]:
            self.warnings.append("musicGenerationMode: this model has only QUALITY, and sings nothing")

    def _usable(self, name: str, value: Any) -> bool:
        fault = _fault(name, value)
        if fault:
            self.warnings.append(f"{name} is {str(value)[:40]!a}, {fault}: left out")
        return not fault

    def begin_anew(self) -> None:
        """Let bpm and scale take hold: the context begins anew."""
        self._context = {"bpm": self.config.get("bpm"), "scale": self.config.get("scale")}

    # -- in the session's words ---------------------------------------------------------------------------------------

    def values(self, table: Mapping[str, ControlSpec]) -> dict[str, Value]:
        """Return the session's parameters as they were asked for, the rack's apart.

        Args:
            table: the session's.
        """
        values: dict[str, Value] = {"tempo": float(self._context.get("bpm") or 0)}
        for name, (_, _, own) in _NUMBERS.items():
            if name in self.config:
                values[own] = self._nearest(name, table[own])
            elif own != "seed":  # one that is left out is drawn, and stays
                values[own] = table[own].default
        heaviest = max((weight for _, weight in self.prompts), default=1.0)
        for slot in range(1, MAX_PROMPTS + 1):
            text, weight = self.prompts[slot - 1] if slot <= len(self.prompts) else ("", 0.0)
            values[f"prompt/{slot}/text"] = self._with_words(text) if text else ""
            values[f"prompt/{slot}/weight"] = weight / heaviest
        # the words say it as well; where a negative prompt does harm, they alone
        values["negative_prompt"] = ", ".join(self._unwanted()) if table["negative_prompt"].supported else ""
        return values

    def _with_words(self, text: str) -> str:
        words = self._words()
        return text[: MAX_TEXT - _TEMPO_LETTERS - len(words)] + words

    def _nearest(self, name: str, spec: ControlSpec) -> Value:
        wanted = self.config[name]
        if not spec.supported and wanted != spec.default:
            self.warnings.append(f"{name} is {wanted:g}, this model was not made for it: left out")
            return spec.default
        nearest = spec.nearest(float(wanted))
        if nearest != wanted:
            self.warnings.append(f"{name} is {wanted:g}, this model goes to {nearest:g}")
        return int(nearest) if spec.type == "int" else nearest

    def equalizer(self) -> dict[str, Value]:
        """Return how the equalizer in the rack is to be set; all 0 is as if it were not there."""
        brightness = float(self.config.get("brightness", 0.5))
        low = _BASS_DB if self.config.get("muteBass") else 0.0
        return {"low_hz": 160.0, "low_db": low, "high_hz": 3_000.0, "high_db": 2 * _BRIGHTNESS_DB * (brightness - 0.5)}

    def _unwanted(self) -> list[str]:
        wanted = bool(self.config.get("onlyBassAndDrums"))
        muted = [word for name, word in (("muteBass", "bass"), ("muteDrums", "drums")) if self.config.get(name)]
        return [*muted, *(["vocals, melody, chords"] if wanted else [])]

    def _words(self) -> str:
        density = float(self.config.get("density", 0.5))
        words = ["sparse"] if density < 1 / 3 else ["dense"] if density > 2 / 3 else []
        words += ["no bass"] if self.config.get("muteBass") else []
        words += ["no drums"] if self.config.get("muteDrums") else []
        words += ["only bass and drums"] if self.config.get("onlyBassAndDrums") else []
        words += [_key(self._context.get("scale"))]
        return "".join(f", {word}" for word in words if word)

    def source(self) -> dict[str, Any]:
        """Return what was asked for, as a chunk's `sourceMetadata` tells it."""
        prompts = [{"text": text, "weight": weight} for text, weight in self.prompts]
        return {"clientContent": {"weightedPrompts": prompts}, "musicGenerationConfig": dict(self.config)}

    def told(self) -> list[str]:
        """Return the warnings, once."""
        warnings, self.warnings = self.warnings, []
        return list(dict.fromkeys(warnings))


def _fault(name: str, value: Any) -> str:
    """Return what is wrong with a field of the configuration; "" where nothing is."""
    check = _CHECKS.get(name)
    return "there is no such field" if check is None else check(value)


def _within(low: float, high: float) -> Callable[[Any], str]:
    """Check a number; one whose least is whole must be whole, as it is at Google's."""
    whole = isinstance(low, int)

    def check(value: Any) -> str:
        number = isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high
        right = number and (not whole or value == int(value))
        return "" if right else f"must be {'whole and ' * whole}within {low:,} … {high:,}"

    return check


def _one_of(names: tuple[str, ...]) -> Callable[[Any], str]:
    return lambda value: "" if value in names else f"must be one of {', '.join(names)}"


def _flag(value: Any) -> str:
    return "" if isinstance(value, bool) else "must be true or false"


def _scales() -> tuple[str, ...]:
    """Google's names: C_MAJOR_A_MINOR and so on, and that of none."""
    pairs = [f"{key}_MAJOR_{_KEYS[(at + 9) % 12]}_MINOR" for at, key in enumerate(_KEYS)]
    return (*pairs, "SCALE_UNSPECIFIED")


def _key(scale: str | None) -> str:
    major, found, _ = (scale or "").partition("_MAJOR")
    return f"in {major.replace('_FLAT', 'b')} major" if found else ""


_CHECKS: dict[str, Callable[[Any], str]] = {
    **{name: _within(low, high) for name, (low, high, _) in _NUMBERS.items()},
    **{name: _within(low, high) for name, (low, high) in _RANGES.items()},
    **dict.fromkeys(_FLAGS, _flag),
    "scale": _one_of(_scales()),
    "musicGenerationMode": _one_of(_MODES),
}
