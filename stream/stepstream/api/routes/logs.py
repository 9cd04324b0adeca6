"""The route of what runs logged."""

from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, HTTPException, Query
from fastapi.responses import Response

from stepstream.api.responses import json_response
from stepstream.runtime.readmodel.index import RunIndex


def add_logs(api: FastAPI, index: RunIndex, guarded: Sequence[Any]) -> None:
    """Add the route of the logs of a run."""

    @api.get("/v1/runs/{run_id}/logs", dependencies=guarded, summary="Show what a run logged, in order of time")
    async def show_logs(
        run_id: str,
        step: str | None = Query(None, description="the hash of a step, or empty for the code between steps"),
        after: str = Query("", description="the `after` of a line; the lines that follow it are returned"),
        limit: int = Query(1_000, ge=1, le=10_000),
    ) -> Response:
        lines = await index.queries.logs(run_id, step=step, after=after, limit=limit)
        if not lines and await index.queries.show(run_id) is None:
            raise HTTPException(404, f"there is no run {run_id!r}")
        return json_response({"lines": lines})
