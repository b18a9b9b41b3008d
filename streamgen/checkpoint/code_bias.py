"""Which codes are likelier in one place of the bar, and in one style's key, than elsewhere: added to a model's logits.

A small model is unsure of where in a sixteenth a frame lies, and what it hits a frame late is copied for minutes. How
often each code stands on a sixteenth, and how often elsewhere, can be counted in its training songs, and is right in
every bar. Such counts lie beside the weights (`code_bias.safetensors`), so that another checkpoint brings its own, or
none.

    bar.96                [P, K, V]   bars of 96 frames: frame f of the bar is added row f % P, codebook by codebook
    key.house.A minor     [K, V]      added to all of them

Rules: plain data and one sum; knows no stream. A prompt's bar, style and key are those that its words were heard as.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from streamgen.checkpoint.files import read_safetensors
from streamgen.checkpoint.words import Heard
from streamgen.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["CODE_BIAS_FILE", "CodeBias", "read_code_bias"]

CODE_BIAS_FILE = "code_bias.safetensors"
BAR, KEY = "bar.", "key."
_FRAMES = re.compile("[1-9][0-9]{0,5}")


@dataclass(frozen=True)
class CodeBias:
    """A checkpoint's tables.

    Attributes:
        bars: by frames of a bar, [P, K, V].
        keys: by style and key ("house.A minor"), [K, V].
    """

    bars: dict[int, Tensor]
    keys: dict[str, Tensor]

    def of(self, heard: Heard) -> Tensor | None:
        """What is added to the logits of a frame under a prompt, by its place in the bar: float32 [P, K, V].

        None where nothing is known of such bars.
        """
        bar, key = self.bars.get(heard.bar_frames), self.keys.get(f"{heard.style}.{heard.key}")
        if bar is None:
            return None
        return bar.float() if key is None else bar.float() + key.float()


def read_code_bias(folder: Path, shape: tuple[int, int]) -> CodeBias | None:
    """The tables that lie beside a checkpoint's weights, or None where there are none.

    Args:
        folder: of the checkpoint.
        shape: its decoder's codebooks K and codes V.

    Raises:
        CheckpointError: the file is damaged, or of another decoder.
    """
    path = folder / CODE_BIAS_FILE
    if not path.is_file():
        return None
    tables = read_safetensors(path)
    bars, keys = dict[int, "Tensor"](), dict[str, "Tensor"]()
    for name, table in tables.items():
        kind, rest = name[: len(BAR)], name[len(BAR) :]
        ranks = {BAR: 3, KEY: 2}
        fits = ranks.get(kind) == table.ndim and tuple(table.shape[-2:]) == shape and len(table) > 0
        if not fits or (kind == BAR and not _FRAMES.fullmatch(rest)):
            raise CheckpointError(
                f"{path}: {name!r:.60} is {list(table.shape)}; bar.FRAMES [P, {shape[0]}, {shape[1]}] or key.STYLE.KEY "
                f"{list(shape)} is needed: it belongs to another checkpoint, move it away"
            )
        if not (table.is_floating_point() and bool(table.isfinite().all())):
            raise CheckpointError(f"{path}: {name!r:.60} has what is no number; the file is damaged: download it again")
        if kind == BAR:
            bars[int(rest)] = table
        else:
            keys[rest] = table
    return CodeBias(bars, keys)
