"""Settings of a checkpoint's parts, checked: decoder's, EnCodec's and T5's, under transformers' names and defaults.

Rules: transformers' configuration classes would say the same, and take longer to import than pocket takes to load
(docs/measurements.md, "Starting"). Settings are untrusted; whatever a file says beside is kept for those who write it
again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, TypeVar, get_args, get_type_hints

from streamgen.errors import CheckpointError

__all__ = [
    "DAMAGED",
    "DecoderSettings",
    "EncodecSettings",
    "MelodyDecoderSettings",
    "T5Settings",
    "check_kind",
    "read_settings",
]

DAMAGED = "the settings are damaged: download them again"


@dataclass
class DecoderSettings:
    """MusicGen's decoder's, as in transformers' MusicgenDecoderConfig, which says what each means."""

    model_type: ClassVar[str] = "musicgen_decoder"
    other_names: ClassVar[dict[str, str]] = {}

    vocab_size: int = 2048
    max_position_embeddings: int = 2048
    num_hidden_layers: int = 24
    ffn_dim: int = 4096
    num_attention_heads: int = 16
    activation_function: str = "gelu"
    hidden_size: int = 1024
    num_codebooks: int = 4
    audio_channels: int = 1
    pad_token_id: int | None = 2048
    given: dict[str, Any] = field(default_factory=dict)


class MelodyDecoderSettings(DecoderSettings):
    """MusicGen Melody's, which are the same."""

    model_type: ClassVar[str] = "musicgen_melody_decoder"


@dataclass
class EncodecSettings:
    """EnCodec's, as in transformers' EncodecConfig, which says what each means."""

    model_type: ClassVar[str] = "encodec"
    other_names: ClassVar[dict[str, str]] = {}

    target_bandwidths: list[float] | tuple[float, ...] = (1.5, 3.0, 6.0, 12.0, 24.0)
    sampling_rate: int = 24_000
    audio_channels: int = 1
    normalize: bool = False
    chunk_length_s: float | None = None
    hidden_size: int = 128
    num_filters: int = 32
    num_residual_layers: int = 1
    upsampling_ratios: list[int] | tuple[int, ...] = (8, 5, 4, 2)
    norm_type: str = "weight_norm"
    kernel_size: int = 7
    last_kernel_size: int = 7
    residual_kernel_size: int = 3
    dilation_growth_rate: int = 2
    use_causal_conv: bool = True
    pad_mode: str = "reflect"
    compress: int = 2
    num_lstm_layers: int = 2
    trim_right_ratio: float = 1.0
    codebook_size: int = 1024
    codebook_dim: int | None = None
    use_conv_shortcut: bool = True
    given: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Codebooks are as wide as what they stand for, unless something projects between."""
        self.codebook_dim = self.hidden_size if self.codebook_dim is None else self.codebook_dim

    @property
    def hop_length(self) -> int:
        """Samples a frame."""
        return math.prod(self.upsampling_ratios)

    @property
    def frame_rate(self) -> int:
        """Frames a second, rounded up."""
        return math.ceil(self.sampling_rate / self.hop_length)

    @property
    def codebook_nbits(self) -> int:
        """Bits of a code."""
        return math.ceil(math.log2(self.codebook_size))

    @property
    def num_quantizers(self) -> int:
        """Codebooks, at the highest bandwidth."""
        return int(1000 * self.target_bandwidths[-1] // (self.frame_rate * self.codebook_nbits))


@dataclass
class T5Settings:
    """A T5 encoder's, as in transformers' T5Config, which says what each means."""

    model_type: ClassVar[str] = "t5"
    other_names: ClassVar[dict[str, str]] = {
        "hidden_size": "d_model", "num_attention_heads": "num_heads", "num_hidden_layers": "num_layers",
        "head_dim": "d_kv",
    }  # fmt: skip

    vocab_size: int = 32_128
    d_model: int = 512
    d_kv: int = 64
    d_ff: int = 2048
    num_layers: int = 6
    num_heads: int = 8
    relative_attention_num_buckets: int = 32
    relative_attention_max_distance: int = 128
    layer_norm_epsilon: float = 1e-6
    feed_forward_proj: str = "relu"
    given: dict[str, Any] = field(default_factory=dict)

    @property
    def is_gated(self) -> bool:
        """Whether a second product stands beside the activation."""
        return self.feed_forward_proj.startswith("gated-")

    @property
    def activation(self) -> str:
        """In transformers' names; T5's own gated "gelu" is the one that others call new."""
        return "gelu_new" if self.feed_forward_proj == "gated-gelu" else self.feed_forward_proj.removeprefix("gated-")


Settings = TypeVar("Settings", DecoderSettings, MelodyDecoderSettings, EncodecSettings, T5Settings)


def read_settings(kind: type[Settings], found: Any, where: str) -> Settings:
    """Return settings filled from what a file says.

    Raises:
        CheckpointError: not an object, another model's, or values of a wrong type.
    """
    check_kind(kind.model_type, found, where)
    hints, values = get_type_hints(kind), {}
    named = {kind.other_names.get(name, name): value for name, value in found.items()}
    for name in (one.name for one in fields(kind) if one.name != "given"):
        if name in named:
            if not _fits(named[name], hints[name]):
                raise CheckpointError(f"{where} cannot be read: {name} is {named[name]!r:.40}; {DAMAGED}")
            values[name] = named[name]
    return kind(**values, given=dict(found))


def check_kind(kind: str, found: Any, where: str) -> None:
    """Check that settings are an object, of this kind of model.

    Raises:
        CheckpointError: they are not.
    """
    if not isinstance(found, dict):
        raise CheckpointError(f"{where} is {found!r:.40}, not an object of settings; {DAMAGED}")
    if found.get("model_type", kind) != kind:
        raise CheckpointError(
            f"{where} is a {found['model_type']!r:.40}; streamgen needs a {kind!r}: use a MusicGen checkpoint"
        )


def _fits(value: Any, hint: Any) -> bool:
    """Tell whether a value from JSON is of a field's type; whole numbers are floats too, true is no number."""
    kinds = get_args(hint) or (hint,)
    if isinstance(value, list | tuple):
        inner = next((get_args(kind)[0] for kind in kinds if get_args(kind)), None)
        return inner is not None and bool(value) and all(_fits(one, inner) for one in value)
    if isinstance(value, bool):
        return bool in kinds
    return isinstance(value, _plain(kinds)) and not (isinstance(value, float) and not math.isfinite(value))


def _plain(kinds: tuple[Any, ...]) -> tuple[type, ...]:
    """The plain types among them, a float's with int."""
    plain = [kind for kind in kinds if isinstance(kind, type) and not get_args(kind)]
    return (*plain, int) if float in plain else tuple(plain)
