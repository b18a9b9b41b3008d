"""Folders that fine-tuning, quantising and Git leave behind: each refusal names what it is, and its own way out.

"Download it again" brings the same back.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from streamgen.checkpoint import load_checkpoint
from streamgen.errors import CheckpointError
from streamgen.testing import tiny_checkpoint

Change = Callable[[Path], None]
FC1 = "decoder.model.decoder.layers.0.fc1."


def adapter(folder: Path) -> None:
    base = {"peft_type": "LORA", "base_model_name_or_path": "facebook/musicgen-melody"}
    (folder / "adapter_config.json").write_text(json.dumps(base))


def adapter_alone(folder: Path) -> None:
    adapter(folder)
    (folder / "model.safetensors").unlink()
    (folder / "config.json").unlink()


def prefixed(prefix: str) -> Change:
    def change(folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        save_file({prefix + name: tensor for name, tensor in tensors.items()}, folder / "model.safetensors")

    return change


def eight_bit(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors |= {FC1 + "weight": tensors[FC1 + "weight"].to(torch.int8), FC1 + "SCB": torch.ones(1)}
    save_file(tensors, folder / "model.safetensors")


def variant(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model.fp16.safetensors")


def pointer(name: str) -> Change:
    text = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 2364436224\n"
    return lambda folder: (folder / name).write_text(text) and None


def without_codec(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    kept = {name: tensor for name, tensor in tensors.items() if not name.startswith("audio_encoder.")}
    save_file(kept, folder / "model.safetensors")


@pytest.mark.parametrize(
    ("change", "what", "remedy"),
    [
        (adapter_alone, r"holds a LoRA adapter \(of 'facebook/musicgen-melody'\)", "merge_and_unload"),
        (adapter, "holds a LoRA adapter beside its weights", "merge_and_unload"),
        (prefixed("base_model.model."), r"begin with 'base_model\.model\.'", "peft: "),
        (prefixed("_orig_mod."), r"begin with '_orig_mod\.'", "model._orig_mod.save"),
        (prefixed("module."), r"begin with 'module\.'", "model.module.save"),
        (eight_bit, "8-bit", "dequantize"),
        (variant, "has no weights", "rename model.fp16.safetensors to model.safetensors"),
        (pointer("model.safetensors"), "is a Git LFS pointer", "git lfs pull"),
        (pointer("tokenizer.json"), "is a Git LFS pointer", "git lfs pull"),
        (without_codec, "the codec is not in the weights", "save the whole model"),
    ],
)
def test_a_folder_that_other_programs_left_is_named_with_its_own_remedy(
    tmp_path: Path, change: Change, what: str, remedy: str
) -> None:
    folder = tmp_path / "it"
    shutil.copytree(tiny_checkpoint("mono"), folder)
    change(folder)
    with pytest.raises(CheckpointError, match=what) as refused:
        load_checkpoint(str(folder))
    assert remedy in str(refused.value)
    assert "download" not in str(refused.value)
    assert "\n" not in str(refused.value)
