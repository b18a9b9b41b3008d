from __future__ import annotations

import pytest
import torch

from streamgen.pocket.training.device import Pace, bfloat16, training_device


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


def test_busy_neighbours_leave_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    clock = [0.0, 0.0, 0.0]
    monkeypatch.setattr(Pace, "_clocks", staticmethod(lambda: tuple(clock)))
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    pace = Pace()

    def step(others: float) -> int:
        clock[0], clock[1], clock[2] = clock[0] + 1, clock[1] + 1 + others, clock[2] + 1
        return torch.get_num_threads()

    seen = [pace.run(lambda load=load: step(load)) for load in (0, 1, 1, 1, 0, 0, 0, 0)]
    assert seen[0] == 2
    assert 1 in seen[2:5]
    assert seen[-1] == 2
    torch.set_num_threads(before)
