"""Between the table's values and a stream's controls: prompt slots, tempo words, names that the engine knows.

Rules: pure; knows the table and the engine's names, no session.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bridge.session.parameters import SLOTS, TABLE, Value, checked

if TYPE_CHECKING:
    from streamgen.model import Model

__all__ = ["own_defaults", "prompts_of", "stream_controls"]

_OWN = ("guidance_scale", "temperature", "top_k", "top_p", "context_seconds", "change_context_seconds")
_NUMBERS = (*_OWN, "seed", "glide_seconds")


def prompts_of(values: Mapping[str, Value]) -> list[tuple[str, float]]:
    """Return the sounding slots as (text, weight), tempo words added."""
    tempo = float(values["tempo"])
    words = f", {tempo:g} bpm" if tempo else ""
    slots = [(str(values[f"prompt/{n}/text"]), float(values[f"prompt/{n}/weight"])) for n in range(1, SLOTS + 1)]
    return [(text + words, weight) for text, weight in slots if text.strip() and weight > 0]


def stream_controls(values: Mapping[str, Value], changed: Mapping[str, Value]) -> dict[str, Any]:
    """Return what a stream has to be told about changed values.

    Args:
        values: all values, the changed ones among them.
        changed: which to tell.
    """
    controls: dict[str, Any] = {name: changed[name] for name in _NUMBERS if name in changed}
    if any(name.startswith("prompt/") or name == "tempo" for name in changed):
        prompts = prompts_of(values)
        controls |= {"prompts": prompts} if prompts else {"prompt": None}
    if "negative_prompt" in changed:
        controls["negative_prompt"] = (
            str(changed["negative_prompt"]) if str(changed["negative_prompt"]).strip() else None
        )
    return controls


def own_defaults(model: Model) -> dict[str, Value]:
    """Return a checkpoint's own defaults, as far as the table allows them; short windows keep less context."""
    own = model.controls({})
    return checked({name: TABLE[name].nearest(getattr(own, name)) for name in _OWN})
