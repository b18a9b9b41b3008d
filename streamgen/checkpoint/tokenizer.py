"""The T5 tokenizer of a checkpoint, by its library alone where its file says all that there is to know.

    tokenizer.json, as T5Tokenizer writes it ─ tokenizers ─┐
    tokenizer.json of others, spiece.model ─ transformers ─┴─ ids

Importing transformers' class takes as long as torch (docs/measurements.md, "Starting"); of a file that another program
wrote, it keeps the vocabulary and makes the rest anew, which is left to it.

Rules: files are untrusted. Importing this imports neither.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamgen.checkpoint.files import check_no_pointer, explained, read_json
from streamgen.checkpoint.spiece import read_spiece
from streamgen.errors import CheckpointError

if TYPE_CHECKING:
    import tokenizers
    from transformers import T5Tokenizer

__all__ = ["Tokenizer", "load_tokenizer"]

USUAL_EXTRA_IDS = 100  # T5's
FILES = ("tokenizer.json", "spiece.model")
SPECIAL = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
# What T5Tokenizer does with a text, in the library's terms.
_SPACES = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
_SPLIT = {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, _SPACES]}
_ENDED = [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "</s>", "type_id": 0}}]


class Tokenizer:
    """Texts to the numbers of their tokens.

    Args:
        whole: makes transformers' tokenizer.
        quick: does the same without it, where that is known.
    """

    def __init__(self, whole: Callable[[], T5Tokenizer], quick: tokenizers.Tokenizer | None = None) -> None:
        self._whole, self._quick = whole, quick

    @cached_property
    def whole(self) -> T5Tokenizer:
        """Transformers' own, for those who write it again."""
        return self._whole()

    def __len__(self) -> int:
        """How many tokens it knows."""
        return len(self.whole) if self._quick is None else int(self._quick.get_vocab_size())

    def ids(self, text: str) -> list[int]:
        """Return a text's tokens and the end's."""
        if self._quick is not None:
            return list(self._quick.encode(text).ids)
        ids: list[int] = self.whole(text, verbose=False)["input_ids"]  # verbose: 512 tokens is no limit of T5's
        return ids

    @property
    def unknown(self) -> int | None:
        """The token of what it has none for."""
        return self._special("unk_token")

    @property
    def empty(self) -> set[int | None]:
        """The tokens that say nothing: the end, and what fills up."""
        return {self._special("eos_token"), self._special("pad_token")}

    def _special(self, name: str) -> int | None:
        if self._quick is not None:
            found: int | None = self._quick.token_to_id(SPECIAL[name])
            return found
        number: int | None = getattr(self.whole, f"{name}_id")
        return number


def load_tokenizer(folder: Path, embedded: int) -> Tokenizer:
    """Return the T5 tokenizer whose files lie in `folder`.

    Args:
        folder: where.
        embedded: tokens that the text encoder knows.

    Raises:
        CheckpointError: missing, damaged, or of more tokens than that.
    """
    present = [name for name in FILES if (folder / name).is_file()]
    if not present:
        raise CheckpointError(
            f"{folder} has no tokenizer.json and no spiece.model; copy the T5 tokenizer's files there"
        )
    for name in present:
        check_no_pointer(folder / name)
    extra_ids, settings = _extra_ids(folder / "tokenizer_config.json")
    with explained(f"the tokenizer in {folder} cannot be read", "download tokenizer.json or spiece.model again"):
        found = _read(folder, present[0], extra_ids, settings)
        tokens = len(found)
    if tokens > embedded:
        raise CheckpointError(
            f"the tokenizer in {folder} has {tokens} tokens, the text encoder embeds {embedded}; they must fit: copy "
            "the tokenizer that belongs to this T5"
        )
    return found


def _read(folder: Path, name: str, extra_ids: int, settings: dict[str, Any]) -> Tokenizer:
    if name == "spiece.model":
        return Tokenizer(lambda: read_spiece(folder / name, extra_ids))
    return Tokenizer(lambda: _by_class(folder), _by_library(folder / name, extra_ids, settings))


def _by_class(folder: Path) -> T5Tokenizer:
    """By name: AutoTokenizer would look for code named in the folder, and ask on stdin whether to run it."""
    from transformers import T5Tokenizer

    found: T5Tokenizer = T5Tokenizer.from_pretrained(folder, local_files_only=True)
    return found


def _by_library(path: Path, extra_ids: int, settings: dict[str, Any]) -> tokenizers.Tokenizer | None:
    """Read a file as it is, if that is what transformers would make of it."""
    found = read_json(path)
    extra = [token for token in found.get("added_tokens") or [] if token.get("content") not in SPECIAL.values()]
    as_written = (
        found.get("pre_tokenizer") == _SPLIT
        and (found.get("post_processor") or {}).get("single") == _ENDED
        and (found.get("model") or {}).get("unk_id") == 2
        and not (found.get("truncation") or found.get("padding") or found.get("normalizer"))
        and [token.get("content") for token in extra] == [f"<extra_id_{n}>" for n in reversed(range(extra_ids))]
    )
    usual = all(settings.get(name, token) == token for name, token in SPECIAL.items()) and not any(
        settings.get(name) for name in ("additional_special_tokens", "extra_special_tokens", "added_tokens_decoder")
    )
    if not (as_written and usual):
        return None
    import tokenizers

    return tokenizers.Tokenizer.from_file(str(path))


def _extra_ids(path: Path) -> tuple[int, dict[str, Any]]:
    """How many tokens are made beside, and all settings: a damaged number would cost all memory."""
    settings = read_json(path) if path.is_file() else {}
    extra_ids = settings.get("extra_ids", USUAL_EXTRA_IDS)
    if not isinstance(extra_ids, int) or not 0 <= extra_ids <= 10_000:
        raise CheckpointError(f"{path}: extra_ids is {extra_ids!r:.40}; 0 to 10000 is possible: download it again")
    return extra_ids, settings
