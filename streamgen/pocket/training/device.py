"""Where training runs: on the GPU where there is one, else on the processor; the stages do not change.

Rules: knows no model. Lessons and segments are drawn on the CPU and moved; heads are written, weights exported there.
"""

from contextlib import AbstractContextManager, nullcontext

import torch

__all__ = ["bfloat16", "training_device"]


def training_device() -> torch.device:
    """The GPU if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def bfloat16(device: torch.device) -> AbstractContextManager[object]:
    """Multiply matrices in bfloat16 where a device does that."""
    return torch.autocast(device.type, dtype=torch.bfloat16) if device.type in ("cpu", "cuda") else nullcontext()
