"""Announces page, OSC and OSCQuery by multicast DNS, so that TouchOSC, ossia score, Chataigne and VDMX find them.

    _http._tcp (or _https)  the page           _osc._udp  OSC           _oscjson._tcp  OSCQuery, where it is plain http

Rules: event loop. Opens after all others, whose places it tells; on the interface they listen at, and on no other.
"""

from __future__ import annotations

import asyncio
import importlib.util
import ipaddress
import logging
import socket
from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from bridge.doors.door import Place, Service, Sessions
from bridge.errors import BridgeError, UsageError, reason

if TYPE_CHECKING:
    from zeroconf import ServiceInfo
    from zeroconf.asyncio import AsyncZeroconf

__all__ = ["DiscoveryDoor"]

_log = logging.getLogger("bridge.doors")

_MOST_BYTES = 45  # of 63 in a part of a name; another "-2" may be put behind it
_ALL = ("", "0.0.0.0", "::")


class DiscoveryDoor:
    """A door (`doors.door.Door`) that nobody comes in by.

    Args:
        service: whose places it tells.

    Raises:
        UsageError: zeroconf is not installed.
    """

    name = "discovery"

    def __init__(self, service: Service) -> None:
        if importlib.util.find_spec("zeroconf") is None:
            raise UsageError("--announce needs zeroconf, which is not here: `pip install zeroconf`")
        self._service = service
        self._zeroconf: AsyncZeroconf | None = None
        self._told: list[ServiceInfo] = []
        self._telling: asyncio.Task[None] | None = None

    async def open(self, sessions: Sessions) -> None:  # noqa: ARG002 - only where, not what
        """Announce what is open.

        Raises:
            BridgeError: there is no multicast at that interface.
        """
        from zeroconf import InterfaceChoice
        from zeroconf.asyncio import AsyncZeroconf

        addresses = _addresses(self._service.settings.host)
        try:
            self._zeroconf = AsyncZeroconf(InterfaceChoice.All if len(addresses) != 1 else addresses)
        except OSError as error:
            why = f"no multicast at {', '.join(addresses)}: {reason(error)}"
            raise BridgeError(f"--announce finds {why}; leave it out, or choose another --host") from error
        self._told = [_info(kind, port, addresses) for kind, port in self._kinds()]
        self._telling = asyncio.create_task(self._tell(self._zeroconf))  # seconds: others may have the name

    async def _tell(self, zeroconf: AsyncZeroconf) -> None:
        from zeroconf import Error

        try:
            for info in self._told:
                await (await zeroconf.async_register_service(info, allow_name_change=True))
        except (Error, OSError, TimeoutError) as error:
            _log.warning("--announce: %s could not be announced: %s", info.name, error or type(error).__name__)

    def _kinds(self) -> list[tuple[str, int]]:
        """Return the services that are open: type and port."""
        places = self._service.places
        page, osc = urlsplit(str(places.get("page") or "")), places.get("osc_port")
        kinds = []
        if page.port:
            kinds.append((f"_{page.scheme}._tcp.local.", page.port))
            if page.scheme == "http":  # who asks OSCQuery knows no other
                kinds.append(("_oscjson._tcp.local.", page.port))
        return [*kinds, ("_osc._udp.local.", osc)] if isinstance(osc, int) else kinds

    async def close(self, reason: str) -> None:  # noqa: ARG002 - multicast DNS has no words for it
        """Tell that it is gone."""
        if self._telling is not None:
            self._telling.cancel()
            await asyncio.gather(self._telling, return_exceptions=True)
        if self._zeroconf is not None:
            await self._zeroconf.async_unregister_all_services()
            await self._zeroconf.async_close()

    def places(self) -> Mapping[str, Place]:
        """Return the name that others find it by."""
        return {"announced": self._told[0].name.partition(".")[0]} if self._told else {}

    def stats(self) -> Mapping[str, float]:
        """Return how many services are announced."""
        return {"services": len(self._told)}


def _addresses(host: str) -> list[str]:
    """Return the addresses at which the doors listen, of IPv4: all of this machine's where that is asked for."""
    import ifaddr  # zeroconf's own

    if host not in _ALL:
        return [str(socket.getaddrinfo(host, None, socket.AF_INET)[0][4][0])]
    found = [str(place.ip) for adapter in ifaddr.get_adapters() for place in adapter.ips if place.is_IPv4]
    return [one for one in found if not ipaddress.ip_address(one).is_loopback] or found


def _label(host: str) -> str:
    """Return a host's name as a part of names: what multicast DNS takes, and as long as "streamgen on" leaves room."""
    shown = "".join(one for one in host if one.isprintable()).strip()
    return shown.encode(errors="ignore")[:_MOST_BYTES].decode(errors="ignore") or "here"


def _info(kind: str, port: int, addresses: list[str]) -> ServiceInfo:
    from zeroconf import ServiceInfo

    machine = _label(socket.gethostname().partition(".")[0])
    return ServiceInfo(
        kind,
        f"streamgen on {machine}.{kind}",
        port=port,
        parsed_addresses=addresses,
        properties={"path": "/"} if "http" in kind else {},
        server=f"streamgen-{machine}.local.",  # not the machine's own name: its own responder has that
    )
