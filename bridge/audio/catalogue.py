"""What can be put into the rack, by name: the built-in effects and the plugins that the operator allows.

Rules: a plugin's path is the operator's, out of a scan or a rack file; who asks over the network gives a name. `make`
takes as long as a plugin takes to load.
"""

from __future__ import annotations

import difflib
import itertools
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bridge.audio.compressor import Compressor
from bridge.audio.effect import Effect
from bridge.audio.equalizer import Equalizer, HighPass, Tilt
from bridge.audio.plugins.engine import Reference
from bridge.audio.plugins.plugin import Plugin
from bridge.audio.plugins.spawn import HostSettings, PluginTrouble
from bridge.audio.reverb import Reverb
from bridge.audio.saturation import Saturation
from streamgen.errors import ConfigError

__all__ = ["BUILT_IN", "Catalogue"]

BUILT_IN: Mapping[str, Callable[[], Effect]] = {
    "high-pass": HighPass,
    "equalizer": Equalizer,
    "tilt": Tilt,
    "compressor": Compressor,
    "saturation": Saturation,
    "reverb": Reverb,
}
"""The rack's own effects: nothing to install, no process of their own. A new one is one line here."""

_serial = itertools.count(1)
_MOST_NAMED, _MOST_NEAR = 20, 5  # in one line


@dataclass(frozen=True)
class Catalogue:
    """The effects that there are.

    Attributes:
        plugins: by name.
        settings: how plugins are kept; None where there are none.
    """

    plugins: Mapping[str, Reference] = field(default_factory=dict)
    settings: HostSettings | None = None

    def __post_init__(self) -> None:
        assert self.settings is not None or not self.plugins, "plugins need settings"

    @property
    def names(self) -> list[str]:
        """Of all, the built-in ones first."""
        return [*BUILT_IN, *(name for name in self.plugins if name not in BUILT_IN)]

    def check(self, name: str) -> None:
        """Say whether there is an effect of a name.

        Raises:
            ConfigError: there is none.
        """
        if name not in BUILT_IN and name not in self.plugins:
            raise ConfigError(f"there is no effect {name!r:.100}; {self._in_words(name)}")

    def _in_words(self, name: str) -> str:
        """What there is: all of it where that is a line, else what comes nearest; plugins may be hundreds."""
        names = self.names
        if len(names) <= _MOST_NAMED:
            return f"there are {', '.join(names)}"
        plain = {one.lower(): one for one in reversed(names)}  # of two, the one that came first
        near = difflib.get_close_matches(name.lower(), plain, _MOST_NEAR, 0.4)
        words = [f"the nearest: {', '.join(plain[one] for one in near)}"] if near else []
        return "; ".join([*words, f"there are {len(names)}, and `streamgen plugins list` lists them"])

    def make(self, name: str, rate_hz: int, restore: Path | None = None, preset: Path | None = None) -> Effect:
        """Make an effect.

        Args:
            name: one of `names`.
            rate_hz: of the audio.
            restore: a plugin's state to begin with.
            preset: or a file of its own format, such as `.vstpreset`.

        Raises:
            ConfigError: there is none of that name, or it cannot be loaded.
        """
        self.check(name)
        if name in BUILT_IN:
            return BUILT_IN[name]()
        assert self.settings is not None, "plugins need settings"
        try:
            return Plugin.open(
                self.plugins[name], self.settings, rate_hz, f"{os.getpid()}-{next(_serial)}", restore, preset
            )
        except PluginTrouble as trouble:
            raise ConfigError(f"{name} could not be loaded: {trouble}") from None
