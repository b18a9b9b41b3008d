"""The loops against numpy, which does the same slowly; the same bits in any chunking and on any instruction set."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest

from bridge.audio.catalogue import BUILT_IN
from bridge.audio.chain import Chain
from bridge.audio.effect import Effect, Pcm
from bridge.audio.limiter import Limiter
from bridge.audio.loops import loops
from bridge.audio.loudness import SlowGain
from bridge.audio.reverb import Reverb
from streamgen.kernels import usable

RATE_HZ, LENGTH = 48_000, 60_000


@pytest.fixture(autouse=True)
def chosen_anew() -> Iterator[None]:
    yield
    loops.cache_clear()


def choose(monkeypatch: pytest.MonkeyPatch, instruction_set: str) -> None:
    """Take the loops for an instruction set from here on; "torch" is none."""
    monkeypatch.setenv("STREAMGEN_KERNELS", instruction_set)
    loops.cache_clear()
    assert (loops() is None) == (instruction_set == "torch")


def runs_here() -> list[str]:
    if not usable():
        pytest.skip("the package was installed without a C++ compiler")
    return usable()


def music() -> Pcm:
    """Noise and a bass that swell to three times full scale and fall silent: everything has something to do."""
    rng, time = np.random.default_rng(6), np.arange(LENGTH) / RATE_HZ
    swell = np.maximum(np.sin(2 * np.pi * 1.1 * time), 0) ** 3
    mono = swell * (0.5 * rng.standard_normal(LENGTH) + np.sin(2 * np.pi * 50 * time))
    return np.stack([mono] * 2).astype(np.float32)


def session(sizes: list[int], rack: bool) -> Pcm:
    """Music through what a session of the shipped checkpoint has; every effect in its rack, or none."""
    chain = Chain(RATE_HZ, 1, LENGTH)
    for name, make in BUILT_IN.items() if rack else ():
        chain.rack.add(make(), name)
    chain.set({"master": "gentle", "width": 0.5, "gain_db": 12.0} | ({"plugin/2/low_db": 3.0} if rack else {}))
    samples, out, at = music(), [], 0
    while at < LENGTH:
        out.append(chain.process(samples[:, at : at + sizes[len(out) % len(sizes)]]))
        at += sizes[(len(out) - 1) % len(sizes)]
    return np.concatenate([*out, chain.finish()], axis=1)


def test_a_session_sounds_the_same_by_numpy_and_on_every_instruction_set(monkeypatch: pytest.MonkeyPatch) -> None:
    made = {}
    for name in ("torch", *runs_here()):
        choose(monkeypatch, name)
        made[name] = session([1_920], rack=True)
    slow = made.pop("torch")
    assert np.abs(slow).max() > 0.8
    np.testing.assert_allclose(made["portable"], slow, rtol=0, atol=2e-6)
    assert np.sqrt(np.mean((made["portable"].astype(float) - slow) ** 2)) < 1e-7
    for name, fast in made.items():
        np.testing.assert_array_equal(fast, made["portable"], err_msg=name)


def test_a_session_without_a_rack_is_the_same_bits_in_any_chunking(monkeypatch: pytest.MonkeyPatch) -> None:
    choose(monkeypatch, runs_here()[-1])
    np.testing.assert_array_equal(session([1, 17, 641, 1_920, 3_001], rack=False), session([LENGTH], rack=False))


@pytest.mark.parametrize(
    "make", [Limiter, Reverb, BUILT_IN["equalizer"], BUILT_IN["high-pass"], BUILT_IN["compressor"]]
)
def test_any_chunking_gives_the_same_bits(make: Callable[[], Effect], monkeypatch: pytest.MonkeyPatch) -> None:
    choose(monkeypatch, runs_here()[-1])

    def run(sizes: list[int]) -> Pcm:
        effect, samples, out, at = make(), music(), [], 0
        effect.prepare(RATE_HZ, 1, LENGTH)
        while at < LENGTH:
            out.append(effect.process(samples[:, at : at + sizes[len(out) % len(sizes)]], at, ()))
            at += out[-1].shape[1]
        return np.concatenate(out, axis=1)

    np.testing.assert_array_equal(run([1, 17, 640, 0, 3_001]), run([LENGTH]))


def test_a_slow_gain_goes_the_same_way_in_any_chunking(monkeypatch: pytest.MonkeyPatch) -> None:
    choose(monkeypatch, runs_here()[-1])
    whole, pieces = SlowGain(RATE_HZ, -14.0), SlowGain(RATE_HZ, -14.0)
    samples = 0.1 * music()
    out = np.concatenate([pieces.process(samples[:, at : at + 777]) for at in range(0, LENGTH, 777)], axis=1)
    np.testing.assert_array_equal(out, whole.process(samples))


def test_what_is_not_lent_for_writing_is_read_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    choose(monkeypatch, runs_here()[-1])
    samples = music()
    samples.flags.writeable = False
    limiter, reverb = Limiter(), Reverb()
    for effect in (limiter, reverb):
        effect.prepare(RATE_HZ, 2, LENGTH)
        assert effect.process(samples, 0, ()).shape == samples.shape
