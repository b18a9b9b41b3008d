"""Settings and tensors become transformers' own codec, text encoder and tokenizer.

Rules: knows no file format beyond a tokenizer's folder; nothing is allocated before names and shapes are compared;
the global random state is left as it was.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from streamgen.checkpoint.files import check_no_pointer, explained, read_json
from streamgen.checkpoint.spiece import read_spiece
from streamgen.checkpoint.validate import check_codec, match_tensors
from streamgen.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import EncodecConfig, EncodecModel, HubertModel, T5EncoderModel, T5Tokenizer

    from streamgen.checkpoint.types import DecoderConfig

__all__ = [
    "build_codec",
    "build_mert",
    "build_text_encoder",
    "load_tokenizer",
    "own_settings",
    "parse_config",
    "projection",
    "with_prefix",
]

USUAL_EXTRA_IDS = 100  # T5's
DAMAGED = "the settings are damaged: download them again"
# Written by training, unused by encode and decode: a file that was slimmed down may lack them.
CODEC_STATISTICS = re.compile(r"quantizer\.layers\.\d+\.codebook\.(inited|cluster_size|embed_avg)")


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
    if not isinstance(settings, dict):
        raise CheckpointError(f"{where} is {settings!r:.40}, not an object of settings; {DAMAGED}")
    if settings.get("model_type", kind.model_type) != kind.model_type:
        found = settings["model_type"]
        raise CheckpointError(
            f"{where} is a {found!r:.40}; streamgen needs a {kind.model_type!r}: use a MusicGen checkpoint"
        )
    with explained(f"{where} cannot be read", DAMAGED):
        return kind.from_dict(settings)


def build_codec(settings: Any, tensors: dict[str, Tensor], decoder: DecoderConfig, where: str) -> EncodecModel:
    """Return the codec in eval mode, float32.

    Raises:
        CheckpointError: not an EnCodec, not one that can be streamed, or other weights than its settings say.
    """
    from transformers import EncodecConfig, EncodecModel

    config: EncodecConfig = parse_config(EncodecConfig, settings, f"{where}: the audio encoder")
    with explained(f"{where}: the codec's settings make no sense", DAMAGED):
        check_codec(config, decoder, where)
        shapes = _shapes(_without_memory(EncodecModel, config))
    named = {_weight_norm_name(name): tensor for name, tensor in tensors.items()}
    match_tensors(f"{where}: the codec", shapes, named, [name for name in shapes if CODEC_STATISTICS.fullmatch(name)])
    codec = _seedless(EncodecModel, config).float()
    codec.load_state_dict(named, strict=False)  # only statistics may be absent: the names were compared above
    codec.quantizer.layers = codec.quantizer.layers[: decoder.channel_codebooks]  # each refines those before it
    return cast("EncodecModel", codec.eval().requires_grad_(False))


def _weight_norm_name(name: str) -> str:
    """Torch's old weight norm (weight_g, weight_v), as in Meta's files, under its new name."""
    return name.replace("weight_g", "parametrizations.weight.original0").replace(
        "weight_v", "parametrizations.weight.original1"
    )


def build_text_encoder(settings: Any, tensors: dict[str, Tensor], where: str) -> T5EncoderModel:
    """Return the T5 encoder in eval mode, float32; tensors of a T5 decoder beside it are ignored.

    Raises:
        CheckpointError: not a T5, or other weights than its settings say.
    """
    from transformers import T5Config, T5EncoderModel

    config = parse_config(T5Config, settings, f"{where}: the text encoder")
    if not 0 < config.num_layers <= 256:
        raise CheckpointError(f"{where}: the text encoder has {config.num_layers} layers; {DAMAGED}")
    config.is_encoder_decoder, config.use_cache = False, False
    with explained(f"{where}: the text encoder's settings make no sense", DAMAGED):
        encoder = _without_memory(T5EncoderModel, config)
    own = {name: tensor.float() for name, tensor in tensors.items() if name.startswith(("encoder.", "shared."))}
    for name, twin in (
        ("shared.weight", "encoder.embed_tokens.weight"),
        ("encoder.embed_tokens.weight", "shared.weight"),
    ):
        if twin in own:
            own.setdefault(name, own[twin])  # one table under two names; files keep either or both
    match_tensors(f"{where}: the text encoder", _shapes(encoder), own)
    encoder.load_state_dict(own, assign=True)
    return cast("T5EncoderModel", encoder.eval().requires_grad_(False))


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


def load_tokenizer(folder: Path, text_encoder: T5EncoderModel) -> T5Tokenizer:
    """Return the T5 tokenizer whose files lie in `folder`.

    Raises:
        CheckpointError: missing, damaged, or of more tokens than the text encoder embeds.
    """
    from transformers import T5Tokenizer

    if not any((folder / name).is_file() for name in ("tokenizer.json", "spiece.model")):
        raise CheckpointError(
            f"{folder} has no tokenizer.json and no spiece.model; copy the T5 tokenizer's files there"
        )
    for name in ("tokenizer.json", "spiece.model"):
        if (folder / name).is_file():
            check_no_pointer(folder / name)
    extra_ids = _extra_ids(folder / "tokenizer_config.json")
    with explained(f"the tokenizer in {folder} cannot be read", "download tokenizer.json or spiece.model again"):
        # The class by name: AutoTokenizer would look for code named in the folder, and ask on stdin whether to run it.
        tokenizer: T5Tokenizer
        if (folder / "tokenizer.json").is_file():
            tokenizer = T5Tokenizer.from_pretrained(folder, local_files_only=True)
        else:
            tokenizer = read_spiece(folder / "spiece.model", extra_ids)
        tokens, embedded = len(tokenizer), text_encoder.config.vocab_size
    if tokens > embedded:
        raise CheckpointError(
            f"the tokenizer in {folder} has {tokens} tokens, the text encoder embeds {embedded}; they must fit: copy "
            "the tokenizer that belongs to this T5"
        )
    return tokenizer


def _extra_ids(path: Path) -> int:
    """The tokenizer makes this many strings before it looks at anything: a damaged number would cost all memory."""
    extra_ids = read_json(path).get("extra_ids", USUAL_EXTRA_IDS) if path.is_file() else USUAL_EXTRA_IDS
    if not isinstance(extra_ids, int) or not 0 <= extra_ids <= 10_000:
        raise CheckpointError(f"{path}: extra_ids is {extra_ids!r:.40}; 0 to 10000 is possible: download it again")
    return extra_ids


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
