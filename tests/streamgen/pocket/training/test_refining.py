from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import EncodecModel

from streamgen.pocket.training.codec import codes_to_sound, new_codec, sound_to_codes
from streamgen.pocket.training.corpus import Pcm
from streamgen.pocket.training.refining import Batch, DecoderTrainer, Material, RefinePlan, measure, without_dc

pytestmark = pytest.mark.slow

PLAN = RefinePlan(seconds=60.0, batch=2, frames=60, filters=18, learning_rate=1e-3)


@pytest.fixture(scope="module")
def codec() -> Any:
    model: Any = new_codec().eval()
    with torch.no_grad():
        for layer in model.quantizer.layers:
            layer.codebook.embed.normal_()
    model.load_state_dict({name: value.half().float() for name, value in model.state_dict().items()})  # as exported
    return model


@pytest.fixture(scope="module")
def material(codec: EncodecModel, two_songs: list[Pcm], tmp_path_factory: pytest.TempPathFactory) -> Material:
    folder = tmp_path_factory.mktemp("run")
    for name in ("audio", "tokens"):
        (folder / name).mkdir()
    with (folder / "audio" / "0000.npz").open("wb") as file:
        np.savez(file, pcm=np.concatenate(two_songs), lengths=np.array([len(song) for song in two_songs]))
    torch.save([sound_to_codes(codec, song).to(torch.int16) for song in two_songs], folder / "tokens" / "0000.pt")
    return Material(folder / "audio", folder / "tokens", codec, seed=0)


def test_constant_pressure_goes_and_music_stays() -> None:
    time = np.arange(64_000) / 32_000
    music = 8000 * np.sin(2 * np.pi * 110 * time)
    made = without_dc((music + 5000).astype(np.int16)).astype(float)
    assert abs(made[32_000:].mean()) < 5
    assert np.abs(made[32_000:] - music[32_000:]).max() < 0.11 * 8000  # 5 degrees of phase at 110 Hz


def test_batches_are_cut_on_frames_and_count_from_where_the_decoder_hears(material: Material) -> None:
    stream = material.batches(PLAN)
    for batch in (next(stream) for _ in range(20)):
        assert batch.codes.shape == (2, 4, 60)
        assert batch.sound.shape == batch.counts.shape == (2, 60 * 640)
        for codes, sound, counts in zip(batch.codes, batch.sound, batch.counts, strict=True):
            pool = material.songs + material.endings
            found = [
                (begin, song)
                for known, song in pool
                for begin in range(known.shape[1] - 59)
                if np.array_equal(known[:, begin : begin + 60], codes.numpy())
            ]
            wanted = [without_dc(song)[begin * 640 : (begin + 60) * 640] / 32767 for begin, song in found]
            assert any(np.allclose(cut, sound, atol=2e-3) for cut in wanted), "the sound of these codes, without DC"
            assert counts[-1] == 1
            assert counts[0] in (0, 1)


def test_endings_fall_silent(material: Material) -> None:
    assert all((sound[-50 * 640 :] == 0).all() for _, sound in material.endings)
    assert sum(sound.any() for _, sound in material.endings) == 84, "one in eight is silence from the start"


def test_steps_lower_the_losses_keep_kernels_even_and_training_resumes(
    codec: EncodecModel, material: Material, tmp_path: Path
) -> None:
    trainer, stream = DecoderTrainer(tmp_path / "decoder.pt", codec, PLAN), material.batches(PLAN)
    batch = next(stream)
    losses = [trainer.train_step(batch)["mel"] for _ in range(12)]
    assert min(losses[-3:]) < 0.9 * losses[0]
    trainer.save()
    again = DecoderTrainer(tmp_path / "decoder.pt", codec, PLAN)
    assert (again.step, again.seconds) == (12, trainer.seconds)
    for one, two in zip(again.average.parameters(), trainer.average.parameters(), strict=True):
        assert torch.equal(one, two)


def test_the_rate_falls_at_the_end(codec: EncodecModel, tmp_path: Path) -> None:
    trainer, rates = DecoderTrainer(tmp_path / "decoder.pt", codec, PLAN), []
    trainer.step = 1000
    for trainer.seconds in (0.0, 42.0, 51.0, 60.0, 70.0):
        trainer._set_rate()
        rates.append(trainer.optimiser.param_groups[0]["lr"] / PLAN.learning_rate)
    assert rates == pytest.approx([1.0, 1.0, 0.52, 0.02, 0.02])


def test_what_is_kept_has_the_same_codes_and_is_silent_in_silence(
    codec: EncodecModel, material: Material, tmp_path: Path
) -> None:
    trainer = DecoderTrainer(tmp_path / "decoder.pt", codec, PLAN)
    trainer.train_step(next(material.batches(PLAN)))
    kept = trainer.kept_codec()
    _, song = material.songs[0]
    assert torch.equal(sound_to_codes(kept, song), sound_to_codes(codec, song))
    rest = codes_to_sound(kept, sound_to_codes(kept, np.zeros(96_000, np.int16)))[-32_000:]
    assert float(rest.pow(2).mean().sqrt()) < 1e-5
    found = measure(kept, [song])
    assert 0 <= found["lines of 24"] <= 24
    assert all(np.isfinite(value) for value in found.values())


def test_a_loss_keeps_to_its_device(codec: EncodecModel, material: Material, tmp_path: Path) -> None:
    """The meta device stands for a GPU: what is mixed with the CPU's tensors there raises."""
    trainer = DecoderTrainer(tmp_path / "decoder.pt", codec, PLAN)
    trainer.device = torch.device("meta")
    trainer.books, trainer.decoder = trainer.books.to("meta"), trainer.decoder.to("meta")
    losses = trainer.losses(dataclasses.replace(next(material.batches(PLAN))))
    torch.stack(list(losses.values())).sum().backward()
    assert {value.device.type for value in losses.values()} == {"meta"}
    assert isinstance(next(material.batches(PLAN)), Batch)
