"""tiny_checkpoint: seeded random checkpoints, built in seconds, that transformers loads too.

Rules: builds models from transformers' own configs, so their files are what real ones look like; every kind but
"decoder" has a processor. A folder appears whole or not at all, so that processes may build the same one at once.

    kind              format        decoder                       codec                     text
    mono              transformers  MusicGen, 4 codebooks         32 kHz, not causal        T5
    stereo            transformers  MusicGen, 8 codebooks         "                         T5
    melody            transformers  MusicGen Melody, 4            "                         T5, chroma
    melody-stereo     transformers  MusicGen Melody, 8            "                         T5, chroma
    causal            transformers  MusicGen, 4                   32 kHz, causal            T5
    decoder           transformers  MusicgenForCausalLM alone, 4  in the folder "audio_encoder"   none: unconditional
    audiocraft…       audiocraft    the weights of mono, stereo, melody, melody-stereo
    style             audiocraft    the weights of melody, style by EnCodec's codes in the place of chroma
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamgen.errors import ConfigError

if TYPE_CHECKING:
    from transformers import EncodecConfig, EncodecFeatureExtractor, PreTrainedModel, T5Config, T5Tokenizer

__all__ = ["AUDIOCRAFT_KINDS", "TINY_KINDS", "tiny_checkpoint"]

AUDIOCRAFT_KINDS = {
    "audiocraft": "mono",
    "audiocraft-stereo": "stereo",
    "audiocraft-melody": "melody",
    "audiocraft-melody-stereo": "melody-stereo",
}
STYLE_KIND, STYLE_TWIN = "style", "melody"  # and whose weights it has beside its own
TINY_KINDS = ("mono", "stereo", "melody", "melody-stereo", "causal", "decoder", STYLE_KIND, *AUDIOCRAFT_KINDS)
CODES, CHANNEL_CODEBOOKS, SAMPLE_RATE_HZ = 64, 4, 32_000
HIDDEN, LAYERS, HEADS = 64, 3, 4
TEXT_WIDTH, TEXT_HEAD_WIDTH = 48, 12
TEXT_ENCODER_NAME = "t5-tiny"  # in audiocraft's format, where it lies beside the weights
MELODY_PROCESSOR = {
    "chunk_length": 30, "feature_extractor_type": "MusicgenMelodyFeatureExtractor", "feature_size": 12,
    "hop_length": 4096, "n_fft": 16384, "n_samples": 960_000, "num_chroma": 12, "padding_side": "left",
    "padding_value": 0.0, "processor_class": "MusicgenMelodyProcessor", "return_attention_mask": False,
    "sampling_rate": 32_000, "stem_indices": [3, 2],
}  # fmt: skip


def tiny_checkpoint(kind: str = "mono", *, seed: int = 0, folder: Path | None = None) -> Path:
    """Return the folder of a small random checkpoint, building it on the first call (a few seconds).

    Args:
        kind: one of TINY_KINDS, drawn in this file's docstring.
        seed: of the weights; kinds in audiocraft's format hold the weights of their transformers' twin of this seed.
        folder: where to put it; None is a cache in the system's temporary folder, shared by processes.

    Returns:
        A folder for `streamgen.load_model`, and for transformers unless it is in audiocraft's format.

    Raises:
        ConfigError: unknown kind.
    """
    if kind not in TINY_KINDS:
        raise ConfigError(f"kind is {kind!r}; tiny checkpoints come as {', '.join(TINY_KINDS)}")
    target = folder if folder is not None else _cache_folder() / f"{kind}-{seed}"
    if not target.exists() or not any(target.iterdir()):
        _build_whole(kind, seed, target)
    return target


def _build_whole(kind: str, seed: int, target: Path) -> None:
    """Build beside the target, then rename: a reader never sees half a checkpoint."""
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        with _quiet():
            _build(kind, seed, draft)
        try:
            os.replace(draft, target)
        except OSError:
            if not any(target.iterdir()):  # not a race lost to another builder: a real failure
                raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _cache_folder() -> Path:
    """A folder per user, recipe and transformers: an edit of these files must never meet an old checkpoint."""
    import transformers

    recipe = hashlib.sha256(transformers.__version__.encode())
    for source in sorted(Path(__file__).parent.glob("tiny*.py")):
        recipe.update(source.read_bytes())
    user = os.getuid() if hasattr(os, "getuid") else "user"
    return Path(tempfile.gettempdir()) / f"streamgen-tiny-{user}" / recipe.hexdigest()[:16]


def _build(kind: str, seed: int, folder: Path) -> None:
    if kind in AUDIOCRAFT_KINDS:
        _write_audiocraft_twin(tiny_checkpoint(AUDIOCRAFT_KINDS[kind], seed=seed), folder)
    elif kind == STYLE_KIND:
        from streamgen.testing.tiny_style import write_style

        write_style(tiny_checkpoint(STYLE_TWIN, seed=seed), folder, seed, TEXT_ENCODER_NAME)
    elif kind == "decoder":
        _build_decoder_alone(seed, folder)
    else:
        _build_composite(kind, seed, folder)


def _write_audiocraft_twin(source: Path, folder: Path) -> None:
    """Write the same weights in audiocraft's format."""
    from streamgen.checkpoint import load_checkpoint
    from streamgen.checkpoint.write_audiocraft import write_audiocraft

    write_audiocraft(load_checkpoint(str(source)), folder, TEXT_ENCODER_NAME)


def _build_composite(kind: str, seed: int, folder: Path) -> None:
    import torch
    import transformers

    from streamgen.testing.tiny_vocabulary import tiny_tokenizer
    from streamgen.testing.tiny_weights import fill_codec, fill_decoder, fill_text_encoder, fill_vector

    melody, tokenizer = kind.startswith("melody"), tiny_tokenizer()
    prefix = "MusicgenMelody" if melody else "Musicgen"
    config = getattr(transformers, f"{prefix}Config")(
        text_encoder=_text_config(len(tokenizer)).to_dict(),
        audio_encoder=_codec_config(causal=kind == "causal").to_dict(),
        decoder=_decoder_settings(stereo="stereo" in kind),
    )
    model = getattr(transformers, f"{prefix}ForConditionalGeneration")(config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        fill_decoder(model.decoder, generator)
        fill_text_encoder(model.text_encoder, TEXT_HEAD_WIDTH, generator)
        fill_codec(model.audio_encoder, generator)
        fill_vector(model.enc_to_dec_proj, generator)
        if melody:
            fill_vector(model.audio_enc_to_dec_proj, generator)
    _save(model, folder)
    _save_processor(melody, tokenizer, folder)


def _build_decoder_alone(seed: int, folder: Path) -> None:
    """MusicgenForCausalLM in `folder`, its EnCodec and feature extractor in `folder/audio_encoder`."""
    import torch
    from transformers import EncodecModel, MusicgenDecoderConfig, MusicgenForCausalLM

    from streamgen.testing.tiny_weights import fill_codec, fill_decoder

    model = MusicgenForCausalLM(MusicgenDecoderConfig(**_decoder_settings(stereo=False)))
    codec = EncodecModel(_codec_config(causal=False))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        fill_decoder(model, generator)
        fill_codec(codec, generator)
    _save(model, folder)
    codec.save_pretrained(folder / "audio_encoder")
    _codec_features().save_pretrained(folder / "audio_encoder")


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars, and no remark that the padding code lies past the vocabulary: MusicGen's always does."""
    import logging as levels

    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(levels.ERROR)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _save(model: PreTrainedModel, folder: Path) -> None:
    """Save with the generation settings of Meta's checkpoints."""
    settings: Any = model.generation_config
    settings.guard = False  # random weights have no music that could die
    settings.guidance_scale, settings.do_sample, settings.max_length = 3.0, True, 1500
    settings.decoder_start_token_id = settings.pad_token_id = settings.bos_token_id = CODES
    model.save_pretrained(folder)


def _save_processor(melody: bool, tokenizer: T5Tokenizer, folder: Path) -> None:
    """Text and audio processor, as Meta's checkpoints ship them.

    MusicGen Melody's feature extractor cannot be made without torchaudio, which streamgen does not need: its settings
    are written as Meta's file has them, and AutoProcessor reads them where torchaudio is installed.
    """
    from transformers import MusicgenProcessor

    if melody:
        tokenizer.save_pretrained(folder)
        (folder / "preprocessor_config.json").write_text(json.dumps(MELODY_PROCESSOR, indent=2) + "\n")
    else:
        processor = MusicgenProcessor(_codec_features(), tokenizer)
        processor.save_pretrained(folder)


def _codec_features() -> EncodecFeatureExtractor:
    from transformers import EncodecFeatureExtractor

    return EncodecFeatureExtractor(feature_size=1, sampling_rate=SAMPLE_RATE_HZ, padding_side="left")


def _decoder_settings(stereo: bool) -> dict[str, Any]:
    return {
        "vocab_size": CODES, "hidden_size": HIDDEN, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
        "ffn_dim": 2 * HIDDEN, "max_position_embeddings": 2048, "activation_function": "gelu", "dropout": 0.0,
        "num_codebooks": (2 if stereo else 1) * CHANNEL_CODEBOOKS, "audio_channels": 2 if stereo else 1,
        "pad_token_id": CODES, "bos_token_id": CODES,
    }  # fmt: skip


def _text_config(vocabulary: int) -> T5Config:
    """Width 48, unlike the decoder's 64, so that enc_to_dec_proj exists as it does in Meta's checkpoints."""
    from transformers import T5Config

    return T5Config(
        vocab_size=vocabulary, d_model=TEXT_WIDTH, d_kv=TEXT_HEAD_WIDTH, d_ff=96, num_layers=2, num_heads=4,
        dropout_rate=0.0,
    )  # fmt: skip


def _codec_config(causal: bool) -> EncodecConfig:
    """facebook/encodec_32khz's shape with fewer filters; `causal` is the streamable kind of the same family."""
    from transformers import EncodecConfig

    return EncodecConfig(
        target_bandwidths=[1.2],  # kbit/s: 4 codebooks of 6 bits, 50 times a second
        sampling_rate=SAMPLE_RATE_HZ, audio_channels=1, normalize=False, hidden_size=32, num_filters=4,
        upsampling_ratios=[8, 5, 4, 4], codebook_size=CODES, codebook_dim=32, use_conv_shortcut=False,
        use_causal_conv=causal, pad_mode="constant" if causal else "reflect", num_lstm_layers=1 if causal else 2,
    )  # fmt: skip
