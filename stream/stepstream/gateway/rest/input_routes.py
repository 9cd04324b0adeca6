"""The endpoints from which SDKs fetch the events and the memos of a run whose calls have no room for them."""

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import Response

from stepstream.contract.codec import encode
from stepstream.contract.kinds import OPEN_RUN_STATUSES
from stepstream.gateway.rest.parts import RestParts
from stepstream.gateway.rest.sdk_shapes import events_of
from stepstream.gateway.runs.peers import EPOCH, PASSED_ON, RunInput
from stepstream.gateway.runs.transport import Unreachable

_JSON = "application/json"


def add_inputs(router: APIRouter, parts: RestParts) -> None:
    """Add the endpoints.

    A request does not name the gateway that calls the app, so a gateway without the run asks all others.
    """

    @router.get("/v0/runs/{run_id}/batch")
    async def fetch_events(run_id: str, request: Request) -> Response:
        held = parts.inputs.events(run_id) if parts.inputs else None
        if found := held or await _at_peers(parts, request):
            return _answer(found)
        run = await parts.index.queries.show(run_id)
        if run is None or run.status not in OPEN_RUN_STATUSES or PASSED_ON in request.headers:
            raise _gone(run_id)
        return Response(encode(events_of(run)), media_type=_JSON)

    @router.get("/v0/runs/{run_id}/actions")
    async def fetch_memos(run_id: str, request: Request) -> Response:
        held = parts.inputs.memos(run_id) if parts.inputs else None
        if found := held or await _at_peers(parts, request):
            return _answer(found)
        raise _gone(run_id)


async def _at_peers(parts: RestParts, request: Request) -> RunInput | None:
    if parts.peers is None or PASSED_ON in request.headers:
        return None
    try:
        return await parts.peers.fetch(request.url.path, request.headers.get("Authorization", ""))
    except Unreachable as error:
        raise HTTPException(502, str(error)) from None


def _answer(found: RunInput) -> Response:
    return Response(found.body, media_type=_JSON, headers={EPOCH: str(found.epoch)})


def _gone(run_id: str) -> HTTPException:
    return HTTPException(410, f"run {run_id!r} has ended, or is not known")
