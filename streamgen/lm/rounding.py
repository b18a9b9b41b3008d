"""How many bits each matrix of a decoder is rounded to, and the rounded matrices kept on disk.

    int8, int6, int4   every matrix alike; the heads, of which little is read, in 8 at least
    mixed              (see `mixing`)

Rounding small's matrices takes seconds, reading them back a fraction of one: they are kept in the user's cache folder,
under what they were made of. A cache that cannot be written is a line in the log and costs time only.

Rules: knows weights, bits and files; measures nothing.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from tempfile import NamedTemporaryFile

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from streamgen.checkpoint.types import Checkpoint, DecoderConfig
from streamgen.kernels import Kernels, PackedMatrix
from streamgen.kernels.packed import LAYOUT
from streamgen.lm.native import PackedWeights, matrix_names, pack_weights

__all__ = ["UNIFORM", "cache_folder", "even_bits", "fingerprint", "rounded_weights"]

UNIFORM = {"int8": 8, "int6": 6, "int4": 4}
_HEADS_BITS = 8
_SAMPLES = 64  # numbers of each tensor that tell one checkpoint from another
_log = logging.getLogger("streamgen")


def cache_folder() -> Path:
    """Return where rounded weights and measurements are kept: $XDG_CACHE_HOME/streamgen, else ~/.cache/streamgen."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "streamgen"


def even_bits(config: DecoderConfig, precision: str) -> dict[str, int]:
    """Return the bits of each matrix under a precision of `UNIFORM`."""
    return {name: _HEADS_BITS if name == "heads" else UNIFORM[precision] for name in matrix_names(config)}


def fingerprint(checkpoint: Checkpoint) -> str:
    """Tell a checkpoint's decoder from others by its shape and a few numbers of each tensor."""
    digest = hashlib.sha256(f"{checkpoint.decoder}".encode())
    for name, weight in sorted(checkpoint.weights.items()):
        flat = weight.flatten()
        few = flat[:: max(len(flat) // _SAMPLES, 1)].float().numpy().tobytes()
        digest.update(f"{name} {tuple(weight.shape)} {weight.dtype} ".encode() + few)
    return digest.hexdigest()[:24]


def rounded_weights(checkpoint: Checkpoint, bits: Mapping[str, int], library: Kernels, threads: int) -> PackedWeights:
    """Round a decoder's matrices, or read them from the cache."""
    plan = json.dumps(bits, sort_keys=True)
    key = hashlib.sha256(f"{LAYOUT} {fingerprint(checkpoint)} {plan}".encode()).hexdigest()[:32]
    file = cache_folder() / f"{key}.safetensors"
    packed = _read(file)
    if packed is None:
        packed = pack_weights(checkpoint.decoder, checkpoint.weights, bits, library, threads)
        _write(file, packed)
    return packed


def _read(file: Path) -> PackedWeights | None:
    """Read what was kept; None if nothing was, or not the whole of it."""
    with suppress(OSError, SafetensorError), safe_open(file, "pt") as kept:
        shapes = json.loads(kept.metadata()["matrices"])
        return PackedWeights({name: PackedMatrix(kept.get_tensor(name), *shape) for name, shape in shapes.items()})
    return None


def _write(file: Path, packed: PackedWeights) -> None:
    """Keep it: written beside its place, then moved there, so that nobody reads half of it."""
    shapes = {name: (matrix.outputs, matrix.inputs, matrix.bits) for name, matrix in packed.matrices.items()}
    tensors: dict[str, torch.Tensor] = {name: matrix.tiles for name, matrix in packed.matrices.items()}
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile(dir=file.parent, delete=False) as draft:
            pass
        save_file(tensors, draft.name, {"matrices": json.dumps(shapes)})
        os.replace(draft.name, file)
    except (OSError, SafetensorError) as error:
        _log.warning("rounded weights could not be kept in %s: %s; each start rounds them anew", file.parent, error)
