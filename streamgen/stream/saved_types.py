"""What comes out of a snapshot's file is what its records say they hold: a stranger may have made it.

Reading runs nothing of the file, but puts whatever stands there into our records. Before a stream goes on with that,
every field is held against its annotation, every number against what a stream can come to, and every tensor against the
one that this stream has in its place: native code reads by these numbers.

Rules: plain data; knows no stream. What is wrong raises ValueError and says where.
"""

from __future__ import annotations

import dataclasses
import math
import types
from collections.abc import Hashable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Union, get_args, get_origin, get_type_hints

import numpy as np
from torch import Tensor

__all__ = ["check_like", "check_types"]

_MOST = 2**48  # samples of a stream: a hundred years
_MOST_TEXT, _MOST_ITEMS = 10_000, 1_000_000
_LARGEST = 1e4  # of a float in a tensor
# by the number of dimensions, which of them are time, words or rows, and as long as it was
_FREE: dict[int, tuple[int, ...]] = {1: (0,), 2: (1,), 3: (2,), 4: (2,), 5: (1, 3), 6: (1, 3)}


def check_types(value: object, wanted: Any, where: str = "it") -> None:
    """Refuse a value that is not of the type that is written for it, to the last leaf.

    Raises:
        ValueError: somewhere in it is something else, or a number no stream comes to.
    """
    origin = get_origin(wanted)
    if hasattr(origin, "__value__"):  # a `type` statement's alias, as NDArray is where Python and numpy are new
        origin = get_origin(origin.__value__)
    if getattr(wanted, "_is_protocol", False):  # a cache's copy is a record, of whichever cache
        _record(value, type(value) if dataclasses.is_dataclass(value) else wanted, where)
    elif origin in (Union, types.UnionType):
        _one_of(value, get_args(wanted), where)
    elif dataclasses.is_dataclass(wanted):
        _record(value, wanted, where)
    elif origin is tuple:
        _tuple(value, get_args(wanted), where)
    elif origin is not None and issubclass(origin, Mapping):
        _mapping(value, get_args(wanted), where)
    else:
        _leaf(value, origin or wanted, where)


def _one_of(value: object, kinds: tuple[Any, ...], where: str) -> None:
    if value is None and type(None) in kinds:
        return
    left = [kind for kind in kinds if kind is not type(None)]
    for kind in left[:-1]:
        with suppress(ValueError):
            check_types(value, kind, where)
            return
    check_types(value, left[-1], where)


def _record(value: object, wanted: Any, where: str) -> None:
    if type(value) is not wanted:
        raise ValueError(f"{where} is no {wanted.__name__}")
    for name, kind in _fields(wanted).items():
        if not hasattr(value, name):
            raise ValueError(f"{where} has no {name}")
        check_types(getattr(value, name), kind, f"{where}.{name}")


def _fields(wanted: Any) -> dict[str, Any]:
    hints = get_type_hints(wanted)
    return {one.name: hints[one.name] for one in dataclasses.fields(wanted)}


def _tuple(value: object, kinds: tuple[Any, ...], where: str) -> None:
    if not isinstance(value, tuple) or len(value) > _MOST_ITEMS:
        raise ValueError(f"{where} is no list that fits")
    if kinds[-1:] == (Ellipsis,):
        kinds = kinds[:1] * len(value)
    if len(kinds) != len(value):
        raise ValueError(f"{where} has {len(value)} parts, must be {len(kinds)}")
    for number, (one, kind) in enumerate(zip(value, kinds, strict=True)):
        check_types(one, kind, f"{where}[{number}]")


def _mapping(value: object, kinds: tuple[Any, ...], where: str) -> None:
    if not isinstance(value, dict) or len(value) > _MOST_ITEMS:
        raise ValueError(f"{where} is no table")
    for name, one in value.items():
        check_types(name, kinds[0], f"a name in {where}")
        check_types(one, kinds[1], f"{where}[{str(name)[:40]}]")


def _leaf(value: object, wanted: Any, where: str) -> None:
    fits = {float: int | float, Hashable: str | None, Any: object, object: object}.get(wanted, wanted)
    if not isinstance(value, fits) or (wanted is int and isinstance(value, bool)):
        raise ValueError(f"{where} is a {type(value).__name__}")
    if isinstance(value, str) and len(value) > _MOST_TEXT:
        raise ValueError(f"{where} is a text of {len(value):,} characters")
    if isinstance(value, int) and not -_MOST <= value <= _MOST:
        raise ValueError(f"{where} is beyond what a stream comes to")
    if isinstance(value, float) and math.isnan(value):
        raise ValueError(f"{where} is no number")


def check_like(value: object, own: object, where: str = "it") -> None:
    """Refuse tensors and arrays of another kind than those that a stream has in the same places.

    Lengths in time may differ, the others, and what a number is made of, may not; and no number may be huge.

    Raises:
        ValueError: one does.
    """
    if isinstance(value, Tensor | np.ndarray):
        _check_numbers(value, own, where)
    elif dataclasses.is_dataclass(value) and dataclasses.is_dataclass(own):
        if type(value) is not type(own):
            raise ValueError(f"{where} is a {type(value).__name__}, here it is a {type(own).__name__}")
        for one in dataclasses.fields(value):
            check_like(getattr(value, one.name), getattr(own, one.name), f"{where}.{one.name}")
    elif isinstance(value, tuple):
        first = own[:1] if isinstance(own, tuple) else ()
        for number, one in enumerate(value):
            other = own[number] if isinstance(own, tuple) and number < len(own) else next(iter(first), None)
            check_like(one, other, f"{where}[{number}]")


def _check_numbers(value: Any, own: Any, where: str) -> None:
    """Refuse what is of another kind, or larger than what a layer or a loudspeaker is ever fed."""
    if type(value) is type(own) and not (value.dtype == own.dtype and _fits(value.shape, own.shape)):
        raise ValueError(f"{where} is {value.dtype} {[*value.shape]}, here it is {own.dtype} {[*own.shape]}")
    floating = value.is_floating_point() if isinstance(value, Tensor) else value.dtype.kind == "f"
    largest = float(abs(value).max()) if floating and 0 not in value.shape else 0.0
    if not largest <= _LARGEST:  # NaN as well
        raise ValueError(f"{where} has numbers up to {largest:.3g}")


def _fits(one: Sequence[int], two: Sequence[int]) -> bool:
    places = zip(range(len(one)), one, two, strict=False)
    return len(one) == len(two) and all(a == b or place in _FREE.get(len(one), ()) for place, a, b in places)
