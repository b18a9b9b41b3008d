"""The decoder step and the codec's products in C++: weights rounded or as they are, all of a step in one call.

Rules: built when the package is installed where a C++ compiler is (`setup.py`), loaded by ctypes, chosen by what the
processor knows; never compiled at run time. Without it everything plays on torch's kernels (`streamgen.linear`).

    native/      the C++, and the libraries that were built of it
    library.py   finding, loading and calling them
    packed.py    matrices in the layout that they read
"""

from __future__ import annotations

from streamgen.kernels.library import Kernels, Pool, bound, built_for, kernels, library_file, usable, why_none
from streamgen.kernels.packed import (
    BITS,
    PackedMatrix,
    elu_,
    gate_order,
    head_order,
    multiply,
    narrowest,
    pack,
    pack_exactly,
    padded_bias,
    run_lstm,
)

__all__ = [
    "BITS",
    "Kernels",
    "PackedMatrix",
    "Pool",
    "bound",
    "built_for",
    "elu_",
    "gate_order",
    "head_order",
    "kernels",
    "library_file",
    "multiply",
    "narrowest",
    "pack",
    "pack_exactly",
    "padded_bias",
    "run_lstm",
    "usable",
    "why_none",
]
