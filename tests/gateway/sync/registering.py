"""A gateway as far as apps register with it: the registry on a topic in memory, its routes, and its client."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import httpx
from aiohttp import web
from aiohttp.test_utils import TestServer
from fastapi import FastAPI

from stepstream.api.bodies import BodyBudget
from stepstream.contract.errors import Conflict
from stepstream.contract.functions import FunctionRegistered, readable_functions
from stepstream.gateway.runs.peers import Peers
from stepstream.gateway.sync.addresses import AddressPolicy
from stepstream.gateway.sync.app_client import AppClient
from stepstream.gateway.sync.register_route import Access, sync_routes
from stepstream.gateway.sync.registry import AppRegistry, RegistryPorts
from stepstream.gateway.sync.signing_keys import SigningKeys
from stepstream.gateway.sync.sync_failures import SyncFailures
from stepstream.runtime.ports import NewRecord
from tests.gateway.exchanges import Exchange, read


@dataclass
class Gateway:
    """The parts, and what they wrote and reported; `python` are the apps of workers with Python code."""

    keys: SigningKeys = field(default_factory=SigningKeys)
    addresses: AddressPolicy = field(default_factory=lambda: AddressPolicy(local=True))
    bodies: BodyBudget = field(default_factory=BodyBudget)
    python: set[str] = field(default_factory=set)
    values: list[bytes] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.registry = AppRegistry(
            RegistryPorts(self._prepare, self._append, self._serves, self.changed.append),
            self.addresses,
            SyncFailures(lambda: 1_795_000_000_000),
        )

    async def _prepare(self, app: str) -> None:
        if app == "unprepared":
            raise Conflict("its topic does not exist")

    async def _append(self, records: Sequence[NewRecord]) -> None:
        self.values += [record.value for record in records]

    async def _serves(self, app: str) -> bool:
        return app in self.python

    @property
    def functions(self) -> dict[str, FunctionRegistered]:
        """The last record of each function."""
        return {record.id: record for record in readable_functions(self.values)}

    @property
    def serving(self) -> set[str]:
        """The ids of those that are not retired."""
        return {id for id, record in self.functions.items() if not record.retired}

    @asynccontextmanager
    async def running(self, url: str = "") -> AsyncIterator[tuple[AppClient, httpx.AsyncClient]]:
        """Yield the client of apps, and a client of the routes, which apps use; the API key is `secret`.

        Other gateways reach this one at `url`.
        """
        session = aiohttp.ClientSession(connector=self.addresses.connector())
        peers = Peers(session, url, self.keys.all)
        client = AppClient(session, self.keys, self.registry.register, self.registry.failures, peers)
        access = Access(
            self.keys,
            foreign=lambda headers: "a page must not" if "origin" in headers else "",
            knows_api_key=lambda headers: headers.get("authorization") == "Bearer secret",
        )
        api = FastAPI()
        api.include_router(sync_routes(client, self.registry.register, access, self.bodies, self.registry))
        async with session, httpx.AsyncClient(transport=httpx.ASGITransport(api), base_url="http://gateway") as http:
            yield client, http


def registration(name: str) -> Exchange:
    """Return the first registration of a capture that the app sent on its own."""
    return next(each for each in read(name) if each.fields.get("path", "").startswith("/fn/register"))


@asynccontextmanager
async def app_at(answer: Any, paths: str = "/api/inngest") -> AsyncIterator[str]:
    """Yield the URL of an app whose handler of PUT requests is `answer`, on the paths of a pattern."""
    application = web.Application()
    application.router.add_put(paths, answer)
    async with TestServer(application) as server:
        yield str(server.make_url("/api/inngest"))
