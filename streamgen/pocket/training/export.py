"""The trained parts as one transformers folder: float16 safetensors, tokenizer, feature extractor, hashes.

Rules: writes a folder and nothing else. What is written here is what `from_pretrained` reads: no custom code.
"""

import copy
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from transformers import EncodecFeatureExtractor, EncodecModel, MusicgenProcessor, T5Tokenizer

from streamgen.checkpoint.vocabulary import WORDS_FILE
from streamgen.pocket import HASH_FILE, pocket_folder
from streamgen.pocket.training.arranging import TokenSong
from streamgen.pocket.training.biasing import write_code_bias
from streamgen.pocket.training.fitting import LanguageTrainer
from streamgen.pocket.training.language import MAX_POSITIONS, START
from streamgen.pocket.training.playing import (
    AUDITION,
    CHANGE_CONTEXT_SECONDS,
    GUIDANCE_SCALE,
    LEAST_MOVEMENT,
    TEMPERATURE,
    TOP_K,
    UNSUPPORTED_CONTROLS,
)
from streamgen.pocket.training.synth import SAMPLE_RATE_HZ

WEIGHTS_FILE, CONFIG_FILE, CODEC_PREFIX = "model.safetensors", "config.json", "audio_encoder."


def export(trainer: LanguageTrainer, codec: EncodecModel, folder: Path, songs: list[TokenSong]) -> None:
    """Write the checkpoint.

    Args:
        trainer: holds the model, finished: see `LanguageTrainer.finish`.
        codec: the trained codec with its codebooks in place.
        folder: made if missing; files of an older export are replaced.
        songs: whose codes are counted, to be added to the logits.
    """
    model = trainer.model
    model.audio_encoder, model.config.audio_encoder = codec, codec.config
    settings: Any = model.generation_config  # the last four are streamgen's own, which its type does not know
    settings.do_sample, settings.guidance_scale = True, GUIDANCE_SCALE
    settings.temperature, settings.top_k = TEMPERATURE, TOP_K
    settings.max_length, settings.change_context_seconds = MAX_POSITIONS, CHANGE_CONTEXT_SECONDS
    settings.audition, settings.least_movement = AUDITION, LEAST_MOVEMENT
    settings.unsupported_controls = list(UNSUPPORTED_CONTROLS)
    settings._from_model_config = False  # these were chosen, not derived: transformers keeps them as they are
    settings.decoder_start_token_id = settings.pad_token_id = settings.bos_token_id = START
    folder.mkdir(parents=True, exist_ok=True)
    half = copy.deepcopy(model).half()  # a copy: there and back would round the positions too
    half.save_pretrained(folder)
    save_processor(trainer.tokenizer, folder)
    if folder != pocket_folder():
        shutil.copy(pocket_folder() / WORDS_FILE, folder)
    write_code_bias(songs, folder)
    write_hashes(folder)


def graft(checkpoint: Path, codec: EncodecModel, folder: Path) -> None:
    """Write a checkpoint with another codec of the same codes; every other weight and setting stays, bit for bit.

    Args:
        checkpoint: an exported folder.
        codec: the codec to put in.
        folder: made if missing; it may be `checkpoint` itself.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors = load_file(checkpoint / WEIGHTS_FILE)
    kept = {name: tensor for name, tensor in tensors.items() if not name.startswith(CODEC_PREFIX)}
    new = {CODEC_PREFIX + name: tensor.half().contiguous() for name, tensor in codec.state_dict().items()}
    settings = json.loads((checkpoint / CONFIG_FILE).read_text())
    settings["audio_encoder"]["num_filters"] = codec.config.num_filters
    for path in checkpoint.iterdir():
        if path.name not in (WEIGHTS_FILE, CONFIG_FILE, HASH_FILE) and folder != checkpoint:
            shutil.copy(path, folder)
    save_file({**kept, **new}, folder / WEIGHTS_FILE, metadata={"format": "pt"})
    (folder / CONFIG_FILE).write_text(json.dumps(settings, indent=2) + "\n")
    write_hashes(folder)


def save_processor(tokenizer: T5Tokenizer, folder: Path) -> None:
    """Write what `AutoProcessor` needs."""
    for trace in ("is_local", "local_files_only"):  # of this machine's own loading
        tokenizer.init_kwargs.pop(trace, None)
    tokenizer.backend_tokenizer.no_padding()  # as it was last used, not as it is
    extractor = EncodecFeatureExtractor(
        feature_size=1, sampling_rate=SAMPLE_RATE_HZ, padding_value=0.0, padding_side="left"
    )
    MusicgenProcessor(feature_extractor=extractor, tokenizer=tokenizer).save_pretrained(folder)


def write_hashes(folder: Path) -> None:
    """Write the SHA-256 of every file, in `sha256sum`'s own format."""
    for path in folder.iterdir():
        path.chmod(0o644)  # safetensors are written for their owner alone
    files = sorted(path for path in folder.iterdir() if path.name != HASH_FILE)
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in files]
    (folder / HASH_FILE).write_text("".join(lines))
