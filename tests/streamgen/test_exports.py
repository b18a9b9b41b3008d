"""The public names are a contract; errors name what was probably meant; what comments point to is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import streamgen


def test_public_names() -> None:
    assert sorted(streamgen.__all__) == [
        "AudioChunk",
        "CapacityError",
        "CheckpointError",
        "ConfigError",
        "Model",
        "NumericError",
        "PromptError",
        "SessionClosed",
        "Stream",
        "StreamMark",
        "StreamSnapshot",
        "StreamgenError",
        "check_text",
        "load_model",
    ]
    assert all(getattr(streamgen, name) is not None for name in streamgen.__all__)
    with pytest.raises(AttributeError, match="no attribute 'lode_model'"):
        streamgen.lode_model  # noqa: B018 - the access is the test


def test_the_error_tree_is_as_drawn() -> None:
    from streamgen import errors

    for name in (name for name in errors.__all__ if name[0].isupper()):
        assert issubclass(getattr(errors, name), errors.StreamgenError)
        assert name in (errors.__doc__ or ""), f"{name} is missing in the drawing"
    assert issubclass(errors.ConfigError, ValueError)
    assert issubclass(errors.PromptError, ValueError)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("guidance", "there is no control 'guidance'; did you mean guidance_scale?"),
        ("topk", "there is no control 'topk'; did you mean top_k?"),
        ("volume", "there is no control 'volume'; there are guidance_scale, top_k"),
    ],
)
def test_an_unknown_name_says_which_was_probably_meant(name: str, said: str) -> None:
    assert str(streamgen.ConfigError.unknown("control", name, ("guidance_scale", "top_k"))) == said


def test_comments_point_to_measurements_that_are_there() -> None:
    package = Path(streamgen.__file__).parent
    found = (package.parent / "docs" / "measurements.md").read_text()
    rooms = (package, package.parent / "bridge")
    sources = [path.read_text() for room in rooms for path in room.rglob("*.py")]
    named = {title for text in sources for title in re.findall(r'docs/measurements\.md,\s+"([^"]+)"', text)}
    assert len(named) > 3
    assert [title for title in named if f"### {' '.join(title.split())}" not in found] == []
