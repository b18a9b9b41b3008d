"""Weights of an EnCodec's layers by name, weight norm folded, for decoding and encoding alike.

Rules: reads a codec's tensors, never its modules: what transformers would build of them is not needed here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

__all__ = ["Encodec", "Weights"]


class Encodec(Protocol):
    """A codec that weights are read of: `streamgen.checkpoint`'s, or transformers' EncodecModel."""

    config: Any

    def state_dict(self) -> Mapping[str, Tensor]:
        """Return its tensors under transformers' names."""
        ...


@dataclass(frozen=True)
class Weights:
    """The tensors of a part.

    Attributes:
        config: the codec's settings.
        tensors: under transformers' names.
        like: of the device and dtype to have them in.
        prefix: before their names.
    """

    config: Any
    tensors: Mapping[str, Tensor]
    like: Tensor
    prefix: str = ""

    def of(self, name: str) -> Weights:
        """Return a part of it."""
        return replace(self, prefix=f"{self.prefix}{name}.")

    def has(self, name: str) -> bool:
        """Tell whether there is such a part."""
        return any(found.startswith(f"{self.prefix}{name}.") for found in self.tensors)

    def __call__(self, name: str) -> Tensor:
        """Return one tensor."""
        return self.tensors[f"{self.prefix}{name}"].detach().to(self.like)

    def codebooks(self) -> list[Tensor]:
        """Return the table of each codebook, [codes, width], the coarsest first."""
        tables: list[Tensor] = []
        while self.has(f"quantizer.layers.{len(tables)}"):
            tables.append(self(f"quantizer.layers.{len(tables)}.codebook.embed"))
        return tables

    def convolution(self) -> tuple[Tensor, Tensor]:
        """Return a convolution's weight, its direction times its length, and bias."""
        length, direction = (
            self.tensors[f"{self.prefix}conv.parametrizations.weight.original{number}"].detach() for number in (0, 1)
        )
        return torch._weight_norm(direction, length, 0).to(self.like), self("conv.bias")
