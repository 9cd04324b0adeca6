"""What a developer reads about apps that start, change, fail and stop."""

from collections.abc import Iterator
from typing import Any

import aiohttp
from aiohttp import web
from aiohttp.test_utils import TestServer

from stepstream.contract.errors import InvalidInput
from stepstream.gateway.sync.app_client import SyncError, Unreachable
from stepstream.gateway.sync.polling import AppPoller
from stepstream.gateway.sync.registry import Synced

URL = "http://127.0.0.1:3000/api/inngest"


class Client:
    """A client whose requests end as listed."""

    def __init__(self, *outcomes: Synced | Exception) -> None:
        self.outcomes: Iterator[Synced | Exception] = iter(outcomes)
        self.asked: list[str] = []

    async def sync(self, url: str) -> Synced:
        """Return the next outcome, or raise it."""
        self.asked.append(url)
        match next(self.outcomes):
            case Synced() as synced:
                return synced
            case error:
                raise error


async def test_each_change_is_reported_once() -> None:
    """An app that waits, starts, stays, changes, is wrong, stops and returns makes a line for each of these."""
    outcomes: list[Synced | Exception] = [
        Unreachable("refused"),
        Unreachable("refused"),
        Synced("shop", 1, modified=True),
        Synced("shop", 1, modified=False),
        Synced("shop", 1, modified=True),
        InvalidInput("a cron expression is wrong"),
        Synced("shop", 2, modified=True),
        Unreachable("refused"),
        Unreachable("refused"),
        Synced("shop", 2, modified=False),
    ]
    client, lines = Client(*outcomes), list[str]()
    given: Any = client
    async with aiohttp.ClientSession() as session:
        poller = AppPoller(given, session, lines.append)
        poller.add(URL)
        for _ in outcomes:
            await poller.poll()
    registered = f"app shop at {URL} is registered"
    assert lines == [
        f"no app answers at {URL} yet",
        f"{registered}: 1 function",
        f"{registered}: 1 function",
        "a cron expression is wrong",
        f"{registered}: 2 functions",
        f"app shop at {URL} does not answer",
        f"{registered}: 2 functions",
    ]


async def test_app_that_has_just_registered_is_asked_two_rounds_later() -> None:
    """It registered on its own: a request would only repeat that."""
    client = Client(Synced("shop", 1, modified=False))
    given: Any = client
    async with aiohttp.ClientSession() as session:
        poller = AppPoller(given, session, lambda _: None)
        poller.add(URL, "shop")
        await poller.poll()
        await poller.poll()
        assert client.asked == []
        await poller.poll()
    assert client.asked == [URL]


async def test_apps_on_local_ports_are_found() -> None:
    """Only a server that answers like an SDK is asked to register; a known port is not searched again."""
    requests = list[str]()

    async def answer(request: web.Request) -> web.Response:
        requests.append(request.path)
        is_sdk = request.path == "/x/inngest"
        return web.Response(status=200 if is_sdk else 404, headers={"x-inngest-sdk": "js:v4"} if is_sdk else {})

    application, other = web.Application(), web.Application()
    application.router.add_get("/{path:.*}", answer)
    client = Client(SyncError("it is wrong"), SyncError("it is wrong"))
    given: Any = client
    async with TestServer(application) as server, TestServer(other) as elsewhere, aiohttp.ClientSession() as session:
        ports = [each.port for each in (server, elsewhere) if each.port]
        poller = AppPoller(given, session, lambda _: None, [*ports, 9])
        await poller.poll()
        await poller.poll()
    assert client.asked == [f"http://127.0.0.1:{ports[0]}/x/inngest"] * 2
    assert requests == ["/api/inngest", "/x/inngest"]
