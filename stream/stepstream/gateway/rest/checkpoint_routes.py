"""The endpoint of checkpoints: steps that an app reports while a call of its run is open."""

from dataclasses import replace

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import Response

from stepstream.gateway.rest.parts import RestParts
from stepstream.gateway.rest.replies import not_found
from stepstream.gateway.runs.peers import PASSED_ON
from stepstream.gateway.runs.transport import Unreachable
from stepstream.gateway.wire.answers import ANSWER_BYTES_MAX
from stepstream.gateway.wire.checkpoints import Checkpoint, read_checkpoint

_STALE = "the call of this checkpoint is not open here: a later one has taken its place"
_OK, _UNKNOWN, _CONFLICT = 200, 404, 409


def add_checkpoints(router: APIRouter, parts: RestParts) -> None:
    """Add the endpoint, at both of its paths."""

    @router.post("/v1/checkpoint/{run_id}/async")
    @router.post("/v1/http/runs/{run_id}/async")
    async def checkpoint(run_id: str, request: Request) -> Response:
        async with parts.bodies.body(request, ANSWER_BYTES_MAX) as body:
            found = replace(read_checkpoint(body), run_id=run_id)
            passed_on = await _pass_on(parts, found, body, request)
            status = passed_on or await _keep(parts, found)
        if status == _CONFLICT:
            raise HTTPException(_CONFLICT, _STALE)
        if status != _OK:
            raise not_found(f"run {run_id!r} with an open call")
        return Response()


async def _keep(parts: RestParts, found: Checkpoint) -> int:
    """Keep the steps of a checkpoint if its call is open here; return the status of the answer."""
    if parts.checkpoints is None or found.run_id not in parts.checkpoints:
        return _UNKNOWN
    return _OK if await parts.checkpoints.checkpoint(found) else _CONFLICT


async def _pass_on(parts: RestParts, found: Checkpoint, body: bytes, request: Request) -> int:
    """Send a checkpoint to the gateway that made its call, and return its status; 0 if it is this one."""
    peers = parts.peers
    if peers is None or PASSED_ON in request.headers or not (url := peers.of(found.queue_item)):
        return 0
    try:
        return await peers.pass_on(url, request.url.path, body, request.headers.get("Authorization", ""))
    except Unreachable as error:
        raise HTTPException(502, str(error)) from None
