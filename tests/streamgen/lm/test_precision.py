"""`auto` on machines of known speed; the speed itself is the machine's."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from streamgen.checkpoint import Checkpoint, load_checkpoint
from streamgen.errors import CheckpointError, ConfigError
from streamgen.kernels import kernels
from streamgen.lm import precision
from streamgen.lm.cache import KVCache
from streamgen.lm.delay import DelayPattern
from streamgen.lm.halves import HalvesCache
from streamgen.lm.precision import EngineChoice, bare_step_seconds, choose_engine
from streamgen.testing import tiny_checkpoint

CPU = torch.device("cpu")
PATTERN = DelayPattern.of(4, 1, 64)


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return load_checkpoint(str(tiny_checkpoint("mono")))


@pytest.fixture
def chosen(checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., EngineChoice]:
    """Choose on a quiet machine whose bare step has these real-time factors, and that was never measured before."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(os, "getloadavg", lambda: (0.0, 0.0, 0.0), raising=False)

    def choose(fp32: float, bf16: float, asked: str = "auto", *, int8: float = 0.1) -> EngineChoice:
        monkeypatch.setenv("STREAMGEN_KERNELS", "torch")
        factors, built, choice = {"fp32": fp32, "bf16": bf16, "int8": int8}, [asked], precision._Builder.choice

        def noted(builder: Any, name: str, note: str) -> EngineChoice:
            built.append(name)
            return choice(builder, name, note)

        monkeypatch.setattr(precision, "_SMALL_BYTES", 0)
        with monkeypatch.context() as patched:
            patched.setattr(precision._Builder, "choice", noted)
            patched.setattr(precision, "bare_step_seconds", lambda *_: 0.02 / factors[built[-1]])
            return choose_engine(checkpoint, PATTERN, 0.02, device=CPU, precision=asked)

    return choose


LAYER = "model.decoder.layers.1"
DAMAGED = (
    *(f"{LAYER}.self_attn.{part}_proj.weight" for part in ("q", "k", "v", "out")),
    *(f"{LAYER}.encoder_attn.{part}_proj.weight" for part in ("q", "k", "out")),
    *(
        f"{LAYER}.{part}"
        for part in ("fc1.weight", "fc2.weight", "final_layer_norm.weight", "self_attn_layer_norm.bias")
    ),
    "lm_heads.1.weight",
    "model.decoder.embed_tokens.0.weight",
)


@pytest.mark.parametrize("asked", ["fp32", "bf16", "int8", "int6", "mixed", "int4"])
def test_one_weight_that_is_no_number_is_told_and_never_played(checkpoint: Checkpoint, asked: str) -> None:
    """Rounded it would have been a number, and among scores and bytes it is not the largest."""
    if asked not in ("fp32", "bf16", "int8") and kernels() is None:
        pytest.skip("no native kernels: built without a compiler, or not wanted")
    for at, name in enumerate(DAMAGED):
        weight = checkpoint.weights[name].clone()
        weight.view(-1)[37] = (torch.nan, torch.inf, -torch.inf)[at % 3]
        damaged = replace(checkpoint, weights=checkpoint.weights | {name: weight})
        with pytest.raises(CheckpointError, match="has NaN or infinity in it: the checkpoint is damaged"):
            choose_engine(damaged, PATTERN, 0.02, device=CPU, precision=asked)


def test_large_weights_are_numbers(checkpoint: Checkpoint) -> None:
    large = {name: torch.full_like(weight, 3e38) for name, weight in checkpoint.weights.items()}
    for asked in ("fp32", "int8"):
        choose_engine(replace(checkpoint, weights=large), PATTERN, 0.02, device=CPU, precision=asked)


@pytest.mark.parametrize(
    ("fp32", "bf16", "picked"),
    [
        (1.5, 9.0, "fp32"),  # comfortable: full precision, whatever else would be faster
        (1.2, 2.0, "bf16"),
        (0.4, 0.9, "bf16"),
        (0.4, 0.3, "fp32"),  # a processor without bfloat16
    ],
)
def test_auto_keeps_full_precision_where_it_is_comfortable_else_takes_the_faster(
    chosen: Callable[..., EngineChoice], fp32: float, bf16: float, picked: str
) -> None:
    choice = chosen(fp32, bf16)
    factor = {"fp32": fp32, "bf16": bf16}[picked]
    assert choice.precision == picked
    assert choice.note == f"{picked}, measured {factor} × real time for a bare step with guidance"
    assert choice.engine.decoder.dtype == {"fp32": torch.float32, "bf16": torch.bfloat16}[picked]


@pytest.mark.parametrize(
    ("native", "precision_", "note"),
    [
        (True, "int8", "int8, as it is small"),
        (False, "fp32", "fp32, as it is small"),
    ],
)
def test_a_small_one_is_not_measured(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch, native: bool, precision_: str, note: str
) -> None:
    """Else what the machine did while it was loaded would choose its precision, and with it its music."""
    monkeypatch.setenv("STREAMGEN_KERNELS", "torch")
    monkeypatch.delattr(precision, "bare_step_seconds")
    monkeypatch.setattr(precision, "_multiplies_bf16", lambda: native)
    choice = choose_engine(checkpoint, PATTERN, 0.02, device=CPU, precision="auto")
    assert (choice.precision, choice.note) == (precision_, note)


def test_what_was_asked_for_is_not_measured(chosen: Callable[..., EngineChoice]) -> None:
    choice = chosen(9.0, 0.1, asked="bf16")
    assert (choice.precision, choice.note) == ("bf16", "bf16, as asked")


def test_int8_is_refused_on_a_gpu(checkpoint: Checkpoint) -> None:
    with pytest.raises(ConfigError, match="precision is 'int8', which runs on a CPU only; on cuda:1 use 'fp16' or"):
        choose_engine(checkpoint, PATTERN, 0.02, device=torch.device("cuda:1"), precision="int8")


def test_too_many_weights_are_not_tried_in_full_precision(
    chosen: Callable[..., EngineChoice], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "_HOPELESS_BYTES", 1)
    assert chosen(9.0, 0.5).precision == "bf16"


@pytest.mark.parametrize(("step", "steps"), [(0.001, 8), (0.07, 5), (2.0, 3)])
def test_the_bare_step_is_timed_a_few_times_and_not_for_long(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch, step: float, steps: int
) -> None:
    engine = choose_engine(checkpoint, PATTERN, 0.02, device=CPU, precision="fp32").engine
    time, calls = [0.0], [0]
    real = engine.step

    def slow(steps: Any) -> Any:
        time[0] += step
        calls[0] += 1
        return real(steps)

    monkeypatch.setattr(engine, "step", slow)
    monkeypatch.setattr(precision.time, "perf_counter", lambda: time[0])
    assert bare_step_seconds(engine, PATTERN) == pytest.approx(step)
    assert calls[0] == steps
    assert all(engine.cache._free), "the stream it was timed on is gone"


def test_auto_takes_int8_where_nothing_nearer_to_the_original_is_real_time(chosen: Callable[..., EngineChoice]) -> None:
    choice = chosen(0.4, 0.5, int8=0.7)
    assert choice.precision == "int8"
    assert choice.note == "int8, measured 0.7 × real time for a bare step with guidance"


def test_a_machine_is_measured_once(chosen: Callable[..., EngineChoice]) -> None:
    first = chosen(1.2, 2.0)
    again = chosen(9.0, 0.1)
    assert (
        (again.precision, again.note)
        == (first.precision, first.note)
        == (
            "bf16",
            "bf16, measured 2.0 × real time for a bare step with guidance",
        )
    )


def test_few_bits_are_refused_without_the_native_kernels(chosen: Callable[..., EngineChoice]) -> None:
    words = "precision is 'int6', which needs the native kernels: STREAMGEN_KERNELS is 'torch': unset"
    with pytest.raises(ConfigError, match=words):
        chosen(1.0, 1.0, asked="int6")


@pytest.fixture(scope="module")
def overflowing() -> Checkpoint:
    """Activations beyond fp16's 65,504, of weights that it holds."""
    checkpoint = load_checkpoint(str(tiny_checkpoint("mono")))
    layer = "model.decoder.layers.1."
    loud = {layer + name: 300 * checkpoint.weights[layer + name] for name in ("fc1.weight", "fc2.weight")}
    assert max(float(weight.abs().max()) for weight in loud.values()) < 1_000
    return replace(checkpoint, weights=checkpoint.weights | loud)


def test_fp16_that_overflows_is_refused_when_asked_and_passed_over_by_auto(
    overflowing: Checkpoint, checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))  # what is measured here is true of no machine
    with pytest.raises(ConfigError, match="overflows with this checkpoint: use 'bf16' or 'fp32'"):
        choose_engine(overflowing, PATTERN, 0.02, device=CPU, precision="fp16")
    assert choose_engine(overflowing, PATTERN, 0.02, device=CPU, precision="bf16").precision == "bf16"
    monkeypatch.setattr(precision, "_SMALL_BYTES", 0)
    monkeypatch.setattr(precision._Builder, "candidates", lambda _: ["fp16", "bf16"])
    assert choose_engine(overflowing, PATTERN, 0.02, device=CPU, precision="auto").precision == "bf16"
    assert choose_engine(checkpoint, PATTERN, 0.02, device=CPU, precision="fp16").precision == "fp16"


def test_an_engine_that_was_measured_is_gone_before_the_next_is_built(
    chosen: Callable[..., EngineChoice], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A GPU may have no memory for two, and what was captured of the first goes with it."""
    choice, built = precision._Builder.choice, []  # type: ignore[var-annotated]

    def alone(builder: Any, name: str, note: str) -> EngineChoice:
        assert all(engine() is None for engine in built)
        made = choice(builder, name, note)
        built.append(weakref.ref(made.engine))
        return made

    monkeypatch.setattr(precision._Builder, "choice", alone)
    assert chosen(0.4, 0.6, int8=0.9).precision == "int8"
    assert len(built) == 4


@pytest.mark.parametrize("asked", ["bf16", "int8"])
def test_without_the_native_kernels_keys_and_values_are_in_halves_where_that_pays_and_they_fit(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch, asked: str
) -> None:
    monkeypatch.setenv("STREAMGEN_KERNELS", "torch")
    monkeypatch.setattr(precision, "halves_pay", lambda _, dtype: dtype == torch.bfloat16)

    def cache_of(one: Checkpoint, asked: str) -> KVCache:
        cache = choose_engine(one, PATTERN, 0.02, device=CPU, precision=asked).engine.cache
        assert isinstance(cache, KVCache)
        return cache

    assert isinstance(cache_of(checkpoint, asked), HalvesCache)
    assert not isinstance(cache_of(checkpoint, "fp32"), HalvesCache)
    name = "model.decoder.layers.1.self_attn.v_proj.weight"
    loud = replace(checkpoint, weights=checkpoint.weights | {name: 1e8 * checkpoint.weights[name]})
    assert not isinstance(cache_of(loud, asked), HalvesCache), "beyond float16's 65,504, and no trouble to bfloat16"
    monkeypatch.setattr(precision, "halves_pay", lambda *_: False)
    assert not isinstance(cache_of(checkpoint, asked), HalvesCache)


def test_what_a_busy_machine_came_to_is_not_kept(
    chosen: Callable[..., EngineChoice], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    monkeypatch.setattr(os, "getloadavg", lambda: (2.5, 0.0, 0.0), raising=False)
    words = "measured 0.9 × real time for a bare step with guidance"
    assert chosen(0.4, 0.9).note == f"bf16, {words}, while other programs were busy: it will be measured again"
    monkeypatch.setattr(os, "getloadavg", lambda: (1.5, 9.0, 9.0), raising=False)
    quiet = chosen(1.5, 0.9)
    assert (quiet.precision, quiet.note) == ("fp32", "fp32, measured 1.5 × real time for a bare step with guidance")
    monkeypatch.setattr(os, "getloadavg", lambda: (2.5, 9.0, 9.0), raising=False)
    assert chosen(0.4, 0.9).note == quiet.note, "what was kept is taken, however busy the machine is"
