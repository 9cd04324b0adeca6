"""Who is let in: callers who know the key, and, where there is none, only programs of this machine."""

import hmac
import ipaddress
from collections.abc import Mapping
from urllib.parse import urlsplit

NO_KEY = "send the API key as `Authorization: Bearer KEY`"
_REMEDY = "ask by http://127.0.0.1, or set STEPSTREAM_EVENT_KEY and STEPSTREAM_API_KEY"


def same_key(given: str, key: str) -> bool:
    """Tell whether a key is the one that is wanted, in a time that tells nothing of it; an empty one admits all."""
    return not key or hmac.compare_digest(given.encode(errors="replace"), key.encode())


def knows_key(headers: Mapping[str, str], key: str) -> bool:
    """Tell whether a request carries the API key as a bearer's token; an empty one admits all."""
    return same_key(headers.get("authorization", "").removeprefix("Bearer "), key)


def is_loopback(host: str) -> bool:
    """Tell whether only this machine can be meant by a name or an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def stranger(headers: Mapping[str, str]) -> str:
    """Return why a request is none of a program of this machine, "" when it may be one.

    A page of any site may send requests to the loopback: they carry its `Origin`. After its name was bound to 127.0.0.1
    it may also read the answers: such requests carry that name as `Host`.
    """
    host = headers.get("host", "")
    if not is_loopback(_name_of(f"//{host}")):
        return f"the host {host!r} is no name of the loopback, and this process has no keys: {_REMEDY}"
    origin = headers.get("origin")
    if origin is not None and not is_loopback(_name_of(origin)):
        return f"a page of {origin!r} may send nothing to a process without keys: {_REMEDY}"
    return ""


def _name_of(address: str) -> str:
    try:
        return urlsplit(address).hostname or ""
    except ValueError:
        return ""
