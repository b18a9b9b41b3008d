"""Which fields of audiocraft's xp.cfg are read here, and which can have no effect.

Rules: names only. What is not named here is told by name: a setting that nobody thought of may change the music.

    read      by audiocraft_settings.py: honoured, or compared with what MusicGen has and refused
    inert     of training and evaluation, of speed and memory
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

__all__ = ["CODEC_FIELDS", "LM_FIELDS", "Fields", "notes_of"]


@dataclass(frozen=True)
class Fields:
    """Fields of one kind of xp.cfg, as dotted paths; a path stands for all that lies below it.

    Attributes:
        read: those with an effect here.
        inert: those without.
    """

    read: frozenset[str]
    inert: frozenset[str]


def _below(place: str, names: str) -> set[str]:
    return {f"{place}.{name}" for name in names.split()}


_PROGRAM = """solver fsdp profiler deadlock checkpoint evaluate optim schedule device dtype autocast autocast_dtype
    seed show continue_from execute_only execute_inplace benchmark_no_load efficient_attention_backend
    num_threads dataset mp_start_method label logging tensorboard wandb slurm dora datasource metrics generate
    sample_rate channels"""
_CHROMA, _STYLE = "conditioners.self_wav.chroma_stem", "conditioners.self_wav.style"
_TEXT = "conditioners.description.t5"
LM_FIELDS = Fields(
    read=frozenset(
        {"lm_model", "compression_model_n_q", "interleave_stereo_codebooks", "classifier_free_guidance.inference_coef"}
        | {"dataset.segment_duration", "conditioners.description.model", "conditioners.self_wav.model"}
        | _below(
            "transformer_lm",
            "dim num_heads num_layers hidden_scale n_q card activation norm_first bias_ff bias_attn bias_proj causal "
            "positional_embedding max_period positional_scale norm layer_scale qk_layer_norm qk_layer_norm_cross "
            "kv_repeat past_context cross_attention",
        )
        | _below("codebooks_pattern", "modeling delay")
        | _below("fuser", "cross prepend sum input_interpolate ignore cross_attention_pos_emb")
        | _below(_TEXT, "name finetune normalize_text")
        | _below(_CHROMA, "sample_rate n_chroma radix2_exp argmax norm nfft winlen winhop")
        | _below(
            _STYLE,
            "model_name transformer_scale sample_rate encodec_checkpoint encodec_n_q length ds_factor n_q_out eval_q "
            "bins batch_norm use_middle_of_segment",
        )
    ),
    inert=frozenset(
        {*_PROGRAM.split(), "tokens", "cache", "attribute_dropout", "compression_model_checkpoint"}
        | {"classifier_free_guidance.training_dropout", "fuser.cross_attention_pos_emb_scale", "conditioners.args"}
        | _below(
            "transformer_lm",
            "dropout emb_lr custom memory_efficient attention_as_float32 xpos checkpointing weight_init depthwise_init "
            "zero_bias_init attention_dropout two_step_cfg",
        )
        | _below("codebooks_pattern", "unroll music_lm coarse_first")
        | _below(_TEXT, "word_dropout autocast_dtype")
        | _below(_CHROMA, "match_len_on_eval n_eval_wavs cache_path")
        | _below(
            _STYLE,
            "q_dropout varying_lengths compute_mask num_codebooks_lm ds_rate_compression rvq_threshold_ema_dead_code",
        )
    ),
)
CODEC_FIELDS = Fields(
    read=frozenset(
        {"compression_model", "seanet"}
        | _below("encodec", "autoencoder quantizer sample_rate channels renormalize")
        | _below("rvq", "n_q bins")
    ),
    inert=frozenset(
        set(f"{_PROGRAM} losses balancer adversarial l1 l2 mrstft mel sisnr msspec msstftd msd mpd no_quant".split())
        | _below("encodec", "causal renorm")
        | _below(
            "rvq",
            "q_dropout no_quantization_rate decay kmeans_init kmeans_iters threshold_ema_dead_code "
            "orthogonal_reg_weight orthogonal_reg_active_codes_only orthogonal_reg_max_codes",
        )
    ),
)


def notes_of(settings: dict[str, Any], fields: Fields, file: str) -> tuple[str, ...]:
    """Return what is to be said of a configuration: what training and evaluation alone read, and what nobody knows."""
    paths = list(_paths(settings))
    inert = sorted({path.split(".")[0] for path in paths if _within(path, fields.inert - fields.read)})
    known = fields.read | fields.inert
    unknown = [path for path in paths if not _within(path, known)]
    said = [f"{file}: no effect here have the settings of training, evaluation and speed below {', '.join(inert)}"]
    return (
        *(said if inert else ()),
        *([f"{file}: no effect here has what is unknown: {', '.join(unknown)}"] if unknown else ()),
    )


def _paths(settings: dict[str, Any], before: str = "") -> Iterator[str]:
    """Dotted paths of all that is set to something."""
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from _paths(value, f"{before}{name}.")
        elif value is not None:
            yield f"{before}{name}"


def _within(path: str, known: frozenset[str]) -> bool:
    parts = path.split(".")
    return any(".".join(parts[:end]) in known for end in range(1, len(parts) + 1))
