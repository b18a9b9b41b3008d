"""The style part of an audiocraft checkpoint: its settings, tensors and what hears the audio.

Rules: as for audiocraft_format.py. Neither EnCodec nor MERT is in the checkpoint's file: they are named, and looked for
as the T5 is.
Source: github.com/facebookresearch/audiocraft, modules/conditioners.py (StyleConditioner), config/conditioner.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from streamgen.checkpoint.parts import with_prefix
from streamgen.checkpoint.types import DecoderConfig, GenerationDefaults, StyleConfig
from streamgen.checkpoint.validate import match_tensors
from streamgen.checkpoint.xp_cfg import MISSING, Settings, flag, look_up, number, whole, within
from streamgen.config import CONTROLS
from streamgen.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["features_name", "style_config", "style_defaults", "style_weights"]

STYLE_PART = "condition_provider.conditioners.self_wav."
STYLE, MERT = "conditioners.self_wav.style", "m-a-p/MERT-v1-95M"
MERT_WIDTH = 768
SCALES = {"xsmall": (256, 8, 4), "default": (512, 8, 8), "large": (1024, 16, 24), "none": (512, 8, 0)}
IGNORED = ("batch_norm.num_batches_tracked", "._codebook.inited", "._codebook.cluster_size", "._codebook.embed_avg")


def style_config(settings: Settings, decoder: DecoderConfig, where: str) -> StyleConfig | None:
    """Return the settings of a style checkpoint, else None.

    Raises:
        CheckpointError: of a kind that audiocraft does not know.
    """
    if look_up(settings, "conditioners.self_wav.model", None) != "style":
        return None
    features = look_up(settings, f"{STYLE}.model_name", MISSING, where)
    scale = look_up(settings, f"{STYLE}.transformer_scale", "default")
    for name, found, known in (("model_name", features, ("encodec", "mert")), ("transformer_scale", scale, SCALES)):
        if not isinstance(found, str) or found not in known:
            raise CheckpointError(f"{where}: xp.cfg's {STYLE}.{name} is {found!r:.40}; {', '.join(known)} are possible")
    width, heads, layers = SCALES[scale]
    return StyleConfig(
        features=features, feature_codes=decoder.vocab_size if features == "encodec" else MERT_WIDTH,
        feature_codebooks=whole(settings, f"{STYLE}.encodec_n_q", where, 4), width=width, heads=heads, layers=layers,
        codebooks=whole(settings, f"{STYLE}.n_q_out", where, 6), codes=whole(settings, f"{STYLE}.bins", where, 1024),
        every=whole(settings, f"{STYLE}.ds_factor", where, 15),
        sample_rate_hz=whole(settings, f"{STYLE}.sample_rate", where),
        centred=flag(settings, f"{STYLE}.use_middle_of_segment", where, False),
        batch_norm=flag(settings, f"{STYLE}.batch_norm", where, True),
    )  # fmt: skip


def style_defaults(
    settings: Settings, config: StyleConfig, usual: GenerationDefaults, where: str
) -> tuple[GenerationDefaults, tuple[str, ...]]:
    """Return the defaults of all controls, those of a style among them, and a line for each that is cut."""
    codebooks = replace(CONTROLS["eval_q"], high=min(config.codebooks, CONTROLS["eval_q"].limits[1]))
    eval_q, of_codebooks = within(
        codebooks, whole(settings, f"{STYLE}.eval_q", where, min(usual.eval_q, config.codebooks)),
        f"xp.cfg: {STYLE}.eval_q",
    )  # fmt: skip
    seconds, of_seconds = within(
        CONTROLS["excerpt_seconds"], number(settings, f"{STYLE}.length", where, usual.excerpt_seconds),
        f"xp.cfg: {STYLE}.length",
    )  # fmt: skip
    return replace(usual, eval_q=int(eval_q), excerpt_seconds=seconds), (*of_codebooks, *of_seconds)


def features_name(settings: Settings, config: StyleConfig, where: str) -> str:
    """Return the name of what hears the audio, e.g. "facebook/encodec_32khz"."""
    if config.features == "mert":
        return MERT
    name = look_up(settings, f"{STYLE}.encodec_checkpoint", MISSING, where)
    if not isinstance(name, str) or not name.strip() or "\0" in name:
        raise CheckpointError(f"{where}: xp.cfg's {STYLE}.encodec_checkpoint is {name!r:.40}; a name or path is needed")
    return name.removeprefix("//pretrained/")


def style_weights(state: dict[str, Tensor], config: StyleConfig, width: int, where: str) -> dict[str, Tensor]:
    """Return the tensors of the style part, float32, without those that training alone writes.

    Raises:
        CheckpointError: missing, too many, or of another shape.
    """
    own = {name: tensor for name, tensor in with_prefix(state, STYLE_PART).items() if not name.endswith(IGNORED)}
    match_tensors(f"{where}: the style part", _shapes(config, width), own)
    return {name: tensor.float() for name, tensor in own.items()}


def _shapes(config: StyleConfig, width: int) -> dict[str, tuple[int, ...]]:
    inner = config.width
    shapes: dict[str, tuple[int, ...]] = {"output_proj.weight": (width, inner), "output_proj.bias": (width,)}
    if config.features == "encodec":
        shapes |= {f"embed.{k}.weight": (config.feature_codes, inner) for k in range(config.feature_codebooks)}
    else:
        shapes |= {"embed.weight": (inner, config.feature_codes), "embed.bias": (inner,)}
    for layer in range(config.layers):
        name = f"transformer.layers.{layer}"
        shapes |= {f"{name}.self_attn.in_proj_weight": (3 * inner, inner), f"{name}.linear1.weight": (4 * inner, inner)}
        shapes |= {f"{name}.self_attn.out_proj.weight": (inner, inner), f"{name}.linear2.weight": (inner, 4 * inner)}
        shapes |= {f"{name}.{norm}.{part}": (inner,) for norm in ("norm1", "norm2") for part in ("weight", "bias")}
    if config.batch_norm:
        shapes |= {f"batch_norm.running_{part}": (inner,) for part in ("mean", "var")}
    shapes |= {f"rvq.vq.layers.{k}._codebook.embed": (config.codes, inner) for k in range(config.codebooks)}
    return shapes
