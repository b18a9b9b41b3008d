"""Real plugins of Debian's: streamed they are what they are offline, and the music keeps its place.

CI installs zam-plugins, mda-lv2, x42-plugins and lsp-plugins-lv2; elsewhere these tests are skipped.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from bridge.audio.chain import Chain
from bridge.audio.effect import Pcm
from bridge.audio.plugins.engine import Reference
from bridge.audio.plugins.plugin import Plugin
from bridge.audio.plugins.spawn import HostSettings, PluginTrouble
from bridge.audio.rack import Rack

from .conftest import RATE_HZ, wait_until

pytestmark = pytest.mark.skipif(find_spec("minihost") is None, reason="needs the extra 'plugins'")
LV2, VST3 = "/usr/lib/lv2", "/usr/lib/vst3"


@dataclass(frozen=True)
class Case:
    """A plugin, some of its parameters, and whether its output is the same for every block size."""

    name: str
    reference: Reference
    values: dict[str, float] = field(default_factory=dict)
    any_block: bool = True


CASES = [
    Case("ZamCompX2", Reference(f"{VST3}/ZamCompX2.vst3"), {"threshold": -40.0, "ratio": 8.0, "makeup": 6.0}),
    Case("ZaMaximX2", Reference(f"{VST3}/ZaMaximX2.vst3"), {"threshold": -12.0}),
    Case("ZamEQ2", Reference(f"{VST3}/ZamEQ2.vst3")),
    Case("ZamVerb", Reference(f"{VST3}/ZamVerb.vst3"), any_block=False),
    Case("Overdrive", Reference(f"{LV2}/mda.lv2", "http://drobilla.net/plugins/mda/Overdrive"), {"drive": 0.7}),
    Case("fil4", Reference(f"{LV2}/fil4.lv2", "http://gareus.org/oss/lv2/fil4#stereo"), {"gain": 3.0}, any_block=False),
    Case(
        "lsp", Reference(f"{LV2}/lsp-plugins.lv2", "http://lsp-plug.in/plugins/lv2/compressor_stereo"), any_block=False
    ),
]

OFFLINE = """
import json, sys
import numpy as np
from bridge.audio.plugins.engine import Reference
from bridge.audio.plugins.minihost_engine import MinihostEngine
task = json.loads(sys.argv[1])
engine = MinihostEngine(Reference(**task["reference"]), task["rate_hz"], 8192)
samples = np.load(task["samples"])
turns, out, at = [tuple(turn) for turn in task["turns"]], np.zeros_like(samples), 0
while at < samples.shape[1]:
    part = slice(at, at + task["block"])
    engine.transport(0.0, at)
    engine.process(samples[:, part], out[:, part], turns)
    turns, at = [], at + task["block"]
np.save(task["samples"], out)
"""


def offline(reference: Reference, samples: Pcm, block: int, turns: list[tuple[int, int, float]], folder: Path) -> Pcm:
    """What the plugin makes of all of it, in a process of its own."""
    file = folder / "samples.npy"
    np.save(file, samples)
    task = {"reference": vars(reference), "rate_hz": RATE_HZ, "samples": str(file), "block": block, "turns": turns}
    subprocess.run([sys.executable, "-c", OFFLINE, json.dumps(task)], check=True, capture_output=True)
    return np.asarray(np.load(file))


def noise(seconds: float) -> Pcm:
    rng = np.random.default_rng(6)
    swell = 0.2 * (1 + np.sin(np.arange(round(seconds * RATE_HZ)) / 4_000))
    return (swell * rng.uniform(-0.5, 0.5, (2, len(swell)))).astype(np.float32)


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Callable[..., Plugin]]:
    plugins: list[Plugin] = []

    def make(reference: Reference, restore: Path | None = None, preset: Path | None = None) -> Plugin:
        if not Path(reference.path).exists():
            pytest.skip(f"{reference.path} is not installed")
        settings = HostSettings(tmp_path, deadline_seconds=1.0, load_seconds=60.0)
        plugins.append(Plugin.open(reference, settings, RATE_HZ, f"{len(plugins)}", restore, preset))
        return plugins[-1]

    yield make
    for plugin in plugins:
        plugin.close()


def streamed(plugin: Plugin, samples: Pcm, block: int, values: dict[str, float]) -> tuple[Pcm, Chain]:
    rack = Rack()
    chain = Chain(RATE_HZ, 2, 8_192, [rack])
    rack.add(plugin, "plugin")
    chain.set({f"plugin/1/{name}": value for name, value in values.items()})
    out = [chain.process(samples[:, at : at + block]) for at in range(0, samples.shape[1], block)]
    return np.concatenate([*out, chain.finish()], axis=1), chain


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_streamed_is_offline_and_its_latency_is_made_up_for(
    opened: Callable[..., Plugin], case: Case, tmp_path: Path
) -> None:
    plugin, samples = opened(case.reference), noise(2.0)
    late = plugin.latency_samples
    turns = [(0, plugin._named[name].index, plugin._named[name].to_unit(value)) for name, value in case.values.items()]
    came, chain = streamed(plugin, samples, 960, case.values)
    padded = np.pad(samples, ((0, 0), (0, chain.latency_samples)))
    expected = offline(case.reference, padded, 1_920 if case.any_block else 960, turns, tmp_path)
    assert came.shape == samples.shape
    assert np.abs(came - samples).max() > 1e-3 or not case.values, "it does something"
    np.testing.assert_allclose(came, expected[:, late : late + samples.shape[1]], rtol=0, atol=1e-6)


def test_the_latency_that_zamaximx2_tells_is_made_up_for_to_the_sample(opened: Callable[..., Plugin]) -> None:
    plugin, click = opened(Reference(f"{VST3}/ZaMaximX2.vst3")), np.zeros((2, 9_600), np.float32)
    click[:, 4_000] = 0.25
    assert plugin.latency_samples == 480
    came, _ = streamed(plugin, click, 960, {})
    assert list(np.flatnonzero(np.abs(came[0]) > 0.1)) == [4_000]


def test_parameters_have_their_own_units_and_land_at_their_sample(opened: Callable[..., Plugin]) -> None:
    plugin = opened(Reference(f"{VST3}/ZamCompX2.vst3"))
    spec = plugin.parameters["threshold"]
    assert (spec.low, spec.high, spec.default, spec.unit) == (-80, 0, 0, "dB")
    assert plugin.parameters["current_program"].choices == ("Zero", "PoppySnare", "VocalLeveller")
    assert plugin.parameters["sidechain"].type == "bool"
    rack, steady = Rack(), np.full((2, 4_800), 0.1, np.float32)
    chain = Chain(RATE_HZ, 2, 8_192, [rack])
    rack.add(plugin, "ZamCompX2")
    chain.set({"plugin/1/makeup": 20.0}, at_sample=3_333)
    came = np.concatenate(
        [chain.process(steady[:, at : at + 960]) for at in range(0, 4_800, 960)] + [chain.finish()], axis=1
    )
    np.testing.assert_allclose(came[0, :3_333], 0.1, atol=1e-6)
    np.testing.assert_allclose(came[0, 3_333:], 1.0, atol=1e-4)


def test_its_state_is_saved_and_comes_back(opened: Callable[..., Plugin]) -> None:
    plugin = opened(Reference(f"{VST3}/ZamCompX2.vst3"))
    samples = noise(0.5)
    streamed(plugin, samples, 960, {"threshold": -33.0, "makeup": 7.5})
    wanted = plugin.save()
    wait_until(lambda: plugin.saves == wanted)
    again = opened(plugin.reference, plugin.state_path)
    assert again.values()["threshold"] == pytest.approx(-33, abs=1e-3)
    assert again.values()["makeup"] == pytest.approx(7.5, abs=1e-3)
    assert again.parameters["threshold"].default == 0, "where a reset knob goes is the plugin's own"
    came, expected = (streamed(one, samples, 960, {})[0] for one in (again, plugin))
    np.testing.assert_allclose(came[:, 9_600:], expected[:, 9_600:], atol=1e-3)


def test_its_own_preset_files_go_out_and_in(opened: Callable[..., Plugin], tmp_path: Path) -> None:
    """Also of a bundle that does not say its class in a file, as few do."""
    plugin = opened(Reference(f"{VST3}/ZamCompX2.vst3"))
    streamed(plugin, noise(0.1), 960, {"threshold": -33.0})
    wanted = plugin.save()
    wait_until(lambda: plugin.saves == wanted)
    plugin.save_preset(tmp_path / "Hall.vstpreset")
    assert (tmp_path / "Hall.vstpreset").read_bytes().startswith(b"VST3\x01\0\0\0")
    again = opened(plugin.reference, preset=tmp_path / "Hall.vstpreset")
    assert again.values()["threshold"] == pytest.approx(-33, abs=1e-3)
    (tmp_path / "bad.vstpreset").write_bytes(b"VST3" + bytes(range(256)))
    with pytest.raises(PluginTrouble):
        opened(plugin.reference, preset=tmp_path / "bad.vstpreset")
    other = opened(CASES[4].reference)
    wanted = other.save()
    other.process(noise(0.02), 0, [])
    wait_until(lambda: other.saves == wanted)
    with pytest.raises(PluginTrouble, match="only VST3 plugins have preset files of their own; save the set instead"):
        other.save_preset(tmp_path / "Hall.vstpreset")
    assert sorted(one.name for one in tmp_path.glob("*preset")) == ["Hall.vstpreset", "bad.vstpreset"]
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    ("case", "knob"), [(CASES[0], "makeup"), (CASES[4], "output")], ids=["ZamCompX2 makeup", "Overdrive output"]
)
def test_no_knob_of_a_plugin_is_heard_turning(opened: Callable[..., Plugin], case: Case, knob: str) -> None:
    """A tone of 300 Hz while a level goes through a third of its range, 50 times a second: nothing new above 6 kHz."""
    rack = Rack()
    chain = Chain(RATE_HZ, 2, 8_192, [rack])
    rack.add(opened(case.reference), case.name)
    name, spec = f"plugin/1/{knob}", rack.parameters[f"plugin/1/{knob}"]
    low, high = spec.limits
    tone = np.tile((0.25 * np.sin(np.arange(960) * (2 * np.pi * 300 / RATE_HZ))).astype(np.float32), (2, 1))

    def second(turning: bool) -> np.ndarray:
        blocks = []
        for turn in range(50):
            if turning:
                chain.set({name: low + (high - low) * (100 + turn) / 300})
            blocks.append(chain.process(tone)[0])
        out = np.concatenate(blocks).astype(np.float64)
        window = np.hanning(len(out))
        return np.asarray(20 * np.log10(np.abs(np.fft.rfft(out * window)) * 2 / window.sum() + 1e-12))

    chain.set({name: low + (high - low) / 3})
    second(turning=False)
    standing, turned = second(turning=False), second(turning=True)
    assert turned[300] > standing[300] + 1, "it was turned"
    assert turned[6_000:].max() < max(standing[6_000:].max() + 6, -90)


@pytest.mark.skipif(sys.platform == "win32", reason="has no such signal")
def test_killed_it_comes_back_with_its_state_and_no_sample_is_lost(opened: Callable[..., Plugin]) -> None:
    plugin, rack = opened(Reference(f"{VST3}/ZamCompX2.vst3")), Rack()
    chain, steady = Chain(RATE_HZ, 2, 8_192, [rack]), np.full((2, 960), 0.1, np.float32)
    rack.add(plugin, "ZamCompX2")
    chain.set({"plugin/1/makeup": 20.0})
    came, went, faults = [chain.process(steady) for _ in range(20)], 20, []
    wanted = plugin.save()
    wait_until(lambda: plugin.saves == wanted)
    assert plugin._process is not None
    os.kill(plugin._process.pid, signal.SIGSEGV)
    end = time.monotonic() + 30
    while len(faults) < 2 and time.monotonic() < end:
        came.append(chain.process(steady))
        went += 1
        faults += rack.take_faults()
        time.sleep(0.01)
    came += [*(chain.process(steady) for _ in range(20)), chain.finish()]
    out = np.concatenate(came, axis=1)
    assert out.shape[1] == (went + 20) * 960
    assert [fault.reason for fault in faults] == ["it died: signal 11 (SIGSEGV)", ""]
    np.testing.assert_allclose(out[0, 4_800:9_600], 1.0, atol=1e-3)
    np.testing.assert_allclose(out[0, -9_600:], 1.0, atol=1e-3)
    assert out[0].min() > 0.0999
    assert np.abs(np.diff(out[0, 4_800:])).max() < 0.005, "it fades, both ways"


@pytest.mark.slow
def test_a_program_that_turns_other_knobs_is_noticed(opened: Callable[..., Plugin]) -> None:
    plugin = opened(Reference(f"{VST3}/ZamCompX2.vst3"))
    plugin._settings = HostSettings(plugin._settings.folder, deadline_seconds=1.0, save_seconds=0.05)
    rack, samples = Rack(), noise(0.02)
    chain, moves = Chain(RATE_HZ, 2, 8_192, [rack]), {}
    rack.add(plugin, "ZamCompX2")
    chain.set({"plugin/1/current_program": "VocalLeveller"})
    end = time.monotonic() + 10
    while "plugin/1/threshold" not in moves and time.monotonic() < end:
        chain.process(samples)
        moves |= rack.take_moves()
    assert "plugin/1/threshold" in moves
    assert plugin.values()["threshold"] == moves["plugin/1/threshold"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ZamCompX2", "ZamEQ2"])
def test_a_plugin_in_its_child_costs_a_small_part_of_a_block(opened: Callable[..., Plugin], name: str) -> None:
    """20 ms of audio; as a ratio, for others use this machine too."""
    rack, block, costs = Rack(), noise(0.02), []
    chain = Chain(RATE_HZ, 2, 8_192, [rack])
    rack.add(opened(Reference(f"{VST3}/{name}.vst3")), name)
    for _ in range(500):
        began = time.perf_counter()
        chain.process(block)
        costs.append(time.perf_counter() - began)
    assert np.median(costs) < 0.05 * 0.02
