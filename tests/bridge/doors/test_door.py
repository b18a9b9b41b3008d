"""Why a door does not open."""

from __future__ import annotations

import errno
import socket

import pytest

from bridge.doors.door import cannot_listen, host_and_port
from bridge.errors import UsageError


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (OSError(errno.EADDRINUSE, "a long story"), "Address already in use; choose another with --osc-port"),
        (OSError(errno.EACCES, "a long story"), "Permission denied; choose another with --osc-port"),
        (OSError(errno.EADDRNOTAVAIL, "a long story"), "Cannot assign requested address; choose another with --host"),
        (socket.gaierror(8, "nobody of that name"), "nobody of that name; choose another with --host"),
    ],
)
def test_a_door_that_does_not_open_says_what_to_choose(error: OSError, why: str) -> None:
    told = cannot_listen("OSC", "here", 80, error, "--osc-port")
    assert str(told) == f"OSC cannot listen at here:80: {why}"


def test_a_place_is_a_host_and_a_port_or_a_host_where_there_is_a_usual_one() -> None:
    assert host_and_port("--osc-target", "[::1]:9000") == ("::1", 9000)
    assert host_and_port("--rtp", "239.1.2.3", 5004) == ("239.1.2.3", 5004)
    assert host_and_port("--rtp", "[fe80::1]", 5004) == ("fe80::1", 5004)
    assert host_and_port("--rtp", "here:6000", 5004) == ("here", 6000)
    with pytest.raises(UsageError, match=r"--rtp is 'here:x', must be a host and a port, .* without a port it is 5004"):
        host_and_port("--rtp", "here:x", 5004)
