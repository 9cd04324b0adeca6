"""The endpoints for SDKs over an engine in memory, and clients of them."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx

from stepstream.api.http import make_api
from stepstream.contract.logs import StepLogged
from stepstream.gateway.rest.parts import RestOptions, RestParts
from stepstream.gateway.rest.realtime import RealtimeTokens
from stepstream.gateway.rest.realtime_routes import realtime_socket
from stepstream.gateway.rest.routes import rest_routes
from stepstream.gateway.rest.site import sdk_site
from stepstream.gateway.runs.metadata_log import MetadataLog
from stepstream.runtime.metrics import Metrics
from stepstream.sdk.served import ServedApp
from stepstream.testing import VirtualEngine
from tests.fakes.facades import facade_of


class SdkClient:
    """A client of a site, the site and the engine behind it."""

    def __init__(self, engine: VirtualEngine, options: RestOptions, **more: Any) -> None:
        facade = facade_of(engine.engine)
        self.metadata = MetadataLog(self._write_lines, engine.clock.now_ms)
        tokens = RealtimeTokens(now_s=lambda: engine.clock.now_ms() / 1_000)
        more = {"publisher": engine.engine.publisher, "realtime": tokens, "metadata": self.metadata, **more}
        parts = RestParts(facade, engine.index, options, now_ms=engine.clock.now_ms, **more)
        own = make_api(facade, engine.index, Metrics("engine").text)
        self.site = sdk_site(own, [rest_routes(parts), realtime_socket(parts)])
        transport = httpx.ASGITransport(app=self.site, raise_app_exceptions=False)
        self.engine = engine
        self.http = httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8288")

    async def _write_lines(self, entries: Sequence[StepLogged]) -> None:
        self.engine.index.add_logs(entries)

    async def send(self, *events: dict[str, Any], seed: str = "") -> list[str]:
        """Send events as an SDK does, until the engine is idle; return their ids."""
        headers = {"X-Inngest-Event-Id-Seed": seed} if seed else {}
        answer = await self.http.post("/e/NO_EVENT_KEY_SET", json=list(events), headers=headers)
        assert answer.status_code == 200, answer.text
        await self.engine.until_idle()
        ids: list[str] = answer.json()["ids"]
        return ids

    async def ask(self, query: str, **variables: Any) -> Any:
        """Return the data of the answer to a GraphQL query."""
        answer = await self.http.post("/v0/gql", json={"query": query, "variables": variables})
        body = answer.json()
        assert (answer.status_code, body.get("errors")) == (200, None), body
        return body["data"]


@asynccontextmanager
async def running(app: ServedApp, options: RestOptions | None = None, **more: Any) -> AsyncIterator[SdkClient]:
    """Run an engine with an app and the endpoints for SDKs."""
    async with VirtualEngine(app) as engine:
        client = SdkClient(engine, options or RestOptions(), **more)
        async with client.http:
            yield client
