"""In which precision a decoder runs: as asked, or the best that is real time here, measured.

    auto, GPU             fp16
    auto, CPU, small      int8 on the native kernels; without them where the processor multiplies bf16 natively
                          (AVX512-BF16, AMX); else fp32
    auto, CPU             the first of fp32, bf16, int8, int6 and mixed that is comfortably faster than real time, else
                          the fastest of them; without the native kernels of fp32 and bf16

A small one is not measured, so that it makes the same music whatever else the machine does while it is loaded; any
processor reads so little 50 times a second, and a quarter of it leaves time for everything else that plays.

int8, int6 and int4 are weights of so many bits under rows of 8 (`native`, `rounding`), mixed has some of each. Without
the native kernels int8 is 8-bit weights under bf16 rows, and the others are refused.

Rules: builds engines and times them; knows no prompt and no stream but the bare one it times.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass, replace

import torch

from streamgen.checkpoint.types import Checkpoint
from streamgen.errors import ConfigError
from streamgen.kernels import Kernels, kernels
from streamgen.lm.delay import DelayPattern
from streamgen.lm.engine import LmEngine
from streamgen.lm.native import fits_native
from streamgen.lm.rounding import UNIFORM, even_bits, rounded_weights
from streamgen.lm.sampling import Sampling
from streamgen.lm.step import Rows, StepSettings
from streamgen.lm.token_stream import TokenStream
from streamgen.lm.windows import WindowPlan

__all__ = ["EngineChoice", "bare_step_seconds", "choose_engine", "is_small", "native_kernels"]

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16, "int8": torch.bfloat16}
_ROUNDED = (*UNIFORM,)  # what the native kernels run
_SMALL_BYTES = 200_000_000  # of float32 weights
_HOPELESS_BYTES = 4_000_000_000  # of float32 weights: no processor reads them 50 times a second; memory is short too
_COMFORTABLE_FACTOR = 1.4  # `auto` takes what makes a bare step this much faster than real time
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
        threads: that compute; None is one for a small checkpoint, else as many as torch is set to.

    Raises:
        ConfigError: fewer bits than 16 on anything but a CPU, or fewer than 8 without the native kernels.
    """
    few_bits = precision in (*_ROUNDED, "int8")
    if few_bits and device.type != "cpu":
        raise ConfigError(f"precision is {precision!r}, which runs on a CPU only; on {device} use 'fp16' or 'bf16'")
    builder = _Builder(checkpoint, device, threads)
    if few_bits and precision != "int8" and builder.library is None:
        raise ConfigError(f"precision is {precision!r}, which needs the native kernels: {builder.lack}; use 'int8'")
    if precision != "auto":
        return builder.choice(precision, f"{precision}, as asked")
    if is_small(checkpoint, device):
        chosen = "int8" if builder.library is not None or _multiplies_bf16() else "fp32"
        return builder.choice(chosen, f"{chosen}, as it is small")
    best: tuple[float, EngineChoice] | None = None
    for candidate in builder.candidates():
        choice = builder.choice(candidate, "")
        factor = frame_seconds / bare_step_seconds(choice.engine, pattern)
        if best is None or factor > best[0]:
            note = f"{candidate}, measured {factor:.1f} × real time for a bare step with guidance"
            best = (factor, replace(choice, note=note))
        if factor >= _COMFORTABLE_FACTOR:
            break
    assert best is not None, "there is always a candidate"
    return best[1]


class _Builder:
    """Builds the engines of one checkpoint.

    Attributes:
        library: the native kernels, if they run it.
        lack: why they do not.
    """

    def __init__(self, checkpoint: Checkpoint, device: torch.device, threads: int | None) -> None:
        self._checkpoint, self._device = checkpoint, device
        small = is_small(checkpoint, device)
        self._torch_threads = 1 if threads is None and small else threads
        self._threads = self._torch_threads or torch.get_num_threads()
        self.library, self.lack = native_kernels(checkpoint) if device.type == "cpu" else (None, "")

    def candidates(self) -> list[str]:
        """Return the precisions worth measuring, best quality first."""
        if self._device.type != "cpu":
            return ["fp16"]
        full = ["fp32", "bf16"] if _full_bytes(self._checkpoint) < _HOPELESS_BYTES else ["bf16"]
        return full if self.library is None else [*full, *(name for name in _ROUNDED if name != "int4")]

    def choice(self, precision: str, note: str) -> EngineChoice:
        """Build one. Beside the native kernels torch computes on one thread: a second would be in their way."""
        if precision in _ROUNDED and self.library is not None:
            config = self._checkpoint.decoder
            packed = rounded_weights(self._checkpoint, even_bits(config, precision), self.library, self._threads)
            engine = LmEngine.native(self._checkpoint, packed, self.library, self._threads)
            return EngineChoice(engine, precision, note, 1, self.library, self._threads)
        engine = LmEngine.on_torch(
            self._checkpoint, device=self._device, dtype=_DTYPES[precision], int8=precision == "int8"
        )
        return EngineChoice(engine, precision, note, self._torch_threads)


def native_kernels(checkpoint: Checkpoint) -> tuple[Kernels | None, str]:
    """Return the kernels that run a checkpoint's decoder, or None and why there are none."""
    if not fits_native(checkpoint.decoder):
        return None, "they do not run a decoder of this shape"
    library = kernels()
    return library, "" if library else "this streamgen was installed without a C++ compiler"


def is_small(checkpoint: Checkpoint, device: torch.device) -> bool:
    """Tell whether any processor reads the weights in real time, on one thread."""
    return device.type == "cpu" and _full_bytes(checkpoint) < _SMALL_BYTES


def _multiplies_bf16() -> bool:
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def _full_bytes(checkpoint: Checkpoint) -> int:
    return 4 * sum(weight.numel() for weight in checkpoint.weights.values())


def bare_step_seconds(engine: LmEngine, pattern: DelayPattern) -> float:
    """Measure the median step with two rows and no text."""
    nothing = engine.projector.project(torch.zeros(0, engine.config.hidden_size, dtype=torch.float32))
    rows = Rows(("prompt", None), (nothing, nothing), (0.5, 0.5))
    settings = StepSettings(rows, Sampling(), WindowPlan(engine.config.max_positions, 1))
    tokens = TokenStream(pattern, settings, engine.cache, engine.cross)
    seconds: list[float] = []
    while len(seconds) < _LEAST_STEPS or (len(seconds) < _STEPS and sum(seconds) < _LONGEST_SECONDS):
        began = time.perf_counter()
        (codes,) = engine.step([tokens.begin_step(settings)])
        tokens.finish_step(codes)
        seconds.append(time.perf_counter() - began)
    tokens.close()
    return statistics.median(seconds)
