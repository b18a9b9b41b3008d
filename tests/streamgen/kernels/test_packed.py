from __future__ import annotations

import pytest
import torch

from streamgen.kernels import (
    BITS,
    Kernels,
    gate_order,
    head_order,
    multiply,
    narrowest,
    pack,
    pack_exactly,
    run_lstm,
)

from .twin import rounded, unpacked


@pytest.mark.parametrize("bits", BITS)
def test_weights_are_rounded_as_finely_as_their_bits_allow(library: Kernels, bits: int) -> None:
    weight = torch.randn(70, 96) * torch.rand(70, 1).exp()
    packed = pack(library, library.pool(1), weight, bits)
    assert (packed.outputs, packed.inputs, packed.bits) == (96, 96, bits)
    back = unpacked(packed)
    assert (back[70:] == 0).all(), "outputs that fill the last tile"
    error = (back[:70] - weight).norm() / weight.norm()
    assert error < {4: 0.09, 6: 0.025, 8: 0.007}[bits]
    step = weight.unflatten(1, (-1, 32)).abs().amax(2, keepdim=True) / (2 ** (bits - 1) - 1)
    assert ((back[:70] - weight).unflatten(1, (-1, 32)).abs() <= 2.6 * step).all(), "clipped, if at all, by little"


def test_thirty_two_bits_are_not_rounded_at_all(library: Kernels) -> None:
    weight = torch.randn(33, 7)
    assert torch.equal(unpacked(pack(library, library.pool(1), weight, 32))[:33], weight.double())
    assert torch.equal(unpacked(pack(library, library.pool(1), weight, 16))[:33], weight.bfloat16().double())


def test_all_libraries_and_any_number_of_threads_pack_alike(library: Kernels) -> None:
    weight = torch.randn(96, 64)
    for bits in (*BITS, 16, 32):
        alone = pack(library, library.pool(1), weight, bits).tiles
        assert torch.equal(pack(library, library.pool(3), weight, bits).tiles, alone)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("rows", [1, 2, 3, 4, 5, 11])
def test_a_product_is_that_of_rounded_rows_and_rounded_weights(library: Kernels, bits: int, rows: int) -> None:
    weight, x = torch.randn(290, 96), torch.randn(rows, 96) * torch.randn(rows, 1).exp()
    pool = library.pool(2)
    packed = pack(library, pool, weight, bits)
    wanted = rounded(x.double()) @ unpacked(packed)[:290].T
    torch.testing.assert_close(multiply(library, pool, packed, x, 290).double(), wanted, atol=2e-3, rtol=1e-4)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("rows", [1, 6])
def test_tiles_that_are_read_side_by_side_give_what_each_gives_alone(library: Kernels, bits: int, rows: int) -> None:
    weight, x = torch.randn(7 * 32, 160), torch.randn(rows, 160)
    pool = library.pool(1)
    alone = [multiply(library, pool, pack(library, pool, tile, bits), x, 32) for tile in weight.split(32)]
    assert torch.equal(multiply(library, pool, pack(library, pool, weight, bits), x, 7 * 32), torch.cat(alone, dim=1))


@pytest.mark.parametrize("bits", [*BITS, 16, 32])
def test_a_row_is_bit_for_bit_what_it_is_alone(library: Kernels, bits: int) -> None:
    weight, x = torch.randn(416, 96), torch.randn(9, 96)
    one, many = library.pool(1), library.pool(3)
    packed = pack(library, one, weight, bits)
    alone = torch.cat([multiply(library, one, packed, row[None], 416) for row in x])
    for rows in range(1, 10):
        assert torch.equal(multiply(library, many, packed, x[:rows], 416), alone[:rows])


@pytest.mark.parametrize("rows", [*range(1, 14), 60])
@pytest.mark.parametrize(("elu", "bits"), [(False, 32), (True, 32), (True, 16)])
def test_float_products_have_a_bias_and_an_elu(library: Kernels, rows: int, elu: bool, bits: int) -> None:
    weight, bias, x = (torch.randn(45, 50) / 8).bfloat16().float(), torch.randn(45), torch.randn(rows, 50)
    pool = library.pool(2)
    out = multiply(library, pool, pack(library, pool, weight, bits), x, 45, bias=bias, elu=elu)
    wanted = torch.nn.functional.linear(x.double(), weight.double(), bias.double())
    torch.testing.assert_close(out.double(), torch.nn.functional.elu(wanted) if elu else wanted, atol=1e-5, rtol=1e-5)


def test_rows_may_overlap_as_the_windows_of_a_convolution_do(library: Kernels) -> None:
    weight, x = torch.randn(32, 3 * 8), torch.randn(20, 8)
    pool = library.pool(2)
    windows = x.as_strided((18, 24), (8, 1))
    wanted = windows.double() @ weight.double().T
    out = multiply(library, pool, pack(library, pool, weight, 32), windows, 32)
    tolerance = 3e-4 if library.instruction_set == "amx" else 1e-5  # a float in two bfloat16s lacks 2^-17 of it
    torch.testing.assert_close(out.double(), wanted, atol=tolerance, rtol=1e-5)


def test_an_lstm_is_torchs_over_rounded_weights_and_states(library: Kernels) -> None:
    width, streams, steps = 160, 3, 7
    weight, driven = torch.randn(4 * width, width) / 8, torch.randn(streams, steps, 4 * width)
    hidden, cell = torch.randn(streams, width).tanh(), torch.randn(streams, width)
    pool = library.pool(2)
    packed = pack(library, pool, weight, 8, gate_order(width))
    back = unpacked(packed)[torch.tensor(gate_order(width)).argsort()]
    h, c, wanted = hidden.double(), cell.double(), []
    for step in range(steps):
        take, keep, new, show = (driven[:, step].double() + rounded(h) @ back.T).chunk(4, dim=1)
        c = keep.sigmoid() * c + take.sigmoid() * new.tanh()
        h = show.sigmoid() * c.tanh()
        wanted.append(h)
    out = run_lstm(library, pool, packed, driven, hidden, cell)
    torch.testing.assert_close(out.double(), torch.stack(wanted, dim=1), atol=5e-3, rtol=0)
    assert torch.equal(hidden, out[:, -1])
    torch.testing.assert_close(cell.double(), c, atol=5e-3, rtol=0)


def test_heads_and_gates_lie_side_by_side() -> None:
    assert head_order(2, 2) == [0, 1, 4, 5, 8, 9, 2, 3, 6, 7, 10, 11]
    order = gate_order(64)
    assert order[:33] == [*range(32), 64]
    assert sorted(order) == list(range(256))


NARROW = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}


@pytest.mark.parametrize("dtype", NARROW.values(), ids=NARROW)
def test_numbers_are_kept_in_the_fewest_bytes_that_hold_them(dtype: torch.dtype) -> None:
    weight = torch.randn(70, 33)
    weight = (weight * 1e9 if dtype == torch.bfloat16 else weight).to(dtype).float()
    if dtype == torch.float32:
        assert narrowest(weight) is weight
    assert narrowest(weight).dtype == narrowest(weight.to(dtype)).dtype == dtype
    assert torch.equal(narrowest(weight).float(), weight)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), 65_520.0, 2.0**-25, 1 + 2.0**-11])
def test_what_float16_does_not_hold_is_kept_wider(number: float) -> None:
    weight = torch.tensor([[0.25, number]])
    assert narrowest(weight).dtype != torch.float16
    assert torch.equal(narrowest(weight).float(), weight) or number != number


def test_matrices_are_laid_out_as_they_are() -> None:
    weight = torch.randn(40, 64).half()
    packed = pack_exactly(weight, [*head_order(1, 13), 39])
    assert (packed.outputs, packed.inputs, packed.dtype) == (64, 64, torch.float16)
    back = packed.tiles.view(torch.float16).view(2, 64, 32).transpose(1, 2).reshape(64, 64)
    assert torch.equal(back[:40], weight)
    assert (back[40:] == 0).all()
