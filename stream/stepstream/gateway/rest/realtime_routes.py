"""The endpoints of realtime: publishing, tokens, and the WebSocket of subscriptions; and those that drop a body."""

from typing import Any

from fastapi import APIRouter, HTTPException, Query, Request, WebSocket

from stepstream.api.guards import bearer_token
from stepstream.contract.limits import MIB
from stepstream.gateway.rest.access import refusal_of_foreign
from stepstream.gateway.rest.parts import RestParts
from stepstream.gateway.rest.publications import STREAMED_BYTES_MAX, Publication
from stepstream.gateway.rest.realtime import Subscriptions
from stepstream.gateway.rest.replies import unsupported

PUBLISHED_BYTES_MAX = 512 * 1024
TOKEN_BYTES_MAX = 64 * 1024
SPANS_BYTES_MAX = 8 * MIB
SOCKET_PATH, PUBLISH_PATH = "/v1/realtime/connect", "/v1/realtime/publish"
_STREAM = "text/stream"
# The reason with which a WebSocket is closed has at most 123 bytes.
_REASON_BYTES_MAX = 120
_REFUSED, _BUSY = 1008, 1013
_CHANNEL, _TOPIC = Query(description="the id of a run, or any other name"), Query(description="a name in the channel")


def add_realtime(router: APIRouter, parts: RestParts) -> None:
    """Add the endpoints over HTTP."""

    @router.post(PUBLISH_PATH)
    async def publish(
        request: Request, channel: str = _CHANNEL, topic: str = _TOPIC, run_id: str = ""
    ) -> dict[str, Any]:
        if parts.publisher is None:
            raise HTTPException(503, "this process has no live streams")
        publication = Publication(parts.publisher, channel, topic, run_id, parts.now_ms)
        if request.headers.get("content-type", "").startswith(_STREAM):
            await publication.publish_parts(request.stream())
        else:
            async with parts.bodies.body(request, PUBLISHED_BYTES_MAX) as body:
                await publication.publish(body)
        return {"status": 200}

    @router.post("/v1/realtime/token", status_code=201)
    async def issue_token(request: Request) -> dict[str, Any]:
        async with parts.bodies.body(request, TOKEN_BYTES_MAX) as body:
            return {"jwt": parts.realtime.issue(body)}

    @router.post("/v1/realtime/publish/tee")
    async def drop_stream(request: Request) -> dict[str, Any]:
        async with parts.bodies.body(request, STREAMED_BYTES_MAX):
            return {"status": 200}

    @router.get("/v1/realtime/{path:path}")
    @router.post("/v1/realtime/{path:path}")
    async def refuse(path: str) -> None:
        raise unsupported(f"this form of realtime (/v1/realtime/{path}); subscribe by a WebSocket at {SOCKET_PATH}")

    @router.post("/v1/traces/userland")
    async def drop_spans(request: Request) -> dict[str, Any]:
        async with parts.bodies.body(request, SPANS_BYTES_MAX):
            return {}


def realtime_socket(parts: RestParts) -> APIRouter:
    """Return the WebSocket by which a client receives the messages of the topics that its token names."""
    router, subscriptions = APIRouter(), Subscriptions(parts.engine.live, parts.index)

    @router.websocket(SOCKET_PATH)
    async def subscribe(socket: WebSocket) -> None:
        token = socket.query_params.get("token") or bearer_token(socket.headers)
        subscription = parts.realtime.read(token)
        foreign, busy = refusal_of_foreign(parts.options, socket.headers), subscriptions.refusal
        if foreign or subscription is None:
            await _refuse(socket, _REFUSED, foreign or "this token is no longer valid; ask for a new one")
        elif busy:
            await _refuse(socket, _BUSY, busy)
        else:
            await socket.accept()
            await subscriptions.serve(socket, subscription)

    return router


async def _refuse(socket: WebSocket, code: int, reason: str) -> None:
    await socket.close(code, reason.encode()[:_REASON_BYTES_MAX].decode(errors="ignore"))
