"""ring.js and recorder.js, driven with values inside a real Chromium: no clock, no sound."""

# ruff: noqa: E501 (scripts that run in the page)
from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from page_driver import Open

pytestmark = pytest.mark.device

# push and read in blocks; `ramp(from, n)` is a stereo frame whose samples tell their own position.
START = """
const {Ring} = await import('./ring.js');
const ring = new Ring(32000);
const ramp = (from, n, lift = 0) => Float32Array.from({length: 2 * n}, (_, i) => (from + (i >> 1)) / 1e6 + lift);
const read = (blocks) => { const all = []; for (let i = 0; i < blocks; i++) {
  const left = new Float32Array(128), right = new Float32Array(128); ring.read(left, right); all.push(...left); } return all; };
"""


def run(opened: Open, script: str) -> Any:
    return opened.ask("async () => {" + START + script + "}")


def test_it_copies_bit_for_bit_after_its_fade(opened: Open) -> None:
    heard = run(opened, "ring.hold(false); ring.push(ramp(5000, 16000), 5000); return read(20)")
    np.testing.assert_array_equal(np.float32(heard[256:]), np.float32(np.arange(5256, 5000 + 2560) / 1e6))
    assert heard[0] < 1e-4, "it fades in"


def test_a_burst_that_is_known_already_is_not_played_twice(opened: Open) -> None:
    script = "ring.hold(false); ring.push(ramp(0, 16000), 0); ring.push(ramp(12000, 8000), 12000); return [ring.fill, ...read(150)]"
    fill, *heard = run(opened, script)
    assert fill == 20_000
    np.testing.assert_array_equal(np.float32(heard[256:]), np.float32(np.arange(256, len(heard)) / 1e6))


def test_discard_lets_newer_audio_take_the_place(opened: Open) -> None:
    script = """ring.hold(false); ring.push(ramp(0, 16000), 0); const first = read(8); ring.discard(6000);
    ring.push(ramp(6000, 4000, 0.5), 6000); return [...first, ...read(60)]"""
    heard = np.float32(run(opened, script))
    np.testing.assert_allclose(heard[256:6000], np.arange(256, 6000) / 1e6, atol=1e-7)
    np.testing.assert_allclose(heard[6000:], np.arange(6000, len(heard)) / 1e6 + 0.5, atol=1e-6)


def test_discard_of_what_was_heard_skips_into_its_new_form(opened: Open) -> None:
    script = """ring.hold(false); ring.push(ramp(0, 16000), 0); const first = read(50); ring.discard(1280);
    for (let at = 1280; at < 16000; at += 1280) ring.push(ramp(at, 1280, 0.5), at); return [...first, ...read(20)]"""
    heard = np.float32(run(opened, script))
    np.testing.assert_allclose(heard[6400 + 600 :], np.arange(7000, len(heard)) / 1e6 + 0.5, atol=1e-6)
    assert np.abs(np.diff(heard)).max() < 0.01, "the joint is faded"


def test_a_jump_of_positions_is_faded_on_both_sides(opened: Open) -> None:
    script = "ring.hold(false); ring.push(ramp(200000, 8000), 200000); ring.push(ramp(900000, 8000), 900000, true); return read(100)"
    heard = np.float32(run(opened, script))
    assert np.abs(np.diff(heard)).max() < 0.01
    assert heard[8000] < 0.01
    np.testing.assert_allclose(heard[8300:], (900_000 + np.arange(300, len(heard) - 8000)) / 1e6, atol=1e-6)


def test_starvation_fades_counts_and_waits_for_more(opened: Open) -> None:
    script = """ring.hold(false); ring.push(ramp(500000, 16000), 500000); const before = ring.startFrames, dry = read(140);
    const count = ring.underruns; ring.push(ramp(516000, 16000), 516000); const short = read(20);
    ring.push(ramp(532000, 8000), 532000); return {dry, count, short, more: read(20), grown: ring.startFrames / before}"""
    result = run(opened, script)
    assert np.abs(np.diff(np.float32(result["dry"]))).max() < 0.01
    assert (result["count"], result["dry"][-1]) == (1, 0)
    assert result["grown"] == 1.5, "it keeps more from now on"
    assert max(result["short"]) == 0, "what was enough before is not enough now"
    assert max(result["more"]) > 0.5


def test_hold_fades_and_keeps_the_place(opened: Open) -> None:
    script = """ring.hold(false); ring.push(ramp(500000, 32000), 500000); read(20); ring.hold(true); const end = read(10);
    const at = ring.heard; read(100); return {end, moved: ring.heard - at, underruns: ring.underruns}"""
    result = run(opened, script)
    assert (result["end"][-1], result["moved"], result["underruns"]) == (0, 0, 0)
    assert np.abs(np.diff(np.float32(result["end"]))).max() < 0.01


@pytest.mark.parametrize("drift", [-300e-6, 300e-6])
def test_drift_is_followed_by_the_ear_not_by_a_gap(opened: Open, drift: float) -> None:
    script = f"""ring.hold(false); let at = 0, owed = 0; const tone = (from, n) => Float32Array.from({{length: 2 * n}}, (_, i) => Math.sin((from + (i >> 1)) * 0.05));
    ring.push(tone(0, 32000), 0); at = 32000; let worst = 0, last = 0; const left = new Float32Array(128), right = new Float32Array(128); const fills = [];
    for (let i = 0; i < 600 * 250; i++) {{
      owed += 128 * (1 + {drift}); while (owed >= 1280) {{ ring.push(tone(at, 1280), at); at += 1280; owed -= 1280; }}
      ring.read(left, right); for (const s of left) {{ if (i > 10) worst = Math.max(worst, Math.abs(s - last)); last = s; }}
      if (i > 75000 && i % 250 === 0) fills.push(ring.fill / 32000); }}
    return {{underruns: ring.underruns, worst, least: Math.min(...fills), most: Math.max(...fills)}}"""
    result = run(opened, script)
    assert result["underruns"] == 0
    assert 0.85 < result["least"] <= result["most"] < 1.15, "ten minutes, and the buffer is where it was"
    assert result["worst"] < 0.0502, "no step is longer than the sine's own"


def test_jitter_is_not_taken_for_drift(opened: Open) -> None:
    script = """ring.hold(false); let at = 16000, seed = 1, owed = 0, ratios = new Set();
    ring.push(ramp(0, at), 0);
    for (let i = 0; i < 60 * 250; i++) {
      owed += 128; seed = seed * 48271 % 2147483647;
      if (owed >= 1280 * (1 + seed / 2147483647)) { for (; owed >= 1280; owed -= 1280) { ring.push(ramp(at, 1280), at); at += 1280; } }
      read(1); ratios.add(ring.ratio); }
    return {ratios: [...ratios], underruns: ring.underruns}"""
    assert run(opened, script) == {"ratios": [1], "underruns": 0}


def test_a_wav_holds_its_frames_between_two_positions(opened: Open) -> None:
    script = """const {Recorder} = await import('./recorder.js'); const tape = new Recorder();
    const frame = (position) => ({codec: 's16le', channels: 2, rateHz: 32000, position, frames: 100,
      bytes: new Uint8Array(Int16Array.from({length: 200}, (_, i) => position + (i >> 1)).buffer)});
    for (const at of [0, 100, 200]) tape.take(frame(at), 0);
    tape.start(150); tape.take(frame(300), 250); tape.discard(350); tape.take({...frame(350)}, 260);
    return [...new Uint8Array(await tape.stop(380).arrayBuffer())]"""
    data = bytes(run(opened, script))
    assert data[:4] == b"RIFF"
    assert int.from_bytes(data[40:44], "little") == len(data) - 44
    np.testing.assert_array_equal(np.frombuffer(data[44:], "<i2").reshape(-1, 2)[:, 1], np.arange(150, 380))
