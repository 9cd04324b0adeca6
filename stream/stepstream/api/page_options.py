"""How the page is served: its path, its mode, and the proxies that state who acts."""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

ROOT = "/ui"

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class PageMode(StrEnum):
    """Whether the page is served, and whether it has forms that act."""

    OFF = "off"
    READ_ONLY = "read-only"
    ON = "on"


@dataclass(frozen=True, slots=True)
class PageOptions:
    """What operators choose for the page.

    mode         whether the page is served, and whether its forms may act
    user_header  the header in which a proxy states the user, for the history of runs; empty for no such proxy
    proxies      the addresses of trusted proxies; the header counts only in their requests
    """

    mode: PageMode = PageMode.ON
    user_header: str = ""
    proxies: Sequence[Network] = ()

    def trusts(self, peer: str | None) -> bool:
        """Return whether an address is that of a trusted proxy."""
        try:
            address = ipaddress.ip_address(peer or "")
        except ValueError:
            return False
        return any(address in network for network in self.proxies)


DEFAULT_PAGE = PageOptions()


def networks_of(text: str) -> tuple[Network, ...]:
    """Return the networks of a list such as `10.0.0.0/8, ::1`; raise ValueError for one that is not a network."""
    return tuple(ipaddress.ip_network(part.strip(), strict=False) for part in text.split(",") if part.strip())
