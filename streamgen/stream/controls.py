"""What a musician sets on a stream: prompts and numbers, checked when set, in force from a sample on.

Rules: plain values; knows no tensor and no stream. Its names are those of `streamgen.config.ControlValues`. Of the
runtime it reads what a new stream's settings depend on: the checkpoint's defaults, and what windows have room for.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from streamgen.checkpoint.types import GenerationDefaults
from streamgen.checkpoint.words import WORDINGS
from streamgen.conditioning.melody import Melody
from streamgen.conditioning.prompt_mix import PromptMix
from streamgen.conditioning.rows import Conditioner, Wanted
from streamgen.conditioning.style import Style
from streamgen.config import CONTROLS, MAX_PROMPTS, ControlSpec
from streamgen.errors import ConfigError
from streamgen.lm.sampling import Sampling
from streamgen.runtime import Runtime

__all__ = ["CONTROL_NAMES", "MOST_OPENINGS", "Controls", "control_specs", "frozen", "new_controls", "tell_unsupported"]

_log = logging.getLogger("streamgen")

CONTROL_NAMES = ("prompt", "prompts", "melody", "style", *CONTROLS)
MOST_OPENINGS = int(CONTROLS["audition"].limits[1])
_CANDIDATE = "candidate"  # not a musician's: which opening of an audition plays, counted from 1; 0 is none of them
_CANDIDATES_ROW = replace(CONTROLS["audition"], name=_CANDIDATE, low=0, high=MOST_OPENINGS * (WORDINGS + 1))
_TAKES, _CANDIDATES = 1_000_000_007, 998_244_353  # primes: no seed of one take is that of another near it
_PROMPTS = ("prompt", "prompts", "negative_prompt")
_OTHERS = (*_PROMPTS, "melody", "style", _CANDIDATE)  # no numbers


@dataclass(frozen=True, repr=False)
class Controls:
    """All settings of a stream. A number is an attribute by its name: `controls.temperature`.

    Attributes:
        mix: weighted prompts and the negative one.
        numbers: every other control of the table.
        candidate: which opening of an audition plays, from 1, or from one more than `MOST_OPENINGS` times the prompt's
            `Heard.wording`; 0 where none was held.
        melody, style: to follow; None is none.
        top_p_alone: the checkpoint's format looks at no top_k where top_p is on.
    """

    mix: PromptMix
    numbers: Mapping[str, float]
    candidate: int = 0
    melody: Melody | None = None
    style: Style | None = None
    top_p_alone: bool = False

    def __getattr__(self, name: str) -> float:
        if name not in CONTROLS or not CONTROLS[name].has_range:
            raise AttributeError(f"there is no control {name!r}; there are {', '.join(CONTROL_NAMES)}")
        return self.numbers.get(name, float(CONTROLS[name].default))  # a file may be older than a control

    def __repr__(self) -> str:
        """Name the prompts and every number, in one line."""
        numbers = ", ".join(f"{name}={value:g}" for name, value in self.numbers.items())
        prompts = ", ".join(f"({text!r}, {weight:g})" for text, weight in self.mix.prompts)
        return f"Controls(prompts=[{prompts}], negative_prompt={self.mix.negative!r}, {numbers})"

    @classmethod
    def of(cls, defaults: GenerationDefaults, longest_context_seconds: float, values: Mapping[str, Any]) -> Controls:
        """Build the settings of a new stream.

        Args:
            defaults: the checkpoint's own.
            longest_context_seconds: what the model's windows allow; the default context is cut to it.
            values: what the user said; None means the default.

        Raises:
            ConfigError, PromptError: a value is wrong.
        """
        _check_names(values)
        numbers: dict[str, Any] = {
            name: getattr(defaults, name, spec.default) for name, spec in CONTROLS.items() if spec.has_range
        }
        numbers["seed"] = secrets.randbelow(int(CONTROLS["seed"].limits[1]) + 1)
        numbers["context_seconds"] = min(numbers["context_seconds"], longest_context_seconds)
        start = cls(PromptMix.of(), numbers, top_p_alone=defaults.top_p_alone)
        return start.changed({name: value for name, value in values.items() if value is not None})

    def changed(self, values: Mapping[str, Any]) -> Controls:
        """Return these settings with some values replaced.

        Args:
            values: names as in `CONTROL_NAMES`; `prompt` or `prompts` replaces all prompts, `negative_prompt` the
                negative one.

        Raises:
            ConfigError: an unknown name or a number outside its range.
            PromptError: a prompt that cannot be used.
        """
        _check_names(values)
        numbers = {name: _number(CONTROLS[name], value) for name, value in values.items() if name not in _OTHERS}
        return replace(
            self,
            mix=self._mix(values),
            numbers={**self.numbers, **numbers},
            candidate=int(_CANDIDATES_ROW.check_number(values.get(_CANDIDATE, self.candidate))),
            melody=values.get("melody", self.melody),
            style=values.get("style", self.style),
        )

    def _mix(self, values: Mapping[str, Any]) -> PromptMix:
        if not any(name in values for name in _PROMPTS):
            return self.mix  # as it is: normalising it again could move a weight by a rounding, and so be a change
        negative = values.get("negative_prompt", self.mix.negative)
        if "prompt" in values or "prompts" in values:
            return PromptMix.of(values.get("prompt"), values.get("prompts"), negative)
        return PromptMix.of(prompts=self.mix.prompts, negative_prompt=negative)

    def wanted(self, mix: PromptMix | None = None) -> Wanted:
        """What the decoder's rows are made of, in the midst of a fade with another mix."""
        return Wanted(
            self.mix if mix is None else mix,
            self.guidance_scale,
            self.guidance_beta,
            self.melody,
            self.style,
            int(self.eval_q),
            self.excerpt_seconds,
            int(self.seed),
        )

    @property
    def sampling(self) -> Sampling:
        """The settings that draws depend on."""
        seed = (int(self.seed) + int(self.take) * _TAKES + self.candidate * _CANDIDATES) % 2**63
        top_k = 0 if self.top_p_alone and self.top_p > 0 else int(self.top_k)
        return Sampling(self.temperature, top_k, self.top_p, seed)

    @property
    def recalls(self) -> bool:
        """Whether draws are counted from where the music begins: what is named again then comes again."""
        return bool(self.take or self.candidate)

    def begins_anew(self, other: Controls) -> bool:
        """Whether the music begins anew where these controls come after other ones, and nothing fades."""
        if self.take != other.take:
            return True
        return self.mix.dominant != other.mix.dominant and not (self.change_context_seconds or self.glide_seconds)


def _number(spec: ControlSpec, value: object) -> float:
    return float(spec.check(value)) if spec.type == "bool" else spec.check_number(value)


def _check_names(values: Mapping[str, Any]) -> None:
    for name in values:
        if name not in CONTROL_NAMES and name != _CANDIDATE:
            raise ConfigError.unknown("control", name, CONTROL_NAMES)


def new_controls(runtime: Runtime, conditioner: Conditioner, values: Mapping[str, Any]) -> Controls:
    """Build the settings of a new stream, the default context cut to what its prefix leaves room for.

    Args:
        runtime: of the model.
        conditioner: of the stream.
        values: what the user said.

    Raises:
        ConfigError, PromptError: a value is wrong.
    """
    tell_unsupported(runtime, values)
    prefix = conditioner.positions(Controls.of(runtime.defaults, 1.0, values).wanted())
    return Controls.of(runtime.defaults, runtime.layout.longest_context_seconds(prefix), values)


def control_specs(runtime: Runtime) -> dict[str, ControlSpec]:
    """Return the table of controls with a checkpoint's defaults, windows' limits, and what it was not made for."""
    prefix = runtime.prompts.conditioner().positions(Wanted(PromptMix.of()))
    longest = runtime.layout.longest_context_seconds(prefix)
    own = Controls.of(runtime.defaults, longest, {})
    rows = {
        name: replace(spec, default=getattr(own, name)) if spec.has_range and name != "seed" else spec
        for name, spec in CONTROLS.items()
    }
    context = rows["context_seconds"]
    rows |= {context.name: replace(context, high=min(longest, context.limits[1]))}
    reads = runtime.prompts.reads
    if reads == "style":
        eval_q = rows["eval_q"]
        rows |= {eval_q.name: replace(eval_q, high=min(runtime.prompts.style.codebooks, eval_q.limits[1]))}
    return rows | {name: replace(rows[name], supported=False) for name in _unsupported(runtime)}


def _unsupported(runtime: Runtime) -> tuple[str, ...]:
    """Controls that the checkpoint was not made for: as it says itself, and as its kind has it."""
    reads = runtime.prompts.reads
    beside = () if reads == "style" else ("eval_q", "excerpt_seconds")
    if "guidance_scale" in runtime.defaults.unsupported:
        beside = (*beside, "guidance_interval")
    # what is read first cannot change from frame to frame, so nothing fades
    return (*runtime.defaults.unsupported, *beside, "glide_seconds" if reads else "guidance_beta")


def tell_unsupported(runtime: Runtime, values: Mapping[str, Any]) -> None:
    """Say once in the log of each control that the checkpoint was not made for, where it is not left as it is."""
    for name in _unsupported(runtime):
        usual = getattr(runtime.defaults, name, CONTROLS[name].default)
        if name not in runtime.told and values.get(name, usual) not in (None, usual):
            runtime.told.add(name)
            _log.warning("%s was not made for %s: it may do harm, or nothing", runtime.facts.name, name)


def frozen(values: Mapping[str, Any]) -> dict[str, Any]:
    """Copy values, so that they can be read again later: `prompts` may be an iterator, or a list its owner changes."""
    prompts = values.get("prompts")
    if not isinstance(prompts, Iterable) or isinstance(prompts, str | bytes):
        return dict(values)
    # one more than there may be, which is refused as ever
    pairs = tuple(tuple(pair) if isinstance(pair, list) else pair for pair in islice(prompts, MAX_PROMPTS + 1))
    return {**values, "prompts": pairs}
