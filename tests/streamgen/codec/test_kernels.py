"""Kernels against torch's plain convolution."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from streamgen.codec.kernels import Convolution, Native, NativeLstm
from streamgen.kernels import kernels


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("steps", [1, 2, 50])
@pytest.mark.parametrize(
    ("into", "out", "kernel", "dilation"),
    [(4, 6, 1, 1), (4, 1, 7, 1), (4, 6, 3, 9), (128, 96, 7, 1), (256, 128, 2, 4), (1, 3, 2, 1)],
)
def test_convolution(batch: int, steps: int, into: int, out: int, kernel: int, dilation: int) -> None:
    weight, bias = torch.randn(out, into, kernel) / (into * kernel) ** 0.5, torch.randn(out)
    convolution = Convolution(weight, bias, dilation)
    x = torch.randn(batch, steps + convolution.span - 1, into)
    wanted = F.conv1d(x.transpose(1, 2), weight, bias, dilation=dilation).transpose(1, 2)
    torch.testing.assert_close(convolution(x), wanted, atol=1e-5, rtol=0)
    assert convolution(x).shape == (batch, steps, out)


@pytest.fixture
def native() -> Native:
    library = kernels()
    if library is None:
        pytest.skip("the package was installed without a C++ compiler")
    return Native(library, library.pool(2))


@pytest.mark.parametrize("batch", [1, 2, 3])
@pytest.mark.parametrize(("out", "kernel"), [(32, 1), (40, 3), (17, 7)])
@pytest.mark.parametrize("elu", [False, True])
def test_the_native_convolution_is_torchs(native: Native, batch: int, out: int, kernel: int, elu: bool) -> None:
    weight, bias, x = torch.randn(out, 6, kernel), torch.randn(out), torch.randn(batch, 20, 6)
    ours, theirs = Convolution(weight, bias, native=native), Convolution(weight, bias)
    torch.testing.assert_close(ours(x, elu=elu), theirs(x, elu=elu), atol=3e-4, rtol=1e-4)


def test_large_native_convolutions_have_weights_of_sixteen_bits(
    native: Native, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamgen.codec.kernels._LARGE_NUMEL", 1)
    weight, x = torch.randn(32, 6, 3), torch.randn(1, 20, 6)
    wanted = Convolution(weight.bfloat16().float(), None)(x)
    tolerance = 3e-4 if native.library.instruction_set == "amx" else 1e-5  # a float in two bfloat16s lacks 2^-17 of it
    torch.testing.assert_close(Convolution(weight, None, native=native)(x), wanted, atol=tolerance, rtol=1e-5)


@pytest.mark.parametrize("batch", [1, 2])
def test_the_native_lstm_is_torchs_but_for_its_rounded_matrices(native: Native, batch: int) -> None:
    lstm, x = torch.nn.LSTM(64, 64, batch_first=True), torch.randn(batch, 9, 64)
    into, again, bias, more = (p.detach() for p in lstm.parameters())
    hidden, cell = torch.zeros(batch, 64), torch.zeros(batch, 64)
    layer = NativeLstm(native, into, again, bias + more)
    out = torch.cat([layer(x[:, :4].contiguous(), hidden, cell), layer(x[:, 4:].contiguous(), hidden, cell)], dim=1)
    with torch.no_grad():
        wanted = lstm(x)[0]
    error = (out - wanted).norm() / wanted.norm()
    assert error < 0.01
    assert torch.equal(hidden, out[:, -1])
    assert NativeLstm.fits(64)
    assert not NativeLstm.fits(48)
