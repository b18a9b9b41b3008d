from __future__ import annotations

from pathlib import Path

import pytest

from streamgen.pocket.training.__main__ import main
from streamgen.pocket.training.synth import SOUNDFONT


@pytest.mark.slow
@pytest.mark.skipif(not Path(SOUNDFONT).exists(), reason="no soundfont on this machine")
def test_every_stage_runs_and_resumes(tmp_path: Path) -> None:
    arguments = ["--smoke", "--run-dir", str(tmp_path)]
    main(["all", *arguments])
    assert (tmp_path / "weights" / "model.safetensors").exists()
    assert "| named key" in (tmp_path / "judge" / "judge.md").read_text()
    assert list((tmp_path / "judge").glob("*.png"))
    written = {path.stem for path in (tmp_path / "judge").glob("*.md")}
    assert written == {"judge", "styles", "streams", "endless", "strangers", "defaults", "levels"}
    assert (tmp_path / "codec.svg").exists()
    main(["codec", *arguments])  # finished: returns at once
    main(["tokenise", *arguments])


def test_an_unknown_stage_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["dance"])
    assert "render" in capsys.readouterr().err
