"""Builds the native kernels where there is a C++ compiler; everything else is in pyproject.toml.

    step.cpp, effects.cpp ─ once for each instruction set ─► step-portable, step-avx2, … beside it, loaded by ctypes at
                                                             run time

Without a compiler, or with one that knows no C++20, streamgen is installed all the same and plays on torch's kernels. A
wheel says which platform its libraries are for, and serves every Python.
"""

from __future__ import annotations

import os
import platform
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from setuptools import setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py

SOURCES = (Path("streamgen/kernels/native/step.cpp"), Path("bridge/audio/native/effects.cpp"))
SUFFIX = {"win32": ".dll", "darwin": ".dylib"}.get(sys.platform, ".so")
X86 = platform.machine().lower() in ("x86_64", "amd64")
UNIX = ["-O3", "-std=c++20", "-fPIC", "-pthread", "-ffp-contract=off", "-fvisibility=hidden", "-Wno-uninitialized"]
MSVC = ["/O2", "/std:c++20", "/EHsc", "/fp:precise"]
# what a compiler is told for each instruction set: as GCC and Clang, as Microsoft's
SETS: dict[str, tuple[list[str], list[str]]] = {"portable": ([], [])}
if X86:
    SETS |= {
        "avx2": (["-march=haswell"], ["/arch:AVX2"]),
        "avxvnni": (["-march=haswell", "-mavxvnni"], ["/arch:AVX2", "/D__AVXVNNI__"]),
        "avx512": (["-march=cascadelake", "-mprefer-vector-width=512"], ["/arch:AVX512"]),  # the first with VNNI
    }
    if sys.platform == "linux":  # whose processors are asked for it through the system
        flags = ["-march=icelake-server", "-mprefer-vector-width=512", "-mavx512bf16", "-mamx-tile", "-mamx-bf16"]
        SETS |= {"amx": ([*flags, "-DSTREAMGEN_AMX"], [])}
elif platform.machine().lower() in ("aarch64", "arm64") and sys.platform == "linux":
    SETS["portable"] = (["-march=armv8.2-a+dotprod"], [])  # Cortex-A75 and later; Apple's compiler assumes it


def build_kernels(root: Path) -> None:
    """Build what this machine's compiler can, as many at once as there are cores: each takes seconds."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        lacks = dict(zip(SETS, pool.map(partial(_lack, root), SETS), strict=True))
    for lack in filter(None, lacks.values()):
        print(lack)
    if lacks["portable"]:  # it knows the processor, so the others are of no use without it
        print("streamgen: installed without native kernels; it plays on torch's, several times slower")


def _lack(root: Path, name: str) -> str:
    """Build those of an instruction set; returns why there are none."""
    try:
        for source in SOURCES:
            _build(source, name, root / source.parent)
    except Exception as error:  # noqa: BLE001 - whatever a compiler fails with, or its absence: the rest installs
        return f"streamgen: no native kernels for {name}: {error}"
    return ""


def _build(source: Path, name: str, folder: Path) -> None:
    from setuptools._distutils.ccompiler import new_compiler
    from setuptools._distutils.sysconfig import customize_compiler

    folder.mkdir(parents=True, exist_ok=True)
    compiler = new_compiler()
    customize_compiler(compiler)
    microsoft = compiler.compiler_type == "msvc"
    macros = {
        "avx512": "STREAMGEN_AVX512",
        "amx": "STREAMGEN_AVX512",
        "avx2": "STREAMGEN_AVX2",
        "avxvnni": "STREAMGEN_AVX2",
    }
    objects = compiler.compile(
        [str(source)],
        output_dir=str(Path("build") / f"kernels-{name}"),
        macros=[(macros[name], None)] if name in macros else [],
        extra_postargs=[*(MSVC if microsoft else UNIX), *SETS[name][microsoft]],
    )
    draft = (
        folder / f"{source.stem}-{name}{SUFFIX}.new"
    )  # a library that is in use keeps its file; the next start loads the new one
    compiler.link_shared_object(
        objects, str(draft), extra_postargs=[] if microsoft else ["-pthread"], target_lang="c++"
    )
    draft.replace(folder / f"{source.stem}-{name}{SUFFIX}")


class BuildWithKernels(build_py):
    """Copies the package, then builds the libraries: beside the copy, or in place for an editable install."""

    def run(self) -> None:
        super().run()
        build_kernels(Path(".") if self.editable_mode else Path(self.build_lib))


class PlatformWheel(bdist_wheel):
    """A wheel with libraries is for one platform and every Python 3; one without them for every platform too."""

    def run(self) -> None:
        self.run_command("build_py")
        built = Path(self.get_finalized_command("build_py").build_lib)
        self.root_is_pure = not any(list((built / source.parent).glob(f"*{SUFFIX}")) for source in SOURCES)
        super().run()

    def get_tag(self) -> tuple[str, str, str]:
        _, _, system = super().get_tag()
        return "py3", "none", system


setup(cmdclass={"build_py": BuildWithKernels, "bdist_wheel": PlatformWheel})
