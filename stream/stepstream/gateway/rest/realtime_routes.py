"""The endpoints of what is not supported: publishing is accepted, since a failing publication would fail its step."""

from typing import Any

from fastapi import APIRouter, Request

from stepstream.contract.limits import MIB
from stepstream.gateway.rest.parts import RestParts
from stepstream.gateway.rest.replies import unsupported

PUBLISHED_BYTES_MAX = MIB
SPANS_BYTES_MAX = 8 * MIB


def add_realtime(router: APIRouter, parts: RestParts) -> None:
    """Add the endpoints of realtime, without subscribers: a publication without receivers is complete."""

    @router.post("/v1/realtime/publish")
    @router.post("/v1/realtime/publish/tee")
    async def publish(request: Request) -> dict[str, Any]:
        async with parts.bodies.body(request, PUBLISHED_BYTES_MAX):
            return {"status": 200}

    @router.get("/v1/realtime/{path:path}")
    @router.post("/v1/realtime/{path:path}")
    async def refuse(path: str) -> None:
        raise unsupported(f"subscriptions to realtime channels (/v1/realtime/{path})")

    @router.post("/v1/traces/userland")
    async def drop_spans(request: Request) -> dict[str, Any]:
        async with parts.bodies.body(request, SPANS_BYTES_MAX):
            return {}
