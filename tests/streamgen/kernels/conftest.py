from __future__ import annotations

import pytest

from streamgen.kernels import Kernels, built_for, kernels, usable
from streamgen.kernels.library import INSTRUCTION_SETS


@pytest.fixture(params=INSTRUCTION_SETS)
def library(request: pytest.FixtureRequest) -> Kernels:
    """Each library that was built and that this processor runs."""
    if request.param not in built_for():
        pytest.skip(f"the package was installed without a C++ compiler for {request.param}")
    if request.param not in usable():
        pytest.skip(f"this processor does not know {request.param}")
    loaded = kernels(request.param)
    assert loaded is not None
    return loaded
