"""The tokenizer's library alone against transformers' T5Tokenizer."""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path
from typing import Any

import pytest
from transformers import T5Tokenizer

from streamgen.checkpoint.tokenizer import Tokenizer, load_tokenizer
from streamgen.pocket import pocket_folder
from streamgen.testing import tiny_checkpoint

TEXTS = [
    "piano", "lofi hip hop, electric piano, drums, 94 bpm", " a  b\t\n c ", "</s> x <pad>y<unk>",
    "<extra_id_3> é e\u0301",    "🎹🥁", "موسيقى هادئة", "x" * 3000, "\u2581", "", "\u202eabc", "٣", "line\none\r\n",
]  # fmt: skip


TRUNCATION = {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0}


def folders() -> list[Path]:
    return [pocket_folder(), Path(tiny_checkpoint("mono"))]


@pytest.mark.parametrize("number", range(2))
def test_ids_are_transformers(number: int) -> None:
    ours, theirs = load_tokenizer(folders()[number], 10_000), T5Tokenizer.from_pretrained(folders()[number])
    assert ours._quick is not None, "else this test says nothing"
    rng, letters = random.Random(1), "abcdefgh ,.0123</>_"
    for text in [*TEXTS, *("".join(rng.choices(letters, k=rng.randrange(60))) for _ in range(300))]:
        assert ours.ids(text) == theirs(text, verbose=False)["input_ids"], text
    assert len(ours) == len(theirs)
    assert ours.unknown == theirs.unk_token_id
    assert ours.empty == {theirs.eos_token_id, theirs.pad_token_id}
    assert ours.whole.get_vocab() == theirs.get_vocab()


@pytest.mark.parametrize(
    "change",
    [
        ("tokenizer.json", {"pre_tokenizer": None}),
        ("tokenizer.json", {"post_processor": None}),
        ("tokenizer.json", {"truncation": TRUNCATION}),
        ("tokenizer_config.json", {"extra_special_tokens": ["<a>"]}),
        ("tokenizer_config.json", {"extra_ids": 5}),
        ("tokenizer_config.json", {"eos_token": "<pad>"}),
    ],
)  # fmt: skip
def test_what_another_program_wrote_is_left_to_transformers(tmp_path: Path, change: Any) -> None:
    name, settings = change
    for file in ("tokenizer.json", "tokenizer_config.json"):
        found = json.loads((folders()[1] / file).read_text())
        (tmp_path / file).write_text(json.dumps({**found, **(settings if file == name else {})}))
    ours, theirs = load_tokenizer(tmp_path, 10_000), T5Tokenizer.from_pretrained(tmp_path)
    assert ours._quick is None
    for text in TEXTS:
        assert ours.ids(text) == theirs(text, verbose=False)["input_ids"], text
    assert (len(ours), ours.unknown) == (len(theirs), theirs.unk_token_id)


def test_transformers_tokenizer_is_made_when_it_is_asked_for() -> None:
    made: list[Any] = []
    tokenizer = Tokenizer(lambda: made.append(T5Tokenizer.from_pretrained(folders()[1])) or made[-1])
    assert not made
    assert tokenizer.ids("piano") == tokenizer.whole("piano")["input_ids"]
    assert len(made) == 1
    assert "transformers" in sys.modules
