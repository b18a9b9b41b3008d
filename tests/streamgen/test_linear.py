from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from streamgen.linear import Linear


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.05)])
@pytest.mark.parametrize("rows", [1, 2, 3, 4, 7, 18, 100])
@pytest.mark.parametrize("biased", [False, True])
def test_packed_equals_plain(rows: int, dtype: torch.dtype, tolerance: float, biased: bool) -> None:
    weight = torch.randn(640, 256).to(dtype) / 16
    bias = torch.randn(640).to(dtype) if biased else None
    x = torch.randn(rows, 256).to(dtype)
    linear = Linear(weight, bias)
    assert linear.packed
    out = linear(x)
    assert out.shape == (rows, 640)
    torch.testing.assert_close(out, F.linear(x, weight, bias), atol=tolerance, rtol=0)


def test_small_matrices_stay_plain() -> None:
    weight = torch.randn(24, 8)
    linear = Linear(weight)
    assert not linear.packed
    x = torch.randn(3, 8)
    assert torch.equal(linear(x), F.linear(x, weight))


def test_bytes_are_what_a_call_reads() -> None:
    assert Linear(torch.zeros(512, 512)).bytes == 512 * 512 * 4
    assert Linear(torch.zeros(512, 512, dtype=torch.bfloat16)).bytes == 512 * 512 * 2
