"""Width, gain and mute without a click, in order, exactly reversible."""

from __future__ import annotations

import numpy as np
import pytest

from bridge.audio.limiter import Limiter
from bridge.audio.output import OutputChain, Pcm, Smoothed

RATE_HZ = 32_000
CHUNK = 640


def music(seconds: float = 1.0, level: float = 0.2) -> Pcm:
    noise = np.random.default_rng(4).standard_normal(round(seconds * RATE_HZ))
    return np.stack([(level * np.clip(noise, -3, 3) / 3).astype(np.float32)] * 2)


def sine(hz: float, seconds: float = 1.0, level: float = 0.5) -> Pcm:
    time = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    return np.stack([(level * np.sin(2 * np.pi * hz * time)).astype(np.float32)] * 2)


def through(chain: OutputChain, samples: Pcm, chunk: int = CHUNK) -> Pcm:
    pieces = [chain.process(samples[:, at : at + chunk]) for at in range(0, samples.shape[1], chunk)]
    return np.concatenate(pieces, axis=1)


@pytest.mark.parametrize("mono", [True, False])
def test_at_rest_the_output_is_the_input_delayed(mono: bool) -> None:
    chain, samples = OutputChain(RATE_HZ, mono), music()
    out = through(chain, samples)
    late = chain.latency_samples
    assert out.dtype == np.float32
    np.testing.assert_array_equal(out[:, late:], samples[:, :-late])
    assert not out[:, :late].any()


def test_gain_and_mute_reach_their_values_exactly() -> None:
    chain, samples = OutputChain(RATE_HZ, False), music()
    chain.set(gain_db=-6.0)
    late, settled = chain.latency_samples, 8_000
    expected = samples * np.float32(10 ** (-6 / 20))
    np.testing.assert_array_equal(through(chain, samples)[:, settled:], expected[:, settled - late : -late])
    chain.set(mute=True)
    assert not through(chain, samples)[:, settled:].any()
    chain.set(mute=False, gain_db=0.0)
    np.testing.assert_array_equal(through(chain, samples)[:, settled:], samples[:, settled - late : -late])


@pytest.mark.parametrize("values", [{"gain_db": -60.0}, {"gain_db": 4.0}, {"mute": True}, {"width": 1.0}])
def test_a_change_makes_no_click_and_takes_about_20_ms(values: dict[str, float]) -> None:
    """A 200 Hz tone bends by at most its own curvature; a step of the gain would bend it a hundred times as much."""
    chain, tone = OutputChain(RATE_HZ, True), sine(200, level=0.4)
    first = through(chain, tone)[0]
    chain.set(**values)  # type: ignore[arg-type]
    second = through(chain, tone)[0]
    whole = np.concatenate((first, second))[RATE_HZ - 3_000 : RATE_HZ + 8_000]
    curve = np.abs(np.diff(whole, 2))
    assert curve.max() < 3 * np.abs(np.diff(first[3_000:], 2)).max()
    assert chain.state.gain.target == pytest.approx(10 ** (values.get("gain_db", 0) / 20))


def test_a_knob_turned_while_it_moves_never_jumps() -> None:
    rng, level = np.random.default_rng(5), Smoothed(1.0)
    values = []
    for _ in range(400):
        level.aim(float(rng.choice([0.0, 0.5, 1.0])), 96.0)
        values.append(np.broadcast_to(level.next(20, 96.0), 20))
    path = np.concatenate([np.ones(1), *values])
    assert np.abs(np.diff(path)).max() < 0.01
    assert np.abs(np.diff(path, 2)).max() < 3e-4, "no corner: the speed goes on where it was"
    assert path.min() > -0.2
    assert path.max() < 1.2


def test_a_step_is_99_percent_done_after_20_ms() -> None:
    level = Smoothed(0.0)
    level.aim(1.0, 0.02 * RATE_HZ / 6.64)
    path = np.asarray(level.next(RATE_HZ // 10, 0.02 * RATE_HZ / 6.64))
    assert path[RATE_HZ // 50] == pytest.approx(0.99, abs=0.001)
    assert path.max() <= 1.0
    assert path[0] < 0.001


def test_width_keeps_the_mono_sum_and_parts_the_channels() -> None:
    chain, samples = OutputChain(RATE_HZ, True), music(2.0)
    chain.set(width=1.0)
    out = through(chain, samples)
    late = chain.latency_samples
    np.testing.assert_allclose(out.sum(axis=0)[late:], 2 * samples[0, :-late], atol=1e-7)
    left, right = out[:, 4_000:]
    assert abs(np.corrcoef(left, right)[0, 1]) < 0.4
    assert 10 * np.log10((left**2).mean() / (right**2).mean()) == pytest.approx(0, abs=0.5)


def test_width_leaves_the_bass_in_the_middle() -> None:
    chain = OutputChain(RATE_HZ, True)
    chain.set(width=1.0)
    side = {hz: np.std(np.diff(through(chain, sine(hz, 0.5, 0.2))[:, 8_000:], axis=0)) for hz in (30, 60)}
    wide = np.std(np.diff(through(chain, music(0.5))[:, 8_000:], axis=0)) / np.std(music(0.5))
    assert side[30] / (0.2 / np.sqrt(2)) < 0.1 * wide
    assert side[60] / (0.2 / np.sqrt(2)) < 0.5 * wide


def test_width_leaves_real_stereo_alone() -> None:
    chain = OutputChain(RATE_HZ, False)
    stereo = np.random.default_rng(6).uniform(-0.3, 0.3, (2, RATE_HZ)).astype(np.float32)
    chain.set(width=1.0)
    late = chain.latency_samples
    np.testing.assert_array_equal(through(chain, stereo)[:, late:], stereo[:, :-late])


def test_width_back_at_zero_is_the_input_again() -> None:
    chain, samples = OutputChain(RATE_HZ, True), music()
    chain.set(width=1.0)
    through(chain, samples)
    chain.set(width=0.0)
    late = chain.latency_samples
    np.testing.assert_array_equal(through(chain, samples)[:, 8_000:], samples[:, 8_000 - late : -late])


def test_any_chunking_gives_the_same_audio() -> None:
    def play(chunk: int) -> Pcm:
        chain, pieces = OutputChain(RATE_HZ, True), []
        for part, values in enumerate(({"width": 0.7}, {"gain_db": 12.0}, {"mute": True}, {"mute": False})):
            chain.set(**values)  # type: ignore[arg-type]
            pieces.append(through(chain, music(level=0.9)[:, part * 5_000 : (part + 1) * 5_000], chunk))
        return np.concatenate(pieces, axis=1)

    whole = play(5_000)
    for chunk in (17, 640):
        np.testing.assert_allclose(play(chunk), whole, rtol=0, atol=1e-7)


def test_what_is_no_number_becomes_silence() -> None:
    chain, samples = OutputChain(RATE_HZ, True), music()
    bad = samples.copy()
    bad[0, 100], bad[1, 200], bad[1, 201] = np.nan, np.inf, -np.inf
    out = through(chain, bad)
    assert np.isfinite(out).all()
    late = chain.latency_samples
    np.testing.assert_array_equal(out[:, 300 + late :], samples[:, 300:-late])


def test_the_limiter_comes_last() -> None:
    chain = OutputChain(RATE_HZ, True)
    chain.set(gain_db=12.0, width=1.0)
    out = through(chain, music(level=0.9))
    assert np.abs(out).max() <= 10 ** (-1 / 20)
    assert chain.latency_samples == Limiter(RATE_HZ).latency_samples
    assert chain.process(np.zeros((2, 0), np.float32)).shape == (2, 0)
