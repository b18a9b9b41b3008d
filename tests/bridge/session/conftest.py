from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

import streamgen
from streamgen.testing import tiny_checkpoint

from .rig import Rig


@pytest.fixture(scope="module")
def tiny_model() -> streamgen.Model:
    return streamgen.load_model(str(tiny_checkpoint("mono")), device="cpu", precision="fp32")


@pytest.fixture
def rig(tiny_model: streamgen.Model) -> Iterator[Callable[..., Rig]]:
    rigs: list[Rig] = []

    def make(**values: float | str) -> Rig:
        rigs.append(Rig(tiny_model, **values))
        return rigs[-1]

    yield make
    for each in rigs:
        each.player.close()
