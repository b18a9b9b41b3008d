"""Computations on memory that stays where it is, done again and again: on a CUDA device as a graph, in one launch.

Rules: knows no layer. Never run on a GPU yet.
Source: CUDA Graphs in https://docs.pytorch.org/docs/stable/notes/cuda.html; what the graphs of one stream share:
https://github.com/pytorch/pytorch/issues/193402.
"""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
from torch import Tensor

__all__ = ["CudaGraphs", "Recorder", "bucket", "capture_mode", "recorder_of", "sent"]

_log = logging.getLogger("streamgen")

# Takes a computation on tensors that stay where they are; returns what does it again.
Recorder = Callable[[Callable[[], None]], Callable[[], None]]

# Of the process: torch has so many streams, in turns, and gives up what graphs of a stream still use with any other one
# of that stream (issue 193402).
_STREAMS = 32
_living: weakref.WeakSet[CudaGraphs] = weakref.WeakSet()
# Of the process, too: before a capture torch gives memory back, which it refuses while another one runs.
_capturing = threading.Lock()
_WARM_UPS = 3  # before a capture: libraries choose their kernels, and take memory, in the first calls


def capture_mode() -> AbstractContextManager[None]:
    """Set the mode of captures and replays.

    All that a process captures: what the first was captured in stays torch's mode, at least before
    https://github.com/pytorch/pytorch/pull/172706.
    """
    return torch.inference_mode()


def bucket(count: int) -> int:
    """Return for how many a shape is made that so many fit into: the next power of two."""
    return 1 << max(count - 1, 0).bit_length()


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy what lies in the CPU's memory to a device, behind what it still computes, without waiting for that."""
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


class CudaGraphs:
    """Captures computations as graphs of a CUDA device, none of them while another runs.

    They share a memory pool, since none needs what another left in it: what goes in and comes out lies outside. None is
    ever given back: with a graph torch gives up memory that others captured on its stream still use (issue 193402).

    Args:
        device: with its number.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        taken = {one._stream.cuda_stream for one in _living if one._device == device}
        streams = [torch.cuda.Stream(device)]
        while streams[-1].cuda_stream in taken and len(streams) < _STREAMS:
            streams.append(torch.cuda.Stream(device))
        self._stream: torch.cuda.Stream = streams[-1]
        self._pool = torch.cuda.graph_pool_handle()
        self._graphs: list[torch.cuda.CUDAGraph] = []  # those that failed, too, for good
        self._failed = False
        _living.add(self)

    def __call__(self, compute: Callable[[], None]) -> Callable[[], None]:
        """Compute a few times, then capture. Where the device refuses, that is told once; from then on all is computed.

        Returns:
            What does it again.
        """
        if not self._failed:
            try:
                return self._captured(compute).replay
            except RuntimeError as error:  # out of memory, too
                self._failed, why = True, " ".join(str(error).split())
                _log.warning("CUDA graphs: no more is captured on %s, it plays on without: %s", self._device, why)
        return compute

    def _captured(self, compute: Callable[[], None]) -> torch.cuda.CUDAGraph:
        graph = torch.cuda.CUDAGraph()
        self._graphs.append(graph)
        with torch.cuda.device(self._device):
            before = torch.cuda.current_stream()
            self._stream.wait_stream(before)
            try:
                with torch.cuda.stream(self._stream):  # around the capture, too: a failed one leaves its stream set
                    for _ in range(_WARM_UPS):
                        compute()
                    # other threads may compute meanwhile, as a text does
                    with (
                        _capturing,
                        torch.cuda.graph(graph, self._pool, self._stream, capture_error_mode="thread_local"),
                    ):
                        compute()
            finally:  # else memory that is given up after a failure would be used again while it is written
                before.wait_stream(self._stream)
        return graph


def recorder_of(device: torch.device) -> Recorder | None:
    """Return what captures on a device; None where nothing does."""
    if device.type != "cuda":
        return None
    number = torch.cuda.current_device() if device.index is None else device.index
    return CudaGraphs(torch.device("cuda", number))
