from __future__ import annotations

import pytest
import torch
from streamgen.threads import computing_on

import streamgen
from streamgen.lm import precision
from streamgen.testing import tiny_checkpoint

pytestmark = pytest.mark.usefixtures("three_threads")


@pytest.mark.parametrize(("asked", "within"), [(1, 1), (2, 2), (3, 3), (None, 3)])
def test_the_callers_threads_come_back(asked: int | None, within: int) -> None:
    def interrupted() -> None:
        with computing_on(asked):
            assert torch.get_num_threads() == within
            raise RuntimeError("in between")

    with pytest.raises(RuntimeError, match="in between"):
        interrupted()
    assert torch.get_num_threads() == 3


@pytest.mark.parametrize(("asked", "small", "used"), [(None, True, 1), (None, False, 3), (2, True, 2), (2, False, 2)])
def test_a_small_checkpoint_plays_on_one_thread_unless_told_otherwise(
    monkeypatch: pytest.MonkeyPatch, asked: int | None, small: bool, used: int
) -> None:
    if not small:
        monkeypatch.setattr(precision, "_SMALL_BYTES", 0)
    model = streamgen.load_model(str(tiny_checkpoint("mono")), device="cpu", precision="fp32", threads=asked)
    seen, step = [], model.runtime.engine.step
    monkeypatch.setattr(
        model.runtime.engine, "step", lambda streams: (seen.append(torch.get_num_threads()), step(streams))
    )
    with model.open_stream("piano", seed=1) as stream:
        stream.read(640)
        stream.set(prompt="rock")
        stream.read(640)
    model.generate(["piano"], seconds=0.1)
    assert set(seen) == {used}
    assert torch.get_num_threads() == 3


@pytest.mark.parametrize("threads", [0, -1, 1.5, "two", True, 1025])
def test_a_wrong_number_of_threads_is_refused(threads: object) -> None:
    with pytest.raises(streamgen.ConfigError, match=r"threads is .*, must be (a whole number|within 1 … 1024)"):
        streamgen.load_model("pocket", threads=threads)  # type: ignore[arg-type]
