"""Capturing, on an imitation of torch's: what only a GPU can show is in the tests that are marked `gpu`."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import MagicMock, create_autospec

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from streamgen import Model, graphs
from streamgen.checkpoint import load_checkpoint
from streamgen.codec import StreamingDecoder
from streamgen.lm.captured import CapturedDecoder
from streamgen.testing import tiny_checkpoint


def test_a_graph_is_captured_after_warming_up_beside_and_never_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """With torch.cuda's names as this torch has them, and no device behind."""
    told: list[Any] = []

    @contextmanager
    def within(*what: Any) -> Iterator[None]:
        told.append(("in", *what))
        assert graphs._capturing.locked() == ("capture" in what), "one at a time, of all models"
        yield
        told.append(("out", *what))

    side, main, pool = (create_autospec(torch.cuda.Stream, instance=True) for _ in range(3))
    side.cuda_stream = 7
    graph = create_autospec(torch.cuda.CUDAGraph)
    capture = create_autospec(torch.cuda.graph, side_effect=lambda *_, **how: within("capture", *how.values()))
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: side)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", graph)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: pool)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: main)
    monkeypatch.setattr(torch.cuda, "device", within)
    monkeypatch.setattr(torch.cuda, "stream", within)
    monkeypatch.setattr(torch.cuda, "graph", capture)
    device = torch.device("cuda:1")
    record = graphs.CudaGraphs(device)
    replay = record(lambda: told.append("computed"))
    assert told == [
        ("in", device), ("in", side), *["computed"] * graphs._WARM_UPS, ("in", "capture", "thread_local"),
        "computed", ("out", "capture", "thread_local"), ("out", side), ("out", device),
    ]  # fmt: skip
    assert capture.call_args.args == (graph.return_value, pool, side)
    side.wait_stream.assert_called_once_with(main)
    main.wait_stream.assert_called_once_with(side)
    replay()
    graph.return_value.replay.assert_called_once_with()


def test_where_nothing_is_captured_it_computes_and_says_so_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    main, graph = MagicMock(), MagicMock()
    for name in ("Stream", "CUDAGraph", "graph_pool_handle", "device", "stream"):
        monkeypatch.setattr(torch.cuda, name, graph if name == "CUDAGraph" else MagicMock())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: main)
    monkeypatch.setattr(torch.cuda, "graph", MagicMock(side_effect=RuntimeError("out of\n memory")))
    record, computed = graphs.CudaGraphs(torch.device("cuda:0")), MagicMock()
    assert record(computed) is computed
    assert record(computed) is computed
    assert computed.call_count == graphs._WARM_UPS
    assert caplog.messages == ["CUDA graphs: no more is captured on cuda:0, it plays on without: out of memory"]
    assert len(record._graphs) == 1, "a failed one is kept as well"
    main.wait_stream.assert_called_once()


def test_recorders_that_live_have_streams_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a few that torch gives in turns: what goes with one's graphs must not be another's."""
    given = itertools.cycle(range(4))
    monkeypatch.setattr(graphs, "_living", weakref.WeakSet())
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: MagicMock(cuda_stream=next(given), device=device))
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", MagicMock())
    first, other = torch.device("cuda:0"), torch.device("cuda:1")
    kept = [graphs.CudaGraphs(first)]
    for _ in range(10):
        passing = graphs.CudaGraphs(first)
        assert passing._stream.cuda_stream != kept[0]._stream.cuda_stream
    kept += [passing, graphs.CudaGraphs(first), graphs.CudaGraphs(first)]
    assert sorted(one._stream.cuda_stream for one in kept) == [0, 1, 2, 3]
    assert graphs.CudaGraphs(other)._stream.cuda_stream in range(4)
    assert graphs.CudaGraphs(first)._stream.cuda_stream in range(4), "there are no more"


def test_a_cpu_captures_nothing() -> None:
    assert graphs.recorder_of(torch.device("cpu")) is None


class Asked(TorchDispatchMode):
    """Notes what is computed that a device would have to answer for, or be sent: none of that can be captured."""

    NAMES = ("_local_scalar_dense", "item", "nonzero", "is_nonzero", "masked_select", "repeat_interleave", "unique")

    def __init__(self) -> None:
        super().__init__()
        self.noted: list[str] = []
        self.calls = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.calls += 1
        if any(f".{name}." in f".{function}" for name in self.NAMES):
            self.noted.append(str(function))
        indices = args[1] if len(args) > 1 and isinstance(args[1], list | tuple) else ()
        if any(isinstance(index, torch.Tensor) and index.dtype == torch.bool for index in indices):
            self.noted.append(f"{function} by a mask")
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("kind", ["mono", "stereo", "melody", "causal", "style"])
def test_what_is_captured_asks_the_device_for_no_number(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Passes of the decoder and of the codec, of streams whose rows rest in turns."""
    monkeypatch.setenv("STREAMGEN_KERNELS", "torch")
    asked, checkpoint = Asked(), load_checkpoint(str(tiny_checkpoint(kind)))

    def record(compute: Callable[[], None]) -> Callable[[], None]:
        compute()
        with asked:
            compute()
        return compute

    assert checkpoint.codec is not None
    model = Model.from_checkpoint(checkpoint, device="cpu", precision="fp32")
    runtime, channels = model.runtime, checkpoint.decoder.audio_channels
    runtime.engine.decoder = CapturedDecoder(runtime.engine.decoder, record)  # type: ignore[arg-type]
    runtime.codec = StreamingDecoder(checkpoint.codec, audio_channels=channels, record=record)
    streams = [
        model.open_stream(prompt, seed=1, guidance_interval=1 + at, guidance_scale=3.0, guard=False, audition=1)
        for at, prompt in enumerate(("piano", None))
    ]
    for _ in range(5):
        model.read_together(dict.fromkeys(streams, 3_200))
    assert asked.calls > 100
    assert not asked.noted
