"""From a name to a folder: the shipped checkpoint, a folder, the Hub's cache, the Hub.

Rules: reads no weights, imports no torch; the network is touched only for a Hub id that is not in the cache already.
"""

from __future__ import annotations

import difflib
import json
import re
from pathlib import Path

from streamgen.checkpoint.files import WEIGHTS, explained, in_its_words
from streamgen.errors import CheckpointError

__all__ = ["AUDIOCRAFT_FILES", "cached_folder", "find_folder", "hub_folder", "shipped_folder"]

AUDIOCRAFT_FILES = ("state_dict.bin", "compression_state_dict.bin")
SETTINGS = ("*.json", "*.model", "*.md", "LICENSE*", "audio_encoder/*")
HUB_ID = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")
META_SIZES = ("small", "medium", "large", "melody", "melody-large")
SUGGESTIONS = ("pocket", *(f"facebook/musicgen-{kind}{size}" for kind in ("", "stereo-") for size in META_SIZES))


def find_folder(name: str, revision: str | None = None) -> Path:
    """Return the folder that `name` means: "pocket", an existing folder, or a Hub id (cache first, then download).

    Raises:
        CheckpointError: it is none of these; says what was tried and how to get it.
    """
    if not isinstance(name, str | Path) or not str(name).strip() or "\0" in str(name):
        raise CheckpointError(f"a checkpoint's name is {name!r}; give 'pocket', a folder, or a Hub id")
    if str(name) == "pocket":
        return shipped_folder()
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    if folder.exists():
        raise CheckpointError(f"{folder} is a file; give the folder that holds config.json or state_dict.bin")
    if not re.fullmatch(HUB_ID, str(name)) or "/" not in str(name):
        raise CheckpointError(
            f"{str(name)!r} is neither a folder here nor a Hub id (owner/name){_suggestion(str(name))}"
        )
    return hub_folder(str(name), revision)


def _suggestion(name: str) -> str:
    short = {known.split("/")[-1].removeprefix("musicgen-"): known for known in SUGGESTIONS}
    near = difflib.get_close_matches(name.lower().removeprefix("musicgen-"), short, n=1)
    return f"; did you mean {short[near[0]]!r}?" if near else "; 'pocket' is the shipped one"


def shipped_folder() -> Path:
    """Return the folder of the checkpoint that ships with this package.

    Raises:
        CheckpointError: this installation has none.
    """
    remedy = "reinstall streamgen, or name a folder or a Hub id such as 'facebook/musicgen-small'"
    try:
        from streamgen.pocket import pocket_folder
    except ImportError as error:
        raise CheckpointError(f"the shipped checkpoint 'pocket' is not in this installation; {remedy}") from error
    folder = Path(pocket_folder())
    if not folder.is_dir():
        raise CheckpointError(f"the shipped checkpoint 'pocket' should lie in {folder}, which is missing; {remedy}")
    return folder


def hub_folder(name: str, revision: str | None = None) -> Path:
    """Return the Hub cache's folder of `name`, downloading what is missing.

    Args:
        name: Hub id, "owner/name" (or "t5-base").
        revision: branch, tag or commit; None is the default branch. What is cached is not looked up again.

    Raises:
        CheckpointError: not cached and not to be had; says why.
    """
    cached = cached_folder(name, revision)
    if cached is not None:
        return cached
    from huggingface_hub import HfApi, constants, snapshot_download

    near = difflib.get_close_matches(name, [known for known in SUGGESTIONS if known != name], n=1, cutoff=0.9)
    meant = f"did you mean {near[0]!r}? If not, " if near and name not in SUGGESTIONS else ""
    remedy = (
        f"looked for a folder of that name, in the Hub's cache and on the Hub; {meant}check the spelling and the "
        "network, log in with `hf auth login` if it is gated, or copy the checkpoint to a folder and give its path"
    )
    lacking = f"no checkpoint {name!r} could be had"
    if constants.HF_HUB_OFFLINE:  # the client's own words are longer than a line
        raise CheckpointError(f"{lacking} (HF_HUB_OFFLINE is set, so the Hub is not asked); {remedy}")
    with explained(lacking, remedy):
        wanted = _wanted(HfApi().list_repo_files(name, revision=revision))
        return Path(snapshot_download(name, revision=revision, allow_patterns=[*SETTINGS, *wanted]))


def _wanted(files: list[str]) -> list[str]:
    """The weights to fetch where a repository has several formats: safetensors, else torch, else audiocraft."""
    for pattern in (r"model(-\d+-of-\d+)?\.safetensors", r"pytorch_model(-\d+-of-\d+)?\.bin"):
        if "config.json" in files and any(re.fullmatch(pattern, file) for file in files):
            return [file for file in files if re.fullmatch(pattern, file)]
    return list(AUDIOCRAFT_FILES)


def cached_folder(name: str, revision: str | None = None) -> Path | None:
    """Return the Hub cache's folder of `name` if all its weights are there, else None; never touches the network."""
    from huggingface_hub import try_to_load_from_cache

    for file in ("config.json", *AUDIOCRAFT_FILES):
        with explained(f"{name!r} is no Hub id", "give owner/name, a folder, or 'pocket'"):
            found = try_to_load_from_cache(name, file, revision=revision)
        if isinstance(found, str) and _is_complete(Path(found).parent):
            return Path(found).parent
    return None


def _is_complete(folder: Path) -> bool:
    """True where every weights file is there: an interrupted download leaves a folder with settings only."""
    if all((folder / file).is_file() for file in AUDIOCRAFT_FILES):
        return True
    for name in WEIGHTS:
        if (folder / name).is_file():
            return _has_shards(folder / name) if name.endswith(".json") else True
    return False


def _has_shards(index: Path) -> bool:
    try:
        names = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
        return all((index.parent / name).is_file() for name in names)
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise CheckpointError(
            f"{index} is damaged ({in_its_words(error)}); delete {index.parent} and try again"
        ) from error
