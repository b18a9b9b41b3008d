"""Licences: the card's, Meta's for Meta's names, else none is invented."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamgen.checkpoint.licence import META_LICENCE, UNKNOWN_LICENCE, licence_of


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
