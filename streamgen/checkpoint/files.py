"""Reading a checkpoint's files safely: JSON, YAML, safetensors, torch's zip files.

Rules: never unpickles an object (`weights_only`); whatever a library raises on damaged bytes becomes one
CheckpointError that names the file; knows no model.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

from streamgen.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "WEIGHTS",
    "check_no_pointer",
    "explained",
    "in_its_words",
    "read_json",
    "read_package",
    "read_safetensors",
    "read_tensors",
]

WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")

LFS_POINTER = b"version https://git-lfs.github.com/spec/"


def in_its_words(error: BaseException, limit: int = 160) -> str:
    """First sentence of a library's message, with the error's type, short enough for one line."""
    text = " ".join(str(error).split()) or "no message"
    return f"{type(error).__name__}: {text[:limit]}{'…' if len(text) > limit else ''}"


@contextmanager
def explained(what: str, remedy: str) -> Iterator[None]:
    """Turn anything a library raises while reading untrusted bytes into a CheckpointError "what (why); remedy".

    json, safetensors, tokenizers, torch and the configs' validators each raise their own kinds, some a bare Exception,
    so no narrower clause would hold.
    """
    try:
        yield
    except CheckpointError:
        raise
    except Exception as error:
        raise CheckpointError(f"{what} ({in_its_words(error)}); {remedy}") from error


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        CheckpointError: missing, not JSON, or not an object.
    """
    if not path.is_file():
        raise CheckpointError(f"{path} is missing; a checkpoint in transformers' format needs it: download it again")
    with explained(f"{path} cannot be read as JSON", "the file is damaged: download it again"):
        value = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} holds a {type(value).__name__}, not a JSON object; download it again")
    return value


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """Read every tensor of a transformers folder: safetensors before torch's format, one file or shards.

    Raises:
        CheckpointError: no weights, a shard missing, a damaged file, or a pickle that holds more than tensors.
    """
    for name in WEIGHTS:
        if (folder / name).is_file():
            shards = _shards(folder / name) if name.endswith(".json") else [folder / name]
            return {key: tensor for shard in shards for key, tensor in _read_shard(shard).items()}
    raise CheckpointError(f"{folder} has no weights; one of {', '.join(WEIGHTS)} is needed: {_remedy(folder)}")


def _remedy(folder: Path) -> str:
    """Say how weights get their names: what saved them with a variant put it in the middle."""
    for name in sorted(file.name for file in folder.iterdir()):
        if re.fullmatch(r"model\.\w+\.safetensors|pytorch_model\.\w+\.bin", name):
            first, _, last = name.split(".")
            return f"rename {name} to {first}.{last}"
    return "download it again"


def check_no_pointer(path: Path) -> None:
    """Check that a file is itself, not what Git puts in its place where LFS is missing.

    Raises:
        CheckpointError: it is a pointer.
    """
    with path.open("rb") as file:
        if file.read(len(LFS_POINTER)) == LFS_POINTER:
            raise CheckpointError(f"{path} is a Git LFS pointer, not the file: run `git lfs pull` in {path.parent}")


def _shards(index: Path) -> list[Path]:
    """Files an index names; they must lie beside it, since the index is untrusted."""
    names = read_json(index).get("weight_map")
    if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
        raise CheckpointError(f"{index} has no weight_map of tensor to file; download it again")
    shards = [index.parent / name for name in sorted(set(names.values()))]
    for shard in shards:
        if shard.parent != index.parent or not shard.is_file():
            raise CheckpointError(f"{index} names the shard {shard.name!r}, which is not beside it; download it again")
    return shards


def _read_shard(path: Path) -> dict[str, Tensor]:
    return read_safetensors(path) if path.suffix == ".safetensors" else _only_tensors(read_package(path), path)


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Read one file of tensors.

    Raises:
        CheckpointError: damaged.
    """
    check_no_pointer(path)
    from safetensors.torch import load_file

    with explained(f"{path} cannot be read as safetensors", "the file is damaged or cut short: download it again"):
        tensors: dict[str, Tensor] = load_file(path, device="cpu")
    return tensors


def read_package(path: Path) -> dict[str, Any]:
    """Read what `torch.save` wrote, tensors and plain values only.

    Raises:
        CheckpointError: missing, damaged, or holding any other Python object, which could run code when loaded.
    """
    import torch

    if not path.is_file():
        raise CheckpointError(f"{path} is missing; download the checkpoint again")
    check_no_pointer(path)
    with explained(f"{path} cannot be read as a torch file", "the file is damaged or cut short: download it again"):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch warns of a foreign pickle just before it refuses it
                package = torch.load(path, map_location="cpu", weights_only=True)
        except UnpicklingError as error:
            raise _refusal(path, error) from error
    if not isinstance(package, dict):
        raise CheckpointError(f"{path} holds a {type(package).__name__}, not a dictionary of tensors; another file?")
    return package


def _refusal(path: Path, error: UnpicklingError) -> CheckpointError:
    """In our words: torch's own message advises to load the file unsafely."""
    found = re.search(r"GLOBAL ([\w.]+) ", str(error))
    if found is None:
        return CheckpointError(
            f"{path} is no file of plain tensors that torch.save wrote; it is damaged, or holds Python "
            "objects, which are never loaded: download it again, or use safetensors"
        )
    return CheckpointError(
        f"{path} holds a Python object ({found[1]}), which could run code when loaded, so it is refused; only tensors "
        "and plain values are read: export the checkpoint as safetensors, or with audiocraft.utils.export"
    )


def _only_tensors(package: dict[str, Any], path: Path) -> dict[str, Tensor]:
    from torch import Tensor

    wrong = [key for key, value in package.items() if not isinstance(value, Tensor)]
    if wrong:
        raise CheckpointError(f"{path} holds {wrong[0]!r}, which is no tensor; a state dictionary is needed")
    return package
