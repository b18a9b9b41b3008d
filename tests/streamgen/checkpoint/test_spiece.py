"""A T5 tokenizer's sentencepiece file without protobuf, against sentencepiece itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from sentencepiece import SentencePieceProcessor

from streamgen.checkpoint import load_checkpoint
from streamgen.checkpoint.spiece import read_spiece
from streamgen.testing.tiny_vocabulary import _train

TEXTS = ("slow piano", "techno with a hard kick, 130 bpm", "Ünknown ﬁ ①½!", " two  spaces ", "fullwidth ｐｉａｎｏ")


@pytest.fixture(scope="module")
def spiece(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("t5") / "spiece.model"
    path.write_bytes(_train())
    return path


def test_tokens_are_sentencepiece_s_own(spiece: Path) -> None:
    """Its normaliser among them: ligatures and fullwidth letters are taken apart."""
    ours, theirs = read_spiece(spiece, 0), SentencePieceProcessor(model_file=str(spiece))
    for text in TEXTS:
        assert ours(text)["input_ids"] == [*theirs.encode(text), 1], text
    assert len(ours) == theirs.get_piece_size()


def test_sentinels_follow_the_pieces_the_highest_first(spiece: Path) -> None:
    ours = read_spiece(spiece, 3)
    pieces = len(ours) - 3
    assert ours.convert_tokens_to_ids(["<extra_id_2>", "<extra_id_0>"]) == [pieces, pieces + 2]


def test_a_checkpoint_with_that_file_alone_loads(copy_of: Any, spiece: Path) -> None:
    folder = copy_of("mono")
    before = load_checkpoint(str(folder)).tokenizer
    (folder / "tokenizer.json").unlink()
    (folder / "spiece.model").write_bytes(spiece.read_bytes())
    after = load_checkpoint(str(folder)).tokenizer
    assert before is not None
    assert after is not None
    for text in TEXTS[:2]:
        assert after.ids(text) == before.ids(text)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    assert settings["extra_ids"] == 0


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "long number"])
def test_a_damaged_file_gets_one_line(copy_of: Any, complaint: Any, spiece: Path, damage: str) -> None:
    folder, whole = copy_of("mono"), spiece.read_bytes()
    (folder / "tokenizer.json").unlink()
    found = {"cut": whole[:-3], "empty": b"", "text": b"not a model at all", "long number": b"\xff" * 40}[damage]
    (folder / "spiece.model").write_bytes(found)
    assert "the tokenizer in" in (said := complaint(folder))
    assert said.endswith("download tokenizer.json or spiece.model again")
