"""A state's copy is deep, and its size is the configuration's alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from transformers import EncodecModel

from streamgen.codec import CodecState, StreamingDecoder
from streamgen.codec.state import PaddingState, RecurrentState, UpsampleState, zeros


def tensors(state: CodecState) -> Iterator[Tensor]:
    for layer in state.layers:
        if isinstance(layer, PaddingState):
            yield layer.context
        elif isinstance(layer, UpsampleState):
            yield layer.padding.context
        else:
            assert isinstance(layer, RecurrentState)
            yield from (layer.hidden, layer.cell)


def copy_of(decoder: StreamingDecoder, state: CodecState) -> CodecState:
    copy = decoder.new_state(state.batch)
    copy.copy_in(state.copy_out())
    return copy


def test_a_copy_shares_nothing_and_equals(codec: EncodecModel, lab: Any) -> None:
    decoder = StreamingDecoder(codec)
    state = decoder.new_state(2)
    decoder.decode(lab.codes(2, 4, 12), state)
    copy = copy_of(decoder, state)
    before = [t.clone() for t in tensors(copy)]
    assert all(torch.equal(a, b) for a, b in zip(tensors(state), tensors(copy), strict=True))
    decoder.decode(lab.codes(2, 4, 3, seed=1), state)
    decoder.finish(state)
    assert all(torch.equal(a, b) for a, b in zip(tensors(copy), before, strict=True))
    assert (copy.frames_in, copy.finished, copy.batch) == (12, False, 2)
    assert copy.samples_out < state.samples_out == 15 * decoder.hop_samples


def test_tensors_stay_where_they_are_and_as_large_as_they_were(codec: EncodecModel, lab: Any) -> None:
    decoder = StreamingDecoder(codec)
    state = decoder.new_state(1)
    before = [(t.data_ptr(), t.shape, t.untyped_storage().nbytes()) for t in tensors(state)]
    for frames in (1, 40, 7, 100, 1):
        decoder.decode(lab.codes(1, 4, frames), state)
    assert [(t.data_ptr(), t.shape, t.untyped_storage().nbytes()) for t in tensors(state)] == before


def test_zeros_may_be_written_outside_the_inference_mode_they_were_made_in() -> None:
    with torch.inference_mode():
        made = zeros(2, 3, like=torch.empty(0))
    made.add_(1)
    assert made.sum() == 6


def test_what_streams_side_by_side_hold_can_be_told_apart(codec: EncodecModel, lab: Any) -> None:
    """Filled in by stream, and read row by row: each row is its stream's, in the order of the stream's own memory."""
    decoder = StreamingDecoder(codec, audio_channels=2)
    alone, beside = [decoder.new_state(2) for _ in range(3)], decoder.new_state(6)
    for number, one in enumerate(alone):
        one.memory.copy_(torch.arange(one.memory.numel()) + 0.25 * number)
    for layer, *others in zip(beside.layers, *(one.layers for one in alone), strict=True):
        for piece, *theirs in zip(layer.by_stream(3), *(other.by_stream(1) for other in others), strict=True):
            piece.copy_(torch.cat(theirs))
        batched = 1 if isinstance(layer, RecurrentState) else 0
        for tensor, *parts in zip(layer.tensors, *(other.tensors for other in others), strict=True):
            assert torch.equal(tensor, torch.cat(parts, batched))
    for one in alone:
        flat = [piece.flatten() for layer in one.layers for piece in layer.by_stream(1)]
        assert torch.equal(torch.cat(flat), one.memory)
