"""Why a door does not open."""

from __future__ import annotations

import errno
import socket

import pytest

from bridge.doors.door import cannot_listen


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
