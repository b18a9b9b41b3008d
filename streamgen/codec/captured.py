"""Streams side by side: decoded in one call of the layers, which a CUDA device replays as one graph.

    codes of each stream ──┐                                         ┌─► samples of all
                           ├─► a pass, whose shapes are fixed ───────┤
    memory of each stream ─┘   computed, or replayed as a graph      └─► memory of each stream

A pass has room for so many streams (1, 2, 4 … 128) and as many frames of each; what is left over in it is computed, and
nobody reads it. A shape that comes often is kept, on a CUDA device as a graph: some hundred kernels in one launch. What
comes seldom is computed in a pass of its own. The arithmetic is the same in each case, but products of more rows may be
rounded otherwise. So a processor's streams are not decoded here: they get the same bits whoever is beside them.

Rules: knows how streams lie side by side, and which passes are kept; layers and codes are the decoder's. One thread is
here at a time, as the caller sees to. Never run on a GPU yet.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from streamgen.codec.state import CodecState, zeros
from streamgen.graphs import Recorder, bucket, capture_mode

__all__ = ["SideBySide"]

# Takes codes int64 [B, K, n], on the device, and a state that is under way, and returns all samples of the n frames,
# [rows, samples, C]. What it does must depend on no value, or it is not captured as it is.
Decode = Callable[[Tensor, CodecState], Tensor]

_MOST_STREAMS = 128  # in one pass; a power of two
_OFTEN = 3  # times that a shape has come when it is kept: a capture takes as long as many a seldom decode
_MOST_KEPT = 32  # for good: see `streamgen.graphs`


class _Pass:
    """Room for some streams that are under way, and as many frames of each.

    Args:
        decode: see `Decode`.
        state: new, of all of them.
        codes: of one stream, int64 [B, K, n]; their shape is what counts.
        one: its state.
        record: see `Recorder`; None for a pass that comes once.
    """

    def __init__(
        self, decode: Decode, state: CodecState, codes: Tensor, one: CodecState, record: Recorder | None = None
    ) -> None:
        self._decode, self._state = decode, state
        for own, its in zip(state.layers, one.layers, strict=True):
            own.progress = its.progress
        streams, like = state.batch // one.batch, one.memory
        self._codes = zeros(streams, *codes.shape, like=like.new_empty(0, dtype=torch.int64))
        self._memories = zeros(streams, like.numel(), like=like)
        self._audio = zeros(streams, 0, like=like)
        self._inside = [piece for layer in state.layers for piece in layer.by_stream(streams)]
        pieces = self._memories.split([piece[0].numel() for piece in self._inside], dim=1)
        self._outside = [piece.view(own.shape) for piece, own in zip(pieces, self._inside, strict=True)]
        self._replay: Callable[[], None] | None = None
        if record is not None:
            with capture_mode():
                self._replay = record(self._compute)

    def __call__(self, codes: Sequence[Tensor], states: Sequence[CodecState]) -> Tensor:
        """Decode: [rows of these streams, samples, C]. The states are updated in place."""
        self._codes[: len(codes)].copy_(torch.stack(list(codes)))
        memories, own = [state.memory for state in states], list(self._memories[: len(states)].unbind())
        torch._foreach_copy_(own, memories)
        with capture_mode():
            (self._replay or self._compute)()
        torch._foreach_copy_(memories, own)
        return self._audio[: len(states)].flatten(0, 1).clone()

    def _compute(self) -> None:
        torch._foreach_copy_(self._inside, self._outside)
        audio = self._decode(self._codes.flatten(0, 1), self._state).unflatten(0, (len(self._codes), -1))
        if self._audio.shape != audio.shape:  # the first time, which is not captured
            self._audio = zeros(*audio.shape, like=audio)
        self._audio.copy_(audio)
        torch._foreach_copy_(self._outside, self._inside)


class SideBySide:
    """Decodes the next frames of some streams that are under way, of as many frames.

    Args:
        decode: see `Decode`.
        new_state: makes the state of so many rows of codes.
        most_frames: of all streams together, in one pass: memory for what lies between the layers grows with them.
        record: see `Recorder`; for passes that come often.
    """

    def __init__(
        self, decode: Decode, new_state: Callable[[int], CodecState], most_frames: int, record: Recorder
    ) -> None:
        self._decode, self._new_state, self._most_frames, self._record = decode, new_state, most_frames, record
        self._kept: dict[tuple[int, ...], _Pass] = {}
        self._seen: Counter[tuple[int, ...]] = Counter()

    def __call__(self, codes: Sequence[Tensor], states: Sequence[CodecState]) -> Tensor:
        """Decode.

        Args:
            codes: int64 [B, K, n] of each stream, on one device, any.
            states: theirs, each another; updated in place.

        Returns:
            [rows of all streams, samples, C], in their order.
        """
        room = max(self._most_frames // (codes[0].shape[0] * codes[0].shape[2]), 1)
        most = min(1 << room.bit_length() - 1, _MOST_STREAMS)
        pieces = [slice(at, at + most) for at in range(0, len(states), most)]
        rows = [self._pass_for(codes[piece], states[piece])(codes[piece], states[piece]) for piece in pieces]
        return rows[0] if len(rows) == 1 else torch.cat(rows)

    def _pass_for(self, codes: Sequence[Tensor], states: Sequence[CodecState]) -> _Pass:
        one, key = states[0], (bucket(len(states)), *codes[0].shape)
        if key not in self._kept and len(self._kept) < _MOST_KEPT:
            self._seen[key] += 1
            if self._seen[key] == _OFTEN:
                state = self._new_state(key[0] * one.batch)
                self._kept[key] = _Pass(self._decode, state, codes[0], one, self._record)
        if key in self._kept:
            return self._kept[key]
        return _Pass(self._decode, self._new_state(len(states) * one.batch), codes[0], one)
