from __future__ import annotations

import torch
from torch import Tensor

from streamgen.pocket.training.fine_losses import band_loss, comb_loss, partials_loss
from streamgen.pocket.training.mel import mel_loss

TIME = torch.arange(48_000) / 32_000


def tones(*hertz: float) -> Tensor:
    return sum((0.1 * torch.sin(2 * torch.pi * h * TIME) for h in hertz), torch.zeros_like(TIME))[None]


def hiss(level: float) -> Tensor:
    return level * torch.randn(1, len(TIME), generator=torch.Generator().manual_seed(1))


def test_partials_are_heard_that_a_mel_band_hides() -> None:
    chord, other = (hiss(0.001) + tones(*hertz) for hertz in ((2000, 2300, 2600), (2030, 2330, 2570)))
    assert partials_loss(chord, chord, 8192) == 0
    none = hiss(0.001)
    in_mel = mel_loss(other, chord, [(512, 32)]) / mel_loss(none, chord, [(512, 32)])
    by_bins = partials_loss(other, chord, 8192) / partials_loss(none, chord, 8192)
    assert by_bins > 4 * in_mel, "to mel a wrong chord is nearly the right one"


def test_a_comb_costs_where_it_stands_out_and_is_not_wanted() -> None:
    quiet, comb = hiss(0.01), hiss(0.01) + 0.1 * tones(800, 2000, 8000)
    assert comb_loss(quiet, quiet) < 0.05
    assert comb_loss(comb, quiet) > 0.1
    assert comb_loss(comb, comb) < 0.05, "the song has these notes itself"
    assert comb_loss(hiss(0.01) + 0.1 * tones(850, 2050, 8130), quiet) < 0.05, "other notes are no comb"


def test_less_of_a_comb_costs_less() -> None:
    level = torch.tensor(1.0, requires_grad=True)
    comb_loss(hiss(0.01) + level * 0.1 * tones(800, 2000), hiss(0.01)).backward()
    assert level.grad is not None
    assert level.grad > 0


def test_a_lost_fundamental_costs_more_in_its_band_than_elsewhere() -> None:
    notes = (220, 440, 880, 2000)
    chord = hiss(0.001) + tones(*notes)
    lost = [hiss(0.001) + tones(*(hertz for hertz in notes if hertz != gone)) for gone in notes]
    costs = [float(band_loss(made, chord, 4096)) for made in lost]
    assert band_loss(chord, chord, 4096) == 0
    assert min(costs[:3]) > 3 * costs[3], "2 kHz lies above it"
