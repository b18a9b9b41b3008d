"""`streamgen certificate`: what it makes is what TLS takes, and what it does not do."""

from __future__ import annotations

import asyncio
import os
import ssl
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from websockets.asyncio.client import connect

from bridge.cli.certificate import certified, own_places
from bridge.doors.access import tls_context
from bridge.errors import UsageError

from ..doors.web_session import serving

Run = Callable[..., Any]


def test_key_and_certificate_are_written_once(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "tls"
    answer = run("certificate", "studio.example", "--out", str(folder), "--json")
    assert answer.code == 0
    assert {"localhost", "127.0.0.1", "::1", "studio.example"} <= set(answer.fields["names"])
    assert stat.S_IMODE((folder / "streamgen-key.pem").stat().st_mode) == 0o600
    assert "on a phone: open https://" in answer.err
    key = (folder / "streamgen-key.pem").read_bytes()
    assert key.splitlines()[1].decode() not in answer.err
    again = run("certificate", "--out", str(folder))
    assert (again.code, (folder / "streamgen-key.pem").read_bytes()) == (2, key)
    assert "is there already" in again.error_line
    assert run("certificate", "--out", str(folder), "--force").code == 0
    assert (folder / "streamgen-key.pem").read_bytes() != key


@pytest.mark.parametrize("name", ["", "a" * 70, "..", "a b\n"])
def test_a_name_that_none_can_be_is_refused(run: Run, tmp_path: Path, name: str) -> None:
    answer = run("certificate", name, "--out", str(tmp_path))
    assert answer.code == 2
    assert "must be a host's name or an address" in answer.error_line
    assert not (tmp_path / "streamgen-key.pem").exists()


def test_https_and_wss_are_served_to_who_trusts_it(tmp_path: Path) -> None:
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    certificate_pem, key_pem = certified(own_places())
    certificate.write_bytes(certificate_pem)
    key.write_bytes(key_pem)

    async def go() -> None:
        trusting = ssl.create_default_context(cafile=certificate)
        async with serving(tls=(certificate, key)) as door:
            places = door.web.places()
            assert str(places["page"]).startswith("https://127.0.0.1:")
            async with connect(str(places["websocket"]), ssl=trusting, compression=None) as socket:
                assert '"hello"' in str(await socket.recv())
            with pytest.raises(ssl.SSLError):
                await connect(str(places["websocket"]), ssl=ssl.create_default_context())

    asyncio.run(go())


def test_files_that_are_none_are_told(tmp_path: Path) -> None:
    certificate_pem, key_pem = certified(["localhost"])
    (tmp_path / "cert.pem").write_bytes(certificate_pem)
    (tmp_path / "key.pem").write_bytes(key_pem)
    (tmp_path / "other.pem").write_bytes(certified(["localhost"])[1])
    (tmp_path / "both.pem").write_bytes(certificate_pem + key_pem)
    os.mkfifo(tmp_path / "pipe.pem")
    secret = serialization.BestAvailableEncryption(b"secret")
    key = serialization.load_pem_private_key(key_pem, None)
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    (tmp_path / "locked.pem").write_bytes(key.private_bytes(pem, pkcs8, secret))
    assert tls_context(None, None) is None
    assert tls_context(tmp_path / "both.pem", None) is not None
    for names, words in [
        ((None, "key.pem"), "--tls-key is given without --tls-cert"),
        (("cert.pem", "no.pem"), "there is no file .*no.pem"),
        (("cert.pem", "other.pem"), "KEY_VALUES_MISMATCH"),
        (("cert.pem", "locked.pem"), "--tls-key is encrypted"),  # and not asked for at the terminal
        (("pipe.pem", None), "--tls-cert is .*pipe.pem.* no file"),
        (("key.pem", None), "not a certificate in PEM with its key"),
    ]:
        with pytest.raises(UsageError, match=words):
            tls_context(*(None if name is None else tmp_path / name for name in names))
