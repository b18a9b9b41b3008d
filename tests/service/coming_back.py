"""A program: how soon the page plays again once a service that went is there again, and how soon commands are gone.

    python -m tests.service.coming_back page 10          the page over http, ten times
    python -m tests.service.coming_back page 2 --tls
    python -m tests.service.coming_back exits 20         `serve` with all kinds of listeners, and `listen`, by signals

The page's time counts from the first answer of `/healthz` to its clock that goes on with sound.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from streamgen.testing import tiny_checkpoint

from ..real_parts.chromium import launched

_TRUSTING = ssl._create_unverified_context()
_STREAMGEN = [sys.executable, "-m", "bridge.cli.main"]
PLAYS = (
    "document.body.dataset.link === 'open' && streamgen.session.greeted && !streamgen.player.report.waiting"
    " && streamgen.player.report.heard"
)


def free_port() -> int:
    with closing(socket.socket()) as place:
        place.bind(("127.0.0.1", 0))
        return int(place.getsockname()[1])


def certificate(home: Path) -> list[str]:
    """Make one; returns the options that name it."""
    run = subprocess.run([*_STREAMGEN, "certificate", "--out", str(home)], capture_output=True, text=True, check=True)
    key = next(home.glob("*key*"))
    cert = next(path for path in home.glob("*.pem") if path != key)
    assert run.returncode == 0
    return ["--tls-cert", str(cert), "--tls-key", str(key)]


class Served:
    """`streamgen serve` on a port, as often as it is started there.

    Args:
        home: where its log goes.
        tls: options for it; none is plain http.
    """

    def __init__(self, home: Path, tls: list[str]) -> None:
        self.port, self._log, self._tls = free_port(), home / "serve.log", tls
        self.address = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> float:
        """Start it; returns when it first answered."""
        words = ["serve", "--model", str(tiny_checkpoint("mono")), "--port", str(self.port), "--osc-port", "0"]
        words += ["--no-soundcard", "--state", str(self._log.with_name("state")), *self._tls]
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [*_STREAMGEN, *words],
                stdout=log,
                stderr=log,
            )
        until = time.monotonic() + 120
        while time.monotonic() < until:
            with suppress(OSError), urllib.request.urlopen(f"{self.address}/healthz", context=_TRUSTING, timeout=2):
                return time.monotonic()
            assert self.process.poll() is None, self._log.read_text()
            time.sleep(0.01)
        raise AssertionError("it never answers")

    def log(self) -> str:
        """What it said."""
        return self._log.read_text()

    def end(self, number: int) -> float:
        """Send a signal; returns the seconds until it was gone."""
        assert self.process is not None
        began = time.monotonic()
        self.process.send_signal(number)
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            stopped = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
            self.process.send_signal(signal.SIGABRT)  # tells where it stands
            self.process.wait(60)
            raise AssertionError(
                f"still there, {'stopped by another' if stopped else 'running'}: {self.log()}"
            ) from None
        return time.monotonic() - began


def page_returns(home: Path, rounds: int, tls: bool) -> list[float]:
    """Kill the service under a page that plays, start it again; returns the page's seconds of each round."""
    served, found = Served(home, certificate(home) if tls else []), list[float]()
    served.start()
    try:
        with launched() as browser:
            page = browser.new_context(ignore_https_errors=True).new_page()
            page.goto(served.address)
            page.click("#play")
            _until(page, f"{PLAYS} > 3200")
            for _ in range(rounds):
                served.end(signal.SIGKILL)
                _until(page, "document.body.dataset.link !== 'open'")
                page.wait_for_timeout(2_000)
                answered = _started_beside(page, served)
                heard = page.evaluate("streamgen.player.report.heard")
                _until(page, f"(({PLAYS}) || 0) > {heard} || (({PLAYS}) || {heard}) < {heard}")
                found.append(time.monotonic() - answered)
    finally:
        served.end(signal.SIGKILL)
    return found


def _started_beside(page: Any, served: Served) -> float:
    """Start it while the page goes on: what waits in this thread would stop what the page tells."""
    answered: list[float] = []
    starting = threading.Thread(target=lambda: answered.append(served.start()))
    starting.start()
    while starting.is_alive():
        page.wait_for_timeout(20)
    return answered[0]


def _until(page: Any, script: str, seconds: float = 60.0) -> None:
    until = time.monotonic() + seconds
    while not page.evaluate(script):
        assert time.monotonic() < until, f"never true: {script}"
        page.wait_for_timeout(20)


# -- exits -------------------------------------------------------------------------------------------------------------


@contextmanager
def _stalled(served: Served) -> Iterator[None]:
    """A listener that asks for sound and reads nothing."""
    plain = socket.create_connection(("127.0.0.1", served.port))
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    place = _TRUSTING.wrap_socket(plain) if served.address.startswith("https") else plain
    head = ("GET /v1/stream?codec=f32le HTTP/1.1", f"Host: 127.0.0.1:{served.port}", "Connection: Upgrade")
    key = ("Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==")
    place.sendall(("\r\n".join([*head, *key]) + "\r\n\r\n").encode())
    with closing(place):
        yield


def listen(served: Served, home: Path, cert: list[str]) -> subprocess.Popen[bytes]:
    """Start `streamgen listen`, and wait until it has heard something."""
    out = home / f"{time.monotonic_ns()}.wav"
    environment = {**os.environ, **({"SSL_CERT_FILE": cert[1]} if cert else {})}
    process = subprocess.Popen(
        [*_STREAMGEN, "listen", served.address, "--out", str(out)],
        env=environment, stdout=subprocess.DEVNULL, stderr=(home / "listen.log").open("ab"),
    )  # fmt: skip
    until = time.monotonic() + 60
    while not out.exists() or out.stat().st_size < 50_000:
        assert time.monotonic() < until, (home / "listen.log").read_text()
        assert process.poll() is None, (home / "listen.log").read_text()
        time.sleep(0.05)
    return process


def exits(home: Path, rounds: int) -> dict[str, list[float]]:
    """End `serve` and `listen` by signals, by turns; returns the seconds of each."""
    found: dict[str, list[float]] = {"serve": [], "listen": []}
    cert = certificate(home)
    with launched() as browser, ExitStack() as stack:
        for number in range(rounds):
            tls = cert if number % 2 else []
            kind = signal.SIGINT if number % 4 < 2 else signal.SIGTERM
            served = Served(home, tls)
            served.start()
            page = browser.new_context(ignore_https_errors=True).new_page()
            page.goto(served.address)
            page.click("#play")
            stack.enter_context(_stalled(served))
            ended, stays = listen(served, home, tls), listen(served, home, tls)
            _until(page, f"{PLAYS} > 3200")
            began = time.monotonic()
            ended.send_signal(kind)
            ended.wait(60)
            found["listen"].append(time.monotonic() - began)
            found["serve"].append(served.end(kind))
            stays.wait(60)
            page.context.close()
            assert "Traceback" not in served.log(), served.log()
    return found


def main() -> None:
    """Run what the command line asks for, and print its figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("page", "exits"))
    parser.add_argument("rounds", type=int)
    parser.add_argument("--tls", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        if args.what == "page":
            found = {"page": page_returns(Path(home), args.rounds, args.tls)}
        else:
            found = exits(Path(home), args.rounds)
    for name, seconds in found.items():
        print(json.dumps({"what": name, "largest": round(max(seconds), 3), "all": [round(one, 2) for one in seconds]}))


if __name__ == "__main__":
    main()
