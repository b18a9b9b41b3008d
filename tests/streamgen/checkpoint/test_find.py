"""Names to folders: shipped, folder, Hub cache, and what is said when it is none of them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

import streamgen.pocket
from streamgen.checkpoint import list_checkpoints, load_checkpoint
from streamgen.checkpoint.find import _wanted, cached_folder, find_folder
from streamgen.errors import CheckpointError
from streamgen.testing import tiny_checkpoint

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty Hub cache."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def put(cache: Path, name: str, source: Path, revision: str = "main") -> Path:
    """Lay a folder into a Hub cache as huggingface_hub does."""
    repository = cache / f"models--{name.replace('/', '--')}"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / revision).write_text(COMMIT)
    return Path(shutil.copytree(source, repository / "snapshots" / COMMIT))


def test_a_folder_is_itself() -> None:
    folder = tiny_checkpoint("mono")
    assert find_folder(str(folder)) == folder


def test_pocket_is_the_shipped_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_checkpoint("stereo"), tmp_path / "weights"))
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    monkeypatch.setattr(streamgen.pocket, "pocket_folder", lambda: folder)
    checkpoint = load_checkpoint("pocket")
    assert (checkpoint.name, checkpoint.folder, checkpoint.licence) == ("pocket", folder, "apache-2.0")
    row = list_checkpoints()[0]
    assert (row.folder, row.licence, row.cached) == (folder, "apache-2.0", True)
    assert row.size_bytes == sum(path.stat().st_size for path in folder.iterdir())


def test_without_pocket_it_says_what_else_there_is(monkeypatch: pytest.MonkeyPatch, complaint: Any) -> None:
    monkeypatch.setattr(streamgen.pocket, "pocket_folder", lambda: Path("/no/weights"))
    text = complaint("pocket")
    assert "should lie in /no/weights, which is missing" in text
    assert "facebook/musicgen-small" in text
    assert not list_checkpoints()[0].cached


def test_a_home_folder_is_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tiny_checkpoint("mono")
    monkeypatch.setenv("HOME", str(folder.parent))
    assert find_folder(f"~/{folder.name}") == folder


def test_a_cached_hub_id_needs_no_network(hub_cache: Path) -> None:
    folder = put(hub_cache, "facebook/musicgen-small", tiny_checkpoint("mono"))
    assert find_folder("facebook/musicgen-small") == folder
    checkpoint = load_checkpoint("facebook/musicgen-small")
    assert checkpoint.licence.startswith("CC-BY-NC-4.0")
    assert checkpoint.name == "facebook/musicgen-small"


def test_a_cached_revision_is_found_by_its_name(hub_cache: Path) -> None:
    folder = put(hub_cache, "me/mine", tiny_checkpoint("audiocraft"), revision="v2")
    assert find_folder("me/mine", revision="v2") == folder
    with pytest.raises(CheckpointError, match="no checkpoint 'me/mine' could be had"):
        find_folder("me/mine", revision="v3")


@pytest.mark.parametrize("missing", ["model.safetensors", "model-00002-of-00002.safetensors"])
def test_an_interrupted_download_is_not_taken_for_a_checkpoint(missing: str, hub_cache: Path) -> None:
    folder = put(hub_cache, "me/mine", tiny_checkpoint("mono"))
    (folder / "model.safetensors").unlink()
    if missing != "model.safetensors":
        (folder / "model-00001-of-00002.safetensors").touch()
        index = f'{{"weight_map": {{"a": "model-00001-of-00002.safetensors", "b": "{missing}"}}}}'
        (folder / "model.safetensors.index.json").write_text(index)
    assert cached_folder("me/mine") is None


def test_a_damaged_index_in_the_cache_says_what_to_delete(hub_cache: Path) -> None:
    folder = put(hub_cache, "me/mine", tiny_checkpoint("mono"))
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text("{")
    with pytest.raises(CheckpointError, match=f"damaged .*delete {folder}"):
        find_folder("me/mine")


@pytest.mark.usefixtures("hub_cache")
def test_a_hub_id_that_is_not_to_be_had_says_what_was_tried() -> None:
    with pytest.raises(CheckpointError) as caught:
        find_folder("facebook/musicgen-small")
    text = str(caught.value)
    assert "'facebook/musicgen-small'" in text
    assert "looked for a folder" in text
    assert "Hub's cache" in text
    assert "copy the checkpoint to a folder" in text
    assert "\n" not in text
    with pytest.raises(CheckpointError, match=r"did you mean 'facebook/musicgen-small'\? If not, check the spelling"):
        find_folder("facebook/musicgen-smal")


@pytest.mark.usefixtures("hub_cache")
def test_where_the_hub_may_not_be_asked_the_line_names_the_variable() -> None:
    with pytest.raises(
        CheckpointError, match=r"'me/mine' could be had \(HF_HUB_OFFLINE is set, so the Hub is not asked\); "
    ):
        find_folder("me/mine")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("musicgen-small", "did you mean 'facebook/musicgen-small'"),
        ("larg", "did you mean 'facebook/musicgen-large'"),
        ("poket", "did you mean 'pocket'"),
        ("xyzzy", "'pocket' is the shipped one"),
        ("/no/such/folder", "neither a folder here nor a Hub id"),
        ("a/b/c", "neither a folder here nor a Hub id"),
        ("a--b/c..d", "is no Hub id"),
        ("", "give 'pocket', a folder, or a Hub id"),
        ("a\0b", "give 'pocket', a folder, or a Hub id"),
    ],
)
@pytest.mark.usefixtures("hub_cache")
def test_a_name_that_is_nothing_says_what_would_be(name: str, words: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        find_folder(name)
    assert words in str(caught.value)


def test_a_file_is_no_folder() -> None:
    path = tiny_checkpoint("mono") / "config.json"
    with pytest.raises(CheckpointError, match="is a file; give the folder"):
        find_folder(str(path))


def test_an_empty_folder_says_what_it_lacks(tmp_path: Path, complaint: Any) -> None:
    text = complaint(tmp_path)
    assert "neither config.json" in text
    assert "state_dict.bin" in text


def test_only_one_format_is_downloaded() -> None:
    shards = [f"model-0000{n}-of-00002.safetensors" for n in (1, 2)]
    both = ["config.json", "pytorch_model.bin", "state_dict.bin", "compression_state_dict.bin", "README.md"]
    assert _wanted([*both, *shards]) == shards
    assert _wanted([*both, "model.safetensors"]) == ["model.safetensors"]
    assert _wanted(both) == ["pytorch_model.bin"]
    assert _wanted(["state_dict.bin", "compression_state_dict.bin"]) == ["state_dict.bin", "compression_state_dict.bin"]


def test_audiocraft_weights_beside_transformers_settings_are_read_as_audiocraft(copy_of: Any) -> None:
    folder = copy_of("audiocraft")
    shutil.copy(tiny_checkpoint("mono") / "config.json", folder / "config.json")
    assert load_checkpoint(str(folder)).format == "audiocraft"
    shutil.copy(tiny_checkpoint("mono") / "model.safetensors", folder / "model.safetensors")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tiny_checkpoint("mono") / name, folder / name)
    assert load_checkpoint(str(folder)).format == "transformers"
