"""MCP over HTTP at the address /mcp of an engine; each request is complete in itself, so any engine can answer it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import HTTPException, Request
from mcp.server.transport_security import TransportSecuritySettings
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stepstream.api.bodies import BodyBudget
from stepstream.api.guards import NO_KEY, Keys, foreign_reason, knows_key
from stepstream.client.client import Client
from stepstream.contract.limits import MIB
from stepstream.mcp.mcp_server import make_server

PATH = "/mcp"
REQUEST_BYTES_MAX = MIB


@asynccontextmanager
async def mcp_route(url: str, keys: Keys, bodies: BodyBudget, *, is_read_only: bool) -> AsyncIterator[Route]:
    """Yield the route whose tools call the API at `url` with `keys`, which its requests must know as well.

    The bytes of its requests count in `bodies`.
    """
    async with Client(url, api_key=keys.api, event_key=keys.event) as client:
        server = make_server(client, is_read_only=is_read_only)
        served = server.streamable_http_app(
            streamable_http_path=PATH,
            stateless_http=True,
            json_response=True,
            # The endpoint refuses requests of pages by the rules of the other routes.
            transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False),
        )
        async with server.session_manager.run():
            yield Route(PATH, _Endpoint(served, keys, bodies), methods=["POST"])


class _Endpoint:
    """Passes the requests of those who know the API key on; without keys, those of programs on this machine."""

    def __init__(self, served: ASGIApp, keys: Keys, bodies: BodyBudget) -> None:
        self._served = served
        self._keys = keys
        self._bodies = bodies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        is_local = not (self._keys.event and self._keys.api)
        if is_local and (reason := foreign_reason(request.headers)):
            raise HTTPException(403, reason)
        if not knows_key(request.headers, self._keys.api):
            raise HTTPException(401, NO_KEY)
        async with self._bodies.body(request, REQUEST_BYTES_MAX) as body:
            await self._served(scope, _after(body, receive), send)


def _after(body: bytes, receive: Receive) -> Receive:
    """Return what receives a body that was read, and then what `receive` does."""
    parts: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def received() -> Message:
        return parts.pop() if parts else await receive()

    return received
