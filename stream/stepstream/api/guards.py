"""Who may send requests: clients that know the key, and without a key only programs on this machine."""

import hmac
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

NO_KEY = "send the API key as `Authorization: Bearer KEY`"
_REMEDY = "use http://127.0.0.1, or set STEPSTREAM_EVENT_KEY and STEPSTREAM_API_KEY"


@dataclass(frozen=True, slots=True)
class Keys:
    """The secrets that clients must send; while one is empty, only programs on this machine may send requests.

    `read` opens the page for reading, and nothing else; it may be empty.
    """

    event: str = ""
    api: str = ""
    read: str = ""


def same_key(given: str, key: str) -> bool:
    """Return whether a key is the right one, in a time that reveals nothing about it; any key matches an empty one."""
    return not key or hmac.compare_digest(given.encode(errors="replace"), key.encode())


def bearer_token(headers: Mapping[str, str]) -> str:
    """Return the bearer token of a request, or ""."""
    scheme, _, token = headers.get("authorization", "").strip().partition(" ")
    # The name of the scheme is not case-sensitive (RFC 9110, section 11.1).
    return token.strip() if scheme.lower() == "bearer" else ""


def knows_key(headers: Mapping[str, str], key: str) -> bool:
    """Return whether a request carries the API key as its bearer token; any request does if the key is empty."""
    return same_key(bearer_token(headers), key)


def is_loopback(host: str) -> bool:
    """Return whether a name or an address can only mean this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def foreign_reason(headers: Mapping[str, str]) -> str:
    """Return why a request does not come from a program on this machine; "" if it may.

    A page of any site may send requests to the loopback; its browser adds the page's `Origin`. A page whose host name
    was rebound to 127.0.0.1 could even read the answers; such a request has that name as its `Host`.
    """
    host = headers.get("host", "")
    if not _is_here(_name_of(f"//{host}")):
        return f"the host {host!r} is not a loopback address, and this process has no keys: {_REMEDY}"
    origin = headers.get("origin")
    if origin is not None and not _is_here(_name_of(origin)):
        return f"a page of {origin!r} must not send requests to a process without keys: {_REMEDY}"
    return ""


def _is_here(host: str) -> bool:
    """Return whether a client that names this host means its own machine, also by 0.0.0.0 or ::."""
    try:
        return is_loopback(host) or ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def _name_of(address: str) -> str:
    try:
        return urlsplit(address).hostname or ""
    except ValueError:
        return ""
