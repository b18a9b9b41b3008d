"""How many bits each matrix of a decoder is rounded to, and the rounded matrices kept on disk.

    int8, int6, int4   every matrix alike; the heads, of which little is read, in 8 at least
    mixed              as few bits each as the budget of accuracy allows, measured (see `mixing`)

Rounding small's matrices takes seconds, reading them back a fraction of one: they are kept in the user's cache folder,
under what they were made of. A cache that cannot be written is a line in the log and costs time only; a file of it that
is not as it was written is made anew, and one that nobody has used for two months goes when another comes.

Rules: knows weights, bits and files; what is measured is given.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import time
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from streamgen.checkpoint.types import Checkpoint
from streamgen.kernels import Kernels, PackedMatrix
from streamgen.kernels.packed import BITS, LAYOUT
from streamgen.lm.mixing import choose_bits
from streamgen.lm.native import PackedWeights, matrix_names, pack_weights

__all__ = [
    "ROUNDED", "bits_of", "cache_folder", "fingerprint", "kept", "mark_used", "put_whole", "rounded_weights",
    "sketched", "summed",
]  # fmt: skip

_UNIFORM = {"int8": 8, "int6": 6, "int4": 4}
ROUNDED = ("int8", "int6", "mixed", "int4")
_HEADS_BITS = 8
_SAMPLES = 64  # numbers of a tensor
_UNUSED_SECONDS = 60 * 86_400
_OWN_FILE = re.compile(r"[0-9a-f]{32}\.(?:json|safetensors)")
T = TypeVar("T")
_log = logging.getLogger("streamgen")


def cache_folder() -> Path:
    """Return where rounded weights and measurements are kept: $XDG_CACHE_HOME/streamgen, else ~/.cache/streamgen.

    Where there is no home, as of a user whom the system does not know, nothing can be kept there.
    """
    told = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(told):  # such are not to be followed, its specification says
        home = os.path.expanduser("~")
        told = os.path.join(home, ".cache") if os.path.isabs(home) else os.devnull
    return Path(told) / "streamgen"


def bits_of(checkpoint: Checkpoint, precision: str, library: Kernels, threads: int) -> tuple[dict[str, int], str]:
    """Return the bits of each matrix under a precision of `ROUNDED`, and a note on what was measured for it.

    What `mixed` takes is measured once for a checkpoint, and kept.
    """
    if precision != "mixed":
        names, bits = matrix_names(checkpoint.decoder), _UNIFORM[precision]
        return {name: _HEADS_BITS if name == "heads" else bits for name in names}, ""

    def fits(plan: Any) -> bool:
        wanted = set(matrix_names(checkpoint.decoder))
        return set(plan[0]) == wanted and set(plan[0].values()) <= set(BITS) and isinstance(plan[1], float)

    plan = kept(f"mixed {LAYOUT} {fingerprint(checkpoint)}", lambda: choose_bits(checkpoint, library, threads), fits)
    return plan[0], f"KL {plan[1]:.4f} nats a code, measured"


def kept(
    what: str, measure: Callable[[], T], fits: Callable[[Any], bool] = lambda _found: True, *, keep: bool = True
) -> T:
    """Return what was measured before, or measure it and keep it: anything that JSON can hold, tuples as lists.

    Args:
        what: was measured.
        measure: does it.
        fits: whether what a file says can have been measured; may fail as it likes with what cannot.
        keep: whether to keep what is measured now.
    """
    file = cache_folder() / f"{hashlib.sha256(what.encode()).hexdigest()[:32]}.json"
    with suppress(OSError, ValueError, LookupError, TypeError, AttributeError):
        found: T = json.loads(file.read_text())
        if fits(found):
            mark_used(file)
            return found
    result = measure()
    if not keep:
        return result
    put_whole(file, lambda draft: Path(draft).write_text(json.dumps(result)))
    return result


def fingerprint(checkpoint: Checkpoint) -> str:
    """Tell a checkpoint's decoder from others: by its shape, and its files as they were read, else by all its numbers.

    To read all of a file takes longer than everything else when a large checkpoint is loaded; a few numbers tell files
    apart whose time was set back.
    """
    digest, told = (
        hashlib.sha256(f"{checkpoint.decoder} {checkpoint.files}".encode()),
        sampled if checkpoint.files else summed,
    )
    for name, weight in sorted(checkpoint.weights.items()):
        digest.update(f"{name} {tuple(weight.shape)} {weight.dtype} ".encode() + told(weight))
    return digest.hexdigest()[:24]


def sketched(checkpoint: Checkpoint) -> str:
    """Tell a checkpoint's weights from others by a few numbers of each, the same on every machine: eight digits."""
    digest = hashlib.sha256()
    codec = {} if checkpoint.codec is None else checkpoint.codec.tensors
    for name, weight in [*sorted(checkpoint.weights.items()), *sorted(codec.items())]:
        digest.update(f"{name} {tuple(weight.shape)} ".encode() + sampled(weight))
    return digest.hexdigest()[:8]


def sampled(weight: Tensor) -> bytes:
    """Return a few numbers of a tensor."""
    flat = weight.detach().flatten()
    return flat[:: max(len(flat) // _SAMPLES, 1)].float().numpy().tobytes()


def summed(weight: Tensor) -> bytes:
    """Return a checksum of all numbers of a tensor."""
    content = weight.detach().contiguous().flatten().view(torch.uint8).numpy()
    return zlib.crc32(content.data).to_bytes(4, "little")


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
    """Read what was kept; None if nothing was, or it is not as it was written."""
    with suppress(OSError, SafetensorError), safe_open(file, "pt") as kept:
        told, tensors = kept.metadata() or {}, {name: kept.get_tensor(name) for name in kept.keys()}  # noqa: SIM118 - no dict
        if told.get("sum") == _sum_of(told.get("matrices", ""), tensors):
            shapes = json.loads(told["matrices"])
            mark_used(file)
            return PackedWeights({name: PackedMatrix(tensors[name], *shape) for name, shape in shapes.items()})
    return None


def _write(file: Path, packed: PackedWeights) -> None:
    """Keep it."""
    shapes = json.dumps(
        {name: (matrix.outputs, matrix.inputs, matrix.bits) for name, matrix in packed.matrices.items()}
    )
    tensors = {name: matrix.tiles for name, matrix in packed.matrices.items()}
    told = {"matrices": shapes, "sum": _sum_of(shapes, tensors)}
    put_whole(file, lambda draft: save_file(tensors, draft, told))


def _sum_of(shapes: str, tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(shapes.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(name.encode() + summed(tensor))
    return digest.hexdigest()


def put_whole(file: Path, write: Callable[[str], object]) -> None:
    """Write a file whole or, with a line in the log, not at all; `write` is told a name beside it."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile(dir=file.parent, delete=False) as draft:
            pass
        try:
            write(draft.name)
            os.replace(draft.name, file)
            _forget_unused(file.parent)
        finally:
            Path(draft.name).unlink(missing_ok=True)  # on a full disk half of it would be in everybody's way
    except (OSError, SafetensorError) as error:
        _log.warning("nothing can be kept in %s: %s; each start rounds and measures anew", file.parent, error)


def mark_used(file: Path) -> None:
    """Note that a file of the cache is still wanted."""
    with suppress(OSError):  # another user's, or one that has just gone: it is read all the same
        os.utime(file)


def _forget_unused(folder: Path) -> None:
    """Remove what nobody has used for long: of checkpoints that are gone, or were read by an older streamgen."""
    oldest = time.time() - _UNUSED_SECONDS
    for file in folder.iterdir():
        with suppress(FileNotFoundError):  # another process was here first
            if _OWN_FILE.fullmatch(file.name) and file.stat().st_mtime < oldest:
                file.unlink()
