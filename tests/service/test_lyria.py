"""Google's SDKs as they are, at a real service: google-genai over TLS, @google/genai over ws."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bridge.cli import main as cli

from .running import Service

pytestmark = pytest.mark.slow
HERE = Path(__file__).parent
SECONDS = float(os.environ.get("STREAMGEN_LYRIA_SECONDS", "6"))


def told(*words: str | Path, **environment: str) -> dict[str, Any]:
    environment = {**os.environ, **environment}
    said = subprocess.run(words, capture_output=True, text=True, env=environment, timeout=SECONDS + 60)
    assert said.returncode == 0, said.stderr
    return dict(json.loads(said.stdout.splitlines()[-1]))


def test_googles_python_sdk_plays_steers_pauses_and_resets_over_tls(tmp_path: Path) -> None:
    if importlib.util.find_spec("google.genai") is None:
        pytest.skip("needs `pip install google-genai`")
    assert cli.main(["certificate", "--out", str(tmp_path)]) == 0
    certificate, key = tmp_path / "streamgen-cert.pem", tmp_path / "streamgen-key.pem"
    with Service(tmp_path, "--tls-cert", str(certificate), "--tls-key", str(key)) as service:
        place = str(service.ready["page"]).rstrip("/")
        heard = told(sys.executable, HERE / "lyria_client.py", place, str(SECONDS), SSL_CERT_FILE=str(certificate))
    assert heard["paused"]
    assert heard["goes_on"]
    assert heard["bpm"] == 125
    assert SECONDS - 1.5 < heard["seconds"] < SECONDS + 1
    assert heard["longest"] < 2, "a player that has two seconds in hand would have waited"


def test_googles_javascript_sdk_plays_steers_pauses_and_resets(tmp_path: Path) -> None:
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("needs node and npm")
    options = ["--silent", "--no-audit", "--no-fund", "--prefix", str(tmp_path)]
    if subprocess.run([npm, "install", *options, "@google/genai@2"], capture_output=True, timeout=120).returncode:
        pytest.skip("@google/genai cannot be had: npm has no registry here")
    script = Path(shutil.copy(HERE / "lyria_client.mjs", tmp_path))
    with Service(tmp_path) as service:
        heard = told(node, script, str(service.ready["page"]).rstrip("/"), str(SECONDS))
    assert heard["paused"]
    assert heard["open"]
    assert heard["empty"] == 0
    assert SECONDS - 1.5 < heard["seconds"] < SECONDS + 1
