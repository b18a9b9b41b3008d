"""audiocraft's training configuration, read for what the streaming engine must know.

Rules: knows audiocraft's names of settings, no tensors. Whatever would change the arithmetic is compared with
what MusicGen has; a difference is refused with its name and value.
Source: github.com/facebookresearch/audiocraft, config/model/lm, config/model/encodec, config/conditioner.
"""

from __future__ import annotations

import math

from streamgen.checkpoint.types import DecoderConfig, GenerationDefaults, MelodyConfig
from streamgen.checkpoint.validate import MAX_TRAINED_POSITIONS
from streamgen.checkpoint.xp_cfg import MISSING, Settings, flag, look_up, number, require, section, whole, within
from streamgen.config import CONTROLS
from streamgen.errors import CheckpointError

__all__ = [
    "codec_settings",
    "decoder_config",
    "generation_defaults",
    "melody_config",
    "owns_text_encoder",
    "segment_seconds",
    "text_encoder_name",
]

# What MusicGen's decoder is, under audiocraft's names; a setting that is absent has this value.
LM_ARCHITECTURE = {
    "lm_model": "transformer_lm", "transformer_lm.norm_first": True, "transformer_lm.bias_ff": False,
    "transformer_lm.bias_attn": False, "transformer_lm.bias_proj": False, "transformer_lm.causal": True,
    "transformer_lm.positional_embedding": "sin", "transformer_lm.max_period": 10_000,
    "transformer_lm.positional_scale": 1.0, "transformer_lm.norm": "layer_norm", "transformer_lm.layer_scale": None,
    "transformer_lm.qk_layer_norm": False, "transformer_lm.qk_layer_norm_cross": False, "transformer_lm.kv_repeat": 1,
    "transformer_lm.past_context": None, "fuser.cross_attention_pos_emb": False,
    "codebooks_pattern.modeling": "delay", "codebooks_pattern.delay.flatten_first": 0,
    "codebooks_pattern.delay.empty_initial": 0, "interleave_stereo_codebooks.per_timestep": False,
    "conditioners.description.model": "t5", "conditioners.description.t5.normalize_text": False,
    "fuser.sum": [], "fuser.input_interpolate": [], "fuser.ignore": [],
}  # fmt: skip
CODEC_ARCHITECTURE = {
    "compression_model": "encodec", "encodec.autoencoder": "seanet", "encodec.quantizer": "rvq",
    "seanet.activation": "ELU", "seanet.activation_params": {"alpha": 1.0}, "seanet.disable_norm_outer_blocks": 0,
    "seanet.norm_params": {}, "seanet.decoder.final_activation": None, "seanet.channels": 1,
}  # fmt: skip

DECODER_ALONE = ("trim_right_ratio", "final_activation", "final_activation_params")


def decoder_config(settings: Settings, where: str) -> DecoderConfig:
    """Return the decoder's shape.

    Raises:
        CheckpointError: not MusicGen's transformer, or other delays than MusicGen's.
    """
    require(settings, LM_ARCHITECTURE, "MusicGen", where)
    _refuse_conditioners(settings, where)
    width, codebooks = whole(settings, "transformer_lm.dim", where), whole(settings, "transformer_lm.n_q", where)
    channels = 2 if flag(settings, "interleave_stereo_codebooks.use", where, False) else 1
    needed = [k // channels for k in range(codebooks)]
    delays = look_up(settings, "codebooks_pattern.delay.delays", None) or list(range(codebooks))  # audiocraft's default
    if delays != needed:
        raise CheckpointError(
            f"{where}: the codebooks' delays are {delays!r:.60}; MusicGen's, for n_q = {codebooks}, are {needed}: "
            "use a MusicGen checkpoint"
        )
    cut_to = look_up(settings, "compression_model_n_q", None)
    if cut_to not in (None, codebooks // channels):
        raise CheckpointError(
            f"{where}: xp.cfg's compression_model_n_q is {cut_to!r:.40}, the decoder has {codebooks // channels} "
            "codebooks a channel; they must be equal: use a MusicGen checkpoint"
        )
    return DecoderConfig(
        hidden_size=width, num_layers=whole(settings, "transformer_lm.num_layers", where),
        num_heads=whole(settings, "transformer_lm.num_heads", where),
        ffn_dim=int(width * number(settings, "transformer_lm.hidden_scale", where, 4)), num_codebooks=codebooks,
        vocab_size=whole(settings, "transformer_lm.card", where), audio_channels=channels,
        max_positions=MAX_TRAINED_POSITIONS,
        activation=str(look_up(settings, "transformer_lm.activation", "gelu", where)),
        cross_attention=not _text_is_prefix(settings, where),
    )  # fmt: skip


def _refuse_conditioners(settings: Settings, where: str) -> None:
    """Refuse what the music would be conditioned on beside text and audio."""
    named = section(settings, "conditioners", where, {})
    others = sorted(set(map(str, named)) - {"description", "self_wav", "args"})
    if others:
        raise CheckpointError(
            f"{where}: xp.cfg's conditioners.{others[0]} is none of MusicGen's (description, self_wav); "
            "streamgen plays MusicGen only: use a MusicGen checkpoint"
        )


def _text_is_prefix(settings: Settings, where: str) -> bool:
    """True where text is put before the music (MusicGen Melody), False where it is attended to (MusicGen)."""
    cross, prepend = look_up(settings, "fuser.cross", []), look_up(settings, "fuser.prepend", [])
    if cross == ["description"] and not prepend:
        return False
    if not cross and isinstance(prepend, list) and sorted(map(str, prepend)) == ["description", "self_wav"]:
        return True
    raise CheckpointError(
        f"{where}: xp.cfg's fuser has cross {cross!r:.60} and prepend {prepend!r:.60}; MusicGen has the description in "
        "cross, MusicGen Melody has self_wav and description in prepend: use one of these"
    )


def melody_config(settings: Settings, where: str) -> MelodyConfig | None:
    """Return the chroma settings of a melody checkpoint, else None.

    Raises:
        CheckpointError: conditioned on other audio features than chroma.
    """
    path = "conditioners.self_wav"
    if not _text_is_prefix(settings, where) or look_up(settings, f"{path}.model", None) == "style":
        return None
    require(settings, {f"{path}.model": "chroma_stem", f"{path}.chroma_stem.argmax": True}, "MusicGen Melody", where)
    chroma = f"{path}.chroma_stem"
    require(settings, {f"{chroma}.norm": math.inf}, "MusicGen Melody", where)
    exponent = whole(settings, f"{chroma}.radix2_exp", where, 14)
    if not 8 <= exponent <= 16:
        raise CheckpointError(f"{where}: xp.cfg's {chroma}.radix2_exp is {exponent}; 8 to 16 is possible")
    window = whole(settings, f"{chroma}.winlen", where, 2**exponent)
    n_fft = whole(settings, f"{chroma}.nfft", where, window)
    if not 256 <= window <= n_fft <= 2**16:
        raise CheckpointError(
            f"{where}: xp.cfg's {chroma}.winlen is {window} and nfft {n_fft}; 256 to {2**16} is possible, "
            "nfft the larger"
        )
    hop, rate_hz = (
        whole(settings, f"{chroma}.winhop", where, window // 4),
        whole(settings, f"{chroma}.sample_rate", where),
    )
    seconds = segment_seconds(settings, where)
    return MelodyConfig(
        num_chroma=whole(settings, f"{chroma}.n_chroma", where, 12),
        chroma_length=1 + int(rate_hz * seconds) // hop,  # frames of a centred spectrogram
        n_fft=n_fft, hop_length=hop, sample_rate_hz=rate_hz, win_length=None if window == n_fft else window,
        seconds=seconds,
    )  # fmt: skip


def segment_seconds(settings: Settings, where: str) -> float:
    """Return how long the music was that the decoder was trained on: as long as its windows are."""
    seconds = number(settings, "dataset.segment_duration", where, 30.0)
    if not 1 <= seconds <= 600:
        raise CheckpointError(f"{where}: xp.cfg's dataset.segment_duration is {seconds:g} s; 1 to 600 is possible")
    return seconds


def text_encoder_name(settings: Settings, where: str) -> str:
    """Return the name of the T5, e.g. "t5-base"."""
    name = look_up(settings, "conditioners.description.t5.name", MISSING, where)
    if not isinstance(name, str) or not name.strip() or "\0" in name:
        raise CheckpointError(
            f"{where}: xp.cfg names the text encoder {name!r:.40}; a T5's name is needed, e.g. t5-base"
        )
    return name


def owns_text_encoder(settings: Settings, where: str) -> bool:
    """Tell whether the T5 was trained with the decoder, so that its weights lie beside it."""
    return flag(settings, "conditioners.description.t5.finetune", where, False)


def generation_defaults(settings: Settings, where: str) -> tuple[GenerationDefaults, tuple[str, ...]]:
    """Guidance as trained; the rest is the default of audiocraft's own MusicGen class, not of its evaluation.

    Returns:
        The defaults, and what is to be said of them: one line each.
    """
    usual = GenerationDefaults()
    path = "classifier_free_guidance.inference_coef"
    scale = number(settings, path, where, usual.guidance_scale)
    taken, notes = within(CONTROLS["guidance_scale"], scale, f"xp.cfg: {path}")
    return GenerationDefaults(guidance_scale=taken, top_p_alone=True), notes


def codec_settings(settings: Settings, where: str) -> Settings:
    """Return the codec's settings under transformers' EncodecConfig names.

    Raises:
        CheckpointError: not an EnCodec.
    """
    settings = {**settings, "seanet": _both_sides(settings, where)}
    require(settings, CODEC_ARCHITECTURE, "MusicGen's EnCodec", where)
    ratios = look_up(settings, "seanet.ratios", MISSING, where)
    if not isinstance(ratios, list) or not ratios or not all(isinstance(r, int) and 1 <= r <= 64 for r in ratios):
        raise CheckpointError(f"{where}: xp.cfg's seanet.ratios are {ratios!r:.60}; a list of whole numbers is needed")
    rate_hz, codes = whole(settings, "encodec.sample_rate", where), whole(settings, "rvq.bins", where)
    bits_per_second = math.ceil(rate_hz / math.prod(ratios)) * max(1, math.ceil(math.log2(codes)))
    # Half a bit a second more: EncodecConfig divides and floors, and must find the same number of codebooks.
    kilobits = (whole(settings, "rvq.n_q", where) * bits_per_second + 0.5) / 1000
    sizes = {"num_filters": "n_filters", "num_residual_layers": "n_residual_layers", "kernel_size": "kernel_size",
             "last_kernel_size": "last_kernel_size", "residual_kernel_size": "residual_kernel_size",
             "dilation_growth_rate": "dilation_base", "compress": "compress", "hidden_size": "dimension"}  # fmt: skip
    return {
        **{ours: whole(settings, f"seanet.{theirs}", where) for ours, theirs in sizes.items()},
        "model_type": "encodec", "sampling_rate": rate_hz, "upsampling_ratios": ratios, "codebook_size": codes,
        "audio_channels": whole(settings, "encodec.channels", where),
        "normalize": flag(settings, "encodec.renormalize", where, False),
        "target_bandwidths": [kilobits], "norm_type": look_up(settings, "seanet.norm", "weight_norm"),
        "use_causal_conv": flag(settings, "seanet.causal", where, False),  # encodec.causal alone changes no convolution
        "pad_mode": look_up(settings, "seanet.pad_mode", "reflect"),
        "num_lstm_layers": look_up(settings, "seanet.lstm", 0, where),
        "use_conv_shortcut": not flag(settings, "seanet.true_skip", where, False),
        "trim_right_ratio": number(settings, "seanet.decoder.trim_right_ratio", where, 1.0),
    }  # fmt: skip


def _both_sides(settings: Settings, where: str) -> Settings:
    """Return the SEANet's settings, its overrides for encoder and decoder in force: what both have must be the same."""
    common = dict(section(settings, "seanet", where))
    own = {side: section(settings, f"seanet.{side}", where, {}) for side in ("encoder", "decoder")}
    common = {name: value for name, value in common.items() if name not in own}
    encoder, decoder = ({**common, **own[side]} for side in ("encoder", "decoder"))
    last = {name: decoder.pop(name) for name in DECODER_ALONE if name in decoder}
    for name in sorted({*encoder, *decoder}, key=str):
        ours, theirs = encoder.get(name), decoder.get(name)
        if ours != theirs:
            raise CheckpointError(
                f"{where}: xp.cfg's seanet.{name} is {ours!r:.40} in the encoder, {theirs!r:.40} in the decoder; a "
                "codec with the same in both is needed: use a codec like facebook/encodec_32khz"
            )
    return {**encoder, "decoder": last}
