"""An app of the official SDK for Python, served in the process of a test."""

from collections.abc import Awaitable, Callable

import fastapi
import httpx
import inngest
import inngest.fast_api
from aiohttp import web


class Endpoint:
    """A server whose app is set later: the app must know the URL of a gateway that calls it."""

    def __init__(self) -> None:
        self._client: httpx.AsyncClient | None = None

    def serve(self, app: fastapi.FastAPI) -> None:
        """Answer by this app from now on."""
        self._client = httpx.AsyncClient(transport=httpx.ASGITransport(app))

    async def answer(self, request: web.Request) -> web.Response:
        """Pass a request to the app."""
        if self._client is None:
            return web.Response(status=503)
        body, headers = await request.read(), dict(request.headers)
        found = await self._client.request(request.method, str(request.url), content=body, headers=headers)
        return web.Response(status=found.status_code, body=found.content, headers=dict(found.headers))


def adding_app(base: str, one: Callable[[], Awaitable[int]]) -> fastapi.FastAPI:
    """Return an app that registers at a server; its function adds the results of two steps to `n` of the event."""
    client = inngest.Inngest(app_id="demo", is_production=False, api_base_url=base, event_api_base_url=base)

    @client.create_function(fn_id="add", trigger=inngest.TriggerEvent(event="demo/add"))
    async def add(ctx: inngest.Context) -> int:
        first = await ctx.step.run("one", one)
        second = await ctx.step.run("two", one)
        return first + second + int(str(ctx.event.data["n"]))

    app = fastapi.FastAPI()
    inngest.fast_api.serve(app, client, [add])
    return app
