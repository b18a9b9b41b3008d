"""The checkpoints one can name, for the `models` command; under which licence a checkpoint's weights are.

Rules: answers without torch and without a network; sizes are of what lies on this disk, never remembered ones, licences
what the folder or Meta's own table says, never a guess.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from streamgen.checkpoint.find import cached_folder, shipped_folder
from streamgen.errors import CheckpointError

__all__ = ["META_LICENCE", "UNKNOWN_LICENCE", "KnownCheckpoint", "licence_of", "list_checkpoints"]

POCKET_LICENCE = "Apache-2.0"  # this package's own
META_LICENCE = "CC-BY-NC-4.0, non-commercial (Meta)"
UNKNOWN_LICENCE = "unknown: see the folder's own README"
CARDS = ("README.md", "MODEL_CARD.md", "model_card.md")
HUB_REPOSITORY = re.compile(r"(?:^|[/\\]|--)facebook(?:/|--)(?:musicgen|encodec|audiogen|magnet)-?[\w.-]*$")
_SHAPES = {"300M": (1024, 24), "1.5B": (1536, 48), "3.3B": (2048, 48)}  # width and layers of their decoders
_BESIDE = 168_500_000  # parameters of T5-base's encoder and of the codec, which come with each

# Decoder parameters as Meta's model cards give them.
META = (
    ("facebook/musicgen-small", "300M", False, False),
    ("facebook/musicgen-medium", "1.5B", False, False),
    ("facebook/musicgen-large", "3.3B", False, False),
    ("facebook/musicgen-melody", "1.5B", False, True),
    ("facebook/musicgen-melody-large", "3.3B", False, True),
    ("facebook/musicgen-stereo-small", "300M", True, False),
    ("facebook/musicgen-stereo-medium", "1.5B", True, False),
    ("facebook/musicgen-stereo-large", "3.3B", True, False),
    ("facebook/musicgen-stereo-melody", "1.5B", True, True),
    ("facebook/musicgen-stereo-melody-large", "3.3B", True, True),
)


@dataclass(frozen=True)
class KnownCheckpoint:
    """One line of `streamgen models`.

    Attributes:
        name: what `load_model` takes.
        parameters: of the decoder, as its model card says ("300M"); "" where the card is the folder's own.
        stereo: True where the model itself writes two channels; None where unknown before loading.
        melody: True where it takes a melody as a prompt.
        licence: of the weights.
        folder: where it lies on this machine, or None where it would be downloaded.
        size_bytes: of that folder's files, or None.
    """

    name: str
    parameters: str
    stereo: bool | None
    melody: bool
    licence: str
    folder: Path | None
    size_bytes: int | None

    @property
    def download_bytes(self) -> int | None:
        """What loading it first downloads, about: 32-bit floats; None where it is here, or nothing is to be had."""
        if self.cached or self.parameters not in _SHAPES:
            return None
        width, layers = _SHAPES[self.parameters]
        codebooks = 8 if self.stereo else 4
        return 4 * (16 * layers * width**2 + 2 * codebooks * 2048 * width + _BESIDE)

    @property
    def cached(self) -> bool:
        """True where loading needs no network."""
        return self.folder is not None


def list_checkpoints() -> list[KnownCheckpoint]:
    """Return the shipped checkpoint and Meta's, each with its licence and whether it is on this machine."""
    return [_shipped(), *(_metas(*row) for row in META)]


def _shipped() -> KnownCheckpoint:
    try:
        folder = shipped_folder()
    except CheckpointError:
        return KnownCheckpoint("pocket", "", None, False, "not part of this installation", None, None)
    return KnownCheckpoint("pocket", "", None, False, licence_of("pocket", folder), folder, _size_bytes(folder))


def _metas(name: str, parameters: str, stereo: bool, melody: bool) -> KnownCheckpoint:
    folder = cached_folder(name)
    size_bytes = None if folder is None else _size_bytes(folder)
    return KnownCheckpoint(name, parameters, stereo, melody, META_LICENCE, folder, size_bytes)


def _size_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def licence_of(name: str, folder: Path) -> str:
    """Return the licence in the folder's model card, else Meta's for Meta's names, else UNKNOWN_LICENCE."""
    for card in CARDS:
        if (folder / card).is_file():
            found = _from_card(folder / card)
            if found:
                return META_LICENCE if found.lower() == "cc-by-nc-4.0" and _is_metas(name, folder) else found
    if name == "pocket":
        return POCKET_LICENCE
    return META_LICENCE if _is_metas(name, folder) else UNKNOWN_LICENCE


def _is_metas(name: str, folder: Path) -> bool:
    """Meta's name, or a folder inside the Hub cache's own "models--facebook--musicgen-…"."""
    return any(HUB_REPOSITORY.search(text) for text in (name, *folder.parts))


def _from_card(path: Path) -> str | None:
    """The `license:` line of a card's YAML front matter, as the Hub writes it; `license_name:` for own licences."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")[:20_000].replace("\r", "")
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror}); check its permissions") from error
    front = re.match(r"\ufeff?---\s*\n(.*?)\n---\s*(?:\n|$)", text, flags=re.DOTALL)
    if not front:
        return None
    fields = dict(
        re.findall(r"^(licen[sc]e(?:_name)?):\s*[\"']?([^\"'\n#]+?)[\"']?\s*(?:#.*)?$", front[1], flags=re.MULTILINE)
    )
    licence = fields.get("license", fields.get("licence"))
    return fields.get("license_name", licence) if licence == "other" else licence
