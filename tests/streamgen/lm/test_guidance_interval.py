"""Guidance of every n-th frame: what is drawn between, and what the rows that rest remember of it."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from streamgen import Model
from streamgen.checkpoint import load_checkpoint
from streamgen.kernels import kernels
from streamgen.lm.attention import Segment
from streamgen.lm.cache import CacheRows, KVCache, RowRange, RowsCopy
from streamgen.lm.cross import CrossCache
from streamgen.lm.engine import LmEngine
from streamgen.lm.halves import HalvesCache
from streamgen.lm.native_cache import NativeCache
from streamgen.lm.sampling import combine
from streamgen.lm.step import Rows
from streamgen.stream.snapshots import StreamSnapshot
from streamgen.testing import tiny_checkpoint
from tests.streamgen.lm.test_engine import open_tokens, step

Twins = Callable[[str], Any]
CPU = torch.device("cpu")


def rows(*coefficients: float) -> Rows:
    names = tuple(str(number) for number in range(len(coefficients)))
    return Rows(names, (None,) * len(names), coefficients)  # type: ignore[arg-type]


def test_without_guidance_those_that_count_against_others_rest() -> None:
    assert rows(3.0, -2.0).unguided == (1.0,)
    assert rows(2.25, 0.75, -1.5, -0.5).unguided == (0.75, 0.25)
    assert rows(0.5, 0.5).unguided == (0.5, 0.5), "guidance below 1: the null row is music as well"
    assert rows(1.0).unguided == (1.0,)
    assert rows(6.0, -3.0, -2.0).unguided == (1.0,), "double guidance"


def caches() -> list[Any]:
    config = replace(load_checkpoint(str(tiny_checkpoint("mono"))).decoder, max_positions=128)  # whole blocks of keys
    library = kernels()
    native = [] if library is None else [NativeCache(config, library, 3, exact=exact) for exact in (False, True)]
    return [KVCache(config, 3, dtype=torch.float32, device=CPU), HalvesCache(config, 3), *native]


def held(cache: CacheRows[Any], row: int) -> list[Tensor]:
    copy: Any = cache.copy_out(RowRange(row, row + 1), cache_places(cache))
    return [copy.keys, copy.values] if isinstance(copy, RowsCopy) else list(copy.rows[0])


def cache_places(cache: Any) -> int:
    return int(cache.positions if isinstance(cache, NativeCache) else cache.values.shape[3])


def test_one_place_of_a_row_becomes_anothers() -> None:
    for cache in caches():
        for row in (0, 1):
            cache.fill(RowRange(row, row + 1))
        cache.copy_in(RowRange(2, 3), cache.copy_out(RowRange(0, 1), cache_places(cache)))
        before, other = held(cache, 0), held(cache, 1)
        cache.remember_as([0], [1], [21])
        changed = [int((now != then).sum()) for now, then in zip(held(cache, 0), before, strict=True)]
        places = cache_places(cache)
        assert all(0 < count <= then.numel() // places for count, then in zip(changed, before, strict=True))
        cache.remember_as([0], [2], [21])
        assert all(map(torch.equal, held(cache, 0), before)), "nothing else was touched"
        cache.remember_as([0] * places, [1] * places, range(places))
        assert all(map(torch.equal, held(cache, 0), other))


class SlowTwin:
    """Two rows, one after the other, on torch; what the null row missed is put into a copy of all that it remembers."""

    def __init__(self, model: Any, settings: Any) -> None:
        runtime = model.runtime
        checkpoint = load_checkpoint(str(tiny_checkpoint("mono")))
        self.engine = LmEngine.on_torch(checkpoint, device=CPU, dtype=torch.float32, rows=2)
        self.rows, self.cross, self.past = settings.rows, CrossCache(), 0
        for row, name in enumerate(settings.rows.names):
            self.cross.set(row, self.engine.projector.project(runtime.prompts.states(name)))

    @torch.inference_mode()
    def logits(self, column: Tensor, guided: bool) -> Tensor:
        """Guided, or of the prompt alone, float32 [K, V]."""
        x, cache = self.engine.decoder.embed(column[None]), self.engine.cache
        found = []
        for row in range(2 if guided else 1):
            segment = [Segment(RowRange(row, row + 1), self.past)]
            found.append(self.engine.decoder.step(x, segment, cache, self.cross, [0])[0])
        self.past += 1
        if guided:
            return combine(torch.stack(found), self.rows.coefficients)
        prompt, null = cache.copy_out(RowRange(0, 1), self.past), cache.copy_out(RowRange(1, 2), self.past)
        null.keys[:, :, :, -1], null.values[:, :, :, -1] = prompt.keys[:, :, :, -1], prompt.values[:, :, :, -1]
        cache.copy_in(RowRange(1, 2), null)
        return found[0]


KINDS = [("torch", "fp32"), ("torch", "bf16"), ("", "fp32"), ("", "int8")]


@pytest.mark.parametrize(("kernels_of", "precision"), KINDS, ids=["-".join(kind) for kind in KINDS])
@pytest.mark.parametrize("interval", [1, 2, 5])
def test_it_is_its_slow_twin(
    twin: Twins, kernels_of: str, precision: str, interval: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kernels_of == "" and kernels() is None:
        pytest.skip("no native kernels: built without a compiler, or not wanted")
    if kernels_of:
        monkeypatch.setenv("STREAMGEN_KERNELS", kernels_of)
    model = Model.from_checkpoint(twin("mono").checkpoint, device="cpu", precision=precision)
    engine = model.runtime.engine
    tokens = open_tokens(model, "piano", guidance_scale=4.0, guidance_interval=interval)
    slow, seen, vectors = SlowTwin(model, tokens.settings), [], []
    decode = engine.decoder.step

    def watched(x: Tensor, *others: Any) -> Tensor:
        vectors.append(len(x))
        seen.append(decode(x, *others))
        return seen[-1]

    monkeypatch.setattr(engine.decoder, "step", watched)
    exact = precision == "fp32"
    for number in range(50):
        wanted = slow.logits(tokens.column(tokens.head), guided=number % interval == 0)
        step(engine, tokens)
        assert vectors[-1] == (2 if number % interval == 0 else 1)
        ours = combine(seen[-1], tokens.settings.rows.coefficients) if len(seen[-1]) == 2 else seen[-1][0]
        error = ((ours - wanted).norm() / wanted.norm()).item()
        assert error < (1e-4 if exact else 0.25), (number, error)
    tokens.close()


def frames_of(model: Any, count: int, **values: Any) -> Tensor:
    tokens = open_tokens(model, "drums and bass", guidance_scale=4.0, temperature=1.0, **values)
    while tokens.frames_done < count:
        step(model.runtime.engine, tokens)
    tokens.close()
    return tokens.frames(0, count)


def test_streams_that_rest_in_turns_are_what_they_are_alone(twin: Twins) -> None:
    model = twin("mono").model
    alone = [frames_of(model, 40, guidance_interval=interval) for interval in (1, 2, 3)]
    assert not torch.equal(alone[0], alone[1]), "another music"
    together = [
        open_tokens(model, "drums and bass", guidance_scale=4.0, temperature=1.0, guidance_interval=interval)
        for interval in (1, 2, 3)
    ]
    while together[0].frames_done < 40:
        step(model.runtime.engine, *together)
    for tokens, wanted in zip(together, alone, strict=True):
        assert torch.equal(tokens.frames(0, 40), wanted)
        tokens.close()


@pytest.mark.parametrize("kind", ["mono", "stereo", "melody"])
def test_music_goes_on_through_rollovers_rewinds_and_changes(twin: Twins, kind: str) -> None:
    """Everything that a stream does, with rows that rest: what is revoked comes again, and a file goes on the same."""
    model = twin(kind).model
    with model.open_stream("piano", seed=3, guidance_interval=3, guidance_scale=3.0, rewind_seconds=4) as stream:
        stream.read(stream.sample_rate_hz * 2)
        mark, saved = stream.mark(), stream.snapshot()
        wanted = stream.read(stream.sample_rate_hz * 3).samples
        stream.rewind(mark)
        assert (stream.read(stream.sample_rate_hz * 3).samples == wanted).all()
        stream.set(guidance_interval=1, negative_prompt="drums")
        stream.read(stream.sample_rate_hz)
        stream.set(guidance_interval=4, prompt="techno")
        stream.read(stream.sample_rate_hz)
        stream.restore(saved)
        assert (stream.read(stream.sample_rate_hz * 3).samples == wanted).all()


def test_clips_and_streams_are_guided_alike(twin: Twins) -> None:
    model = twin("mono").model
    values: dict[str, Any] = {"guidance_scale": 5.0, "guidance_interval": 4}
    clip = model.generate(["piano"], seconds=1.0, seed=5, **values)[0]
    with model.open_stream("piano", seed=5, **values) as stream:
        heard = stream.read(clip.samples.shape[-1]).samples
    head = clip.samples.shape[-1] // 2  # a clip's end is decoded with its known tail
    assert abs(heard[..., :head] - clip.samples[..., :head]).max() < 1e-4


class WrittenPlaces:
    """Stands between an engine and its cache: every place that a step reads was written, or remembered as another's."""

    def __init__(self, engine: LmEngine, monkeypatch: pytest.MonkeyPatch) -> None:
        self._rows: dict[int, set[int]] = {}
        cache, decoder = engine.cache, engine.decoder
        step, read, allocate = decoder.step, decoder.read, cache.allocate
        remember_as, copy_in = cache.remember_as, cache.copy_in
        monkeypatch.setattr(
            decoder, "step", lambda x, segments, *more: (self._run(segments), step(x, segments, *more))[1]
        )
        monkeypatch.setattr(
            decoder, "read", lambda x, segments, *more: (self._run(segments), read(x, segments, *more))[1]
        )

        def allocated(rows: int) -> RowRange:
            block = allocate(rows)
            self._rows |= {row: set() for row in range(block.start, block.stop)}
            return block

        def remembered(*places: Any) -> None:
            for row, other, place in zip(*places, strict=True):
                assert place in self._rows[other]
                self._rows[row].add(place)
            remember_as(*places)

        def copied(block: RowRange, copy: Any, rows: Any = None) -> None:
            length = copy.values.shape[3] if isinstance(copy, RowsCopy) else copy.length
            self._rows |= {row: set(range(length)) for row in range(block.start, block.stop)}
            copy_in(block, copy, rows)

        monkeypatch.setattr(cache, "allocate", allocated)
        monkeypatch.setattr(cache, "remember_as", remembered)
        monkeypatch.setattr(cache, "copy_in", copied)

    def _run(self, segments: list[Segment]) -> None:
        for one in segments:
            for row in range(one.block.start, one.block.stop):
                assert self._rows[row].issuperset(range(one.past)), (row, one)
                self._rows[row].update(range(one.past, one.past + one.length))


def changes(chance: random.Random) -> dict[str, Any]:
    texts = (None, "piano", "drums", "techno beat")
    choices: list[dict[str, Any]] = [
        {"guidance_interval": chance.choice([1, 2, 3, 16])},
        {"guidance_scale": chance.choice([0.0, 0.5, 1.0, 3.0])},
        {"guidance_beta": chance.choice([0.0, 0.5, 2.5])},
        {"negative_prompt": chance.choice(texts)},
        {"prompts": [(chance.choice(texts), chance.random() + 0.1) for _ in range(3)]},
        {"glide_seconds": chance.choice([0.0, 0.3])},
        {"take": chance.choice([0, 1])},
    ]
    return {name: value for one in chance.sample(choices, 3) for name, value in one.items()}


@pytest.mark.parametrize("kind", ["mono", "style"])
@pytest.mark.parametrize("seed", range(3))
def test_whatever_changes_no_place_is_read_that_nobody_wrote(
    kind: str, seed: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """And rewinds, snapshots and files go on the same, through rollovers and while a successor reads its prefix."""
    chance, checkpoint = random.Random(seed), load_checkpoint(str(tiny_checkpoint(kind)))
    checkpoint.decoder = replace(checkpoint.decoder, max_positions=90 if kind == "style" else 60)
    model = Model.from_checkpoint(checkpoint, device="cpu", precision="fp32")
    WrittenPlaces(model.runtime.engine, monkeypatch)
    options: dict[str, Any] = {"guidance_scale": 3.0, "context_seconds": 0.3, "guard": False, "rewind_seconds": 2.0}
    options["change_context_seconds"] = 30.0
    with (
        model.open_stream("piano", seed=seed, guidance_interval=2, **options) as stream,
        model.open_stream(seed=9, **options) as other,
    ):
        for _ in range(8):
            stream.set(**changes(chance))
            stream.read(640 * chance.randrange(10, 70))
            mark, saved = stream.mark(), stream.snapshot()
            saved.save(tmp_path / "music")
            wanted = stream.read(640 * 8).samples
            stream.rewind(mark)
            assert (stream.read(640 * 8).samples == wanted).all()
            other.restore(StreamSnapshot.load(tmp_path / "music"))
            assert (other.read(640 * 8).samples == wanted).all()
            stream.restore(saved)
        assert stream.metrics.rollovers > 0 or kind == "style", "a style is read anew at each change of texts"
    assert all(model.runtime.engine.cache._free)
