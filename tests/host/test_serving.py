"""Where a process listens: addresses of both families, names, and the error if it cannot."""

import socket

import pytest

from stepstream.host.serving import address_of, listen
from stepstream.host.settings import SettingsError


def has_ipv6() -> bool:
    """Return whether this machine has an IPv6 loopback."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


IPV6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")


@pytest.mark.parametrize(
    ("host", "reached"),
    [
        ("127.0.0.1", ["127.0.0.1"]),
        ("localhost", ["127.0.0.1"]),
        ("0.0.0.0", ["127.0.0.1"]),  # noqa: S104 - in a test
        pytest.param("::1", ["::1"], marks=IPV6),
        pytest.param("::", ["::1", "127.0.0.1"], marks=IPV6),
    ],
)
def test_addresses_of_both_families_are_bound(host: str, reached: list[str]) -> None:
    """The family is that of the address; `::` accepts clients of both."""
    with listen(host, 0) as listener:
        for address in reached:
            socket.create_connection((address, listener.getsockname()[1]), timeout=60).close()


def test_an_accepted_connection_sends_at_once() -> None:
    """The body of a response does not wait for the client to acknowledge its headers."""
    with listen("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname(), timeout=60):
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
def test_an_address_of_another_machine_is_refused(host: str) -> None:
    """It is a wrong setting, and the error names the option."""
    with pytest.raises(SettingsError, match=f"port 1 on {host} cannot be bound .*; choose another with --metrics-port"):
        listen(host, 1, "--metrics-port")


def test_a_url_has_brackets_around_ipv6() -> None:
    """A terminal can open what is printed."""
    assert address_of("::1", 8288) == "http://[::1]:8288"
    assert address_of("127.0.0.1", 8288) == "http://127.0.0.1:8288"
