"""Which addresses the URL of an app may have, so that a registration opens no way into the network of the gateway."""

import asyncio
import errno
import fnmatch
import ipaddress
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import ResolveResult

from stepstream.contract.errors import InvalidInput
from stepstream.gateway.runs.connector import Connector

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
# Networks of IPv6 whose last four bytes are an address of IPv4: of RFC 6052, RFC 4291 (2.5.5.1), and RFC 2765.
_TRANSLATED = tuple(map(ipaddress.ip_network, ("64:ff9b::/96", "::/96", "::ffff:0:0:0/96")))
# Those for translation and for sites that Python 3.11 takes for global ones: of RFC 8215 and RFC 3879.
_PRIVATE = tuple(map(ipaddress.ip_network, ("64:ff9b:1::/48", "fec0::/10")))
# Where clouds serve credentials, beside link-local addresses: AWS by IPv6, Azure, Alibaba and Oracle.
_CREDENTIALS = frozenset(
    map(ipaddress.ip_address, ("fd00:ec2::254", "168.63.129.16", "100.100.100.200", "192.0.0.192"))
)
_REMEDY = "allow it by --allow-host or STEPSTREAM_ALLOW_HOSTS if it is an app of yours"


def address_of(text: str) -> Address | None:
    """Return the address that a text spells; one of IPv4 inside of IPv6 is that of IPv4; None for a name."""
    try:
        found = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return _inner(found) or found


def _inner(address: Address) -> ipaddress.IPv4Address | None:
    """Return the address of IPv4 to which one of IPv6 leads, None if it leads to none."""
    if not isinstance(address, ipaddress.IPv6Address) or address.is_loopback or address.is_unspecified:
        return None
    if any(address in each for each in _TRANSLATED):
        return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped or address.sixtofour


@dataclass(frozen=True)
class AddressPolicy:
    """Public addresses are allowed, `hosts` too, and with `local` those of this machine and of private networks.

    `hosts` are names, in which `*` stands for any characters, and networks such as 10.0.0.0/8. Link-local addresses
    and others where clouds serve credentials to their machines are allowed only by `hosts`.
    """

    local: bool = False
    hosts: Sequence[str] = ()
    _resolved: set[str] = field(default_factory=set, repr=False, compare=False)

    def refusal(self, text: str) -> str:
        """Return why an address is refused; empty if it is allowed."""
        address = address_of(text)
        if address is None or text in self._resolved or any(_contains(each, address) for each in self.hosts):
            return ""
        if address.is_multicast or address.is_link_local or address in _CREDENTIALS:
            return f"the address {text} is not one of an app; {_REMEDY}"
        if self.local or (address.is_global and not any(address in each for each in _PRIVATE)):
            return ""
        return f"the address {text} is in a private network; {_REMEDY}"

    def names(self, host: str) -> bool:
        """Return whether `hosts` allow a host by its name."""
        return any(fnmatch.fnmatch(host.lower(), each.lower()) for each in self.hosts)

    async def check(self, url: str) -> None:
        """Raise InvalidInput unless an app may have this URL; a name that has no address now is allowed."""
        try:
            parts = urlsplit(url)
            host, _ = parts.hostname or "", parts.port
        except ValueError:
            raise InvalidInput(f"{url!r} is not a URL", "url") from None
        if parts.scheme not in ("http", "https") or not host:
            raise InvalidInput(f"{url!r} is not a URL with http:// or https://", "url")
        if self.names(host):
            return
        for each in [host] if address_of(host) else await _addresses(host):
            if reason := self.refusal(each):
                raise InvalidInput(f"{url!r}: {reason}", "url")

    def connector(self, **options: Any) -> Connector:
        """Return a connector whose connections, of redirects too, only go to allowed addresses."""
        return Connector(resolver=_Resolver(self), socket_factory=self._socket, **options)

    def note(self, host: str, addresses: Sequence[str]) -> None:
        """Allow the addresses that a host has now if its name is allowed."""
        if self.names(host):
            self._resolved.update(addresses)

    def _socket(self, info: Any) -> socket.socket:
        family, kind, protocol, _, address = info
        if reason := self.refusal(str(address[0])):
            raise OSError(errno.EACCES, reason)
        return socket.socket(family, kind, protocol)


class _Resolver(aiohttp.ThreadedResolver):
    """Resolves names, and notes the addresses of those that a policy allows."""

    def __init__(self, policy: AddressPolicy) -> None:
        super().__init__()
        self._policy = policy

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AddressFamily.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return the addresses of a host."""
        found = await super().resolve(host, port, family)
        self._policy.note(host, [each["host"] for each in found])
        return found


async def _addresses(host: str) -> list[str]:
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return []
    return [str(each[4][0]) for each in found]


def _contains(network: str, address: Address) -> bool:
    try:
        return address in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False
