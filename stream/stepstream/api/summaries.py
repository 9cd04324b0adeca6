"""The routes that sum up runs: their counts by function and status, and their errors in groups."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

from fastapi import FastAPI, Query
from fastapi.params import Depends
from fastapi.responses import Response

from stepstream.api.responses import json_response
from stepstream.contract.errors import InvalidInput
from stepstream.contract.ids import is_run_id
from stepstream.runtime.readmodel.index import RunIndex
from stepstream.runtime.readmodel.search.filters import filter_time_ms
from stepstream.runtime.readmodel.tables.seen_events import is_row_number


def add_summaries(api: FastAPI, index: RunIndex, guarded: Sequence[Depends], now_ms: Callable[[], int]) -> None:
    """Add the routes."""

    @api.get("/v1/events", dependencies=guarded, summary="List events with what they did, the newest first")
    async def list_events(
        kind: Literal["started", "resumed", "cancelled"] = Query("started", description="what they did with runs"),
        name: str = "",
        before: str = Query("", description="the `next` of the previous page"),
        limit: int = Query(50, ge=1, le=1_000),
    ) -> Response:
        if before and not (is_run_id(before) if kind == "started" else is_row_number(before)):
            raise InvalidInput(f"{before!r} is not the `next` of a page", "before")
        queries = index.queries
        asked = {
            "started": queries.starting_events,
            "resumed": queries.resuming_events,
            "cancelled": queries.cancelling_events,
        }
        return json_response(await asked[kind](name, before=before, limit=limit))

    @api.get("/v1/counts", dependencies=guarded, summary="Count the runs by function and status")
    async def show_counts() -> dict[str, Any]:
        return {"functions": await index.queries.function_counts()}

    @api.get("/v1/errors", dependencies=guarded, summary="List groups of errors, those with the most failures first")
    async def list_errors(
        function: str = "",
        since: str = Query("", description="only groups seen since this time, such as -1h or 2026-11-28T10:00"),
        limit: int = Query(50, ge=1, le=1_000),
    ) -> Response:
        try:
            since_ms = filter_time_ms(since, now_ms()) if since else 0
        except InvalidInput as error:
            raise InvalidInput(error.reason, "since") from None
        groups = await index.queries.error_groups(function, since=since_ms, limit=limit)
        return json_response({"errors": groups})
