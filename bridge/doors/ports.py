"""Why a door does not open where it should, in one line.

Rules: builds the error; opens nothing.
"""

from __future__ import annotations

import errno
import os
import socket

from bridge.errors import BridgeError

__all__ = ["cannot_listen"]


def cannot_listen(door: str, host: str, port: int, error: OSError, port_option: str) -> BridgeError:
    """Say why a door does not open there and what to choose instead: a port that is taken, or else a host."""
    option = port_option if error.errno in (errno.EADDRINUSE, errno.EACCES) else "--host"
    lookup = isinstance(error, socket.gaierror)  # it has numbers of its own
    reason = os.strerror(error.errno) if error.errno and not lookup else error.strerror or str(error)
    return BridgeError(f"{door} cannot listen at {host}:{port}: {reason}; choose another with {option}")
