"""From frames to samples; twin: the codec's own decode of the same frames."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from streamgen.errors import NumericError
from streamgen.stream.pcm_buffer import PcmBuffer

Twins = Callable[[str], Any]


def some_codes(model: Any, frames: int) -> Tensor:
    shape = (model.runtime.config.num_codebooks, frames)
    return torch.randint(model.runtime.config.vocab_size, shape, generator=torch.Generator().manual_seed(4))


@pytest.mark.parametrize("kind", ["mono", "stereo"])
def test_what_is_taken_is_what_the_codec_decodes(twin: Twins, kind: str) -> None:
    model = twin(kind).model
    codes = some_codes(model, 40)
    whole = model.runtime.codec.decode(codes[None], model.runtime.codec.new_state(1))[0]
    pcm = PcmBuffer(model.runtime.codec)
    for start, stop in ((0, 7), (7, 8), (8, 40)):
        PcmBuffer.decode_together([pcm], [codes[:, start:stop]])
    first, second = pcm.take(999), pcm.take(7_001)
    assert (first.start_sample, second.start_sample, pcm.position_samples) == (0, 999, 8_000)
    taken = torch.from_numpy(np.concatenate([first.samples, second.samples], axis=1))
    torch.testing.assert_close(taken, whole[:, :8_000].expand(2, -1), atol=1e-5, rtol=0)


def test_an_audio_prompt_is_decoded_and_left_out(twin: Twins) -> None:
    model = twin("mono").model
    codes = some_codes(model, 40)
    whole = model.runtime.codec.decode(codes[None], model.runtime.codec.new_state(1))[0]
    pcm = PcmBuffer(model.runtime.codec, skip_frames=10)
    PcmBuffer.decode_together([pcm], [codes[:, :6]])
    PcmBuffer.decode_together([pcm], [codes[:, 6:]])
    taken = torch.from_numpy(pcm.take(8_000).samples[:1])
    torch.testing.assert_close(taken, whole[:, 6_400:14_400], atol=1e-5, rtol=0)


def test_it_asks_for_frames_until_the_samples_are_there(twin: Twins) -> None:
    """A codec that looks ahead gives its first samples late, so it asks again."""
    model = twin("mono").model
    codes, pcm = some_codes(model, 40), PcmBuffer(model.runtime.codec)
    while missing := pcm.missing_frames(3_200):
        PcmBuffer.decode_together([pcm], [codes[:, pcm.decoded_frames : pcm.decoded_frames + missing]])
    assert pcm.decoded_frames == 5 + model.runtime.codec.lookahead_frames
    assert pcm.take(3_200).samples.shape == (2, 3_200)


def test_what_is_restored_goes_on_as_before(twin: Twins) -> None:
    model = twin("stereo").model
    codes, pcm = some_codes(model, 40), PcmBuffer(model.runtime.codec, skip_frames=3)
    PcmBuffer.decode_together([pcm], [codes[:, :20]])
    pcm.take(1_000)
    memory = pcm.snapshot()
    runs = []
    for _ in range(2):
        PcmBuffer.decode_together([pcm], [codes[:, pcm.decoded_frames :]])
        runs.append(pcm.take(15_000))
        pcm.restore(memory)
    assert runs[0].start_sample == runs[1].start_sample == 1_000
    assert np.array_equal(runs[0].samples, runs[1].samples)


@pytest.mark.parametrize("kind", ["mono", "stereo"])
def test_buffers_of_unlike_lengths_get_what_each_gets_alone(twin: Twins, kind: str) -> None:
    codec, codes = twin(kind).model.runtime.codec, some_codes(twin(kind).model, 60)
    together, alone = ([PcmBuffer(codec, skip_frames=3 * number) for number in range(4)] for _ in range(2))
    for turn in range(4):
        pieces = [codes[:, 10 * turn : 10 * turn + (5 if turn else 3 + 7 * number)] for number in range(4)]
        decoded = PcmBuffer.decode_together(together, pieces)
        for buffer, piece, pcm in zip(alone, pieces, decoded, strict=True):
            (wanted,) = PcmBuffer.decode_together([buffer], [piece])
            assert isinstance(pcm, Tensor)
            assert isinstance(wanted, Tensor)
            torch.testing.assert_close(pcm, wanted, atol=1e-5, rtol=0)
    for one, other in zip(together, alone, strict=True):
        assert one.decoded_frames == other.decoded_frames
        np.testing.assert_allclose(one.take(500).samples, other.take(500).samples, atol=1e-5)


def test_one_buffers_damaged_sound_is_its_own_fault(twin: Twins) -> None:
    codec, codes = twin("mono").model.runtime.codec, some_codes(twin("mono").model, 30)
    buffers = [PcmBuffer(codec) for _ in range(3)]
    PcmBuffer.decode_together(buffers, [codes[:, :20]] * 3)
    buffers[1]._state.memory.fill_(torch.nan)
    first, second, third = PcmBuffer.decode_together(buffers, [codes[:, 20:25]] * 3)
    assert isinstance(second, NumericError)
    assert isinstance(first, Tensor)
    assert isinstance(third, Tensor)
    torch.testing.assert_close(first, third, atol=1e-5, rtol=0)
