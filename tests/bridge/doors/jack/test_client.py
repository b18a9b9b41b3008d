"""The client of JACK where its library refuses: at a stand-in for JACK-Client, whose refusals come when they shall."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest

from bridge.doors.access import Access
from bridge.doors.door import Service
from bridge.doors.jack.client import JackClient
from bridge.doors.jack.door import JackDoor
from bridge.errors import DeviceError
from bridge.metrics import Metrics
from bridge.settings import Settings


class JackError(Exception):
    pass


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Any:
    """JACK-Client's module, with one client of which everything can be asked."""
    client = MagicMock(samplerate=48_000, blocksize=512)
    client.name = "streamgen"
    client.get_ports.return_value = []
    module = MagicMock(JackError=JackError, JackOpenError=JackError, ROLLING=1, POSITION_BBT=16)
    module.POSITION_BBT_FRAME_OFFSET = 64
    module.Client.return_value = client
    monkeypatch.setitem(sys.modules, "jack", module)
    return module


def joined() -> JackClient:
    return JackClient(MagicMock())


@pytest.mark.parametrize("refused", ["outports.register", "set_process_callback", "set_xrun_callback"])
def test_a_server_that_refuses_while_it_is_joined_is_no_device_and_no_client_is_left(
    library: Any, refused: str
) -> None:
    client = library.Client.return_value
    client.configure_mock(**{f"{refused}.side_effect": JackError("the server is gone")})
    with pytest.raises(DeviceError, match="JACK refuses: the server is gone"):
        joined()
    client.close.assert_called_once_with()


@pytest.mark.parametrize(
    ("told", "beat"),
    [
        ({}, 6.25),
        ({"valid": 0}, None),
        ({"beats_per_minute": 0.0}, None),
        ({"beats_per_minute": -120.0}, None),
        ({"beats_per_minute": float("nan")}, None),
        ({"beats_per_minute": 1e9}, None),
        ({"ticks_per_beat": 0.0}, None),
    ],
)
def test_a_timebase_without_a_tempo_or_without_ticks_tells_no_beat(
    library: Any, told: dict[str, float], beat: float | None
) -> None:
    said = {"valid": 16, "bar": 2, "beat": 3, "tick": 480, "ticks_per_beat": 1920.0, "beats_per_bar": 4.0}
    position = SimpleNamespace(**{"usecs": 5_000, "beats_per_minute": 120.0} | said | told)
    library.Client.return_value.transport_query_struct.return_value = (1, position)
    found = joined()._read_position()
    assert (found.rolling, found.beat) == (True, beat)


def test_a_port_that_leaves_while_it_is_looked_at_waits_for_the_next_look(library: Any) -> None:
    door, client = JackDoor(Service(Settings(jack_connect="system"), Access(), Metrics())), joined()
    library.Client.return_value.get_ports.side_effect = JackError("Port 'system:playback_1' not available")
    door._connect(client)
    port = SimpleNamespace(name="system:playback_1")
    library.Client.return_value.get_ports.side_effect = [[port], [port]]
    door._connect(client)
    assert {call.args[1] for call in library.Client.return_value.connect.call_args_list} == {"system:playback_1"}


def test_a_client_that_is_closed_asks_nothing_of_the_library(library: Any) -> None:
    client = joined()
    client.abandon()
    library.Client.return_value.reset_mock()
    for ask in (client.links, lambda: client.connect({(0, "a")}), lambda: client.found("a"), lambda: client.roll(True)):
        with pytest.raises(DeviceError, match="closed"):
            ask()
    assert not client.active
    assert library.Client.return_value.mock_calls == []
