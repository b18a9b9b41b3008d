"""Builds the native kernels where there is a C++ compiler; everything else is in pyproject.toml.

    step.cpp ─ once for each instruction set ─► step-portable, step-avx2, … beside it, loaded by ctypes at run time

Without a compiler, or with one that knows no C++20, streamgen is installed all the same and plays on torch's kernels. A
wheel says which platform its libraries are for, and serves every Python.
"""

from __future__ import annotations

import platform
import sys
from pathlib import Path

from setuptools import setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py

SOURCES = Path("streamgen/kernels/native")
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
        "avx512": (["-march=icelake-server", "-mprefer-vector-width=512"], ["/arch:AVX512"]),
    }
    if sys.platform == "linux":  # whose processors are asked for it through the system
        flags = ["-march=icelake-server", "-mprefer-vector-width=512", "-mavx512bf16", "-mamx-tile", "-mamx-bf16"]
        SETS |= {"amx": ([*flags, "-DSTREAMGEN_AMX"], [])}
elif platform.machine().lower() in ("aarch64", "arm64") and sys.platform == "linux":
    SETS["portable"] = (["-march=armv8.2-a+dotprod"], [])  # Cortex-A75 and later; Apple's compiler assumes it


def build_kernels(folder: Path) -> None:
    """Build what this machine's compiler can."""
    from setuptools._distutils.ccompiler import new_compiler
    from setuptools._distutils.sysconfig import customize_compiler

    folder.mkdir(parents=True, exist_ok=True)
    for name, flags in SETS.items():
        try:
            compiler = new_compiler()
            customize_compiler(compiler)
            _build(compiler, name, flags, folder)
        except Exception as error:  # noqa: BLE001 - whatever a compiler fails with, or its absence: the rest installs
            print(f"streamgen: no native kernels for {name}: {error}")
            if name == "portable":
                print("streamgen: installed without native kernels; it plays on torch's, several times slower")
                return


def _build(compiler, name: str, flags: tuple[list[str], list[str]], folder: Path) -> None:
    microsoft = compiler.compiler_type == "msvc"
    macros = {
        "avx512": "STREAMGEN_AVX512",
        "amx": "STREAMGEN_AVX512",
        "avx2": "STREAMGEN_AVX2",
        "avxvnni": "STREAMGEN_AVX2",
    }
    objects = compiler.compile(
        [str(SOURCES / "step.cpp")],
        output_dir=str(Path("build") / f"kernels-{name}"),
        macros=[(macros[name], None)] if name in macros else [],
        extra_postargs=[*(MSVC if microsoft else UNIX), *flags[microsoft]],
    )
    draft = (
        folder / f"step-{name}{SUFFIX}.new"
    )  # a library that is in use keeps its file; the next start loads the new one
    compiler.link_shared_object(
        objects, str(draft), extra_postargs=[] if microsoft else ["-pthread"], target_lang="c++"
    )
    draft.replace(folder / f"step-{name}{SUFFIX}")


class BuildWithKernels(build_py):
    """Copies the package, then builds the libraries: beside the copy, or in place for an editable install."""

    def run(self) -> None:
        super().run()
        root = Path(".") if self.editable_mode else Path(self.build_lib)
        build_kernels(root / SOURCES)


class PlatformWheel(bdist_wheel):
    """A wheel with libraries is for one platform and every Python 3; one without them for every platform too."""

    def run(self) -> None:
        self.run_command("build_py")
        built = Path(self.get_finalized_command("build_py").build_lib) / SOURCES
        self.root_is_pure = not list(built.glob(f"*{SUFFIX}"))
        super().run()

    def get_tag(self) -> tuple[str, str, str]:
        _, _, system = super().get_tag()
        return "py3", "none", system


setup(cmdclass={"build_py": BuildWithKernels, "bdist_wheel": PlatformWheel})
