"""The memory of one codec stream: what the layers carry from chunk to chunk.

Rules: plain data, a dataclass per kind of layer, composed into CodecState. Sizes depend on the configuration and the
batch, never on how long the stream has run. Tensors are allocated once and written in place. No arithmetic here.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["CodecState", "LayerState", "RecurrentState", "UpsampleState", "PaddingState", "zeros"]


def zeros(*shape: int, like: Tensor) -> Tensor:
    """Allocate zeros of `like`'s device and dtype that may be written in and out of torch.inference_mode."""
    with torch.inference_mode(False):
        return torch.zeros(shape, device=like.device, dtype=like.dtype)


def _copy(tensor: Tensor) -> Tensor:
    with torch.inference_mode(False), torch.no_grad():
        return tensor.clone()


@dataclass
class PaddingState:
    """What a convolution remembers.

    Attributes:
        context: [B, left + right, C], the newest inputs, padding included, oldest first. Before the start only its
            last `held` steps mean anything.
        held: inputs that wait for the start, 0 after it.
        started: True once the left padding is known: reflect padding mirrors samples that come first.
    """

    context: Tensor
    held: int = 0
    started: bool = False

    def clone(self) -> PaddingState:
        """Copy deeply."""
        return PaddingState(_copy(self.context), self.held, self.started)

    def restore(self, saved: PaddingState) -> None:
        """Take over what a clone holds, in place."""
        self.context.copy_(saved.context)
        self.held, self.started = saved.held, saved.started


@dataclass
class UpsampleState:
    """What a transposed convolution remembers.

    Attributes:
        padding: its newest inputs.
        skip: samples of its raw output that are still to be trimmed from the start.
    """

    padding: PaddingState
    skip: int

    def clone(self) -> UpsampleState:
        """Copy deeply."""
        return UpsampleState(self.padding.clone(), self.skip)

    def restore(self, saved: UpsampleState) -> None:
        """Take over what a clone holds, in place."""
        self.padding.restore(saved.padding)
        self.skip = saved.skip


@dataclass
class RecurrentState:
    """What an LSTM remembers: hidden and cell, both [layers, B, H]."""

    hidden: Tensor
    cell: Tensor

    def clone(self) -> RecurrentState:
        """Copy deeply."""
        return RecurrentState(_copy(self.hidden), _copy(self.cell))

    def restore(self, saved: RecurrentState) -> None:
        """Take over what a clone holds, in place."""
        self.hidden.copy_(saved.hidden)
        self.cell.copy_(saved.cell)


LayerState = PaddingState | UpsampleState | RecurrentState


@dataclass
class CodecState:
    """Everything a decode carries from chunk to chunk.

    Attributes:
        layers: one state for each layer of the decoder, in order.
        batch: B of the codes.
        frames_in: frames given so far.
        samples_out: samples returned so far, per channel.
        finished: True after `finish`; such a state takes no more codes.
    """

    layers: list[LayerState]
    batch: int
    frames_in: int = 0
    samples_out: int = 0
    finished: bool = False

    def clone(self) -> CodecState:
        """Copy deeply: a snapshot. Going on from it replays the same chunks bit-exactly on the same machine."""
        layers: list[LayerState] = [layer.clone() for layer in self.layers]
        return CodecState(layers, self.batch, self.frames_in, self.samples_out, self.finished)

    @torch.no_grad()
    def restore(self, saved: CodecState) -> None:
        """Go back to a clone of this state, in place; the clone stays as it is."""
        for layer, clone in zip(self.layers, saved.layers, strict=True):
            layer.restore(clone)  # type: ignore[arg-type]  # a clone has the same kinds of layers
        self.frames_in, self.samples_out, self.finished = saved.frames_in, saved.samples_out, saved.finished
