"""Going back in a real stream: what comes again is what was, bit for bit."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import streamgen
from streamgen.errors import CapacityError, ConfigError, NumericError
from streamgen.lm import precision
from streamgen.lm.step import Rows
from streamgen.stream.snapshots import StreamSnapshot
from streamgen.testing import tiny_checkpoint

SEED = int(os.environ.get("STREAMGEN_TORMENT_SEED", "0"))
Twins = Callable[[str], Any]
TONE = (0.3 * np.sin(np.arange(48_000) * 0.05)).astype(np.float32)


def test_snapshot_restore_is_bit_identical(short_twin: Twins) -> None:
    model = short_twin("stereo").model
    with model.open_stream("piano", seed=7, context_seconds=1.0) as stream:
        stream.read(96_000)
        stream.set(prompt="rock", at_sample=stream.position_samples + 40_000)
        saved = stream.snapshot()
        first = stream.read(320_000).samples
        position = stream.position_samples
        stream.restore(saved)
        second = stream.read(320_000).samples
        assert np.array_equal(first, second)
        assert stream.position_samples == position
        assert stream.metrics.rollovers >= 2


def test_a_rewind_replays_exactly_across_a_handover_and_a_new_row(short_twin: Twins) -> None:
    """Twin: snapshot and restore, which clone everything. The change is scheduled, so it replays where it was."""
    model = short_twin("mono").model
    options: dict[str, Any] = {"seed": 1, "context_seconds": 1.0, "context_start_seconds": 2.0, "rewind_seconds": 4.0}
    with model.open_stream("piano", **options) as stream:
        stream.read(96_000)
        mark, saved = stream.mark(), stream.snapshot()
        change = {"prompts": [("piano", 1), ("rock", 1)], "at_sample": stream.position_samples + 48_000}
        stream.set(**change)
        first = stream.read(96_000).samples
        assert stream.metrics.rollovers >= 2
        stream.rewind(mark)
        again = stream.read(96_000).samples
        stream.rewind(mark)
        third = stream.read(96_000).samples
        stream.restore(saved)
        stream.set(**change)
        cloned = stream.read(96_000).samples
    assert np.array_equal(again, first)
    assert np.array_equal(again, third)
    assert np.array_equal(again, cloned)
    assert all(model.runtime.engine.cache._free), "retired windows are given back"


def test_after_a_rewind_a_change_is_heard_at_once(twin: Twins) -> None:
    with twin("mono").model.open_stream("piano", seed=1, temperature=0.0, rewind_seconds=2.0) as stream:
        stream.read(16_000)
        mark = stream.mark()
        ahead = stream.read(32_000).samples
        stream.rewind(mark)
        stream.set(temperature=4.0)
        changed = stream.read(32_000).samples
        assert stream.position_samples == 48_000
    # three delayed frames and the codec's look-ahead were drawn before the mark
    assert np.abs(ahead - changed)[:, 10 * 640 :].max() > 1e-2


def test_a_mark_too_far_back_is_refused(twin: Twins) -> None:
    with twin("mono").model.open_stream("piano", seed=1, rewind_seconds=0.5) as stream:
        mark = stream.mark()
        stream.read(32_000)
        with pytest.raises(ConfigError, match=r"frames back, must be within 0 … 25"):
            stream.rewind(mark)


def test_a_rewind_revokes_audio_but_no_wish(twin: Twins) -> None:
    with twin("mono").model.open_stream("piano", seed=1, rewind_seconds=3.0) as stream:
        stream.read(16_000)
        mark = stream.mark()
        stream.set(temperature=0.5)
        stream.read(32_000)
        stream.set(top_k=9, at_sample=64_000)
        stream.rewind(mark)
        stream.set(temperature=0.25)
        stream.read(640)
        assert (stream.controls.temperature, stream.controls.top_k) == (0.25, 250)
        stream.read(64_000)
        assert (stream.controls.temperature, stream.controls.top_k) == (0.25, 9)


def test_the_start_after_an_audio_prompt_replays_exactly(twin: Twins) -> None:
    """The codec still owes the prompt's last samples there, which are no part of the stream."""
    model = twin("mono").model
    options: dict[str, Any] = {"audio_prompt": TONE, "audio_prompt_rate_hz": 32_000, "seed": 1, "rewind_seconds": 1.0}
    with model.open_stream("piano", **options) as stream:
        mark, saved = stream.mark(), stream.snapshot()
        first = stream.read(16_000).samples
        stream.rewind(mark)
        assert np.array_equal(stream.read(16_000).samples, first)
        stream.restore(saved)
        assert np.array_equal(stream.read(16_000).samples, first)


def test_a_snapshot_without_room_changes_nothing(twin: Twins, monkeypatch: pytest.MonkeyPatch) -> None:
    model = twin("mono").model
    with monkeypatch.context() as narrow:
        model.runtime.engine.cache.release(model.runtime.engine.cache.allocate(6))
        narrow.setattr(model.runtime.engine.cache, "max_rows", 6)
        narrow.setattr(model.runtime.engine.cache, "_free", [True] * 6)
        options: dict[str, Any] = {"seed": 1, "guidance_scale": 1.0, "glide_seconds": 0.0}
        with model.open_stream(prompts=[(word, 1.0) for word in "abcd"], **options) as stream:
            saved = stream.snapshot()
            stream.set(prompt="a")
            first = stream.read(6400).samples
            with model.open_stream("b", **options) as other, model.open_stream("c", **options):
                other.set(prompts=[("b", 1), ("d", 1)])
                other.read(640)
                with pytest.raises(CapacityError):
                    stream.restore(saved)
                stream.read(640)
                assert stream.position_samples == 7040
            stream.restore(saved)
            stream.set(prompt="a")
            assert np.array_equal(stream.read(6400).samples, first)
            stream.read(640)
        assert all(model.runtime.engine.cache._free)


def test_a_mark_off_the_streams_way_is_refused(twin: Twins) -> None:
    """Its cache rows may be another stream's by now."""
    model = twin("mono").model
    options: dict[str, Any] = {"seed": 1, "rewind_seconds": 5.0}
    with model.open_stream("piano", **options) as stream, model.open_stream("piano", **options) as other:
        early, saved = stream.mark(), stream.snapshot()
        stream.read(640)
        stream.set(prompts=[("a", 1), ("b", 1)])
        stream.read(640)
        revoked = stream.mark()
        stream.rewind(early)
        stream.read(6400)
        other.read(6400)
        for mark in (revoked, other.mark()):
            with pytest.raises(ConfigError, match="of another stream, or of music that was revoked"):
                stream.rewind(mark)
        stream.rewind(early)
        stream.restore(saved)
        with pytest.raises(ConfigError, match="revoked"):
            stream.rewind(early)
        stream.rewind(stream.mark())
    assert all(model.runtime.engine.cache._free)


def test_a_snapshot_of_another_stream_is_refused(twin: Twins) -> None:
    model = twin("mono").model
    with (
        model.open_stream("piano", seed=1) as stream,
        model.open_stream("piano", seed=1) as other,
        twin("stereo").model.open_stream("piano", seed=1) as stereo,
    ):
        saved = stream.snapshot()
        for each in (other, stereo):
            with pytest.raises(ConfigError, match="the snapshot is another stream's"):
                each.restore(saved)
            assert each.read(640).start_sample == 0


@pytest.mark.parametrize(("kind", "precision"), [("mono", "fp32"), ("mono", "int8"), ("melody", "fp32")])
def test_a_snapshot_of_a_file_goes_on_bit_for_bit_in_another_stream(kind: str, precision: str, tmp_path: Path) -> None:
    model = streamgen.load_model(str(tiny_checkpoint(kind)), precision=precision)
    melody: Any = {"melody": TONE, "melody_rate_hz": 32_000} if kind == "melody" else {}
    with model.open_stream("piano", seed=7, **melody) as stream, model.open_stream("rock", seed=1, **melody) as other:
        stream.read(40_000)
        stream.set(prompt="drums", at_sample=50_000)
        stream.snapshot().save(tmp_path / "music")
        expected = stream.read(40_000).samples
        other.restore(StreamSnapshot.load(tmp_path / "music"))
        assert other.position_samples == 40_000
        assert np.array_equal(other.read(40_000).samples, expected)


def test_a_snapshot_of_a_file_of_another_take_or_opening_goes_on(twin: Twins, tmp_path: Path) -> None:
    """What dominates is named with both then."""
    path = tmp_path / "music"
    model = twin("mono").model
    with model.open_stream("piano", seed=7, guard=False) as stream, model.open_stream(seed=1, guard=False) as other:
        stream.set(take=2)
        stream.read(20_000)
        stream.snapshot().save(path)
        expected = stream.read(20_000).samples
        other.restore(StreamSnapshot.load(path))
        assert np.array_equal(other.read(20_000).samples, expected)


def test_a_snapshot_of_a_file_is_read_on_a_cpu_and_its_texts_go_to_the_streams_device(
    twin: Twins, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, model, load, on = tmp_path / "music", twin("mono").model, torch.load, Rows.on
    read, moved = [], []  # type: ignore[var-annotated]
    monkeypatch.setattr(torch, "load", lambda *what, **how: (read.append(how["map_location"]), load(*what, **how))[1])
    monkeypatch.setattr(Rows, "on", lambda rows, device: (moved.append(device), on(rows, device))[1])
    with model.open_stream("piano") as stream:
        stream.read(640)
        stream.snapshot().save(path)
        stream.restore(StreamSnapshot.load(path))
        rows = on(stream.snapshot().tokens.state.settings.rows, torch.device("meta"))
    assert (read, moved) == (["cpu"], [model.device])
    assert all(text.keys.is_meta and text.values.is_meta for text in rows.texts)


@pytest.mark.parametrize("kind", ["melody", "style"])
def test_a_snapshot_of_a_file_goes_on_in_a_stream_that_read_another_text_first(kind: str, tmp_path: Path) -> None:
    """A shorter or a longer one: the text takes positions of the window."""
    model = streamgen.load_model(str(tiny_checkpoint(kind)), device="cpu", precision="fp32")
    long, path = "slow techno beat with drums and bass and piano", tmp_path / "music"
    for mine, its in (("rock", long), (long, "rock")):
        with model.open_stream(its, seed=7) as stream, model.open_stream(mine, seed=1) as other:
            stream.read(20_000)
            stream.snapshot().save(path)
            expected = stream.read(20_000).samples
            other.restore(StreamSnapshot.load(path))
            assert np.array_equal(other.read(20_000).samples, expected)


@pytest.mark.parametrize(
    "wrong",
    [
        {"guidance_interval": 0},
        {"guidance_interval": -3},
        {"coefficients": (0.0, -1.0)},
        {"coefficients": (1e300, 0.0)},
    ],
)
def test_a_snapshot_with_guidance_that_cannot_be_is_refused(wrong: dict[str, Any], twin: Twins, tmp_path: Path) -> None:
    path = tmp_path / "music"
    with twin("mono").model.open_stream("piano", guidance_scale=3.0, guidance_interval=2, guard=False) as stream:
        stream.read(640)
        stream.snapshot().save(path)
        saved = StreamSnapshot.load(path)
        settings = saved.tokens.state.settings
        inside = "coefficients" in wrong
        rows = dataclasses.replace(settings.rows, **(wrong if inside else {}))
        changed = dataclasses.replace(settings, rows=rows, **({} if inside else wrong))
        with pytest.raises(ConfigError, match=r"the snapshot was changed or is damaged.*guidance of every"):
            stream.restore(saved.with_settings(changed, None))


@pytest.mark.parametrize("wanted", ["int8", "bf16"])
def test_a_snapshot_of_a_file_goes_on_without_native_kernels_too(
    wanted: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With keys and values in halves, which lie in blocks."""
    monkeypatch.setenv("STREAMGEN_KERNELS", "torch")
    monkeypatch.setattr(precision, "halves_pay", lambda _, dtype: dtype == torch.bfloat16)
    model = streamgen.load_model(str(tiny_checkpoint("mono")), precision=wanted)
    with model.open_stream("piano", seed=7) as stream, model.open_stream("rock", seed=1) as other:
        stream.read(40_000)
        stream.snapshot().save(tmp_path / "music")
        expected = stream.read(20_000).samples
        other.restore(StreamSnapshot.load(tmp_path / "music"))
        assert np.array_equal(other.read(20_000).samples, expected)


def test_a_snapshot_of_a_file_that_does_not_fit_is_told(twin: Twins, tmp_path: Path) -> None:
    path = tmp_path / "music"
    with (
        twin("mono").model.open_stream("piano") as stream,
        twin("stereo").model.open_stream("piano") as stereo,
        twin("mono").model.open_stream("piano", rewind_seconds=2) as other,
    ):
        stream.snapshot().save(path)
        for each in (stereo, other):
            with pytest.raises(ConfigError, match=r"the snapshot is of mono.* in .*, 0 to rewind; this stream is of"):
                each.restore(StreamSnapshot.load(path))
        for wrong in (None, stream.mark()):
            with pytest.raises(ConfigError, match="restore takes a snapshot"):
                stream.restore(wrong)  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match="rewind takes a mark of this stream, not NoneType"):
            stream.rewind(None)  # type: ignore[arg-type]


def test_a_snapshot_of_a_file_is_not_played_by_other_weights_of_the_same_name(tmp_path: Path) -> None:
    """Their codes mean other sounds, so it would be noise."""
    path, streams = tmp_path / "music", []
    for seed in (0, 1):
        folder = shutil.copytree(tiny_checkpoint("mono", seed=seed), tmp_path / str(seed) / "mine")
        streams.append(streamgen.load_model(str(folder), device="cpu", precision="fp32").open_stream("piano"))
    streams[0].read(640)
    streams[0].snapshot().save(path)
    told = r"snapshot is of mine \([0-9a-f]{8}\) in fp32 .*; this stream is of mine \([0-9a-f]{8}\) in"
    with pytest.raises(ConfigError, match=told):
        streams[1].restore(StreamSnapshot.load(path))
    assert streams[1].read(640).start_sample == 0


@pytest.mark.parametrize("what", [b"", b"not a snapshot", None])
def test_what_is_no_snapshot_is_refused_and_nothing_of_it_is_run(what: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "music"
    torch.save(Path, path) if what is None else path.write_bytes(what)
    with pytest.raises(ConfigError, match=r"music' is no snapshot of this version"):
        StreamSnapshot.load(path)
    torch.save({"a": 1}, path)
    with pytest.raises(ConfigError, match=r"music' holds no snapshot"):
        StreamSnapshot.load(path)


def test_rows_of_many_changes_are_given_back_once_nothing_goes_back_before_a_mark(short_twin: Twins) -> None:
    """Ten other mixes of eight prompts a second keep the rows of each for `rewind_seconds`, unless told otherwise."""
    model = short_twin("mono").model
    cache = model.runtime.engine.cache
    with model.open_stream("piano", seed=1, rewind_seconds=12.0) as stream:
        first, most = stream.mark(), 0
        for change in range(40):
            stream.set(prompts=[(f"{change} {slot}", 1.0) for slot in range(8)])
            stream.read(640)
            mark = stream.mark()
            stream.forget_before(mark)
            most = max(most, sum(not free for free in cache._free))
        assert most <= 4 * 9, "leader, successor, and what they were before the newest change"
        ahead = stream.read(6_400).samples
        stream.rewind(mark)
        assert np.array_equal(stream.read(6_400).samples, ahead), "what is not forgotten can be gone back to"
        with pytest.raises(ConfigError, match="make a new one"):
            stream.rewind(first)
    assert all(cache._free)


WRONG = (
    None,
    True,
    -1,
    2**40,
    10**30,
    float("nan"),
    "x",
    (),
    (1, 2),
    {},
    torch.zeros(3),
    torch.full((2, 2), torch.nan),
)


def altered(value: object, draw: random.Random) -> object:
    """Return a value with something else in one of its leaves."""
    if dataclasses.is_dataclass(value):
        name = draw.choice([one.name for one in dataclasses.fields(value)])
        other = copy.copy(value)
        object.__setattr__(other, name, altered(getattr(value, name), draw))
        return other
    if isinstance(value, dict) and value:
        name = draw.choice([*value])
        return {**value, name: altered(value[name], draw)}
    if isinstance(value, tuple) and value:
        at = draw.randrange(len(value))
        return (*value[:at], altered(value[at], draw), *value[at + 1 :])
    if isinstance(value, torch.Tensor) and value.ndim and draw.random() < 0.7:
        return draw.choice([value[..., :-1], value[None], value.to(torch.float64), value + 90, torch.cat([value] * 2)])
    return draw.choice(WRONG)


@pytest.mark.parametrize("count", [60, pytest.param(400, marks=pytest.mark.slow)])
def test_a_snapshot_that_was_changed_is_refused_and_the_stream_goes_on(count: int, twin: Twins, tmp_path: Path) -> None:
    """Refused with one line, or taken and played: never another error, and nothing half restored."""
    path, draw, refused = tmp_path / "music", random.Random(SEED), 0
    with twin("mono").model.open_stream("piano", seed=1) as stream:
        stream.read(6_400)
        stream.snapshot().save(path)
        whole = StreamSnapshot.load(path)
        expected = stream.read(640).samples
        for _ in range(count):
            torch.save(altered(whole, draw), path)
            told = ""
            try:
                stream.restore(StreamSnapshot.load(path))
            except (ConfigError, CapacityError) as error:
                told = str(error)
            refused += bool(told)
            assert len(told) < 700
            if not told:
                with contextlib.suppress(ConfigError, NumericError):
                    assert np.isfinite(stream.read(640).samples).all()
            stream.restore(whole)
            assert np.array_equal(stream.read(640).samples, expected)
    assert refused > count / 2


def test_a_snapshot_that_was_cut_off_is_refused(twin: Twins, tmp_path: Path) -> None:
    path, draw = tmp_path / "music", random.Random(SEED)
    with twin("mono").model.open_stream("piano", seed=1) as stream:
        stream.snapshot().save(path)
    whole = path.read_bytes()
    for _ in range(100):
        path.write_bytes(whole[: draw.randrange(len(whole))])
        with pytest.raises(ConfigError, match="is no snapshot of this version"):
            StreamSnapshot.load(path)
