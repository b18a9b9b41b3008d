"""What comes from a stranger is checked, kept short, and told in words that steer nothing."""

from __future__ import annotations

import json
import os
import random
import struct
from contextlib import suppress

import numpy as np
import pytest

from streamgen.stream_protocol import (
    applied_at,
    checked_hello,
    checked_values,
    read_chunk,
)

SEED = int(os.environ.get("STREAMGEN_TORMENT_SEED", "0"))
HELLO = {"type": "hello", "sample_rate_hz": 48_000, "state": {"state": "playing", "values": {"temperature": 1.0}}}
WRONG = [None, True, -1, 10**400, float("nan"), float("inf"), "", "x" * 20_000, [], {}, [1], {"a": {"a": 1}}]


def frame(samples: np.ndarray, codec: int = 0, rate_hz: int = 48_000) -> bytes:
    head = struct.pack("<BBBBIQQII", 1, codec, 2, 1, 0, 96, 2_500_000, rate_hz, samples.shape[1])
    return head + samples.T.astype("<i2" if codec == 0 else "<f4").tobytes()


def test_a_chunk_is_read_as_it_was_sent() -> None:
    samples = np.array([[1, -32_768, 5], [0, 7, 32_767]])
    chunk = read_chunk(frame(samples))
    np.testing.assert_array_equal(chunk.samples, samples / np.float32(32_768))
    assert (chunk.start_sample, chunk.sample_rate_hz, chunk.due_seconds) == (96, 48_000, 2.5)
    assert chunk.discontinuity
    assert not chunk.prompt_change


@pytest.mark.parametrize(
    "broken",
    [
        b"",
        frame(np.zeros((2, 4)))[:31],
        frame(np.zeros((2, 4)))[:-1],
        frame(np.zeros((2, 0))),
        frame(np.zeros((2, 4)), rate_hz=0),
        frame(np.full((2, 4), np.nan), codec=1),
        frame(np.full((2, 4), np.inf), codec=1),
        b"\2" + frame(np.zeros((2, 4)))[1:],
    ],
)
def test_what_is_no_chunk_is_refused(broken: bytes) -> None:
    with pytest.raises(ValueError):
        read_chunk(broken)


def test_chunks_broken_at_random_are_read_or_refused() -> None:
    draw = random.Random(SEED)
    for _ in range(300):
        data = bytearray(frame(np.zeros((2, 40)), codec=draw.randrange(2)))
        for _ in range(draw.randint(1, 6)):
            data[draw.randrange(len(data))] = draw.randrange(256)
        with suppress(ValueError):
            chunk = read_chunk(bytes(data[: draw.choice([len(data), draw.randrange(len(data))])]))
            assert np.isfinite(chunk.samples).all()


def test_hellos_with_a_wrong_value_somewhere_are_taken_or_refused() -> None:
    draw = random.Random(SEED)
    assert checked_hello(HELLO) is HELLO
    for _ in range(300):
        place = hello = json.loads(json.dumps(HELLO))
        while isinstance(inside := place[key := draw.choice([*place])], dict) and draw.random() < 0.8:
            place = inside
        place[key] = draw.choice(WRONG)
        with suppress(ValueError):
            taken = checked_hello(hello)
            assert isinstance(taken["sample_rate_hz"], int)
            assert isinstance(taken["state"]["state"], str)


def test_values_and_answers_keep_within_limits() -> None:
    assert checked_values({"a": 1, "b": "x", "c": True}) == {"a": 1, "b": "x", "c": True}
    for wrong in ({"a": None}, {"a": "x" * 20_000}, {"a": [1]}, {str(n): 1 for n in range(6_000)}, [], None):
        with pytest.raises(ValueError):
            checked_values(wrong)
    assert applied_at({"applied_at_sample": 5}) == 5
    for wrong in (None, "5", 1.5, float("inf")):
        with pytest.raises(ValueError):
            applied_at({"applied_at_sample": wrong})
