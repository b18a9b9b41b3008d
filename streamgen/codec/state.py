"""The memory of one codec stream: what the layers carry from chunk to chunk.

Rules: plain data, a dataclass per kind of layer, composed into CodecState. Sizes depend on the configuration and the
batch, never on how long the stream has run. Tensors are allocated once and written in place. No arithmetic here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

__all__ = ["CodecCopy", "CodecState", "LayerState", "RecurrentState", "UpsampleState", "PaddingState", "zeros"]


def zeros(*shape: int, like: Tensor) -> Tensor:
    """Allocate zeros of `like`'s device and dtype that may be written in and out of torch.inference_mode."""
    with torch.inference_mode(False):
        return torch.zeros(shape, device=like.device, dtype=like.dtype)


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

    def lie_in(self, memory: Sequence[Tensor]) -> None:
        """Move to other memory, a flat piece for each tensor."""
        self.context = _moved(self.context, memory[0])

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """What it holds."""
        return (self.context,)

    def by_stream(self, streams: int) -> tuple[Tensor, ...]:
        """What it holds of each of some streams side by side, [streams, …]."""
        return (self.context.view(streams, self.context.numel() // streams),)

    @property
    def progress(self) -> tuple[int, ...]:
        """How far it has come."""
        return self.held, int(self.started)

    @progress.setter
    def progress(self, progress: tuple[int, ...]) -> None:
        self.held, self.started = progress[0], bool(progress[1])


@dataclass
class UpsampleState:
    """What a transposed convolution remembers.

    Attributes:
        padding: its newest inputs.
        skip: samples of its raw output that are still to be trimmed from the start.
    """

    padding: PaddingState
    skip: int

    def lie_in(self, memory: Sequence[Tensor]) -> None:
        """Move to other memory, a flat piece for each tensor."""
        self.padding.lie_in(memory)

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """What it holds."""
        return self.padding.tensors

    def by_stream(self, streams: int) -> tuple[Tensor, ...]:
        """What it holds of each of some streams side by side, [streams, …]."""
        return self.padding.by_stream(streams)

    @property
    def progress(self) -> tuple[int, ...]:
        """How far it has come."""
        return (*self.padding.progress, self.skip)

    @progress.setter
    def progress(self, progress: tuple[int, ...]) -> None:
        self.padding.progress, self.skip = progress[:-1], progress[-1]


@dataclass
class RecurrentState:
    """What an LSTM remembers: hidden and cell, both [layers, B, H]."""

    hidden: Tensor
    cell: Tensor
    progress: tuple[int, ...] = ()

    def lie_in(self, memory: Sequence[Tensor]) -> None:
        """Move to other memory, a flat piece for each tensor."""
        self.hidden, self.cell = _moved(self.hidden, memory[0]), _moved(self.cell, memory[1])

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """What it holds."""
        return self.hidden, self.cell

    def by_stream(self, streams: int) -> tuple[Tensor, ...]:
        """What it holds of each of some streams side by side, [streams, …]: for each layer its rows."""
        return tuple(
            tensor.view(len(tensor), streams, tensor[0].numel() // streams).transpose(0, 1) for tensor in self.tensors
        )


LayerState = PaddingState | UpsampleState | RecurrentState


def _moved(tensor: Tensor, memory: Tensor) -> Tensor:
    memory.copy_(tensor.flatten())
    return memory.view(tensor.shape)


@dataclass(frozen=True)
class CodecCopy:
    """What a state held at one moment: its memory, cloned, and how far its layers and it had come."""

    memory: Tensor
    progress: tuple[tuple[int, ...], ...]
    frames_in: int
    samples_out: int
    finished: bool


@dataclass
class CodecState:
    """Everything a decode carries from chunk to chunk. All its layers' tensors lie in one piece, one after the other.

    Attributes:
        layers: one state for each layer of the decoder, in order.
        batch: B of the codes.
        frames_in: frames given so far.
        samples_out: samples returned so far, per channel.
        finished: True after `finish`; such a state takes no more codes.
        memory: the piece, flat.
    """

    layers: list[LayerState]
    batch: int
    frames_in: int = 0
    samples_out: int = 0
    finished: bool = False
    memory: Tensor = field(init=False)

    def __post_init__(self) -> None:
        """Lay the layers' tensors together."""
        sizes = [[tensor.numel() for tensor in layer.tensors] for layer in self.layers]
        flat = [size for layer in sizes for size in layer]
        like = next((tensor for layer in self.layers for tensor in layer.tensors), torch.empty(0))
        self.memory = zeros(sum(flat), like=like)
        with torch.inference_mode(False), torch.no_grad():
            pieces = iter(self.memory.split(flat)) if flat else iter(())
            for layer, own in zip(self.layers, sizes, strict=True):
                layer.lie_in([next(pieces) for _ in own])

    def copy_out(self) -> CodecCopy:
        """Return a copy. Going on from it replays the same chunks bit-exactly on the same machine."""
        with torch.inference_mode(False), torch.no_grad():
            memory = self.memory.clone()
        progress = tuple(layer.progress for layer in self.layers)
        return CodecCopy(memory, progress, self.frames_in, self.samples_out, self.finished)

    @torch.no_grad()
    def copy_in(self, copy: CodecCopy) -> None:
        """Go back to a copy of this state, in place; the copy stays as it is."""
        self.memory.copy_(copy.memory)
        for layer, progress in zip(self.layers, copy.progress, strict=True):
            layer.progress = progress
        self.frames_in, self.samples_out, self.finished = copy.frames_in, copy.samples_out, copy.finished
