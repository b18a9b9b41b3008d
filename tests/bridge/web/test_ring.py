"""ring.js and recorder.js, driven with values inside a real Chromium: no clock, no sound."""

# ruff: noqa: E501 (scripts that run in the page)
from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from page_driver import Open

pytestmark = pytest.mark.device

# push and read in blocks; `ramp(from, n)` is a stereo frame whose samples tell their own position. What is heard is due
# at `now`, seconds of the server's clock; position 0 is due at 100 unless a test says otherwise.
START = """
const {Ring} = await import('./ring.js');
const ring = new Ring(32000), DELAY = ring.delay;
let now = 100;
const due = (position, shift = 0) => 100 + shift + position / 32000;
const ramp = (from, n, lift = 0) => Float32Array.from({length: 2 * n}, (_, i) => (from + (i >> 1)) / 1e6 + lift);
const push = (from, n, {shift = 0, broken = false, lift = 0} = {}) => ring.push(ramp(from, n, lift), from, broken, due(from, shift));
const read = (blocks) => { const all = []; for (let i = 0; i < blocks; i++) {
  const left = new Float32Array(128), right = new Float32Array(128); ring.read(left, right, now); now += 128 / 32000; all.push(...left); } return all; };
const begin = () => { ring.hold(false); now = 100 + DELAY; };
"""


def run(opened: Open, script: str) -> Any:
    return opened.ask("async () => {" + START + script + "}")


def test_it_copies_bit_for_bit_after_its_fade(opened: Open) -> None:
    heard = run(opened, "begin(); push(0, 16000); return read(20)")
    np.testing.assert_array_equal(np.float32(heard[257:]), np.float32(np.arange(257, 2560) / 1e6))
    assert heard[0] < 1e-4, "it fades in"


def test_nothing_is_heard_before_it_is_due_and_then_at_once(opened: Open) -> None:
    result = run(opened, "begin(); now = 99.5 + DELAY; push(0, 16000); return {early: read(125), then: read(20)}")
    assert max(result["early"]) == 0
    np.testing.assert_array_equal(np.float32(result["then"][257:]), np.float32(np.arange(257, 2560) / 1e6))


def test_who_comes_late_begins_with_what_is_due_now(opened: Open) -> None:
    result = run(
        opened,
        "begin(); now = 100.1 + DELAY; push(0, 16000); return {heard: read(20), skipped: ring.skippedFrames, dry: ring.underruns}",
    )
    np.testing.assert_allclose(result["heard"][300:], (3200 + np.arange(300, 2560)) / 1e6, atol=2e-6)
    assert (result["skipped"], result["dry"]) == (0, 0)


def test_without_a_clock_nothing_is_played_and_nothing_lost(opened: Open) -> None:
    result = run(
        opened,
        "begin(); push(0, 16000); now = NaN; const silent = read(10); now = 100 + DELAY; return {silent, then: read(20), dry: ring.underruns}",
    )
    assert max(result["silent"]) == 0
    np.testing.assert_array_equal(np.float32(result["then"][257:]), np.float32(np.arange(257, 2560) / 1e6))
    assert result["dry"] == 0


def test_a_burst_that_is_known_already_is_not_played_twice(opened: Open) -> None:
    script = "begin(); push(0, 16000); push(12000, 8000); return [ring.fill, ...read(150)]"
    fill, *heard = run(opened, script)
    assert fill == 20_000
    np.testing.assert_array_equal(np.float32(heard[257:]), np.float32(np.arange(257, len(heard)) / 1e6))


def test_a_gap_is_silence_of_its_length_faded_on_both_sides(opened: Open) -> None:
    script = "begin(); push(0, 8000); push(16000, 8000, {broken: true, lift: 0.1}); return {heard: read(180), dry: ring.underruns, delay: ring.delay - DELAY}"
    result = run(opened, script)
    heard = np.float32(result["heard"])
    assert np.abs(np.diff(heard)).max() < 0.01
    np.testing.assert_array_equal(heard[8100:15900], 0)
    np.testing.assert_allclose(heard[16400:], np.arange(16_400, len(heard)) / 1e6 + 0.1, atol=2e-4)
    assert (result["dry"], result["delay"]) == (0, 0), "the gap is nobody's fault here"


def test_a_break_in_place_goes_on(opened: Open) -> None:
    heard = run(opened, "begin(); push(0, 8000); push(8000, 8000, {broken: true}); return read(100)")
    np.testing.assert_array_equal(np.float32(heard[257:]), np.float32(np.arange(257, len(heard)) / 1e6))


def test_a_server_that_stood_still_is_waited_for_and_no_delay_grows(opened: Open) -> None:
    script = """begin(); push(0, 8000); const first = read(100); push(8000, 8000, {shift: 0.5, lift: 0.1});
    return {heard: [...first, ...read(140)], dry: ring.underruns, delay: ring.delay - DELAY}"""
    result = run(opened, script)
    heard = np.float32(result["heard"])
    assert np.abs(np.diff(heard)).max() < 0.01
    np.testing.assert_array_equal(heard[8100:23900], 0)
    np.testing.assert_allclose(heard[24500:30700], (8_000 + np.arange(500, 6_700)) / 1e6 + 0.1, atol=2e-4)
    assert (result["dry"], result["delay"]) == (1, 0)


def test_what_was_late_because_the_server_stood_still_makes_no_delay_grow_for_good(opened: Open) -> None:
    script = """begin(); push(0, 8000); read(90); push(8000, 1280); const late = ring.delay - DELAY; read(10);
    push(9280, 12800, {shift: 0.6}); const after = ring.delay - DELAY; return {late, after, heard: read(200), dry: ring.underruns}"""
    result = run(opened, script)
    assert result["late"] > 0.1, "the thread that makes and commits was late, and had not noticed yet"
    assert result["after"] == 0
    assert max(result["heard"]) > 0.0093


def test_what_comes_late_is_played_later_from_then_on(opened: Open) -> None:
    script = """begin(); push(0, 8000); const dry = read(80); const count = ring.underruns;
    for (let at = 8000; at < 24000; at += 1280) push(at, 1280); return {dry, count, starved: ring.starvedFrames, delay: ring.delay - DELAY, more: read(60)}"""
    result = run(opened, script)
    assert np.abs(np.diff(np.float32(result["dry"]))).max() < 0.01
    assert (result["count"], result["dry"][-1]) == (1, 0)
    late = (80 * 128 - 8_000) / 32_000  # 10,240 were read, 8,000 were there
    assert 2_000 < result["starved"] <= 2_240
    assert late < result["delay"] < late + 0.03, "as much as was missing, and a little"
    assert max(result["more"]) > 0.008
    heard = np.float32(result["more"])
    begin = int(np.argmax(heard > 0))
    np.testing.assert_allclose(heard[begin + 300 :], (8_000 + np.arange(300, len(heard) - begin)) / 1e6, atol=2e-6)


def test_what_nearly_comes_too_late_asks_for_a_little_more_and_nothing_is_missed(opened: Open) -> None:
    script = """begin(); let at = 0; const left = new Float32Array(128), right = new Float32Array(128); let worst = 0, last = 0;
    const tone = (from, n) => Float32Array.from({length: 2 * n}, (_, i) => Math.sin((from + (i >> 1)) * 0.05));
    for (let i = 0; i < 250 * 20; i++) {
      for (; due(at) < now + 0.08 - DELAY; at += 1280) ring.push(tone(at, 1280), at, false, due(at)); // 40 ms less than is usual
      ring.read(left, right, now); now += 128 / 32000; for (const s of left) { if (i > 10) worst = Math.max(worst, Math.abs(s - last)); last = s; } }
    return {delay: ring.delay - DELAY, dry: ring.underruns, worst, error: ring.lateness - ring.delay}"""
    result = run(opened, script)
    assert result["dry"] == 0
    assert result["worst"] < 0.0502, "it is given by reading slower"
    assert 0 <= result["delay"] < 0.03
    assert abs(result["error"]) < 0.012


def test_the_delay_shrinks_once_all_has_come_early_for_a_while(opened: Open) -> None:
    script = """begin(); ring.delay = DELAY + 0.1; now += 0.1; let at = 0; const delays = [], ratios = [];
    for (let i = 0; i < 250 * 60; i++) {
      for (; due(at) < now + 0.15 - ring.delay; at += 1280) push(at, 1280);
      read(1); if (i % 250 === 0) delays.push(ring.delay - DELAY); ratios.push(ring.ratio); }
    return {delays, dry: ring.underruns, most: Math.max(...ratios), error: ring.lateness - ring.delay}"""
    result = run(opened, script)
    assert result["delays"][8] > 0.099, "not at once"
    assert 0.02 < result["delays"][-1] < 0.06, "a little at a time, as far as there is enough in hand"
    assert result["dry"] == 0
    assert abs(result["error"]) < 0.012, "and what is heard has followed"
    assert 1 < result["most"] <= 1.002


def test_it_begins_with_something_in_hand(opened: Open) -> None:
    script = """begin(); push(0, 1280); const first = read(1); const grown = ring.delay - DELAY; push(1280, 1280); push(2560, 1280);
    return {first, grown, more: read(20), dry: ring.underruns}"""
    result = run(opened, script)
    assert max(result["first"]) == 0
    assert 0.015 < result["grown"] < 0.025, "40 ms were there, 60 are wanted"
    assert max(result["more"]) > 0.001
    assert result["dry"] == 0


@pytest.mark.parametrize("drift", [-2e-4, 2e-4])
def test_a_clock_that_runs_faster_is_followed_without_a_jump(opened: Open, drift: float) -> None:
    script = f"""begin(); let at = 0, elapsed = 0; const tone = (from, n) => Float32Array.from({{length: 2 * n}}, (_, i) => Math.sin((from + (i >> 1)) * 0.05));
    const errors = []; let worst = 0, last = 0; const left = new Float32Array(128), right = new Float32Array(128);
    for (let i = 0; i < 600 * 250; i++) {{
      for (; due(at) < now + 0.2; at += 1280) ring.push(tone(at, 1280), at, false, due(at));
      ring.read(left, right, now); now += 128 / 32000 * (1 + {drift});
      for (const s of left) {{ if (i > 10) worst = Math.max(worst, Math.abs(s - last)); last = s; }}
      if (i > 25000 && i % 250 === 0) errors.push(ring.lateness - ring.delay); }}
    return {{dry: ring.underruns, skipped: ring.skippedFrames, worst, least: Math.min(...errors), most: Math.max(...errors)}}"""
    result = run(opened, script)
    assert (result["dry"], result["skipped"]) == (0, 0)
    assert -0.02 < result["least"] <= result["most"] < 0.02, "ten minutes, and it is heard when it is due"
    assert result["worst"] < 0.0502, "no step is longer than the sine's own"


def test_jitter_is_not_taken_for_drift(opened: Open) -> None:
    script = """begin(); let at = 0, seed = 1; const ratios = new Set(); let newest = 0; const draw = () => (seed = seed * 48271 % 2147483647) / 2147483647;
    for (let i = 0; i < 60 * 250; i++) {
      if (i % 10 === 0) newest = now + 0.2 - 0.1 * draw(); // on the way
      for (; due(at) < newest; at += 1280) push(at, 1280);
      const clock = now; now += 0.006 * (draw() - 0.5); read(1); now = clock + 128 / 32000; // how clocks are read
      ratios.add(ring.ratio); }
    return {ratios: [...ratios], dry: ring.underruns, delay: ring.delay - DELAY}"""
    assert run(opened, script) == {"ratios": [1], "dry": 0, "delay": 0}


def test_a_clock_that_is_put_right_is_followed_with_a_fade(opened: Open) -> None:
    script = """begin(); push(0, 32000); const before = read(50); now += 0.2; const after = read(60); now -= 0.3; const back = read(60);
    return {heard: [...before, ...after, ...back], after: after.slice(-1)[0], dry: ring.underruns}"""
    result = run(opened, script)
    assert np.abs(np.diff(np.float32(result["heard"]))).max() < 0.01
    assert abs(result["after"] - (110 * 128 + 6_400) / 1e6) < 2e-4
    assert result["dry"] == 0


def test_a_hold_fades_and_what_is_due_then_follows(opened: Open) -> None:
    script = """begin(); push(0, 16000); const before = read(20); ring.hold(true); const fading = read(10); const heard = ring.heard;
    const held = read(100); ring.hold(false); push(16000, 16000, {shift: 0.2}); return {all: [...before, ...fading, ...held, ...read(100)], heard, still: ring.heard, dry: ring.underruns}"""
    result = run(opened, script)
    heard = np.float32(result["all"])
    assert np.abs(np.diff(heard)).max() < 0.01
    assert 2_560 <= result["heard"] <= 2_560 + 3 * 128
    np.testing.assert_array_equal(heard[3840 : 130 * 128], 0)
    assert heard[-1] > 0.016
    assert result["dry"] == 0


def test_memory_is_bounded(opened: Open) -> None:
    script = "begin(); for (let at = 0; at < 32000 * 20; at += 1280) push(at, 1280); return {fill: ring.fill, skipped: ring.skippedFrames, capacity: ring.capacity}"
    result = run(opened, script)
    assert result["fill"] <= result["capacity"]
    assert result["fill"] + result["skipped"] == 32_000 * 20


def test_a_wav_holds_its_frames_between_two_positions(opened: Open) -> None:
    script = """const {Recorder} = await import('./recorder.js'); const tape = new Recorder();
    const frame = (position) => ({codec: 's16le', channels: 2, rateHz: 32000, position, frames: 100,
      bytes: new Uint8Array(Int16Array.from({length: 200}, (_, i) => position + (i >> 1)).buffer)});
    for (const at of [0, 100, 200]) tape.take(frame(at), 0);
    tape.start(150); tape.take(frame(300), 250); tape.take(frame(350), 260);
    return [...new Uint8Array(await tape.stop(380).arrayBuffer())]"""
    data = bytes(run(opened, script))
    assert data[:4] == b"RIFF"
    assert int.from_bytes(data[40:44], "little") == len(data) - 44
    np.testing.assert_array_equal(np.frombuffer(data[44:], "<i2").reshape(-1, 2)[:, 1], np.arange(150, 380))
