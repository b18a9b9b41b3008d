"""The public names are a contract."""

from __future__ import annotations

import pytest

import streamgen


def test_public_names() -> None:
    assert sorted(streamgen.__all__) == [
        "AudioChunk",
        "CapacityError",
        "CheckpointError",
        "ConfigError",
        "Model",
        "PromptError",
        "SessionClosed",
        "Stream",
        "StreamSnapshot",
        "StreamgenError",
        "load_model",
    ]
    assert all(getattr(streamgen, name) is not None for name in streamgen.__all__)
    with pytest.raises(AttributeError, match="no attribute 'lode_model'"):
        streamgen.lode_model  # noqa: B018 - the access is the test


def test_the_error_tree_is_as_drawn() -> None:
    from streamgen import errors

    for name in errors.__all__:
        assert issubclass(getattr(errors, name), errors.StreamgenError)
        assert name in (errors.__doc__ or ""), f"{name} is missing in the drawing"
    assert issubclass(errors.ConfigError, ValueError)
    assert issubclass(errors.PromptError, ValueError)
