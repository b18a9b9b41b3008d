from __future__ import annotations

import pytest
import torch

from streamgen.pocket.training.device import bfloat16, training_device


@pytest.mark.parametrize("gpu", [False, True])
def test_the_gpu_is_taken_where_there_is_one(gpu: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    assert training_device().type == ("cuda" if gpu else "cpu")


def test_matrices_are_multiplied_in_bfloat16_where_that_is_known() -> None:
    rows = torch.randn(4, 4)
    with bfloat16(torch.device("cpu")):
        assert (rows @ rows).dtype == torch.bfloat16
    with bfloat16(torch.device("meta")):
        assert (rows @ rows).dtype == torch.float32
