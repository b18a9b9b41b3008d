"""In which precision a decoder runs: as asked, or the best that is real time here, measured.

    auto, GPU             fp16; bf16 where a trial shows that fp16 cannot hold this checkpoint's activations
    auto, CPU, small      int8 on the native kernels; without them where the processor multiplies bf16 natively
                          (AVX512-BF16, AMX); else fp32
    auto, CPU             the first of fp32, bf16, int8, int6 and mixed that is comfortably faster than real time, else
                          the fastest of them; without the native kernels of fp32, bf16 and int8

A small one is not measured, so that it makes the same music whatever else the machine does while it is loaded; any
processor reads so little 50 times a second, and a quarter of it leaves time for everything else that plays.

fp32 on a CPU keeps weights in halves where that loses nothing (`native`): the same numbers in half the time. int8,
int6 and int4 are weights of so many bits under rows of 8 (`rounding`), mixed has some of each. Without the native
kernels fp32 runs on torch's, int8 is 8-bit weights under bf16 rows, and the others are refused; bf16 and int8 keep keys
and values in halves where that is fastest (`halves`) and a trial shows that they hold this checkpoint's.

Rules: builds engines and times them; knows no prompt and no stream but the bare one it times.
"""

from __future__ import annotations

import os
import platform
import statistics
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from streamgen.checkpoint.types import Checkpoint
from streamgen.errors import ConfigError
from streamgen.kernels import Kernels, kernels, why_none
from streamgen.lm.delay import DelayPattern
from streamgen.lm.engine import NOT_DRAWN, LmEngine
from streamgen.lm.halves import HalvesCache, halves_pay
from streamgen.lm.native import PackedWeights, exact_weights, fits_native
from streamgen.lm.rounding import ROUNDED, bits_of, fingerprint, kept, rounded_weights
from streamgen.lm.sampling import Sampling
from streamgen.lm.step import Rows, StepSettings
from streamgen.lm.token_stream import TokenStream
from streamgen.lm.windows import WindowPlan

__all__ = ["EngineChoice", "bare_step_seconds", "choose_engine", "is_small", "native_kernels", "processor_name"]

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16, "int8": torch.bfloat16}
_SMALL_BYTES = 200_000_000  # of float32 weights
_HOPELESS_BYTES = 4_000_000_000  # of float32 weights: no processor reads them 50 times a second; memory is short too
# `auto` takes what makes a bare step this much faster than real time where a window stands on average, since a fifth of
# the time goes to the codec and to the successor that is warmed beside it
_COMFORTABLE_FACTOR = 1.25
_BUSY = ", while other programs were busy: it will be measured again"
_PLACE = 0.7  # in the window: the leader's on average, once windows roll over
_STEPS, _LEAST_STEPS, _LONGEST_SECONDS = 8, 3, 0.3  # timed; a machine with much else to do must not wait for all


@dataclass(frozen=True)
class EngineChoice:
    """A decoder ready to run.

    Attributes:
        engine: the decoder.
        precision: "fp32", "bf16", "fp16", "int8", "int6", "mixed" or "int4".
        note: one line: what was chosen and why.
        threads: that torch computes on beside it; None is what it is set to.
        library: the native kernels that it runs on; None is torch's.
        native_threads: that they compute on.
    """

    engine: LmEngine
    precision: str
    note: str
    threads: int | None = None
    library: Kernels | None = None
    native_threads: int = 1


def choose_engine(
    checkpoint: Checkpoint,
    pattern: DelayPattern,
    frame_seconds: float,
    *,
    device: torch.device,
    precision: str,
    threads: int | None = None,
) -> EngineChoice:
    """Build the decoder in a precision, "auto" included.

    Args:
        checkpoint: its weights.
        pattern: its delays.
        frame_seconds: what a step may take in real time.
        device: where it runs.
        precision: one of `streamgen.config.PRECISIONS`.
        threads: that compute, no more of them than there are cores: they would wait for each other. None is one for a
            small checkpoint, else as many as torch is set to.

    Raises:
        ConfigError: fewer bits than 16 on anything but a CPU, or fewer than 8 without the native kernels; fp16 where it
            cannot hold this checkpoint's activations.
    """
    few_bits = precision in ROUNDED
    if few_bits and device.type != "cpu":
        raise ConfigError(f"precision is {precision!r}, which runs on a CPU only; on {device} use 'fp16' or 'bf16'")
    builder = _Builder(checkpoint, pattern, device, threads)
    if few_bits and precision != "int8" and builder.library is None:
        words = f"precision is {precision!r}, which needs the native kernels: {builder.lack}"
        raise ConfigError(f"{words}; 'int8' runs without them")
    if precision != "auto":
        asked = builder.choice(precision, f"{precision}, as asked")
        if precision == "fp16" and not _makes_numbers(asked.engine, pattern):
            raise ConfigError("precision is 'fp16', which overflows with this checkpoint: use 'bf16' or 'fp32'")
        return asked
    if is_small(checkpoint, device):
        chosen = "int8" if builder.library is not None or _multiplies_bf16() else "fp32"
        return builder.choice(chosen, f"{chosen}, as it is small")

    def fits(found: Any) -> bool:
        return found[0] in builder.candidates() and isinstance(found[1], float)

    busy = device.type == "cpu" and _is_busy()

    def measure() -> tuple[Any, ...]:
        found = _fastest(builder, pattern, frame_seconds)
        return (*found, _BUSY) if busy else found

    chosen, factor, *told = kept(builder.machine, measure, fits, keep=not busy)
    note = f"{chosen}, measured {factor:.1f} × real time for a bare step with guidance"
    return builder.choice(chosen, "".join((note, *told)))


def _is_busy() -> bool:
    """Tell whether other programs have taken half of the processor, or more, in the last minute; not on Windows."""
    return hasattr(os, "getloadavg") and os.getloadavg()[0] > (os.cpu_count() or 1) / 2


def _fastest(builder: _Builder, pattern: DelayPattern, frame_seconds: float) -> tuple[str, float]:
    """Measure until a precision is comfortable; return it, else the fastest, and how much faster than real time."""
    factors: dict[str, float] = {}
    for candidate in builder.candidates():
        factors[candidate] = _factor(builder, candidate, pattern, frame_seconds)
        if factors[candidate] >= _COMFORTABLE_FACTOR or (builder.on_gpu and factors[candidate]):
            break
    return max(factors.items(), key=lambda one: one[1])


def _factor(builder: _Builder, candidate: str, pattern: DelayPattern, frame_seconds: float) -> float:
    """Measure how much faster than real time one is; 0 where it makes no numbers.

    Its engine is gone before the next is built: there may be no memory for two.
    """
    engine = builder.choice(candidate, "").engine
    if candidate == "fp16" and not _makes_numbers(engine, pattern):
        return 0.0
    return frame_seconds / bare_step_seconds(engine, pattern)


class _Builder:
    """Builds the engines of one checkpoint.

    Attributes:
        library: the native kernels, if they run it.
        lack: why they do not.
    """

    def __init__(
        self, checkpoint: Checkpoint, pattern: DelayPattern, device: torch.device, threads: int | None
    ) -> None:
        self._checkpoint, self._pattern, self._device = checkpoint, pattern, device
        used = None if threads is None else min(threads, _cores() or threads)
        self._fewer = "" if used == threads else f"; {used} threads, as many as there are cores, not {threads:,}"
        small = is_small(checkpoint, device)
        self._torch_threads = 1 if used is None and small else used
        self._threads = self._torch_threads or torch.get_num_threads()
        self.library, self.lack = native_kernels(checkpoint) if device.type == "cpu" else (None, "")

    @property
    def on_gpu(self) -> bool:
        return self._device.type != "cpu"

    @property
    def machine(self) -> str:
        """Name all that a measurement depends on: processor, threads, kernels, checkpoint."""
        kernels_ = self.library.instruction_set if self.library else "torch"
        name = torch.cuda.get_device_name(self._device) if self._device.type == "cuda" else processor_name()
        return (
            f"auto 3 at {_PLACE} {name} {self._threads} {kernels_} {torch.__version__} {fingerprint(self._checkpoint)}"
        )

    def candidates(self) -> list[str]:
        """Return the precisions worth measuring, best quality first."""
        if self.on_gpu:
            return ["fp16", "bf16"]
        full = ["fp32", "bf16"] if _full_bytes(self._checkpoint) < _HOPELESS_BYTES else ["bf16"]
        return [*full, "int8"] if self.library is None else [*full, *(name for name in ROUNDED if name != "int4")]

    def choice(self, precision: str, note: str) -> EngineChoice:
        """Build one. Beside the native kernels torch computes on one thread: a second would be in their way."""
        note += self._fewer
        if precision in ("fp32", *ROUNDED) and self.library is not None:
            packed, told = self._packed(precision, self.library)
            engine = LmEngine.native(self._checkpoint, packed, self.library, self._threads)
            noted = f"{note}; {told}" if told else note
            return EngineChoice(engine, precision, noted, 1, self.library, self._threads)
        return EngineChoice(self._on_torch(precision), precision, note, self._torch_threads)

    def _on_torch(self, precision: str) -> LmEngine:
        """Build one on torch's kernels, with keys and values in halves where that pays and this checkpoint's fit."""
        dtype = _DTYPES[precision]
        build = partial(LmEngine.on_torch, self._checkpoint, device=self._device, dtype=dtype, int8=precision == "int8")
        engine = build(halves=halves_pay(self._device, dtype))
        fits = not isinstance(engine.cache, HalvesCache) or _makes_numbers(engine, self._pattern)
        return engine if fits else build()

    def _packed(self, precision: str, library: Kernels) -> tuple[PackedWeights, str]:
        """Lay the weights out for the native kernels; what there is to tell of it beside."""
        if precision == "fp32":
            packed = exact_weights(self._checkpoint.decoder, self._checkpoint.weights)
            return packed, packed.kept_as
        bits, measured = bits_of(self._checkpoint, precision, library, self._threads)
        return rounded_weights(self._checkpoint, bits, library, self._threads), measured


def native_kernels(checkpoint: Checkpoint) -> tuple[Kernels | None, str]:
    """Return the kernels that run a checkpoint's decoder, or None and why there are none."""
    if not fits_native(checkpoint.decoder):
        return None, "they do not run a decoder of these widths, or of this activation"
    library = kernels()
    return library, "" if library else why_none()


def processor_name() -> str:
    """Return what the processor calls itself, as far as the system tells."""
    info = Path("/proc/cpuinfo")  # Linux only
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else f"{platform.machine()} {platform.processor()}"


def is_small(checkpoint: Checkpoint, device: torch.device) -> bool:
    """Tell whether any processor reads the weights in real time, on one thread."""
    return device.type == "cpu" and _full_bytes(checkpoint) < _SMALL_BYTES


def _cores() -> int | None:
    """Count the cores that this process may use, as far as the system tells."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def _multiplies_bf16() -> bool:
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def _full_bytes(checkpoint: Checkpoint) -> int:
    return 4 * sum(weight.numel() for weight in checkpoint.weights.values())


def _makes_numbers(engine: LmEngine, pattern: DelayPattern) -> bool:
    """Tell whether bare steps give numbers: activations that a precision cannot hold become infinite, then NaN."""
    tokens, drawn = _bare_tokens(engine, pattern), True
    for _ in range(_LEAST_STEPS):
        (codes,) = engine.step([tokens.begin_step(tokens.settings)])
        drawn = drawn and int(codes[0]) != NOT_DRAWN
        tokens.finish_step(codes.clamp(min=0))
    tokens.close()
    return drawn


def bare_step_seconds(engine: LmEngine, pattern: DelayPattern) -> float:
    """Measure the median step with two rows and no text, as far into the window as steps are on average."""
    tokens = _bare_tokens(engine, pattern)
    settings = tokens.settings
    tokens.windows[0].fed = round(_PLACE * engine.config.max_positions)  # whatever its memory holds: it takes as long
    seconds: list[float] = []
    while len(seconds) < _LEAST_STEPS or (len(seconds) < _STEPS and sum(seconds) < _LONGEST_SECONDS):
        began = time.perf_counter()
        (codes,) = engine.step([tokens.begin_step(settings)])
        tokens.finish_step(codes.clamp(min=0))  # a checkpoint of NaN is told of when it plays
        seconds.append(time.perf_counter() - began)
    tokens.close()
    return statistics.median(seconds)


def _bare_tokens(engine: LmEngine, pattern: DelayPattern) -> TokenStream:
    """Begin a stream of two rows without text."""
    nothing = engine.projector.project(torch.zeros(0, engine.config.hidden_size, dtype=torch.float32))
    rows = Rows(("prompt", None), (nothing, nothing), (0.5, 0.5))
    settings = StepSettings(rows, Sampling(), WindowPlan(engine.config.max_positions, 1))
    return TokenStream(pattern, settings, engine.cache, engine.cross)
