"""spiece.model: sentencepiece's file of a T5 tokenizer, read without protobuf, which streamgen does not need.

transformers reads tokenizer.json as it is, and spiece.model by way of protobuf alone; older folders have nothing else.

    ModelProto          1  pieces: SentencePiece { 1 piece, 2 score }      3  normalizer_spec { 2 precompiled_charsmap }

Rules: bytes are untrusted; the caller explains what is raised. No torch.
Source: github.com/google/sentencepiece, src/sentencepiece_model.proto; protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import T5Tokenizer

__all__ = ["read_spiece"]

_PIECE, _NORMALIZER = 1, 3
_TEXT, _SCORE, _CHARSMAP = 1, 2, 2
_VARINT, _EIGHT_BYTES, _BYTES, _FOUR_BYTES = 0, 1, 2, 5


def read_spiece(path: Path, extra_ids: int) -> T5Tokenizer:
    """Return the tokenizer of a spiece.model, as transformers makes it with protobuf.

    Args:
        path: of the file.
        extra_ids: sentinels after its pieces, the highest first.

    Raises:
        ValueError, IndexError, KeyError, struct.error, UnicodeError: it is no such file.
    """
    from transformers import T5Tokenizer

    model = list(_fields(path.read_bytes()))
    pieces = [_piece(value) for number, value in model if number == _PIECE]
    normalizers = [dict(_fields(value)) for number, value in model if number == _NORMALIZER]
    charsmap = normalizers[0].get(_CHARSMAP) if normalizers else None
    if not pieces:
        raise ValueError("it holds no pieces")
    vocabulary = [*pieces, *((f"<extra_id_{number}>", 0.0) for number in reversed(range(extra_ids)))]
    return T5Tokenizer(vocab=vocabulary, extra_ids=extra_ids, _spm_precompiled_charsmap=charsmap or None)


def _piece(message: bytes) -> tuple[str, float]:
    fields = dict(_fields(message))
    (score,) = struct.unpack("<f", fields.get(_SCORE, bytes(4)))
    return fields[_TEXT].decode("utf-8"), score


def _fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """Number and bytes of each field; a varint's bytes are as they stand."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        number, kind = key >> 3, key & 7
        if kind == _BYTES:
            size, at = _varint(message, at)
        elif kind == _VARINT:
            size = _varint(message, at)[1] - at
        elif kind in (_EIGHT_BYTES, _FOUR_BYTES):
            size = 8 if kind == _EIGHT_BYTES else 4
        else:
            raise ValueError(f"field {number} is of kind {kind}")
        if at + size > len(message):
            raise ValueError("it is cut short")
        yield number, message[at : at + size]
        at += size


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """Return the number that begins there, and where the next thing does."""
    number = shift = 0
    while True:
        byte = message[at]
        number |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return number, at
        if shift > 63:
            raise ValueError("a number is too long")
