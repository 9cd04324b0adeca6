"""The endpoints of runs: their state, and their cancellation."""

import asyncio
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from stepstream.contract.ids import is_run_id
from stepstream.contract.limits import MIB
from stepstream.gateway.rest.parts import RestParts
from stepstream.gateway.rest.replies import enveloped, not_found
from stepstream.gateway.rest.sdk_shapes import run_json
from stepstream.gateway.wire.metadata import read_update
from stepstream.runtime.readmodel.views import RunView

METADATA_BYTES_MAX = MIB
# A run is known to its function before the read model has it.
SHOWN_S_MAX = 2.0
_BY = "Inngest API"


async def find_run(parts: RestParts, run_id: str) -> RunView | None:
    """Return a run, for which the read model may have to wait; None if there is no such run."""
    changes, queries = parts.index.changes, parts.index.queries
    loop = asyncio.get_running_loop()
    deadline = loop.time() + SHOWN_S_MAX
    with changes.watched():
        while True:
            version, run = changes.version, await queries.show(run_id)
            left = deadline - loop.time()
            if run is not None or left <= 0 or not is_run_id(run_id):
                return run
            await changes.after(version, left)


def add_runs(router: APIRouter, parts: RestParts) -> None:
    """Add the endpoints that read and cancel a run."""

    async def found(run_id: str) -> RunView:
        run = await parts.index.queries.show(run_id)
        if run is None:
            raise not_found(f"run {run_id!r}")
        return run

    @router.get("/v1/runs/{run_id}")
    async def show_run(run_id: str) -> dict[str, Any]:
        run = await found(run_id)
        return enveloped(run_json(run, (run.output, run.error), parts.recent), parts.now_ms())

    @router.delete("/v0/runs/{run_id}", status_code=204)
    @router.delete("/v1/runs/{run_id}", status_code=202)
    async def cancel_run(run_id: str, request: Request) -> Response:
        if not await parts.engine.operator.cancel(run_id, by=_BY):
            await found(run_id)
        return Response(status_code=204 if request.url.path.startswith("/v0") else 202)

    @router.get("/v1/runs/{run_id}/jobs")
    async def list_jobs(run_id: str) -> dict[str, Any]:
        await found(run_id)
        return enveloped([], parts.now_ms())

    @router.post("/v1/runs/{run_id}/metadata")
    async def add_metadata(run_id: str, request: Request) -> dict[str, Any]:
        async with parts.bodies.body(request, METADATA_BYTES_MAX) as body:
            update = read_update(body)
        if await find_run(parts, run_id) is None:
            raise not_found(f"run {run_id!r}")
        if parts.metadata:
            await parts.metadata.add(run_id, update.step, update.attempt, update.items)
        return enveloped(None, parts.now_ms())
