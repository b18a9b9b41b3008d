"""An Icecast of our own."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_CONFIG = """<icecast><limits><sources>4</sources></limits>
<authentication><source-password>secret</source-password><admin-user>admin</admin-user>
<admin-password>admin</admin-password></authentication><hostname>localhost</hostname>
<listen-socket><port>{port}</port><bind-address>127.0.0.1</bind-address></listen-socket>
<paths><basedir>{home}</basedir><logdir>{home}</logdir><webroot>/usr/share/icecast2/web</webroot>
<adminroot>/usr/share/icecast2/admin</adminroot></paths>
<logging><accesslog>a.log</accesslog><errorlog>e.log</errorlog></logging>
<security><chroot>0</chroot>{owner}</security></icecast>"""
_OWNER = "<changeowner><user>nobody</user><group>nogroup</group></changeowner>"  # it does not run as root


@contextmanager
def running_icecast() -> Iterator[int]:
    """Run a server while the block runs; its port. Sources are let in with the password "secret"."""
    program = shutil.which("icecast2")
    if program is None:
        pytest.skip("needs Debian's icecast2")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        home.chmod(0o777)
        owner = _OWNER if os.getuid() == 0 else ""
        (home / "icecast.xml").write_text(_CONFIG.format(port=port, home=home, owner=owner))
        server = subprocess.Popen([program, "-c", str(home / "icecast.xml")], stderr=subprocess.DEVNULL)
        try:
            yield port
        finally:
            server.terminate()
            server.wait(10)
