"""THE table of a session's parameters, from which every door is generated: the engine's controls and the session's own.

    engine (streamgen.config.CONTROLS, with the model's defaults)  prompt slots, tempo, lead  effects (audio/chain.py)
           └──────────────────────────────┬──────────────────────────────┘                        │
                                      Parameters  ◄───────────────────────────────────────────────┘
                     hello · OSC · OSCQuery · page · CLI · docs: none of them spells a range

Rules: plain data and its checks; no I/O, no torch. Names are OSC paths below /streamgen/: `prompt/1/text`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from bridge.audio.chain import effect_parameters
from bridge.audio.master import master_default
from bridge.session.beats import QUANTA
from streamgen.config import CONTROLS, MAX_PROMPTS, ControlSpec, Value, checked, number, switch, text

if TYPE_CHECKING:
    from streamgen import Model

__all__ = [
    "MIDI_LEARN",
    "MIDI_MAP",
    "MUSIC_NAMES",
    "PROMPT_NAMES",
    "QUANTIZED",
    "STREAM_NAMES",
    "Parameters",
    "Value",
    "prompts_of",
    "session_table",
    "stream_controls",
    "title_of",
    "unsupported",
]

_TEMPO = re.compile(r"[\s,;]*(?:\bat\s+)?(?:\b\d+\s*[-–]\s*)?\b\d+(?:[.,]\d+)?\s*bpm\b", re.IGNORECASE)


def _slots() -> dict[str, ControlSpec]:
    rows = {}
    for slot in range(1, MAX_PROMPTS + 1):
        rows[f"prompt/{slot}/text"] = text(f"what slot {slot} plays; empty = silent slot")
        rows[f"prompt/{slot}/weight"] = number(0, 2, 1 if slot == 1 else 0, "", f"share of slot {slot} in the mix")
    return rows


_OWN = {
    "tempo": number(
        0, 300, 0, "bpm", "of the session's beats and of every prompt, in place of its own; 0 = as the music goes"
    ),
    "quantize": text("what prompts, presets, transport and rack edits wait for", "off", choices=QUANTA),
    "arrange": switch(False, "parts of a scene: turns, breaks, other keys; off holds what plays, of a break the theme"),
    "midi/map": text("what MIDI controls do, such as cc 1/74=gain_db; note 10/36=prompt 2"),
    "midi/learn": text("what the next MIDI control touched shall do: a parameter, prompt N, preset NAME, keep, play …"),
    "lead_seconds": number(0.2, 10, 2, "s", "audio made ahead, against stalls; a change revokes it"),
}
PROMPT_NAMES = (*_slots(), "tempo")
"""Parameters that the sounding prompts are made of."""
MUSIC_NAMES = frozenset({*PROMPT_NAMES, "take", "arrange"})
"""Parameters with which other music may begin."""
STREAM_NAMES = frozenset({*PROMPT_NAMES, *CONTROLS, "arrange"})
"""Parameters that the model's stream is told of."""
MIDI_MAP, MIDI_LEARN = "midi/map", "midi/learn"
QUANTIZED = frozenset({*_slots(), "negative_prompt", "take"})
"""Parameters that wait for a beat where `quantize` says so."""


def session_table(model: Model | None = None) -> dict[str, ControlSpec]:
    """Return every parameter of a session.

    Args:
        model: whose defaults and limits they are; None for those of the table.
    """
    engine = CONTROLS if model is None else model.control_specs
    rows = {**_slots(), "negative_prompt": engine["negative_prompt"], "tempo": _OWN["tempo"]}
    rows["quantize"] = _OWN["quantize"]
    if model is not None:
        rows |= _suggested(model, rows)
    rows |= engine | {name: _OWN[name] for name in ("arrange", "lead_seconds", MIDI_MAP, MIDI_LEARN)}
    rows |= effect_parameters()
    rows["master"] = replace(rows["master"], default="off" if model is None else master_default(model.name))
    # a model that tells its tempi makes a bar and repeats it: to a stranger, one bar for ever
    rows["arrange"] = replace(rows["arrange"], default=model is not None and bool(model.tempi))
    return {name: replace(spec, name=name, default=_allowed(spec)) for name, spec in rows.items()}


def _suggested(model: Model, rows: Mapping[str, ControlSpec]) -> dict[str, ControlSpec]:
    """Return the rows for which the model knows what to try: a prompt for each slot, its tempi."""
    found = {}
    for slot, prompt in zip(range(1, MAX_PROMPTS + 1), model.suggestions, strict=False):
        name = f"prompt/{slot}/text"
        found[name] = replace(rows[name], suggestions=(prompt,))
    if model.tempi:
        tempo, bpm = rows["tempo"], ", ".join(map(str, model.tempi))
        found["tempo"] = replace(
            tempo, suggestions=model.tempi, description=f"{tempo.description}; this model plays {bpm}"
        )
    return found


def _allowed(spec: ControlSpec) -> Value:
    """The row's default, cut to its range: a checkpoint may say more than the table allows."""
    if spec.type not in ("float", "int"):
        return spec.default
    nearest = spec.nearest(float(spec.default))
    return int(nearest) if spec.type == "int" else nearest


class Parameters:
    """The parameters of one session and what they are set to.

    Attributes:
        table: every parameter, by name.
        values: what each is set to.
    """

    def __init__(self, table: Mapping[str, ControlSpec], values: Mapping[str, object] | None = None) -> None:
        self.table = dict(table)
        self.values: dict[str, Value] = self.defaults | checked(self.table, values or {})

    @property
    def defaults(self) -> dict[str, Value]:
        """What a new session begins with, and where a reset knob goes."""
        return {name: spec.default for name, spec in self.table.items()}

    def retable(self, table: Mapping[str, ControlSpec], anew: Iterable[str] = ()) -> None:
        """Take another table: what was there keeps its value, but for the names in `anew`."""
        kept = {name: value for name, value in self.values.items() if name in table and name not in {*anew}}
        self.table = dict(table)
        self.values = self.defaults | kept

    def checked(self, values: Mapping[str, object]) -> dict[str, Value]:
        """Check values by name; see `streamgen.config.checked`."""
        return checked(self.table, values)


def unsupported(
    table: Mapping[str, ControlSpec], before: Mapping[str, Value], values: Mapping[str, Value]
) -> list[str]:
    """Return what the checkpoint was not made for of what leaves its default; not each step of a knob."""
    left = [name for name, value in values.items() if before[name] == table[name].default != value]
    return [name for name in left if not table[name].supported]


# -- what a stream is told -----------------------------------------------------------------------------------------


def prompts_of(values: Mapping[str, Value]) -> list[tuple[str, float]]:
    """Return the sounding slots as (text, weight), each at the session's tempo if that has one."""
    tempo = float(values["tempo"])
    slots = range(1, MAX_PROMPTS + 1)
    pairs = [(str(values[f"prompt/{slot}/text"]), float(values[f"prompt/{slot}/weight"])) for slot in slots]
    return [(_at_tempo(prompt, tempo), weight) for prompt, weight in pairs if prompt.strip() and weight > 0]


def _at_tempo(prompt: str, tempo: float) -> str:
    """Say the tempo in a prompt: of two, a model would take either."""
    if not tempo:
        return prompt
    words = _TEMPO.sub("", prompt).strip(" ,;")
    return f"{words}, {tempo:g} bpm" if words else f"{tempo:g} bpm"


def title_of(values: Mapping[str, Value]) -> str:
    """Return the prompts that sound, as one line; the product's name where none does."""
    texts = [" ".join(text.split()) for text, _ in prompts_of(values)]
    return " + ".join(texts) or "streamgen"


def stream_controls(values: Mapping[str, Value], changed: Iterable[str]) -> dict[str, Any]:
    """Return what a stream has to be told.

    Args:
        values: all values, the changed ones among them.
        changed: names of those to tell.
    """
    names = set(changed)
    controls: dict[str, Any] = {name: values[name] for name in CONTROLS if name in names}
    if not names.isdisjoint(PROMPT_NAMES):
        prompts = prompts_of(values)
        controls |= {"prompts": prompts} if prompts else {"prompt": None}
    if "negative_prompt" in controls:
        controls["negative_prompt"] = str(controls["negative_prompt"]).strip() or None
    return controls
