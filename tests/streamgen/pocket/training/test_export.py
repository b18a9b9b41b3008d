from __future__ import annotations

from pathlib import Path

import pytest

from streamgen import pocket
from streamgen.checkpoint import load_checkpoint
from streamgen.pocket.training.playing import CHANGE_CONTEXT_SECONDS, GUIDANCE_SCALE, TEMPERATURE, TOP_K


def test_what_is_exported_names_its_settings_and_matches_its_hashes(
    exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = load_checkpoint(str(exported)).defaults
    assert (found.guidance_scale, found.temperature, found.top_k) == (GUIDANCE_SCALE, TEMPERATURE, TOP_K)
    assert found.change_context_seconds == CHANGE_CONTEXT_SECONDS
    monkeypatch.setattr(pocket, "pocket_folder", lambda: exported)
    pocket.verify_pocket()
