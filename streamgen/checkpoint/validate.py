"""What can be streamed, and what cannot and why.

Rules: looks at settings and at tensors' names and shapes; at values in `finite` alone, which reads them all: for
those who read them anyway. Every refusal is one line that says what was found, what is needed and what to do.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from streamgen.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

    from streamgen.checkpoint.settings import EncodecSettings
    from streamgen.checkpoint.types import DecoderConfig

__all__ = [
    "MAX_TRAINED_POSITIONS", "STYLE_ROOM", "TEXT_ROOM", "check_codec", "check_decoder", "check_not_wrapped",
    "check_room", "check_streamable", "check_windows", "decoder_shapes", "finite", "match_tensors",
]  # fmt: skip

# 30 s at 50 frames a second, and 3 more for the delays: past them MusicGen has seen nothing.
MAX_TRAINED_POSITIONS = 1503
# For the text that stands before the music; a longer one takes of the music's positions.
TEXT_ROOM = 64
# For a style before the text: 30 s at 5 a second.
STYLE_ROOM = 150
# Far outside any MusicGen: damaged settings must not cost minutes or gigabytes before they are found out.
DECODER_LIMITS = {"hidden_size": 65_536, "num_layers": 1024, "num_heads": 1024, "ffn_dim": 1_000_000,
                  "num_codebooks": 64, "vocab_size": 1_000_000}  # fmt: skip
CODEC_LIMITS = {"sampling_rate": 384_000, "hidden_size": 4096, "num_filters": 1024, "num_residual_layers": 16,
                "num_lstm_layers": 16, "kernel_size": 64, "last_kernel_size": 64, "residual_kernel_size": 64,
                "compress": 64, "codebook_dim": 4096, "dilation_growth_rate": 16}  # fmt: skip
STREAMABLE_PADDING = ("constant", "reflect", "replicate")  # "circular" would need the end at the start
USE_32KHZ = "use a codec like facebook/encodec_32khz"
QUANTISED = (".SCB", ".absmax", ".quant_map", ".qweight", ".qzeros", ".weight_format")
# What wrappers put before every name, and how one gets rid of it.
WRAPPERS = {
    "base_model.model.": "peft: model.merge_and_unload().save_pretrained(…)",
    "_orig_mod.": "torch.compile: model._orig_mod.save_pretrained(…)",
    "module.": "DataParallel: model.module.save_pretrained(…)",
}
Shapes = dict[str, tuple[int, ...]]


def check_decoder(decoder: DecoderConfig, where: str) -> None:
    """Check that a decoder's settings are MusicGen's.

    Raises:
        CheckpointError: a size that does not fit the others.
    """
    from streamgen.linear import activation

    for name, limit in DECODER_LIMITS.items():
        if not 1 <= getattr(decoder, name) <= limit:
            _refuse(where, f"{name} is {getattr(decoder, name)}, 1 to {limit} is possible")
    if decoder.hidden_size % decoder.num_heads:
        _refuse(where, f"hidden_size {decoder.hidden_size} is not a multiple of num_heads {decoder.num_heads}")
    if decoder.audio_channels not in (1, 2) or decoder.num_codebooks % decoder.audio_channels:
        _refuse(where, f"{decoder.num_codebooks} codebooks for {decoder.audio_channels} audio channels do not divide")
    if decoder.max_positions < _least_positions(decoder):
        least = _least_positions(decoder)
        _refuse(where, f"max_position_embeddings is {decoder.max_positions}, at least {least} are needed")
    try:
        activation(decoder.activation)
    except KeyError:
        _refuse(where, f"the activation {decoder.activation!r} is unknown to transformers")


def _least_positions(decoder: DecoderConfig) -> int:
    """Positions of a window that can warm another one: the delays' columns, twice."""
    return 2 * (decoder.channel_codebooks + 1)


def check_windows(decoder: DecoderConfig, where: str) -> None:
    """Check that windows that follow from an xp.cfg are long enough.

    Raises:
        CheckpointError: they are not.
    """
    least = _least_positions(decoder)
    if decoder.max_positions < least:
        _refuse(
            where,
            f"dataset.segment_duration comes to windows of {decoder.max_positions} positions with this codec, at least "
            f"{least} are needed",
        )


def check_room(decoder: DecoderConfig, where: str) -> None:
    """Check that a window has room to read its successor's prefix beside the music.

    Raises:
        CheckpointError: it has not.
    """
    least = decoder.prefix_positions + _least_positions(decoder)
    if decoder.max_positions < least:
        _refuse(where, f"max_position_embeddings is {decoder.max_positions}, a melody's windows need {least}")


def _refuse(where: str, fault: str) -> None:
    raise CheckpointError(f"{where}: {fault}; the decoder's settings are damaged or not MusicGen's")


def check_codec(codec: EncodecSettings, decoder: DecoderConfig, where: str) -> None:
    """Check that a codec can be streamed and is the one the decoder speaks to.

    Raises:
        CheckpointError: more than one frame, normalisation, other codebooks, not mono, a norm over time.
    """
    found = f"{where}: the codec"
    check_streamable(codec, found)
    if codec.audio_channels != 1:
        text = f"{found} has {codec.audio_channels} audio channels; a mono one is needed, stereo is two of its streams"
        raise CheckpointError(f"{text}: {USE_32KHZ}")
    if codec.codebook_size != decoder.vocab_size:
        text = f"{found} has {codec.codebook_size} codes a codebook, the decoder {decoder.vocab_size}"
        raise CheckpointError(f"{text}; they must be equal: pair the decoder with the codec it was trained on")
    _check_codec_sizes(codec, found)
    if codec.num_quantizers < decoder.channel_codebooks:  # of more, the first are used
        text = f"{found} has {codec.num_quantizers} codebooks, {decoder.channel_codebooks} a channel are needed"
        raise CheckpointError(f"{text}: pair the decoder or the style with the codec it was trained on")


def check_streamable(codec: EncodecSettings, found: str) -> None:
    """Check that no sample of a codec depends on all of the audio.

    Raises:
        CheckpointError: a norm over time, more than one frame, normalisation, another padding.
    """
    fault = None
    if codec.normalize:
        fault = "normalises loudness per frame (normalize=true), unknown to a stream"
    elif codec.chunk_length_s is not None:
        fault = f"cuts audio into frames of {codec.chunk_length_s} s (chunk_length_s); a stream needs one endless frame"
    elif codec.norm_type != "weight_norm":
        fault = f"has {codec.norm_type} over all of time; weight_norm is needed"
    elif codec.pad_mode not in STREAMABLE_PADDING:
        fault = f"pads otherwise: pad_mode is {codec.pad_mode!r}; {', '.join(STREAMABLE_PADDING)} can be"
    if fault:
        raise CheckpointError(f"{found} {fault}: {USE_32KHZ}")


def _check_codec_sizes(codec: EncodecSettings, found: str) -> None:
    for name, limit in CODEC_LIMITS.items():
        if not (0 if name == "num_lstm_layers" else 1) <= getattr(codec, name) <= limit:
            raise CheckpointError(f"{found}'s {name} is {getattr(codec, name)}; 1 to {limit} is possible: {USE_32KHZ}")
    if codec.codebook_dim != codec.hidden_size:
        raise CheckpointError(
            f"{found}'s codebook_dim is {codec.codebook_dim}, its hidden_size {codec.hidden_size}; they must be equal: "
            f"nothing projects between them: {USE_32KHZ}"
        )
    ratios = codec.upsampling_ratios
    if not 1 <= len(ratios) <= 8 or not all(isinstance(ratio, int) and 1 <= ratio <= 64 for ratio in ratios):
        raise CheckpointError(f"{found}'s upsampling_ratios are {ratios}; 1 to 8 numbers of 1 to 64 are possible")


def decoder_shapes(decoder: DecoderConfig) -> Shapes:
    """Return the name and shape of every tensor the decoder must have (see Checkpoint.weights)."""
    width, codes = decoder.hidden_size, decoder.vocab_size
    shapes: Shapes = _norm("model.decoder.layer_norm", width)
    for k in range(decoder.num_codebooks):
        shapes[f"model.decoder.embed_tokens.{k}.weight"] = (codes + 1, width)
        shapes[f"lm_heads.{k}.weight"] = (codes, width)
    for i in range(decoder.num_layers):
        shapes |= _layer_shapes(f"model.decoder.layers.{i}", decoder)
    return shapes


def _layer_shapes(layer: str, decoder: DecoderConfig) -> Shapes:
    width, inner = decoder.hidden_size, decoder.ffn_dim
    shapes: Shapes = {f"{layer}.fc1.weight": (inner, width), f"{layer}.fc2.weight": (width, inner)}
    shapes |= _norm(f"{layer}.final_layer_norm", width)
    if decoder.activation == "prelu":
        shapes[f"{layer}.activation_fn.weight"] = (1,)
    for attention in ("self_attn", "encoder_attn") if decoder.cross_attention else ("self_attn",):
        shapes |= {f"{layer}.{attention}.{part}_proj.weight": (width, width) for part in ("q", "k", "v", "out")}
        shapes |= _norm(f"{layer}.{attention}_layer_norm", width)
    return shapes


def _norm(name: str, width: int) -> Shapes:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def check_not_wrapped(where: str, found: Collection[str]) -> None:
    """Check that tensors have their own names.

    Raises:
        CheckpointError: a wrapper's prefix is before them; names it, and how to save them without.
    """
    for prefix, remedy in WRAPPERS.items():
        if any(name.startswith(prefix) for name in found):
            raise CheckpointError(f"{where}: the tensors' names begin with {prefix!r}: save them without ({remedy})")


def match_tensors(
    part: str, expected: Mapping[str, tuple[int, ...]], found: Mapping[str, Tensor], optional: Collection[str] = ()
) -> None:
    """Check that `found` has exactly the expected names, shapes and a float dtype.

    Args:
        part: named in messages, with the file it came from.
        expected: shape by name.
        found: tensor by name.
        optional: names that may be absent.

    Raises:
        CheckpointError: a tensor too few, too many, of another shape, or of integers.
    """
    _check_not_quantised(part, found)
    remedy = "weights and settings are not of one model: download both again"
    missing = sorted(set(expected) - set(found) - set(optional))
    if missing:
        raise CheckpointError(f"{part}: {_count(missing)} missing from the weights; {remedy}")
    unexpected = sorted(set(found) - set(expected))
    if unexpected:
        raise CheckpointError(f"{part}: {_count(unexpected)} in the weights, but not in this architecture; {remedy}")
    for name, tensor in found.items():
        if tuple(tensor.shape) != tuple(expected[name]):
            shapes = f"{name} is {list(tensor.shape)}, the settings say {list(expected[name])}"
            raise CheckpointError(f"{part}: {shapes}; {remedy}")
        if not tensor.is_floating_point() or tensor.element_size() < 2:
            raise CheckpointError(f"{part}: {name} is {tensor.dtype}; float32, float16 or bfloat16 is needed")


def finite(name: str, weight: Tensor) -> Tensor:
    """Return a weight of numbers: NaN among rounded ones, or in a row of which the largest is sought, would not show.

    Args:
        name: of it, in messages.
        weight: as it was stored.

    Raises:
        CheckpointError: it has NaN or infinity in it.
    """
    import torch

    # a sum tells of each of them and takes no memory; that of large numbers may be infinite itself
    if not weight.sum(dtype=torch.float32).isfinite() and not weight.isfinite().all():
        raise CheckpointError(f"{name} has NaN or infinity in it: the checkpoint is damaged, download it again")
    return weight


def _check_not_quantised(part: str, found: Mapping[str, Tensor]) -> None:
    quantised = sorted(name for name in found if name.endswith(QUANTISED))
    if quantised:
        raise CheckpointError(
            f"{part}: {quantised[0]} is of 8-bit or 4-bit weights (bitsandbytes, GPTQ or AWQ), which are not read: "
            "dequantise it (transformers: model.dequantize(), then save_pretrained), and choose precision='int8' here"
        )


def _count(names: list[str]) -> str:
    more = f" and {len(names) - 1} more tensors are" if len(names) > 1 else " is"
    return f"{names[0]}{more}"
