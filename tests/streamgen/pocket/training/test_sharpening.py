from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import EncodecModel

from streamgen.pocket.training.__main__ import main
from streamgen.pocket.training.codec import codes_to_sound, new_codec, sound_to_codes
from streamgen.pocket.training.corpus import Pcm
from streamgen.pocket.training.export import graft
from streamgen.pocket.training.refining import without_dc
from streamgen.pocket.training.sharpening import SHARP_FILE, CodecSharpener, SharpenPlan, Sounds, Speaker
from streamgen.pocket.training.synth import SOUNDFONT
from streamgen.pocket.training.widening import widened

pytestmark = pytest.mark.slow

PLAN = SharpenPlan(seconds=60.0, batch=2, frames=60, encoder_rate=1e-3, decoder_rate=1e-3)


@pytest.fixture(scope="module")
def codec() -> EncodecModel:
    """Of 18 filters, of which the encoder uses 16; as exported."""
    model: Any = new_codec().eval()
    with torch.no_grad():
        for layer in model.quantizer.layers:
            layer.codebook.embed.normal_()
    wide = widened(model, 18)
    wide.load_state_dict({name: value.half().float() for name, value in wide.state_dict().items()})
    return wide


@pytest.fixture(scope="module")
def corpus(two_songs: list[Pcm], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("audio")
    with (folder / "0000.npz").open("wb") as file:
        np.savez(file, pcm=np.concatenate(two_songs), lengths=np.array([len(song) for song in two_songs]))
    return folder


def test_segments_are_cut_on_frames_and_count_from_where_the_decoder_hears(corpus: Path) -> None:
    sounds = Sounds(corpus, seed=0)
    pool = sounds.songs + sounds.endings
    stream = sounds.batches(PLAN)
    for batch in (next(stream) for _ in range(10)):
        assert batch.heard.shape == batch.wanted.shape == batch.counts.shape == (2, 60 * 640)
        for heard, wanted, counts in zip(batch.heard, batch.wanted, batch.counts, strict=True):
            places = [
                (song, begin * 640)
                for song in pool
                for begin in range(len(song) // 640 - 59)
                if np.allclose(song[begin * 640 : (begin + 60) * 640] / 32767, heard, atol=1e-6)
            ]
            assert any(
                np.allclose(without_dc(song)[begin : begin + 60 * 640] / 32767, wanted, atol=2e-3)
                for song, begin in places
            ), "the sound of this segment, without DC"
            assert counts[-1] == 1
            assert counts[0] in (0, 1)


def test_before_training_all_codes_stay_and_new_units_hear(codec: Any) -> None:
    audio = torch.randn(1, 20 * 640)
    speaker = Speaker(codec)
    with torch.no_grad():
        wanted, found = codec.encoder(audio[:, None]), speaker(audio)
    torch.testing.assert_close(found, wanted, atol=1e-4 * float(wanted.std()), rtol=1e-4)
    heard: Any = speaker.rest[0]
    assert (heard.own.weight.flatten(1).abs().amax(1) > 0).all()
    assert heard.own.weight.shape[1] == 16 * 8, "of the front only what sounds"


def test_steps_lower_the_losses_and_training_resumes(codec: EncodecModel, corpus: Path, tmp_path: Path) -> None:
    trainer, stream = CodecSharpener(tmp_path / "sharp.pt", codec, PLAN), Sounds(corpus, 0).batches(PLAN)
    batch = next(stream)
    trainer.count_codes([batch])
    front = [weight.clone() for weight in trainer.speaker.front.parameters()]
    losses = [trainer.train_step(batch) for _ in range(14)]
    assert min(loss["mel"] for loss in losses[-3:]) < 0.9 * losses[0]["mel"]
    assert all(torch.equal(one, two) for one, two in zip(front, trainer.speaker.front.parameters(), strict=True))
    trainer.save()
    again = CodecSharpener(tmp_path / "sharp.pt", codec, PLAN)
    assert (again.step, again.seconds) == (14, trainer.seconds)
    for one, two in zip(again.average.parameters(), trainer.average.parameters(), strict=True):
        assert torch.equal(one, two)
    assert torch.equal(again.quantizer.books, trainer.quantizer.books)


def test_rates_fall_at_the_end_and_codebooks_settle(codec: EncodecModel, tmp_path: Path) -> None:
    trainer, rates, follow = CodecSharpener(tmp_path / "sharp.pt", codec, PLAN), [], []
    trainer.step = 1000
    for trainer.seconds in (0.0, 33.0, 46.5, 60.0, 70.0):
        trainer._set_rates()
        rates.append(trainer.optimiser.param_groups[0]["lr"] / PLAN.encoder_rate)
        follow.append(1 - trainer.quantizer.decay)
    assert rates == pytest.approx([1.0, 1.0, 0.52, 0.02, 0.02])
    assert follow == pytest.approx([0.03, 0.03, 0.0156, 0.004, 0.004])


def test_codes_are_counted_before_codebooks_follow(codec: EncodecModel, corpus: Path, tmp_path: Path) -> None:
    trainer, stream = CodecSharpener(tmp_path / "sharp.pt", codec, PLAN), Sounds(corpus, 0).batches(PLAN)
    trainer.count_codes([next(stream) for _ in range(3)])
    quantizer = trainer.quantizer
    assert quantizer.counts.sum(1).tolist() == pytest.approx([2 * 60 + 0.1 * 1024] * 4, rel=1e-4), "codes a step"
    means = quantizer.sums / quantizer.counts[..., None]
    unused = quantizer.counts < 0.1001
    torch.testing.assert_close(means[unused], quantizer.books[unused], atol=1e-5, rtol=1e-4)
    assert not torch.allclose(means[~unused], quantizer.books[~unused], atol=1e-3)


def test_what_is_kept_says_what_was_learned_and_is_silent_in_silence(
    codec: EncodecModel, corpus: Path, two_songs: list[Pcm], tmp_path: Path
) -> None:
    trainer, stream = CodecSharpener(tmp_path / "sharp.pt", codec, PLAN), Sounds(corpus, 0).batches(PLAN)
    untrained: Any = trainer.kept_codec()
    assert (sound_to_codes(untrained, two_songs[0]) == sound_to_codes(codec, two_songs[0])).float().mean() > 0.9
    for _ in range(3):
        trainer.train_step(next(stream))
    kept: Any = trainer.kept_codec()
    audio = torch.from_numpy(two_songs[0].astype(np.float32) / 32767)[None]
    average: Any = trainer.average
    with torch.no_grad():
        wanted = average[0](audio)
        assert (kept.encoder(audio[:, None]) - wanted).abs().max() < 0.02 * wanted.std(), "in float16"
        assert (untrained.encoder(audio[:, None]) - wanted).abs().max() > 0.1 * wanted.std()
    rest = codes_to_sound(kept, sound_to_codes(kept, np.zeros(96_000, np.int16)))[-32_000:]
    assert float(rest.pow(2).mean().sqrt()) < 1e-5


def test_a_loss_keeps_to_its_device(codec: EncodecModel, corpus: Path, tmp_path: Path) -> None:
    """The meta device stands for a GPU: what is mixed with the CPU's tensors there raises."""
    trainer = CodecSharpener(tmp_path / "sharp.pt", codec, PLAN)
    trainer.device = torch.device("meta")
    trainer.nets.to("meta")
    trainer.quantizer.to("meta")
    trainer.quantizer._follow = lambda *_: None  # type: ignore[method-assign] # how many codes are dead is data
    losses = trainer.losses(next(Sounds(corpus, 0).batches(PLAN)))
    torch.stack(list(losses.values())).sum().backward()
    assert {value.device.type for value in losses.values()} == {"meta"}


@pytest.mark.skipif(not Path(SOUNDFONT).exists(), reason="no soundfont on this machine")
def test_the_stage_goes_on_from_a_checkpoint_and_tokens_are_its_codec_s(exported: Path, tmp_path: Path) -> None:
    wide = widened(new_codec().eval(), 18)
    graft(exported, wide, tmp_path / "start")
    run = ["--smoke", "--run-dir", str(tmp_path / "run"), "--start", str(tmp_path / "start")]
    main(["render", *run])
    with pytest.raises(SystemExit, match="needs --start"):
        main(["sharpen", *run[:3]])
    main(["sharpen", *run])
    assert (tmp_path / "run" / SHARP_FILE).exists()
    assert (tmp_path / "run" / "sharpen.svg").exists()
    main(["tokenise", *run])
    frozen = torch.load(tmp_path / "run" / "codec_frozen.pt", weights_only=True)
    assert len(frozen["encoder.layers.0.conv.bias"]) == 18
    with pytest.raises(SystemExit, match="another --run-dir"):
        main(["sharpen", *run])
