from __future__ import annotations

import torch

from streamgen.pocket.training.mel import log_mel, mel_loss, waveform_loss


def test_a_full_scale_sine_is_near_zero_decibels_and_silence_the_floor() -> None:
    sine = torch.sin(torch.arange(32000) * 2 * torch.pi * 1000 / 32000)[None]
    assert abs(log_mel(sine)[0, :, 20].max()) < 0.2
    assert (log_mel(torch.zeros(1, 32000)) == -5).all()


def test_losses_are_zero_for_the_same_sound_and_two_for_silence() -> None:
    noise = torch.randn(2, 8000)
    assert mel_loss(noise, noise, [(512, 32)]) == 0
    torch.testing.assert_close(waveform_loss(torch.zeros_like(noise), noise), torch.tensor(2.0))
