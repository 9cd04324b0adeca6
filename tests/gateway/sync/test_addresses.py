"""Which URLs apps may have: a registration must not let the gateway call into the network around it."""

import asyncio

import aiohttp
import pytest

from stepstream.contract.errors import InvalidInput
from stepstream.gateway.sync.addresses import AddressPolicy

PUBLIC, PRIVATE, METADATA = "93.184.215.14", "10.1.2.3", "169.254.169.254"


@pytest.mark.parametrize(
    ("address", "allowed"),
    [
        (PUBLIC, "public local"),
        ("127.0.0.1", "local"),
        ("::1", "local"),
        (PRIVATE, "local"),
        ("192.168.1.1", "local"),
        ("fd00::1", "local"),
        ("0.0.0.0", "local"),  # noqa: S104 - the address that development servers print
        ("::ffff:10.1.2.3", "local"),
        (METADATA, ""),
        ("::ffff:169.254.169.254", ""),
        ("2002:a9fe:a9fe::1", ""),
        ("64:ff9b::a9fe:a9fe", ""),
        ("64:ff9b::5db8:d70e", "public local"),
        ("64:ff9b::a01:203", "local"),
        ("64:ff9b:1::a01:203", "local"),
        ("::a9fe:a9fe", ""),
        ("::ffff:0:a9fe:a9fe", ""),
        ("fec0::1", "local"),
        ("fd00:ec2::254", ""),
        ("168.63.129.16", ""),
        ("fe80::1%eth0", ""),
        ("224.0.0.1", ""),
    ],
)
async def test_private_addresses_are_for_local_processes(address: str, allowed: str) -> None:
    """Public addresses are allowed, private ones only to a local process, and those of cloud metadata to none."""
    for policy, word in ((AddressPolicy(), "public"), (AddressPolicy(local=True), "local")):
        is_allowed = not policy.refusal(address)
        assert is_allowed == (word in allowed)


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("10.0.0.0/8", f"http://{PRIVATE}:3000/api/inngest"),
        (PRIVATE, f"https://{PRIVATE}/api/inngest"),
        ("fd00::/8", "http://[fd00::1]/api/inngest"),
        ("*.svc.cluster.local", "http://shop.SVC.cluster.local/api/inngest"),
        (METADATA, f"http://{METADATA}/api/inngest"),
    ],
)
async def test_allowed_hosts_are_names_and_networks(host: str, url: str) -> None:
    """What is refused otherwise is allowed by its name, with `*` in it, by its address, or by its network."""
    await AddressPolicy(hosts=[host]).check(url)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        (f"http://{PRIVATE}/x", "private network; allow it by --allow-host"),
        ("http://localhost:3000/x", "private network"),
        (f"http://{METADATA}/x", "not one of an app"),
        ("ftp://example.com/x", "http:// or https://"),
        ("wss://connect", "http:// or https://"),
        ("http:///x", "http:// or https://"),
        ("http://[::1", "not a URL"),
        ("http://example.com:99999/x", "not a URL"),
    ],
)
async def test_refused_urls_are_reported_with_the_reason(url: str, reason: str) -> None:
    """A registration with such a URL is answered with what to do."""
    with pytest.raises(InvalidInput, match=reason):
        await AddressPolicy().check(url)


async def test_redirect_into_a_private_network_is_not_followed() -> None:
    """The address is checked when the connection is made: neither a redirect nor a changed name avoids the check."""
    requests = list[bytes]()

    async def redirect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.2:1/\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(redirect, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, aiohttp.ClientSession(connector=AddressPolicy(hosts=["127.0.0.1"]).connector()) as session:
        with pytest.raises(aiohttp.ClientConnectorError, match="is in a private network"):
            await session.get(f"http://127.0.0.1:{port}/")
    assert len(requests) == 1


async def test_name_that_is_allowed_connects_to_its_private_address() -> None:
    """The addresses of an allowed name are allowed as long as the name has them."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with (
        server,
        aiohttp.ClientSession(connector=AddressPolicy(hosts=["localhost"]).connector()) as session,
        session.get(f"http://localhost:{port}/") as found,
    ):
        assert found.status == 200
