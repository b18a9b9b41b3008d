"""Looking things up in an xp.cfg, the YAML of the training that audiocraft's files carry.

Rules: knows YAML and OmegaConf's references; no setting by name. Values are untrusted: each of a wrong type is one
CheckpointError that names file and path.
"""

from __future__ import annotations

import math
import re
from typing import Any

from streamgen.checkpoint.files import explained
from streamgen.config import ControlSpec
from streamgen.errors import CheckpointError

__all__ = [
    "MISSING",
    "Settings",
    "flag",
    "look_up",
    "number",
    "parse_settings",
    "require",
    "section",
    "whole",
    "within",
]

Settings = dict[str, Any]
REFERENCE = re.compile(r"\$\{([\w.]+)\}")
MISSING: Any = object()


def parse_settings(text: Any, where: str) -> Settings:
    """Return the YAML text of `xp.cfg` as a dictionary, its ${references} resolved when looked up.

    Raises:
        CheckpointError: not text, not YAML, or not a mapping.
    """
    import yaml  # type: ignore[import-untyped]  # comes with transformers

    if not isinstance(text, str):
        found = "no xp.cfg" if text is None else f"an xp.cfg that is a {type(text).__name__}"
        raise CheckpointError(f"{where} has {found}; text is needed: export it with audiocraft.utils.export")
    with explained(f"{where}: xp.cfg cannot be read as YAML", "the file is damaged: download it again"):
        settings = yaml.safe_load(text)
    if not isinstance(settings, dict):
        raise CheckpointError(f"{where}: xp.cfg holds {settings!r:.40}, no settings; download it again")
    return settings


def look_up(settings: Settings, path: str, default: Any = MISSING, where: str = "", depth: int = 0) -> Any:
    """Return the value at a dotted path; "${other.path}" means that path's value, as in OmegaConf.

    Raises:
        CheckpointError: it is not there, and there is no default.
    """
    value: Any = settings
    for key in path.split("."):
        if not isinstance(value, dict) or key not in value:
            if default is MISSING:
                raise CheckpointError(f"{where}: xp.cfg has no {path}; export it again with audiocraft.utils.export")
            return default
        value = value[key]
    reference = REFERENCE.fullmatch(value) if isinstance(value, str) else None
    if reference is None:
        return value
    if depth > 8:
        raise CheckpointError(f"{where}: xp.cfg's {path} refers to itself; the file is damaged: download it again")
    return look_up(settings, reference[1], default, f"{where} ({path})" if depth == 0 else where, depth + 1)


def whole(settings: Settings, path: str, where: str, default: Any = MISSING) -> int:
    """Return a whole number from 1; errors as in `look_up`, and for anything else."""
    value = look_up(settings, path, default, where)
    value = default if value is None and default is not MISSING else value
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 10_000_000:
        raise CheckpointError(f"{where}: xp.cfg's {path} is {value!r:.40}; a whole number from 1 is needed")
    return value


def number(settings: Settings, path: str, where: str, default: float) -> float:
    """Return a number from 0; errors as in `look_up`, and for anything else."""
    value = look_up(settings, path, default, where)
    value = default if value is None else value
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1e6 or math.isnan(value):
        raise CheckpointError(f"{where}: xp.cfg's {path} is {value!r:.40}; a number from 0 is needed")
    return float(value)


def flag(settings: Settings, path: str, where: str, default: bool) -> bool:
    """Return what is on or off; errors as in `look_up`, and for anything else."""
    value = look_up(settings, path, default, where)
    value = default if value is None else value
    if not isinstance(value, bool):
        raise CheckpointError(f"{where}: xp.cfg's {path} is {value!r:.40}; true or false is needed")
    return value


def section(settings: Settings, path: str, where: str, default: Any = MISSING) -> Settings:
    """Return the settings below a path; errors as in `look_up`, and for anything else."""
    value = look_up(settings, path, default, where)
    value = default if value is None and default is not MISSING else value
    if not isinstance(value, dict):
        raise CheckpointError(f"{where}: xp.cfg's {path} is {value!r:.40}; settings below it are needed")
    return value


def within(control: ControlSpec, value: float, told_as: str) -> tuple[float, tuple[str, ...]]:
    """Return the nearest value that a control allows, and a line that says so if it is another."""
    nearest = control.nearest(value)
    if nearest == value:
        return value, ()
    return nearest, (f"{told_as} is {value:g}, beyond {control.in_words}: {nearest:g} is taken",)


def require(settings: Settings, architecture: dict[str, Any], what: str, where: str) -> None:
    """Check that values are those of an architecture.

    Args:
        settings: to look in.
        architecture: needed value by dotted path; a path that is absent has it.
        what: it is, for messages.
        where: the file.

    Raises:
        CheckpointError: one is not.
    """
    for path, needed in architecture.items():
        found = look_up(settings, path, needed, where)
        if found != needed:
            text = f"{where}: xp.cfg's {path} is {found!r:.60}, {what} has {needed!r}"
            raise CheckpointError(f"{text}; streamgen plays MusicGen only: use a MusicGen checkpoint")
