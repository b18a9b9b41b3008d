"""The list of checkpoints, and that it costs neither torch nor a network."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import huggingface_hub
import pytest

from streamgen.checkpoint import list_checkpoints
from streamgen.checkpoint.known import META_LICENCE, UNKNOWN_LICENCE, licence_of


def test_the_list_has_the_shipped_one_first_and_meta_s_with_their_licence() -> None:
    rows = list_checkpoints()
    assert [row.name for row in rows[:2]] == ["pocket", "facebook/musicgen-small"]
    assert len({row.name for row in rows}) == len(rows) == 11
    for row in rows[1:]:
        assert row.licence.startswith("CC-BY-NC-4.0")
        assert row.stereo == ("stereo" in row.name)
        assert row.melody == ("melody" in row.name)
        assert row.parameters == ("300M" if "small" in row.name else "3.3B" if "large" in row.name else "1.5B")


def test_a_cached_one_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--facebook--musicgen-large"
    folder = repository / "snapshots" / "abc"
    folder.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs/main").write_text("abc")
    (folder / "config.json").write_bytes(b"{}")
    (folder / "model.safetensors").write_bytes(bytes(1000))
    rows = {row.name: row for row in list_checkpoints()}
    assert rows["facebook/musicgen-large"].cached
    assert rows["facebook/musicgen-large"].folder == folder
    assert rows["facebook/musicgen-large"].size_bytes == 1002
    assert not rows["facebook/musicgen-small"].cached
    assert rows["facebook/musicgen-small"].size_bytes is None


def test_listing_imports_no_torch() -> None:
    code = (
        "import sys; from streamgen.checkpoint import list_checkpoints; list_checkpoints(); "
        "sys.exit(int('torch' in sys.modules or 'transformers' in sys.modules))"
    )
    root = Path(__file__).parents[3]
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=root).returncode == 0


# -- licences: the card's, Meta's for Meta's names, else none is invented ----------------------------------------------


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        ("---\nlicense: apache-2.0\ntags: [music]\n---\n# Model\n", "apache-2.0"),
        ("---\nlicense: 'cc-by-4.0'  \n---\n", "cc-by-4.0"),
        ("---\nlanguage: en\nlicense: other\nlicense_name: my-own-1\nlicense_link: x\n---\n", "my-own-1"),
        ("---\r\nlicense: mit # really\r\n---\r\n", "mit"),
        ("---\nlicence: CC0-1.0\n---\n", "CC0-1.0"),
        ("# Model\nlicense: mit is mentioned here only\n", UNKNOWN_LICENCE),
        ("---\ntags: [music]\n---\n", UNKNOWN_LICENCE),
        ("", UNKNOWN_LICENCE),
    ],
)
def test_the_card_says(card: str, licence: str, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_bytes(card.encode())
    assert licence_of(str(tmp_path), tmp_path) == licence


@pytest.mark.parametrize("name", ["facebook/musicgen-small", "facebook/musicgen-stereo-melody-large"])
def test_meta_s_names_are_meta_s_licence(name: str, tmp_path: Path) -> None:
    assert licence_of(name, tmp_path) == META_LICENCE


def test_meta_s_card_says_whose_it_is(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("---\nlicense: cc-by-nc-4.0\n---\n")
    assert licence_of("facebook/musicgen-small", tmp_path) == META_LICENCE
    assert licence_of("me/mine", tmp_path) == "cc-by-nc-4.0"


def test_a_folder_of_the_hub_s_cache_is_known(tmp_path: Path) -> None:
    folder = tmp_path / "models--facebook--musicgen-medium" / "snapshots" / "abc"
    folder.mkdir(parents=True)
    assert licence_of(str(folder), folder) == META_LICENCE


@pytest.mark.parametrize("name", ["me/musicgen-small", "notfacebook/musicgen", "./mymodel"])
def test_nothing_is_guessed(name: str, tmp_path: Path) -> None:
    assert licence_of(name, tmp_path) == UNKNOWN_LICENCE


def test_the_shipped_checkpoint_is_under_the_packages_own_licence(tmp_path: Path) -> None:
    assert licence_of("pocket", tmp_path) == "Apache-2.0"
