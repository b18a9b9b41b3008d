"""`pip install` builds the native kernels where there is a C++ compiler, and does without where there is none."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def wheel(folder: Path, **environment: str) -> Path:
    """Build a wheel of the package, but for its weights, with this Python's setuptools."""
    source = folder / "source"
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        source.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, source / name)
    ignored = shutil.ignore_patterns("*.so", "__pycache__", "weights")
    for package in ("streamgen", "bridge"):
        shutil.copytree(ROOT / package, source / package, ignore=ignored)
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, source],
        env=os.environ | environment, check=True, capture_output=True, text=True,
    )  # fmt: skip
    (built,) = folder.glob("*.whl")
    return built


def kernels_in(file: Path) -> set[str]:
    with zipfile.ZipFile(file) as archive:
        return {Path(name).stem for name in archive.namelist() if Path(name).suffix in (".so", ".dylib", ".dll")}


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("c++") is None, reason="there is no C++ compiler here")
def test_with_a_compiler_one_wheel_serves_every_python_on_this_platform(tmp_path: Path) -> None:
    built = wheel(tmp_path)
    assert built.name.split("-")[2:4] == ["py3", "none"]
    assert not built.name.endswith("-any.whl")
    assert kernels_in(built) >= {"step-portable", "effects-portable"}


def test_without_a_compiler_it_is_installed_all_the_same(tmp_path: Path) -> None:
    built = wheel(tmp_path, CC="/no/such/compiler", CXX="/no/such/compiler")
    assert built.name.endswith("-py3-none-any.whl")
    assert kernels_in(built) == set()
