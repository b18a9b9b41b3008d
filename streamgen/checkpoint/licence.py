"""Under which licence a checkpoint's weights are.

Rules: says what the folder or Meta's own table says, never a guess; no torch.
"""

from __future__ import annotations

import re
from pathlib import Path

from streamgen.errors import CheckpointError

__all__ = ["META_LICENCE", "POCKET_LICENCE", "UNKNOWN_LICENCE", "licence_of"]

POCKET_LICENCE = "Apache-2.0"  # this package's own
META_LICENCE = "CC-BY-NC-4.0 (non-commercial; Meta)"
UNKNOWN_LICENCE = "unknown: see the folder's own README"
CARDS = ("README.md", "MODEL_CARD.md", "model_card.md")
HUB_REPOSITORY = re.compile(r"(?:^|[/\\]|--)facebook(?:/|--)(?:musicgen|encodec|audiogen|magnet)-?[\w.-]*$")


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
