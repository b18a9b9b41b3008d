"""The id of a VST3 plugin's class, asked of the plugin itself."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from bridge.audio.plugins.vst3 import class_id

ZAM = Path("/usr/lib/vst3/ZamVerb.vst3")
LOADED = f"""
import minihost
from pathlib import Path
from bridge.audio.plugins.vst3 import class_id
plugin = minihost.Plugin({str(ZAM)!r}, sample_rate=48_000, max_block_size=512)
print("class", class_id(Path({str(ZAM)!r})))
"""


@pytest.mark.skipif(find_spec("minihost") is None or not ZAM.exists(), reason="needs minihost and zam-plugins")
def test_a_plugin_that_is_loaded_tells_its_class() -> None:
    """DPF, which it is made with, writes its own name and the plugin's four letters into it."""
    done = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, check=True)
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("class ")]
    assert bytes.fromhex(line.split()[1]) == b" FPDsalcBRVZ\0\0\0\0"


def test_what_is_no_plugin_has_none(tmp_path: Path) -> None:
    library = tmp_path / "x.vst3" / "Contents" / "x86_64-linux" / "x.so"
    library.parent.mkdir(parents=True)
    library.write_text("no library")
    assert class_id(tmp_path / "x.vst3") == ""
    assert class_id(library) == ""
    assert class_id(tmp_path / "nowhere.vst3") == ""
