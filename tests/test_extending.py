"""What is added in one place appears everywhere: a control, an effect. A door: tests/bridge/test_app.py."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from websockets.sync.client import connect

from bridge.audio.chain import EFFECTS
from bridge.audio.effect import ParameterChange, Pcm
from bridge.session.commands import Set
from bridge.session.events import Block, Event
from bridge.session.player import Player
from bridge.session.timeline import Moment, Timeline
from streamgen.config import ControlSpec, number
from streamgen.testing import FakeClock, FakeModel, tiny_checkpoint

ROOT = Path(__file__).parent.parent
ADDED = '    brightness: Annotated[float, number(-1, 1, 0.25, "", "how bright it is")]\n'


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which the packages are ours with one more line in the table of controls."""
    folder = tmp_path_factory.mktemp("copy")
    for package in ("streamgen", "bridge"):
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("*.png"))
    config = folder / "streamgen" / "config.py"
    last = "    context_seconds: Annotated[float, number("
    text = config.read_text()
    assert last in text
    config.write_text(text.replace(last, ADDED + last))
    return {**os.environ, "PYTHONPATH": str(folder), "PYTHONSAFEPATH": "1"}


def run(environment: dict[str, str], *words: str) -> str:
    done = subprocess.run([sys.executable, *words], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


# in one process, for it takes seconds to import all that they need
KEYWORD_THEN_SERVICE = """
import sys
from bridge.cli.main import main
from streamgen.testing import FakeModel
stream = FakeModel().open_stream("piano", brightness=0.5)
stream.set(brightness=-1.0, at_sample=6400)
print(stream.controls.brightness, stream.read(12800) and stream.controls.brightness, flush=True)
sys.exit(main())
"""


@pytest.fixture(scope="module")
def service(copied: dict[str, str]) -> Iterator[dict[str, Any]]:
    """A whole service of that copy; "keyword" is what a stream said of the control before and after a change."""
    words = ["serve", "--model", str(tiny_checkpoint("mono")), "--port", "0", "--osc-port", "0", "--no-soundcard"]
    command = [sys.executable, "-c", KEYWORD_THEN_SERVICE, *words, "--brightness", "0.5", "--json"]
    with subprocess.Popen(command, env=copied, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        keyword = process.stdout.readline()
        yield json.loads(process.stdout.readline()) | {"keyword": keyword.split()}
        process.send_signal(signal.SIGTERM)


HELPS_AND_KEYS = """
from contextlib import suppress
from bridge.cli.main import main
from bridge.settings import reference
for command in ("render", "play", "serve"):
    with suppress(SystemExit):
        main([command, "--help"])
print([row.key for row in reference()])
"""


def test_a_control_is_an_option_a_key_and_a_row_of_the_reference(copied: dict[str, str]) -> None:
    told = " ".join(run(copied, "-c", HELPS_AND_KEYS).split())
    assert told.count("--brightness X") == 2 * 3, "in the usage and below, of each command"
    assert told.count("how bright it is; -1 … 1") == 3
    assert "'brightness'" in told


def test_a_control_is_a_keyword_of_python_and_reaches_the_stream(service: dict[str, Any]) -> None:
    assert service["keyword"] == ["0.5", "-1.0"]


def test_a_control_is_at_every_door(service: dict[str, Any]) -> None:
    with connect(service["websocket"], subprotocols=["streamgen.v1"]) as socket:  # type: ignore[list-item]
        hello = json.loads(socket.recv())
        (row,) = [row for row in hello["parameters"] if row["name"] == "brightness"]
        assert (row["type"], row["min"], row["max"], row["default"]) == ("float", -1, 1, 0.25)
        assert hello["state"]["values"]["brightness"] == 0.5
        socket.send(json.dumps({"type": "set", "values": {"brightness": -0.5}, "id": 1}))
        answer: dict[str, Any] = {}
        while answer.get("id") != 1:
            message = socket.recv()
            answer = json.loads(message) if isinstance(message, str) else answer
        assert answer["type"] == "ack"
    with urllib.request.urlopen(f"{service['page']}streamgen/brightness") as response:
        node = json.load(response)
    assert (node["RANGE"], node["VALUE"]) == ([{"MIN": -1, "MAX": 1}], [-0.5])
    asked = ["oscsend", f"osc.udp://127.0.0.1:{service['osc_port']}", "/streamgen/brightness/norm", "f", "1.0"]
    if shutil.which("oscsend") is None:
        pytest.skip("needs liblo's oscsend: apt install liblo-tools")
    subprocess.run(asked, check=True)
    for _ in range(100):
        with urllib.request.urlopen(f"{service['page']}streamgen/brightness?VALUE") as response:
            if json.load(response) == {"VALUE": [1.0]}:
                return
    raise AssertionError("what OSC said did not arrive")


class Halving:
    """An effect: takes a part away, and holds back a millisecond."""

    parameters: ClassVar[Mapping[str, ControlSpec]] = {"part": number(0, 1, 1, "", "how much is left")}

    def prepare(self, rate_hz: int, channels: int, max_block: int) -> None:
        self.latency_samples, self._left = rate_hz // 1_000, 1.0
        self.reset()

    def process(self, block: Pcm, start_sample: int, changes: Sequence[ParameterChange]) -> Pcm:
        level = np.full(block.shape[1], self._left, np.float32)
        for change in changes:
            level[max(0, change.at_sample - start_sample) :] = self._left = float(change.value)
        audio = np.concatenate((self._held, block * level), axis=1)
        self._held = audio[:, block.shape[1] :]
        return audio[:, : block.shape[1]]

    def reset(self) -> None:
        self._held = np.zeros((2, self.latency_samples), np.float32)


def test_an_effect_is_one_class_and_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.audio.chain.EFFECTS", [EFFECTS[0], Halving, *EFFECTS[1:]])
    clock, told = FakeClock(), list[Block | Event]()
    player = Player(FakeModel(), told.append, Timeline(48_000, clock, clock), values={"prompt/1/text": "piano"})
    assert player.parameters.table["part"].description == "how much is left"
    player.playback.wanted = True
    assert player.do(Set({"part": 0.5}, "test", Moment(sample=24_000))) == 24_000
    while player.output.position < 48_000:
        player.make() if player.playback.needs_audio else clock.advance(player.tick())
    audio = np.concatenate([item.samples for item in told if isinstance(item, Block)], axis=1)[0]
    assert np.abs(audio[20_000:24_000]).max() == pytest.approx(0.25, abs=1e-3)
    assert np.abs(audio[24_000:28_000]).max() == pytest.approx(0.125, abs=1e-3)
    player.close()
