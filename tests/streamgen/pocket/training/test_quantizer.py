from __future__ import annotations

import torch

from streamgen.pocket.training.quantizer import ResidualQuantizer


def test_the_quantizer_learns_and_lets_gradients_through() -> None:
    quantizer = ResidualQuantizer(dim=8)
    latents = torch.randn(4, 600, 8)
    quantizer.restart(latents.flatten(0, 1))
    rows = latents.clone().requires_grad_()
    out, loss = quantizer(rows, torch.tensor([4, 4, 1, 0]), learn=True)
    errors = (out - latents).pow(2).mean(dim=(1, 2))
    assert errors[0] < errors[2] < 0.5
    assert errors[3] == 0  # depth 0 leaves a row as it is
    out.sum().backward()
    assert torch.equal(rows.grad, torch.ones_like(rows))  # type: ignore[arg-type]
    assert loss > 0
