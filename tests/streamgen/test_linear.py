from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from transformers.activations import ACT2FN

from streamgen.linear import Linear, activation


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
    assert Linear(torch.zeros(512, 512, dtype=torch.bfloat16), int8=True).bytes == 512 * 512


def _rounded(weight: torch.Tensor) -> torch.Tensor:
    """What int8 makes of a matrix, output by output."""
    out = torch.empty(weight.shape)
    for row, values in enumerate(weight.float()):
        scale = (values.abs().max() / 127).bfloat16().float()
        out[row] = torch.round(values / scale) * scale
    return out


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 7, 16, 17, 100])
def test_int8_is_the_rounded_matrix_for_few_rows_and_many(rows: int) -> None:
    weight = (torch.randn(640, 256) / 16).bfloat16()
    weight[3] *= 100  # a loud output costs the others nothing
    x = torch.randn(rows, 256).bfloat16()
    out, wanted = Linear(weight, int8=True)(x).float(), F.linear(x.float(), _rounded(weight))
    assert out.shape == (rows, 640)
    loudness = weight.float().norm(dim=1)
    assert ((out - wanted).abs() < 0.02 * loudness).all(), "within bfloat16"
    assert ((out - F.linear(x.float(), weight.float())).abs() < 0.05 * loudness).all(), "near what was given"


def test_int8_leaves_an_output_of_zeros_silent() -> None:
    weight = torch.randn(512, 256).bfloat16()
    weight[5] = 0
    assert (Linear(weight, int8=True)(torch.randn(2, 256).bfloat16())[:, 5] == 0).all()


def test_int8_leaves_small_matrices_as_they_are() -> None:
    weight, x = torch.randn(24, 8).bfloat16(), torch.randn(3, 8).bfloat16()
    assert torch.equal(Linear(weight, int8=True)(x), F.linear(x, weight))


def test_in_int8_a_row_is_what_it_is_alone() -> None:
    linear, x = Linear(torch.randn(640, 256).bfloat16(), int8=True), torch.randn(16, 256).bfloat16()
    alone = torch.cat([linear(row[None]) for row in x])
    for rows in range(1, 17):
        assert torch.equal(linear(x[:rows]), alone[:rows])


@pytest.mark.parametrize("inputs", [264, 272, 1000])
def test_a_width_that_the_int8_kernel_would_read_past_stays_as_it_is(inputs: int) -> None:
    weight, x = torch.randn(512, inputs).bfloat16(), torch.randn(2, inputs).bfloat16()
    torch.testing.assert_close(Linear(weight, int8=True)(x), Linear(weight)(x), atol=0, rtol=0)


@pytest.mark.parametrize("name", ["gelu", "gelu_new", "relu", "silu", "quick_gelu"])
def test_an_activation_is_transformers(name: str) -> None:
    x = torch.linspace(-8, 8, 1001)
    assert torch.equal(activation(name)(x), ACT2FN[name](x))


def test_an_activation_that_nobody_knows_is_no_activation() -> None:
    with pytest.raises(KeyError):
        activation("loud")
