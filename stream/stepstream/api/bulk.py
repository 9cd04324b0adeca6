"""The routes of bulk operations: preview and start, list, show and cancel."""

import dataclasses
import secrets
import time
from collections.abc import Sequence
from typing import Any

import msgspec
from fastapi import FastAPI, HTTPException, Query, Request
from fastapi.responses import JSONResponse

from stepstream.api.bodies import BodyBudget
from stepstream.api.control import Actor
from stepstream.api.facade import Operator
from stepstream.contract.bulk import BulkAction, BulkCancelRequested, BulkChanged, BulkState
from stepstream.contract.codec import Raw, load_json
from stepstream.contract.errors import InvalidInput
from stepstream.contract.limits import BULK_LISTED_MAX, BULK_RATE_DEFAULT, BULK_RUNS_DEFAULT, Limits
from stepstream.runtime.bulk import BulkOptions, BulkSelection, select, start, until_listed
from stepstream.runtime.readmodel.filters import Filter
from stepstream.runtime.readmodel.index import RunIndex
from stepstream.runtime.reruns import check_reason

_BODY = {
    "requestBody": {
        "required": True,
        "description": "{action: cancel | rerun, filter | ids, why?, dry_run?, cap?, rate?, request_id?, "
        "from_failure?, data?}; the last two are of reruns",
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


def parse_bulk(body: bytes, by: str) -> tuple[BulkOptions, bool]:
    """Return the options of a request for a bulk operation, and whether it is only previewed."""
    try:
        parsed = msgspec.json.decode(body, type=BulkBody)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise InvalidInput(str(error), "body") from None
    if bytes(parsed.data) and not isinstance(load_json(parsed.data, field="data"), dict):
        raise InvalidInput("expected a JSON object", "data")
    check_reason(parsed.why)
    options = BulkOptions(
        parsed.action,
        None if parsed.filter is None else Filter.parse(parsed.filter).at(round(time.time() * 1_000)),
        parsed.ids,
        by,
        parsed.why,
        parsed.cap,
        parsed.rate,
        parsed.from_failure,
        parsed.data if bytes(parsed.data) else None,
        parsed.request_id or secrets.token_hex(8),
    )
    return options, parsed.dry_run


def shown_bulk(bulk: BulkChanged) -> dict[str, Any]:
    """Return an operation as the API answers with it: the fields of BulkChanged without its number in history."""
    shown = msgspec.to_builtins(bulk) | {"id": bulk.operation, "outcomes": dict(bulk.outcomes), "changed_at": bulk.at}
    defaults = {"by": "", "why": "", "total": 0, "sent": 0, "ended_by": ""}
    return {**defaults, **{name: value for name, value in shown.items() if name not in _OWN}}


_OWN = ("type", "operation", "seq", "at")


def _preview(selection: BulkSelection, options: BulkOptions) -> dict[str, Any]:
    sample = [dataclasses.asdict(run) for run in selection.sample]
    count, skipped = len(selection.run_ids), selection.skipped
    # Times such as -1h are absolute now, so that what is started is what was previewed.
    filter = None if options.filter is None else str(options.filter)
    return {"action": options.action, "filter": filter, "count": count, "skipped": skipped, "sample": sample}


def add_bulk(
    api: FastAPI,
    operator: Operator,
    index: RunIndex,
    dependencies: Sequence[Any],
    bodies: BodyBudget,
    limits: Limits,
    actor: Actor,
) -> None:
    """Add the routes."""

    @api.post("/v1/bulk", openapi_extra=_BODY, dependencies=dependencies, summary="Cancel or rerun many runs")
    async def start_bulk(request: Request) -> JSONResponse:
        async with bodies.body(request, limits.request_bytes_max) as body:
            options, dry_run = parse_bulk(body, actor(request))
        known = await index.queries.bulk(options.operation)
        if known is not None and known.state != BulkState.RECEIVING and not dry_run:
            return JSONResponse({"id": known.operation, "state": known.state, "count": known.total}, 202)
        selection = await select(index.queries, options)
        if dry_run:
            return JSONResponse(_preview(selection, options))
        if not selection.run_ids:
            raise InvalidInput(f"there is no run to {options.action}", "ids" if options.ids else "filter")
        state = await start(operator.bulk, index.queries, options, selection.run_ids, limits)
        await until_listed(index.queries, options.operation)
        return JSONResponse({"id": options.operation, "state": state, "count": len(selection.run_ids)}, 202)

    _add_operations(api, operator, index, dependencies, actor)


def _add_operations(
    api: FastAPI, operator: Operator, index: RunIndex, dependencies: Sequence[Any], actor: Actor
) -> None:
    @api.get("/v1/bulk", dependencies=dependencies, summary="List bulk operations, the newest first")
    async def list_bulks(limit: int = Query(50, ge=1, le=BULK_LISTED_MAX)) -> dict[str, Any]:
        return {"operations": [shown_bulk(each) for each in await index.queries.bulks(limit)]}

    @api.get("/v1/bulk/{operation_id}", dependencies=dependencies, summary="Show the progress of a bulk operation")
    async def show_bulk(operation_id: str) -> dict[str, Any]:
        found = await index.queries.bulk(operation_id)
        if found is None:
            raise HTTPException(404, f"there is no bulk operation {operation_id!r}")
        return shown_bulk(found)

    @api.delete("/v1/bulk/{operation_id}", dependencies=dependencies, summary="Stop a bulk operation")
    async def cancel_bulk(operation_id: str, request: Request) -> dict[str, str]:
        state = await operator.bulk(BulkCancelRequested(operation_id, actor(request)))
        if state == "absent":
            raise HTTPException(404, f"there is no bulk operation {operation_id!r}")
        return {"state": state}
