from __future__ import annotations

from pathlib import Path

from transformers import AutoTokenizer

from streamgen.pocket.captions import train_tokenizer


def test_numbers_are_one_token_and_any_word_can_be_spelled(tmp_path: Path) -> None:
    train_tokenizer(tmp_path, captions=1500)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    for bpm in ("150", "125", "94"):
        assert f"▁{bpm}" in tokenizer.tokenize(f"house at {bpm} bpm")
    ids = tokenizer("Zebra funk, 120 BPM; what's this?")["input_ids"]
    assert tokenizer.unk_token_id not in ids
    assert ids[-1] == tokenizer.eos_token_id
