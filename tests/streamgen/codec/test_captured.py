"""Streams side by side, in passes that are kept and in others. The slow twin: each stream alone, by `decode`.

A recorder that computes stands for CUDA's graphs, of which only the test marked `gpu` knows anything.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import EncodecModel

from streamgen import graphs
from streamgen.codec import CodecState, StreamingDecoder, captured, decoder, kernels
from streamgen.errors import SessionClosed

TOLERANCE = 1e-5  # of the peak, if that is over 1; torch rounds products of more rows otherwise


class Recorder:
    """Computes again what a GPU replays, after computing it as often as a capture does."""

    def __init__(self) -> None:
        self.recorded = self.replayed = 0

    def __call__(self, compute: Callable[[], None]) -> Callable[[], None]:
        for _ in range(graphs._WARM_UPS + 1):
            compute()
        self.recorded += 1

        def replay() -> None:
            self.replayed += 1
            compute()

        return replay


def alone(of: StreamingDecoder, codes: Sequence[Tensor]) -> list[Tensor]:
    """Decode each stream by itself, to its end."""
    states = [of.new_state(len(one)) for one in codes]
    return [torch.cat((of.decode(one, state), of.finish(state)), 2) for one, state in zip(codes, states, strict=True)]


def together(of: StreamingDecoder, codes: Sequence[Tensor], seed: int = 0) -> list[Tensor]:
    """Decode them together, 1 to 5 frames a turn: they begin one after another, rest now and then, and end unlike."""
    rng, turn = random.Random(seed), 0
    states, got = [of.new_state(len(one)) for one in codes], [[] for _ in codes]
    while any(state.frames_in < one.shape[2] for state, one in zip(states, codes, strict=True)):
        frames, turn = rng.randint(1, 5), turn + 1
        playing = [n for n, state in enumerate(states) if n < turn and state.frames_in < codes[n].shape[2]]
        playing = rng.sample(playing, max(1, round(0.8 * len(playing))))
        pieces = [codes[n][..., states[n].frames_in : states[n].frames_in + frames] for n in playing]
        for n, pcm in zip(playing, of.decode_together(pieces, [states[n] for n in playing]), strict=True):
            got[n].append(pcm)
    return [torch.cat([*pieces, of.finish(state)], 2) for pieces, state in zip(got, states, strict=True)]


def check_near(got: Sequence[Tensor], wanted: Sequence[Tensor], tolerance: float = TOLERANCE) -> None:
    for ours, theirs in zip(got, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, atol=tolerance * max(1.0, float(theirs.abs().max())), rtol=0)


def under_way(of: StreamingDecoder, streams: int, lab: Any, frames: int = 20) -> list[CodecState]:
    states = [of.new_state(1) for _ in range(streams)]
    for seed, state in enumerate(states):
        of.decode(lab.codes(1, of.num_codebooks, frames, seed=seed), state)
    return states


@pytest.mark.parametrize("audio_channels", [1, 2])
@pytest.mark.parametrize("kept", [True, False])
def test_streams_that_come_and_go_get_what_each_gets_alone(
    codec: EncodecModel, lab: Any, audio_channels: int, kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder()
    if not kept:
        monkeypatch.setattr(captured, "_MOST_KEPT", 0)
    of = StreamingDecoder(codec, audio_channels=audio_channels, record=recorder)
    codes = [lab.codes(1, of.num_codebooks, 60 + 3 * n, seed=n) for n in range(5)]
    check_near(together(of, codes), alone(of, codes))
    assert (recorder.recorded > 3 and recorder.replayed > 10) if kept else not recorder.recorded


def test_on_a_processor_each_gets_the_bits_of_decode_whoever_is_beside_it(lab: Any) -> None:
    of = StreamingDecoder(lab.make())
    codes = [lab.codes(1, 4, 60 + 3 * n, seed=n) for n in range(4)]
    assert of._side_by_side is None
    ones = [together(of, [one]) for one in codes]  # in other pieces, which may round otherwise
    check_near([one[0] for one in ones], alone(of, codes))
    states, others = under_way(of, 4, lab), under_way(of, 4, lab)
    for _ in range(3):
        pieces = [one[..., :5] for one in codes]
        for got, piece, state in zip(of.decode_together(pieces, states), pieces, others, strict=True):
            assert torch.equal(got, of.decode(piece, state))


def test_so_do_streams_of_several_rows(lab: Any) -> None:
    of = StreamingDecoder(lab.make(), audio_channels=2, record=Recorder())
    codes = [lab.codes(1 + n % 2, 8, 50, seed=n) for n in range(6)]
    check_near(together(of, codes), alone(of, codes))
    assert {key[1] for key in of._side_by_side._kept} == {1, 2}


def test_convolutions_that_are_all_matrices_as_on_a_gpu_stream_what_the_whole_is(
    codec: EncodecModel, lab: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernels, "_MATRIX_NUMEL", 0)
    of = StreamingDecoder(codec, record=Recorder())
    codes = [lab.codes(1, 4, 60, seed=n) for n in range(3)]
    check_near(together(of, codes), [lab.whole(codec, one) for one in codes])


@pytest.mark.parametrize("audio_channels", [1, 2])
def test_one_stream_in_a_pass_of_one_gets_the_bits_of_decode(
    codec: EncodecModel, lab: Any, audio_channels: int
) -> None:
    recorder = Recorder()
    of = StreamingDecoder(codec, audio_channels=audio_channels, record=recorder)
    codes = lab.codes(1, of.num_codebooks, 75)
    one, other = under_way(of, 2, lab)
    other.copy_in(one.copy_out())
    for turn in range(25):
        piece = codes[..., 3 * turn : 3 * turn + 1 + turn % 5]
        assert torch.equal(of.decode_together([piece], [one])[0], of.decode(piece, other))
        assert torch.equal(one.memory, other.memory)
    assert (one.frames_in, one.samples_out) == (other.frames_in, other.samples_out)
    assert recorder.recorded == 5


def test_what_is_left_over_in_a_pass_touches_nobody(codec: EncodecModel, lab: Any) -> None:
    of = StreamingDecoder(codec, audio_channels=2, record=Recorder())
    states, codes = under_way(of, 3, lab), [lab.codes(1, 8, 4, seed=n) for n in range(3)]
    for _ in range(3):
        of.decode_together(codes, states)
    (one,) = of._side_by_side._kept.values()
    copies, found = [state.copy_out() for state in states], []
    for rest in (0.0, 1e3, torch.nan):
        one._memories[3], one._codes[3] = rest, int(rest == 0)
        for state, copy in zip(states, copies, strict=True):
            state.copy_in(copy)
        found.append([*of.decode_together(codes, states), *(state.memory.clone() for state in states)])
    for others in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], others, strict=True))


class Trace(TorchDispatchMode):
    """Every operation, with what it works on: shapes, and where those tensors lie that were there before."""

    def __init__(self, fixed: Sequence[Tensor]) -> None:
        super().__init__()
        self._fixed, self.steps = {tensor.data_ptr() for tensor in fixed}, []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        tensors = [one for one in args if isinstance(one, Tensor) and not one.is_mkldnn]
        places = [one.data_ptr() if one.data_ptr() in self._fixed else 0 for one in tensors]
        self.steps.append((str(func), [(tuple(one.shape), one.stride()) for one in tensors], places))
        return out


def test_a_kept_pass_does_the_same_on_the_same_memory_whatever_is_in_it(codec: EncodecModel, lab: Any) -> None:
    of = StreamingDecoder(codec, record=Recorder())
    states, traces = under_way(of, 4, lab), []
    for turn in range(6):
        of.decode_together([lab.codes(1, 4, 2, seed=turn + n) for n in range(4)], states)
    (one,) = of._side_by_side._kept.values()
    for _ in range(2):
        with Trace([one._codes, one._memories, one._audio, one._state.memory]) as trace:
            one._compute()
        traces.append(trace.steps)
        of.decode_together([lab.codes(1, 4, 2, seed=90 + n) for n in range(4)], states)
    assert traces[0] == traces[1]
    names = [name for name, _, _ in traces[0]]
    assert not [name for name in names if "local_scalar" in name or "lift_fresh" in name or "_to_copy" in name]


def test_no_value_is_asked_for(codec: EncodecModel, lab: Any) -> None:
    """On a device that has none: whatever looks at one there raises, as a capture would."""
    of = StreamingDecoder(codec, audio_channels=2, device="meta", record=Recorder())
    states = [of.new_state(1) for _ in range(3)]
    for _ in range(12):
        decoded = of.decode_together([lab.codes(1, 8, 5)] * 3, states)
    assert [pcm.shape for pcm in decoded] == [(1, 2, 5 * of.hop_samples)] * 3
    assert set(of._side_by_side._kept) == {(4, 1, 8, 5)}


def test_eight_streams_take_hardly_more_operations_than_one(lab: Any) -> None:
    of = StreamingDecoder(lab.make(), record=Recorder())
    states, codes = under_way(of, 8, lab), [lab.codes(1, 4, 5)] * 8
    counts = []
    for streams in (1, 8):
        with Trace([]) as trace:
            of.decode_together(codes[:streams], states[:streams])
        counts.append(len(trace.steps))
    assert counts[1] < 2 * counts[0], counts


def test_what_comes_seldom_is_not_kept(lab: Any) -> None:
    recorder = Recorder()
    of = StreamingDecoder(lab.make(), record=recorder)
    states = under_way(of, 2, lab)
    for frames in (1, 2, 3, 4, 5, 1, 2, 3, 4, 5):
        of.decode_together([lab.codes(1, 4, frames)] * 2, states)
    assert recorder.recorded == 0
    of.decode_together([lab.codes(1, 4, 2)] * 2, states)
    assert (recorder.recorded, recorder.replayed) == (1, 1)


def test_no_more_are_kept_than_there_is_room_for(lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(captured, "_MOST_KEPT", 2)
    recorder = Recorder()
    of = StreamingDecoder(lab.make(), record=recorder)
    codes = [lab.codes(1, 4, 80, seed=n) for n in range(4)]
    check_near(together(of, codes), alone(of, codes))
    assert recorder.recorded == 2


def test_more_streams_than_one_pass_has_room_for(lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoder, "_FRAMES_AT_ONCE", 50)
    of = StreamingDecoder(lab.make(), audio_channels=2, record=Recorder())
    states, codes = under_way(of, 7, lab), [lab.codes(1, 8, 5, seed=n) for n in range(7)]
    others = [of.new_state(1) for _ in states]
    for one, other in zip(states, others, strict=True):
        other.copy_in(one.copy_out())
    for _ in range(4):
        wanted = [of.decode(one, state) for one, state in zip(codes, others, strict=True)]
        check_near(of.decode_together(codes, states), wanted)
    assert set(of._side_by_side._kept) == {(4, 1, 8, 5)}, "4 streams, then 3 of them in the same"
    check_near([state.memory for state in states], [state.memory for state in others])


def test_kept_passes_cross_inference_mode_both_ways(lab: Any) -> None:
    of = StreamingDecoder(lab.make(), record=Recorder())
    codes = [lab.codes(1, 4, 40, seed=n) for n in range(2)]
    states, got = under_way(of, 2, lab), []
    others = under_way(of, 2, lab)
    for turn in range(8):
        with torch.inference_mode(turn % 2 == 0):
            pieces = [one[..., 5 * turn : 5 * turn + 5] for one in codes]
            got.append(torch.cat(of.decode_together(pieces, states)))
    got[-1].add_(0)
    check_near([torch.cat(got, 2)], [torch.cat([of.decode(*one) for one in zip(codes, others, strict=True)])])


def test_where_one_stream_is_refused_none_is_changed(lab: Any) -> None:
    of = StreamingDecoder(lab.make(), record=Recorder())
    states = under_way(of, 3, lab)
    of.finish(states[2])
    before = [state.memory.clone() for state in states]
    with pytest.raises(SessionClosed, match="finished"):
        of.decode_together([lab.codes(1, 4, 5)] * 3, states)
    assert all(torch.equal(state.memory, old) for state, old in zip(states, before, strict=True))
    assert [state.frames_in for state in states] == [20] * 3


@pytest.mark.gpu
@pytest.mark.parametrize("audio_channels", [1, 2])
def test_graphs_of_a_gpu_give_what_the_cpu_gives(codec: EncodecModel, lab: Any, audio_channels: int) -> None:
    gpu = StreamingDecoder(codec, audio_channels=audio_channels, device="cuda")
    cpu = StreamingDecoder(codec, audio_channels=audio_channels)
    for seed, streams in enumerate((3, 9, 1, 6)):
        codes = [lab.codes(1, cpu.num_codebooks, 70 + n, seed=10 * seed + n) for n in range(streams)]
        got = [pcm.cpu() for pcm in together(gpu, codes, seed)]
        check_near(got, alone(cpu, codes), tolerance=1e-4)
    kept = gpu._side_by_side._kept
    assert len(kept) > 4
    assert all(one._replay is not None for one in kept.values())
    assert not gpu._side_by_side._record._failed
