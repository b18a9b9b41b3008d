"""`streamgen certificate`: a self-signed TLS certificate for this machine's names and addresses.

Browsers hold back from pages of plain http what they offer to https: the audio thread, MIDI, full trust. A network at
home or on stage has no authority that would certify a name, so this machine certifies itself.

Rules: writes two files, over none; asks nobody on the network anything.
"""

from __future__ import annotations

import argparse
import ipaddress
import os
import re
import socket
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from bridge.cli.options import add_json_option
from bridge.cli.terminal import may_write, print_json, say
from bridge.doors.door import bracketed, own_address
from bridge.errors import UsageError, cannot_be

if TYPE_CHECKING:
    from cryptography.x509 import GeneralName

__all__ = ["add_arguments", "certified", "own_places", "run"]

_DAYS = 820  # Apple's devices take none that is valid for more than 825
_NAME = re.compile(r"(?=.{1,253}$)[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*", re.IGNORECASE)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's options."""
    parser.add_argument("names", nargs="*", metavar="NAME", help="further names or addresses that clients will use")
    about = "folder for streamgen-cert.pem and streamgen-key.pem (default: here)"
    parser.add_argument("--out", type=Path, default=Path(), metavar="FOLDER", help=about)
    parser.add_argument("--force", action="store_true", help="write over the ones that are there")
    add_json_option(parser)


def run(args: argparse.Namespace) -> int:
    """Make key and certificate, and tell what to do with them; 0."""
    certificate, key = args.out / "streamgen-cert.pem", args.out / "streamgen-key.pem"
    may_write(certificate, key, force=args.force)
    places = list(dict.fromkeys([*own_places(), *args.names]))
    certificate_pem, key_pem = certified(places)
    try:
        args.out.mkdir(parents=True, exist_ok=True)
        _write_secret(key, key_pem)
        certificate.write_bytes(certificate_pem)
    except OSError as error:
        raise UsageError(cannot_be("written", f"--out {str(args.out)!r}", error)) from error
    for line in _what_to_do(certificate, key, places):
        say(line)
    if args.json:
        print_json({"certificate": str(certificate), "key": str(key), "names": places, "days": _DAYS})
    return 0


def own_places() -> list[str]:
    """Return the names and addresses that this machine has, its own network's first."""
    name = socket.gethostname().lower()
    found = [own_address(family) for family in (socket.AF_INET, socket.AF_INET6)]
    with suppress(OSError):
        found += [str(place[4][0]) for place in socket.getaddrinfo(name, None)]
    addresses = [address.partition("%")[0] for address in found if address]
    names = [name] if "." in name else [name, f"{name}.local"]
    return list(dict.fromkeys([*addresses, *names, "localhost", "127.0.0.1", "::1"]))


def certified(places: list[str]) -> tuple[bytes, bytes]:
    """Return a certificate and its key, PEM both.

    It is its own authority, which is what phones can be told to trust.

    Args:
        places: names and addresses of the server.

    Raises:
        UsageError: a name that none can be.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, f"streamgen on {socket.gethostname()}"[:64])])
    now = datetime.now(UTC)
    usage = x509.KeyUsage(
        digital_signature=True, key_cert_sign=True, crl_sign=False, content_commitment=False, key_encipherment=False,
        data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))  # clocks differ
        .not_valid_after(now + timedelta(days=_DAYS))
        .add_extension(x509.SubjectAlternativeName([_general_name(place) for place in places]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    return certificate.public_bytes(pem), key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain)


def _general_name(place: str) -> GeneralName:
    from cryptography import x509

    with suppress(ValueError):
        return x509.IPAddress(ipaddress.ip_address(place))
    try:
        name = place.encode("idna").decode()
        if not _NAME.fullmatch(name):
            raise ValueError("letters, digits, - and . are possible")
        return x509.DNSName(name)
    except ValueError as error:
        raise UsageError(f"NAME is {place[:80]!r}, must be a host's name or an address: {error}") from None


def _write_secret(path: Path, data: bytes) -> None:
    """Write a file that nobody else may read, from its first byte on."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)


def _what_to_do(certificate: Path, key: Path, places: list[str]) -> list[str]:
    return [
        f"made {certificate} and {key}, for {', '.join(places)}; valid for {_DAYS} days",
        f"serve with: streamgen serve --host 0.0.0.0 --token SECRET --tls-cert {certificate} --tls-key {key}",
        f"on a phone: open https://{bracketed(places[0])}:8711/ and go on past the warning (Advanced, Proceed)",
        f"without the warning: send {certificate.name}, never the key, to the phone and open it there",
        "  Android: Settings, Security, Install a certificate, CA certificate",
        "  iPhone: Settings, Profile downloaded, Install; then General, About, Certificate Trust Settings",
        "programs: SSL_CERT_FILE=" + str(certificate),
    ]
