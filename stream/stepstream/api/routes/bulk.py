"""The routes of bulk operations: preview and start, list, show and cancel."""

import dataclasses
import secrets
from typing import Any

import msgspec
from fastapi import FastAPI, HTTPException, Query, Request
from fastapi.responses import JSONResponse

from stepstream.api.bodies import decode_body
from stepstream.api.routes.control import OperatorRoutes
from stepstream.contract.codec import Raw, load_json
from stepstream.contract.errors import InvalidInput
from stepstream.contract.limits import BULK_LISTED_MAX, BULK_RATE_DEFAULT, BULK_RUNS_DEFAULT
from stepstream.contract.operators.bulk import BulkAction, BulkCancelRequested, BulkChanged, is_operation_id
from stepstream.runtime.bulk import BulkOptions, BulkSelection, count_rerun, select, select_and_start
from stepstream.runtime.pauses import end_of_pause
from stepstream.runtime.readmodel.search.filters import Filter
from stepstream.runtime.readmodel.search.search import RunCount
from stepstream.runtime.reruns import check_reason

_BODY = {
    "requestBody": {
        "required": True,
        "description": "{action: cancel | rerun | pause | resume, filter | ids, why?, dry_run?, cap?, rate?, "
        "request_id?, from_failure?, data?, until?}; from_failure and data are of reruns, until is of pauses",
        "content": {"application/json": {"schema": {"type": "object"}}},
    },
    "responses": {"202": {"description": "the operation runs"}},
}


class BulkBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a request for a bulk operation, as BulkOptions; with `dry_run` it is only previewed."""

    action: BulkAction
    filter: str | None = None
    ids: tuple[str, ...] = ()
    why: str = ""
    dry_run: bool = False
    cap: int = BULK_RUNS_DEFAULT
    rate: int = BULK_RATE_DEFAULT
    request_id: str = ""
    from_failure: bool = False
    data: Raw = Raw(b"")
    until: str = ""


def parse_bulk(body: bytes, by: str, now_ms: int) -> tuple[BulkOptions, bool]:
    """Return the options of a request for a bulk operation, and whether it is only previewed."""
    parsed = decode_body(body, BulkBody)
    if bytes(parsed.data) and not isinstance(load_json(parsed.data, field="data"), dict):
        raise InvalidInput("expected a JSON object", "data")
    check_reason(parsed.why)
    options = BulkOptions(
        parsed.action,
        None if parsed.filter is None else Filter.parse(parsed.filter).at(now_ms),
        parsed.ids,
        by,
        parsed.why,
        parsed.cap,
        parsed.rate,
        parsed.from_failure,
        parsed.data if bytes(parsed.data) else None,
        end_of_pause(parsed.until, now_ms),
        parsed.request_id or secrets.token_hex(8),
    )
    return options, parsed.dry_run


def shown_bulk(bulk: BulkChanged) -> dict[str, Any]:
    """Return an operation as the API answers with it: the fields of BulkChanged without its number in history."""
    shown = msgspec.to_builtins(bulk) | {"id": bulk.operation, "outcomes": dict(bulk.outcomes), "changed_at": bulk.at}
    defaults = {"filter": "", "by": "", "why": "", "total": 0, "sent": 0, "ended_by": "", "until": 0, "failures": []}
    return {**defaults, **{name: value for name, value in shown.items() if name not in _OWN}}


_OWN = ("type", "operation", "seq", "at")


def _preview(selection: BulkSelection, options: BulkOptions, rerun: RunCount | None) -> dict[str, Any]:
    sample = [dataclasses.asdict(run) for run in selection.sample]
    count, skipped = len(selection.run_ids), selection.skipped
    # Times such as -1h are absolute now, so that what is started is what was previewed.
    filter = None if options.filter is None else str(options.filter)
    preview = {"action": options.action, "filter": filter, "count": count, "skipped": skipped, "sample": sample}
    return preview if rerun is None else {**preview, "rerun_before": rerun.runs, "rerun_before_exact": rerun.exact}


def add_bulk(api: FastAPI, routes: OperatorRoutes) -> None:
    """Add the routes."""
    _add_operations(api, routes)
    queries, limits = routes.queries, routes.limits

    @api.post("/v1/bulk", openapi_extra=_BODY, dependencies=routes.dependencies, summary="Act on many runs")
    async def start_bulk(request: Request) -> JSONResponse:
        async with routes.bodies.body(request, limits.request_bytes_max) as body:
            options, dry_run = parse_bulk(body, routes.actor(request), routes.now_ms())
        if dry_run:
            selection = await select(queries, options)
            return JSONResponse(_preview(selection, options, await count_rerun(queries, options)))
        state, count = await select_and_start(routes.operator.bulk, queries, options, limits)
        return JSONResponse({"id": options.operation, "state": state, "count": count}, 202)


def _add_operations(api: FastAPI, routes: OperatorRoutes) -> None:
    queries = routes.queries
    guarded: dict[str, Any] = {"dependencies": routes.dependencies}

    @api.get("/v1/bulk", **guarded, summary="List bulk operations, the newest first")
    async def list_bulks(limit: int = Query(50, ge=1, le=BULK_LISTED_MAX)) -> dict[str, Any]:
        return {"operations": [shown_bulk(each) for each in await queries.bulks(limit)]}

    @api.get("/v1/bulk/{operation_id}", **guarded, summary="Show the progress of a bulk operation")
    async def show_bulk(operation_id: str) -> dict[str, Any]:
        found = await queries.bulk(operation_id)
        if found is None:
            raise HTTPException(404, f"there is no bulk operation {operation_id!r}")
        return shown_bulk(found)

    @api.delete("/v1/bulk/{operation_id}", **guarded, summary="Stop a bulk operation")
    async def cancel_bulk(operation_id: str, request: Request) -> dict[str, str]:
        request_of = BulkCancelRequested(operation_id, routes.actor(request))
        state = await routes.operator.bulk(request_of) if is_operation_id(operation_id) else "absent"
        if state == "absent":
            raise HTTPException(404, f"there is no bulk operation {operation_id!r}")
        return {"state": state}
