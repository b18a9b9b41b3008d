"""Folders to damage: copies of tiny checkpoints, and ways to edit them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from streamgen.checkpoint import load_checkpoint
from streamgen.errors import CheckpointError
from streamgen.testing import tiny_checkpoint

Copy = Callable[[str], Path]


@pytest.fixture
def copy_of(tmp_path: Path) -> Copy:
    """A private copy of a tiny checkpoint."""
    return lambda kind: Path(shutil.copytree(tiny_checkpoint(kind), tmp_path / kind))


@pytest.fixture
def edit_json() -> Callable[[Path, dict[str, Any]], None]:
    """Set values at dotted paths of a JSON file."""
    return _edit_json


@pytest.fixture
def edit_package() -> Callable[..., None]:
    """Set values at dotted paths of an audiocraft file's configuration, and tensors by name."""
    return _edit_package


@pytest.fixture
def complaint() -> Callable[[Path | str], str]:
    """The one line a user gets for a checkpoint."""
    return _complaint


def _edit_json(path: Path, changes: dict[str, Any]) -> None:
    value = json.loads(path.read_text())
    _set(value, changes)
    path.write_text(json.dumps(value))


def _edit_package(path: Path, changes: dict[str, Any] | None = None, **tensors: Any) -> None:
    package = torch.load(path, weights_only=True)
    settings = yaml.safe_load(package["xp.cfg"])
    _set(settings, changes or {})
    package["xp.cfg"] = yaml.safe_dump(settings)
    package["best_state"] |= tensors
    torch.save(package, path)


def _set(value: dict[str, Any], changes: dict[str, Any]) -> None:
    for dotted, new in changes.items():
        *parents, last = dotted.split(".")
        target = value
        for parent in parents:
            target = target[parent]
        target[last] = new


def _complaint(folder: Path | str) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(str(folder))
    text = str(caught.value)
    assert "\n" not in text, text
    assert len(text) < 600, text
    return text
