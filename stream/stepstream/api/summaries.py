"""The routes that sum up runs: their counts by function and status, and their errors in groups."""

import dataclasses
import time
from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Query
from fastapi.params import Depends

from stepstream.contract.errors import InvalidInput
from stepstream.runtime.readmodel.filters import filter_time_ms
from stepstream.runtime.readmodel.index import RunIndex


def add_summaries(api: FastAPI, index: RunIndex, guarded: Sequence[Depends]) -> None:
    """Add the routes."""

    @api.get("/v1/counts", dependencies=guarded, summary="Count the runs by function and status")
    async def show_counts() -> dict[str, Any]:
        return {"functions": await index.queries.function_counts()}

    @api.get("/v1/errors", dependencies=guarded, summary="List groups of errors, those with the most failures first")
    async def list_errors(
        function: str = "",
        since: str = Query("", description="only groups seen since this time, such as -1h or 2026-11-28T10:00"),
        limit: int = Query(50, ge=1, le=1_000),
    ) -> dict[str, Any]:
        try:
            since_ms = filter_time_ms(since, round(time.time() * 1_000)) if since else 0
        except InvalidInput as error:
            raise InvalidInput(error.reason, "since") from None
        groups = await index.queries.error_groups(function, since=since_ms, limit=limit)
        return {"errors": [dataclasses.asdict(group) for group in groups]}
