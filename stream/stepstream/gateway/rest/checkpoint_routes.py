"""The endpoint of checkpoints: steps that an app reports while a call of its run is open."""

from dataclasses import replace

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import Response

from stepstream.gateway.rest.parts import RestParts
from stepstream.gateway.rest.replies import not_found
from stepstream.gateway.wire.answers import ANSWER_BYTES_MAX
from stepstream.gateway.wire.checkpoints import read_checkpoint

_STALE = "the call of this checkpoint is not open here: a later one has taken its place"


def add_checkpoints(router: APIRouter, parts: RestParts) -> None:
    """Add the endpoint, at both of its paths."""

    @router.post("/v1/checkpoint/{run_id}/async")
    @router.post("/v1/http/runs/{run_id}/async")
    async def checkpoint(run_id: str, request: Request) -> Response:
        runs = parts.checkpoints
        if runs is None or run_id not in runs:
            raise not_found(f"run {run_id!r} with an open call")
        async with parts.bodies.body(request, ANSWER_BYTES_MAX) as body:
            kept = await runs.checkpoint(replace(read_checkpoint(body), run_id=run_id))
        if not kept:
            raise HTTPException(409, _STALE)
        return Response()
