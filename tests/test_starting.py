"""What is imported before the first sound: torch, and none of the packages that take as long again.

No times: which modules are there says the same, whatever else the machine does.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

# Those that cost most, seconds in all, and come with transformers' models, or with each other.
HEAVY = ("transformers", "sympy", "torch._dynamo", "torch._inductor", "torch.distributed.tensor", "huggingface_hub")

PLAY = """
model = streamgen.load_model("pocket", device="cpu")
assert model.open_stream("house", seed=1).read(3200).samples.any()
"""
FOLLOW = """
import numpy as np
model = streamgen.load_model("pocket", device="cpu")
heard = np.sin(np.arange(32_000) / 20).astype(np.float32)
assert model.open_stream("house", audio_prompt=heard, audio_prompt_rate_hz=32_000).read(3200).samples.any()
"""


HELP = """
import contextlib
from bridge.cli.main import main
with contextlib.suppress(SystemExit):
    main(["--help"])
"""


def modules_after(code: str) -> set[str]:
    """Run code in a Python of its own; return what it has imported."""
    script = f"import json, sys, streamgen\n{code}\nprint(json.dumps(list(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300, check=True)
    found: Any = json.loads(done.stdout.splitlines()[-1])
    return set(found)


@pytest.mark.parametrize("code", [PLAY, FOLLOW], ids=["a text", "an audio prompt"])
def test_pocket_plays_without_what_takes_long_to_import(code: str) -> None:
    found = modules_after(code)
    assert "torch" in found, "else this test says nothing"
    assert not [name for name in HEAVY if name in found]


def test_help_needs_no_torch() -> None:
    found = modules_after(HELP)
    assert "bridge.cli.main" in found
    assert not [name for name in (*HEAVY, "torch") if name in found]
