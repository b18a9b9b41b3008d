"""Settings and tensors become a codec, a text encoder, a tokenizer; what hears a style may be transformers' MERT.

Rules: knows no file format beyond a tokenizer's folder; nothing is allocated before names and shapes are compared;
the global random state is left as it was.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

from streamgen.checkpoint.encodec import STATISTICS, Codec, codec_shapes
from streamgen.checkpoint.files import explained
from streamgen.checkpoint.settings import DAMAGED, EncodecSettings, T5Settings, check_kind, read_settings
from streamgen.checkpoint.validate import check_codec, match_tensors
from streamgen.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import HubertModel

    from streamgen.checkpoint.t5 import T5Encoder
    from streamgen.checkpoint.types import DecoderConfig

__all__ = [
    "build_codec",
    "build_mert",
    "build_text_encoder",
    "own_settings",
    "parse_config",
    "projection",
    "with_prefix",
]


@contextmanager
def own_settings() -> Iterator[None]:
    """Build under our own torch settings, whatever the program around has set: on the CPU, with tensors like any other.

    And on this thread alone; others that compute already are not affected. Building modules is a thousand operations of
    microseconds: where other programs use the processors too, two threads wait for each other in each of them
    (docs/measurements.md, "Loading"). The default dtype is global to all threads, so it stays: what is built in it is
    made float32 before weights are read.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode(False), torch.device("cpu"):
            yield
    finally:
        torch.set_num_threads(before)


def with_prefix(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors under `prefix`, without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def parse_config(kind: Any, settings: Any, where: str) -> Any:
    """Return transformers' configuration class `kind` filled from untrusted settings.

    Raises:
        CheckpointError: not an object, another model's, or values of a wrong type.
    """
    check_kind(kind.model_type, settings, where)
    with explained(f"{where} cannot be read", DAMAGED):
        return kind.from_dict(settings)


def build_codec(settings: Any, tensors: dict[str, Tensor], decoder: DecoderConfig, where: str) -> Codec:
    """Return the codec, float32.

    Raises:
        CheckpointError: not an EnCodec, not one that can be streamed, or other weights than its settings say.
    """
    config = read_settings(EncodecSettings, settings, f"{where}: the audio encoder")
    with explained(f"{where}: the codec's settings make no sense", DAMAGED):
        check_codec(config, decoder, where)
        shapes = codec_shapes(config)
    named = {_weight_norm_name(name): tensor for name, tensor in tensors.items()}
    match_tensors(f"{where}: the codec", shapes, named, [name for name in shapes if STATISTICS.fullmatch(name)])
    return Codec(config, {name: tensor.float() for name, tensor in named.items()}, decoder.channel_codebooks)


def _weight_norm_name(name: str) -> str:
    """Torch's old weight norm (weight_g, weight_v), as in Meta's files, under its new name."""
    return name.replace("weight_g", "parametrizations.weight.original0").replace(
        "weight_v", "parametrizations.weight.original1"
    )


def build_text_encoder(settings: Any, tensors: dict[str, Tensor], where: str) -> T5Encoder:
    """Return the T5 encoder, float32; tensors of a T5 decoder beside it are ignored.

    Raises:
        CheckpointError: not a T5, or other weights than its settings say.
    """
    from streamgen.checkpoint.t5 import T5Encoder, t5_shapes

    config = read_settings(T5Settings, settings, f"{where}: the text encoder")
    if not 0 < config.num_layers <= 256:
        raise CheckpointError(f"{where}: the text encoder has {config.num_layers} layers; {DAMAGED}")
    own = {name: tensor.float() for name, tensor in tensors.items() if name.startswith(("encoder.", "shared."))}
    for name, twin in (
        ("shared.weight", "encoder.embed_tokens.weight"),
        ("encoder.embed_tokens.weight", "shared.weight"),
    ):
        if twin in own:
            own.setdefault(name, own[twin])  # one table under two names; files keep either or both
    match_tensors(f"{where}: the text encoder", t5_shapes(config), own)
    with explained(f"{where}: the text encoder's settings make no sense", DAMAGED):
        return T5Encoder(config, own)


def build_mert(settings: Any, tensors: dict[str, Tensor], where: str) -> HubertModel:
    """Return MERT, which is a HuBERT, in eval mode, float32; what its own class adds beside is ignored.

    Raises:
        CheckpointError: with a constant-Q transform, which is no HuBERT, or other weights than its settings say.
    """
    from transformers import HubertConfig, HubertModel

    if isinstance(settings, dict) and settings.get("feature_extractor_cqt"):
        raise CheckpointError(f"{where}: feature_extractor_cqt is on; MERT-v1-95M has none: use that")
    named = {**settings, "model_type": "hubert"} if isinstance(settings, dict) else settings
    config = parse_config(HubertConfig, named, f"{where}: MERT")
    with explained(f"{where}: MERT's settings make no sense", DAMAGED):
        shapes = _shapes(_without_memory(HubertModel, config))
    found = {_weight_norm_name(name): tensor for name, tensor in tensors.items()}
    found = {name: tensor for name, tensor in found.items() if name in shapes}
    match_tensors(f"{where}: MERT", shapes, found, [name for name in shapes if name == "masked_spec_embed"])
    model = _seedless(HubertModel, config).float()
    model.load_state_dict(found, strict=False)  # masked_spec_embed alone may be absent: training masks with it
    return cast("HubertModel", model.eval().requires_grad_(False))


def projection(
    tensors: dict[str, Tensor], name: str, from_width: int, to_width: int, where: str
) -> tuple[Tensor, Tensor] | None:
    """Return (weight, bias), float32, of the projection `name`; None where the widths are equal and it does not exist.

    Raises:
        CheckpointError: missing, or of another shape.
    """
    if from_width == to_width:
        return None
    found = with_prefix(tensors, f"{name}.")
    match_tensors(f"{where}: {name}", {"weight": (to_width, from_width), "bias": (to_width,)}, found)
    return found["weight"].float(), found["bias"].float()


def _without_memory(kind: Any, config: Any) -> Any:
    """A model of names and shapes only."""
    import torch

    with torch.device("meta"):
        return kind(config)


def _shapes(model: Any) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def _seedless(kind: Any, config: Any) -> Any:
    """Build a model without drawing from the caller's random state."""
    import torch

    with torch.random.fork_rng(devices=[]):
        return kind(config)
