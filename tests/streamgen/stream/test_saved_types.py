"""What came out of a file is what its records say, or is refused."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import pytest
import torch

from streamgen.stream.saved_types import check_like, check_types


class Sounds(Protocol):
    """Anything."""


@dataclass(frozen=True)
class Inner:
    number: int
    share: float = 0.5


@dataclass(frozen=True)
class Outer:
    inner: Inner | None
    names: tuple[Hashable, ...] = ()
    pair: tuple[str | None, float] = (None, 1.0)
    numbers: Mapping[str, float] = field(default_factory=dict)
    tensor: torch.Tensor = field(default_factory=lambda: torch.zeros(2, 3))
    other: Sounds | None = None
    copy: Any = None


def test_what_fits_is_taken() -> None:
    check_types(Outer(Inner(5, 1), ("a", None), ("x", 2), {"a": 1.5}, copy=Inner(1)), Outer)
    check_types(Outer(None), Outer)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (5, "it is no Outer"),
        (Outer(Inner(True)), r"it\.inner\.number is a bool"),
        (Outer(Inner(1.5)), r"it\.inner\.number is a float"),
        (Outer(Inner(2**60)), r"it\.inner\.number is beyond"),
        (Outer(Inner(1, float("nan"))), r"it\.inner\.share is no number"),
        (Outer((1, 0.5)), r"it\.inner is no Inner"),
        (Outer(None, ["a"]), r"it\.names is no list"),
        (Outer(None, ((),)), r"it\.names\[0\] is a tuple"),
        (Outer(None, ("x" * 20_000,)), "a text of 20,000 characters"),
        (Outer(None, (), ("x",)), r"it\.pair has 1 parts, must be 2"),
        (Outer(None, numbers={"a": "b"}), r"it\.numbers\[a\] is a str"),
        (Outer(None, numbers={1: 1.0}), "a name in it.numbers is a int"),
        (Outer(None, tensor=np.zeros(3)), r"it\.tensor is a ndarray"),
        (Outer(None, other=5), r"it\.other is no Sounds"),
    ],
)
def test_what_does_not_is_refused_with_its_place(wrong: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        check_types(wrong, Outer)


def test_a_record_without_a_field_is_refused() -> None:
    less = Outer(None)
    object.__delattr__(less, "inner")
    with pytest.raises(ValueError, match="it has no inner"):
        check_types(less, Outer)


def test_tensors_are_like_ones_own() -> None:
    own = Outer(None)
    check_like(Outer(None, tensor=torch.zeros(2, 9)), own)
    for tensor in (torch.zeros(5, 9), torch.zeros(2), torch.zeros(2, 3, dtype=torch.int64), torch.full((2, 3), 1e30)):
        with pytest.raises(ValueError, match=r"it\.tensor"):
            check_like(Outer(None, tensor=tensor), own)
    with pytest.raises(ValueError, match=r"it\.tensor has numbers up to nan"):
        check_like(Outer(None, tensor=torch.full((2, 3), torch.nan)), own)
    with pytest.raises(ValueError, match=r"it\.inner is a Inner, here it is a Outer"):
        check_like(Outer(Inner(1)), Outer(own))  # type: ignore[arg-type]
