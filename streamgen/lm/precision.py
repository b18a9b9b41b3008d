"""In which precision a decoder runs: as asked, or the best that is real time here, measured.

    auto, GPU             fp16; bf16 where a trial shows that fp16 cannot hold this checkpoint's activations
    auto, CPU, small      int8 where the processor multiplies bf16 natively (AVX512-BF16, AMX), else fp32
    auto, CPU             fp32 where a bare step is comfortably faster than real time, else the faster of fp32 and bf16

A small one is not measured, so that it makes the same music whatever else the machine does while it is loaded; any
processor reads so little 50 times a second, and a quarter of it leaves time for everything else that plays. int8 is
8-bit weights under bf16 rows. A large one gets it only when asked: in bf16 it is nearer to what was trained.

Rules: builds engines and times them; knows no prompt and no stream but the bare one it times.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass

import torch

from streamgen.checkpoint.types import Checkpoint
from streamgen.errors import ConfigError
from streamgen.lm.delay import DelayPattern
from streamgen.lm.engine import NOT_DRAWN, LmEngine
from streamgen.lm.sampling import Sampling
from streamgen.lm.step import Rows, StepSettings
from streamgen.lm.token_stream import TokenStream
from streamgen.lm.windows import WindowPlan

__all__ = ["EngineChoice", "bare_step_seconds", "choose_engine", "is_small"]

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16, "int8": torch.bfloat16}
_SMALL_BYTES = 200_000_000  # of float32 weights
_HOPELESS_BYTES = 4_000_000_000  # of float32 weights: no processor reads them 50 times a second; memory is short too
_COMFORTABLE_FACTOR = 1.4  # `auto` keeps full precision when a bare step is this much faster than real time
_STEPS, _LEAST_STEPS, _LONGEST_SECONDS = 8, 3, 0.3  # timed; a machine with much else to do must not wait for all


@dataclass(frozen=True)
class EngineChoice:
    """A decoder ready to run.

    Attributes:
        engine: the decoder.
        precision: "fp32", "bf16", "fp16" or "int8".
        note: one line: what was chosen and why.
    """

    engine: LmEngine
    precision: str
    note: str


def choose_engine(
    checkpoint: Checkpoint, pattern: DelayPattern, frame_seconds: float, *, device: torch.device, precision: str
) -> EngineChoice:
    """Build the decoder in a precision, "auto" included.

    Args:
        checkpoint: its weights.
        pattern: its delays.
        frame_seconds: what a step may take in real time.
        device: where it runs.
        precision: one of `streamgen.config.PRECISIONS`.

    Raises:
        ConfigError: int8 on anything but a CPU; fp16 where it cannot hold this checkpoint's activations.
    """
    if precision == "int8" and device.type != "cpu":
        raise ConfigError(f"precision is 'int8', which runs on a CPU only; on {device} use 'fp16' or 'bf16'")
    if precision != "auto":
        engine = _engine(checkpoint, device, precision)
        if precision == "fp16" and not _makes_numbers(engine, pattern):
            raise ConfigError("precision is 'fp16', which overflows with this checkpoint: use 'bf16' or 'fp32'")
        return EngineChoice(engine, precision, f"{precision}, as asked")
    if is_small(checkpoint, device):
        chosen = "int8" if _multiplies_bf16() else "fp32"
        return EngineChoice(_engine(checkpoint, device, chosen), chosen, f"{chosen}, as it is small")
    best: tuple[float, LmEngine, str] | None = None
    for candidate in _candidates(checkpoint, device):
        engine = _engine(checkpoint, device, candidate)
        if candidate == "fp16" and not _makes_numbers(engine, pattern):
            continue
        factor = frame_seconds / bare_step_seconds(engine, pattern)
        if best is None or factor > best[0]:
            best = (factor, engine, candidate)
        if factor >= _COMFORTABLE_FACTOR or device.type != "cpu":
            break
    assert best is not None, "there is always a candidate"
    factor, engine, chosen = best
    return EngineChoice(engine, chosen, f"{chosen}, measured {factor:.1f} × real time for a bare step with guidance")


def is_small(checkpoint: Checkpoint, device: torch.device) -> bool:
    """Tell whether any processor reads the weights in real time, on one thread."""
    return device.type == "cpu" and _full_bytes(checkpoint) < _SMALL_BYTES


def _multiplies_bf16() -> bool:
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def _candidates(checkpoint: Checkpoint, device: torch.device) -> list[str]:
    """Return the precisions worth measuring, best quality first."""
    if device.type != "cpu":
        return ["fp16", "bf16"]
    return ["fp32", "bf16"] if _full_bytes(checkpoint) < _HOPELESS_BYTES else ["bf16"]


def _full_bytes(checkpoint: Checkpoint) -> int:
    return 4 * sum(weight.numel() for weight in checkpoint.weights.values())


def _engine(checkpoint: Checkpoint, device: torch.device, precision: str) -> LmEngine:
    return LmEngine(checkpoint, device=device, dtype=_DTYPES[precision], int8=precision == "int8")


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
    """Measure the median step with two rows and no text."""
    tokens = _bare_tokens(engine, pattern)
    settings = tokens.settings
    seconds: list[float] = []
    while len(seconds) < _LEAST_STEPS or (len(seconds) < _STEPS and sum(seconds) < _LONGEST_SECONDS):
        began = time.perf_counter()
        (codes,) = engine.step([tokens.begin_step(settings)])
        tokens.finish_step(codes)
        seconds.append(time.perf_counter() - began)
    tokens.close()
    return statistics.median(seconds)


def _bare_tokens(engine: LmEngine, pattern: DelayPattern) -> TokenStream:
    """Begin a stream of two rows without text."""
    nothing = engine.projector.project(torch.zeros(0, engine.config.hidden_size, dtype=torch.float32))
    rows = Rows(("prompt", None), (nothing, nothing), (0.5, 0.5))
    settings = StepSettings(rows, Sampling(), WindowPlan(engine.config.max_positions, 1))
    return TokenStream(pattern, settings, engine.cache, engine.cross)
