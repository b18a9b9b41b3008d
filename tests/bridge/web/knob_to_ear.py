"""A page that notes when its own turns of a knob leave its audio thread, and a service that sings sines for it.

    hand ─► page ─► worker ─► WebSocket ─► session (real, with a FakeModel) ─► … ─► worklet ─► tap ─► the sound system
    │                                                                                            │
    └──────────────────────────────── what is measured ──────────────────────────────────────────┘

Rules: real browser, page, door and session; only the model is another. `Tap` gives every sample that the page plays and
when it is heard by the sound system's own word, so that a recording of the sound card can be laid beside it; it fits a
page of any service.
"""

from __future__ import annotations

import base64
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from page_driver import Open

from streamgen.testing import fake_pitch_hz

RATE_HZ = 48_000

_TAP = """registerProcessor("tap", class extends AudioWorkletProcessor {
  #kept = new Float32Array(4096); #count = 0;
  process([[left]]) {
    if (!left) return true;
    if (this.#count === 0) this.from = currentFrame;
    this.#kept.set(left, this.#count);
    this.#count += left.length;
    if (this.#count < this.#kept.length) return true;
    this.port.postMessage({from: this.from, samples: this.#kept.slice()});
    this.#count = 0;
    return true;
  }
});"""
_ATTACH = """async (module) => {
  const {analyser} = streamgen.player, context = analyser.context;
  await context.audioWorklet.addModule(URL.createObjectURL(new Blob([module], {type: 'text/javascript'})));
  const node = new AudioWorkletNode(context, 'tap', {numberOfOutputs: 0});
  window.tap = {pieces: [], context};
  node.port.onmessage = ({data}) => tap.pieces.push(data);
  analyser.connect(node);
  window.turn = (parameter, value) => {
    const at = performance.timeOrigin + performance.now();
    const control = document.querySelector(`[data-parameter="${parameter}"]`);
    if (value === undefined) control.click();
    else { control.value = value; control.dispatchEvent(new Event('change')); }
    return at / 1000;
  };
}"""
_READ = """() => {
  const whole = new Float32Array(tap.pieces.reduce((sum, {samples}) => sum + samples.length, 0));
  let at = 0;
  for (const {samples} of tap.pieces) { whole.set(samples, at); at += samples.length; }
  const {contextTime, performanceTime} = tap.context.getOutputTimestamp();
  const heard = (performance.timeOrigin + performanceTime) / 1000;
  const bytes = new Uint8Array(whole.buffer), words = [];
  for (let i = 0; i < bytes.length; i += 32768) words.push(String.fromCharCode(...bytes.subarray(i, i + 32768)));
  return {pcm: btoa(words.join('')), from: tap.pieces[0].from, contextTime, heard};
}"""


@contextmanager
def singing_service(environment: dict[str, str]) -> Iterator[str]:
    """Serve a live session in a process of its own while the block runs; yields the page's address.

    Args:
        environment: of the sound server at which it plays too.
    """
    program = [sys.executable, str(Path(__file__).parent / "singing_service.py")]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


@dataclass
class Tap:
    """What a page or a sound card played.

    Attributes:
        samples: float32, its left channel.
        began: when the first of them was heard, Unix seconds.
        rate_hz: samples a second.
    """

    samples: NDArray[np.float32]
    began: float
    rate_hz: int = RATE_HZ

    def after(self, at: float, seconds: float) -> NDArray[np.float32]:
        """Return what was heard from a moment on, for so long."""
        first = round((at - self.began) * self.rate_hz)
        return self.samples[first : first + round(seconds * self.rate_hz)]


def attach(opened: Open) -> None:
    """Note from now on what the page plays; it must be playing, in a context that bypasses the page's policy."""
    opened.page.evaluate(_ATTACH, _TAP)


def turn(opened: Open, parameter: str, value: str | None = None) -> float:
    """Turn a switch, or write into a field; returns when, Unix seconds."""
    return float(opened.ask(f"turn({parameter!r}{'' if value is None else f', {value!r}'})"))


def played(opened: Open) -> Tap:
    """Read what was noted."""
    read = opened.ask(_READ)
    samples = np.frombuffer(base64.b64decode(read["pcm"]), "<f4")
    began = read["heard"] + read["from"] / RATE_HZ - read["contextTime"]
    return Tap(samples, began)


def silence_after(tap: Tap, at: float) -> float:
    """Return after how many seconds the sound was gone; NaN if it went on."""
    found = _first(np.abs(tap.after(at, 1.5)) < 0.01, tap.rate_hz // 50)
    return found / tap.rate_hz


def sound_after(tap: Tap, at: float) -> float:
    """Return after how many seconds it was there; NaN if it was not."""
    loud = np.abs(tap.after(at, 1.5)) > 0.05
    return float(np.argmax(loud)) / tap.rate_hz if loud.any() else float("nan")


def _first(true: NDArray[np.bool_], length: int) -> float:
    """Where so many in a row begin; NaN if nowhere."""
    sums = np.convolve(true, np.ones(length), "valid")
    found = np.flatnonzero(sums > length - 0.5)
    return float(found[0]) if len(found) else float("nan")


def prompt_after(tap: Tap, at: float, prompt: str, before: str) -> float:
    """Return after how many seconds another prompt's pitch is the louder one; NaN if it never is."""
    samples, step, window = tap.after(at, 2.0), tap.rate_hz // 200, tap.rate_hz // 50
    turns = np.arange(window) / tap.rate_hz
    probes = [np.exp(-2j * np.pi * fake_pitch_hz(text) * turns) * np.hanning(window) for text in (prompt, before)]
    for start in range(0, len(samples) - window, step):
        new, old = (abs(np.dot(samples[start : start + window], probe)) for probe in probes)
        if new > old and new > 1.0:
            return (start + window / 2) / tap.rate_hz
    return float("nan")


def wait(seconds: float, opened: Open) -> None:
    """Let music pass, and the browser go on."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        opened.page.wait_for_timeout(20)
