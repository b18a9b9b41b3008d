"""What streams share, from any thread and inside any program: its threads, its torch settings, its locks."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
import pytest
import torch

import streamgen
from streamgen.lm import precision
from streamgen.runtime import _Computing, computing_on
from streamgen.testing import tiny_checkpoint

Twins = Callable[[str], Any]
TUNE = (0.3 * np.sin(np.arange(48_000) * 0.05)).astype(np.float32)
CHUNK = 3_200


# -- how many threads torch computes on -------------------------------------------------------------------------------


@pytest.mark.usefixtures("three_threads")
@pytest.mark.parametrize(("asked", "within"), [(1, 1), (2, 2), (3, 3), (None, 3)])
def test_the_callers_threads_come_back(asked: int | None, within: int) -> None:
    def interrupted() -> None:
        with computing_on(asked):
            assert torch.get_num_threads() == within
            raise RuntimeError("in between")

    with pytest.raises(RuntimeError, match="in between"):
        interrupted()
    assert torch.get_num_threads() == 3


@pytest.mark.usefixtures("three_threads")
def test_beside_the_native_kernels_torch_computes_on_one_thread() -> None:
    model = streamgen.load_model(str(tiny_checkpoint("mono")), device="cpu", precision="fp32", threads=2)
    assert model.threads == 2
    assert model.runtime.threads == (2 if model.kernels == "torch" else 1)


@pytest.mark.usefixtures("three_threads")
@pytest.mark.parametrize(("asked", "small", "used"), [(None, True, 1), (None, False, 3), (2, True, 2), (2, False, 2)])
def test_a_small_checkpoint_plays_on_one_thread_unless_told_otherwise(
    monkeypatch: pytest.MonkeyPatch, asked: int | None, small: bool, used: int
) -> None:
    if not small:
        monkeypatch.setattr(precision, "_SMALL_BYTES", 0)
    monkeypatch.setenv("STREAMGEN_KERNELS", "torch")
    model = streamgen.load_model(str(tiny_checkpoint("mono")), device="cpu", precision="fp32", threads=asked)
    engine, seen = model.runtime.engine, []
    step = engine.step
    monkeypatch.setattr(engine, "step", lambda steps: (seen.append(torch.get_num_threads()), step(steps))[1])
    with model.open_stream("piano", seed=1) as stream:
        stream.read(640)
        stream.set(prompt="rock")
        stream.read(640)
    model.generate(["piano"], seconds=0.1)
    assert set(seen) == {used}
    assert model.threads == (None if used == 3 else used)
    assert torch.get_num_threads() == 3


@pytest.mark.parametrize("threads", [0, -1, 1.5, "two", True, 1025])
def test_a_wrong_number_of_threads_is_refused(threads: object) -> None:
    with pytest.raises(streamgen.ConfigError, match=r"threads is .*, must be (a whole |a )?(number|within)"):
        streamgen.load_model("pocket", threads=threads)  # type: ignore[arg-type]


@pytest.mark.parametrize("kernels", ["torch", "portable"])
@pytest.mark.parametrize(("cores", "used"), [(2, 2), (3, 3), (8, 3), (None, 3)])
def test_no_more_threads_than_cores_compute_and_that_is_told(
    monkeypatch: pytest.MonkeyPatch, cores: int | None, used: int, kernels: str
) -> None:
    monkeypatch.setattr(precision, "_cores", lambda: cores)
    monkeypatch.setenv("STREAMGEN_KERNELS", kernels)
    model = streamgen.load_model(str(tiny_checkpoint("mono")), device="cpu", precision="fp32", threads=3)
    assert model.threads == used
    told = "; 2 threads, as many as there are cores, not 3" in model.load_note
    assert told is (used == 2)


# -- torch's settings of the program around ---------------------------------------------------------------------------


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    yield
    torch.set_default_dtype(before)


@contextmanager
def default_device(device: str) -> Iterator[None]:
    torch.set_default_device(device)
    yield
    torch.set_default_device(None)


HOSTS: dict[str, Callable[[], AbstractContextManager[object]]] = {
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "inference mode": torch.inference_mode,
    "no grad": torch.no_grad,
    "float64": lambda: default_dtype(torch.float64),
    "bfloat16": lambda: default_dtype(torch.bfloat16),
    "a device": lambda: default_device("meta"),
    "threads": lambda: computing_on(3),
}
USUAL = ("autocast", "float64", "threads")
SOME_HOSTS = [*USUAL, *(pytest.param(host, marks=pytest.mark.slow) for host in HOSTS if host not in USUAL)]


def settings() -> tuple[object, ...]:
    grad, inference, autocast = (
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.is_autocast_enabled("cpu"),
    )
    return grad, inference, autocast, torch.get_default_dtype(), torch.get_default_device(), torch.get_num_threads()


def played(model: streamgen.Model, host: Callable[[], AbstractContextManager[object]]) -> np.ndarray:
    """All that a model does, every second call inside the host's settings."""
    melody: dict[str, Any] = {}
    if model.runtime.config.cross_attention is False:
        melody = {"melody": TUNE, "melody_rate_hz": 32_000}
    options = {"seed": 1, "rewind_seconds": 2.0, "change_context_seconds": 0.2, **melody}
    pieces = []
    with host():
        before = settings()
        stream = model.open_stream("jazz", audio_prompt=TUNE, audio_prompt_rate_hz=48_000, **options)
        within = [before]
        pieces.append(stream.read(8_000, lambda: within.append(settings())).samples)
        assert set(within) == {before}, "between steps they are the host's"
        assert settings() == before
    mark, saved = stream.mark(), stream.snapshot()
    with host():
        stream.set(prompts=[("rock", 1), ("piano", 2)])
        pieces.append(stream.read(8_000).samples)
    stream.set(prompt="drums")
    pieces.append(stream.read(8_000).samples)
    with host():
        stream.rewind(mark)
        pieces.append(stream.read(4_000).samples)
        stream.restore(saved)
    pieces.append(stream.read(4_000).samples)
    with host():
        pieces += [clip.samples for clip in model.generate(["piano", "rock"], 0.2, seed=3)]
    stream.close()
    return np.concatenate(pieces, axis=1)


@pytest.mark.parametrize("host", SOME_HOSTS)
@pytest.mark.parametrize("kind", ["mono", pytest.param("melody", marks=pytest.mark.slow)])
def test_a_host_that_set_torch_up_for_itself_hears_the_same_music(twin: Twins, kind: str, host: str) -> None:
    model = twin(kind).model
    assert np.array_equal(played(model, HOSTS[host]), played(model, nullcontext))


def test_a_host_s_default_type_is_not_that_of_what_the_kernels_write() -> None:
    """They write float32: where a narrower type was taken, over what lies behind it."""
    model = streamgen.load_model(str(tiny_checkpoint("mono")), device="cpu", precision="int8")
    assert np.array_equal(played(model, HOSTS["float64"]), played(model, nullcontext))


@pytest.mark.parametrize("host", SOME_HOSTS)
@pytest.mark.parametrize("kind", ["mono", pytest.param("melody", marks=pytest.mark.slow)])
def test_a_model_loaded_inside_a_hosts_settings_is_the_same(twin: Twins, kind: str, host: str) -> None:
    with HOSTS[host]():
        before = settings()
        model = streamgen.load_model(str(tiny_checkpoint(kind)), device="cpu", precision="fp32")
        assert settings() == before
    assert np.array_equal(played(model, nullcontext), played(twin(kind).model, nullcontext))


def test_in_int8_autocast_changes_nothing() -> None:
    model = streamgen.load_model(str(tiny_checkpoint("mono")), device="cpu", precision="int8")
    assert np.array_equal(played(model, HOSTS["autocast"]), played(model, nullcontext))


# -- several threads --------------------------------------------------------------------------------------------------


def at_once(*works: Callable[[], Any]) -> list[Any]:
    """Run works on a thread each, and return what they give or raise."""
    results: list[Any] = [None] * len(works)

    def run(number: int) -> None:
        try:
            results[number] = works[number]()
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            results[number] = error

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(works))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def session(model: streamgen.Model, number: int) -> np.ndarray:
    """What a stream with changes plays, from opening to closing."""
    with model.open_stream(f"prompt {number}", seed=number, rewind_seconds=1.0) as stream:
        pieces = [stream.read(CHUNK).samples for _ in range(4)]
        stream.set(prompts=[(f"other {number}", 1), ("rock", 2)])
        mark = stream.mark()
        pieces.append(stream.read(CHUNK).samples)
        stream.rewind(mark)
        pieces += [stream.read(CHUNK).samples for _ in range(4)]
    return np.concatenate(pieces, axis=1)


def test_streams_on_threads_of_their_own_play_what_they_play_alone(twin: Twins) -> None:
    model = twin("mono").model
    alone = [session(model, number) for number in range(4)]
    clip = model.generate(["piano"], 0.5, seed=9)[0].samples
    works = [lambda number=number: session(model, number) for number in range(4)]
    together = at_once(*works, lambda: model.generate(["piano"], 0.5, seed=9)[0].samples)
    for found, expected in zip(together, [*alone, clip], strict=True):
        assert np.array_equal(found, expected)
    assert all(model.runtime.engine.cache._free)


def test_two_threads_that_read_one_stream_share_it_without_a_gap(twin: Twins) -> None:
    model = twin("mono").model
    with model.open_stream("piano", seed=1) as stream, model.open_stream("piano", seed=1) as other:
        halves = at_once(*[lambda: [stream.read(CHUNK) for _ in range(5)]] * 2)
        chunks = sorted([*halves[0], *halves[1]], key=lambda chunk: chunk.start_sample)
        assert [chunk.start_sample for chunk in chunks] == list(range(0, 10 * CHUNK, CHUNK))
        shared = np.concatenate([chunk.samples for chunk in chunks], axis=1)
        assert np.abs(shared - other.read(10 * CHUNK).samples).max() < 1e-5


def test_a_stream_that_is_closed_while_another_thread_reads_says_so(twin: Twins) -> None:
    stream = twin("mono").model.open_stream("piano", seed=1)
    reading = threading.Event()

    def read() -> None:
        stream.read(60 * 32_000, reading.set)

    def close() -> None:
        assert reading.wait(10)
        stream.close()

    ended, _ = at_once(read, close)
    assert isinstance(ended, streamgen.SessionClosed)


def test_encoding_does_not_wait_for_the_music(twin: Twins) -> None:
    """Whatever holds the lock: here it is this thread, for as long as it takes."""
    model = twin("mono").model
    with model.open_stream("piano", seed=1) as stream, model.runtime.lock:
        codes, controls = at_once(
            lambda: model.prompt_codes(TUNE, 32_000), lambda: stream.check(prompt="a text that nobody encoded yet")
        )
    assert codes.shape == (4, 75)
    assert not codes.is_inference()
    assert controls.mix.dominant == "a text that nobody encoded yet"
    assert "a text that nobody encoded yet" in model.runtime.prompts._kept._values


def test_a_model_that_nobody_holds_is_gone() -> None:
    """Nothing global keeps its weights, nor do its parts hold each other for good."""
    model = streamgen.load_model(str(tiny_checkpoint("mono")), device="cpu", precision="fp32")
    model.open_stream("piano", seed=1).read(640)
    runtime = weakref.ref(model.runtime)
    del model
    gc.collect()
    assert runtime() is None


@pytest.mark.parametrize(
    ("kind", "before", "within"), [("cuda", True, False), ("cuda", False, False), ("cpu", True, True)]
)
def test_on_a_gpu_cudnns_attention_rests_while_we_compute(
    kind: str, before: bool, within: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It plans anew for each shape of a prefill. The switch is as it was afterwards, whatever happens."""
    state = [before]
    monkeypatch.setattr(torch.backends.cuda, "cudnn_sdp_enabled", lambda: state[0])
    monkeypatch.setattr(torch.backends.cuda, "enable_cudnn_sdp", lambda on: state.__setitem__(0, on))

    def interrupted() -> None:
        with _Computing(torch.device(kind), None):
            assert state == [within]
            raise RuntimeError("in between")

    with pytest.raises(RuntimeError, match="in between"):
        interrupted()
    assert state == [before]
