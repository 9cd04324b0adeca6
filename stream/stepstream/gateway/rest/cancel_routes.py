"""The endpoints of cancellations: bulk operations that cancel the runs of a function."""

import secrets
from typing import Any

import msgspec
from fastapi import APIRouter, Request

from stepstream.api.bodies import decode_body
from stepstream.contract.errors import InvalidInput
from stepstream.contract.limits import BULK_LISTED_MAX, BULK_RUNS_MAX, MIB
from stepstream.contract.operators.bulk import BulkAction, BulkCancelRequested, BulkChanged, is_operation_id
from stepstream.gateway.rest.parts import RestParts
from stepstream.gateway.rest.replies import enveloped, iso, not_found
from stepstream.gateway.rest.sdk_shapes import ENVIRONMENT_ID, moment_of
from stepstream.runtime.bulk import BulkOptions, select, start, until_listed
from stepstream.runtime.readmodel.search.filters import Filter

CANCELLATION_BYTES_MAX = MIB
AHEAD_MS_MAX = 5_000
_BY, _WHY = "Inngest API", "cancellation of "


class CancellationBody(msgspec.Struct, frozen=True):
    """A cancellation as an SDK sends it; the id of the function is without that of its app."""

    app_id: str
    function_id: str
    started_before: str
    started_after: str = ""
    if_: str = msgspec.field(default="", name="if")

    @property
    def function(self) -> str:
        """The id by which the engine knows the function."""
        return f"{self.app_id}-{self.function_id}"


def add_cancellations(router: APIRouter, parts: RestParts) -> None:
    """Add the endpoints."""
    queries, bulk = parts.index.queries, parts.engine.operator.bulk

    @router.post("/v1/cancellations", status_code=201)
    async def cancel_runs(request: Request) -> dict[str, Any]:
        async with parts.bodies.body(request, CANCELLATION_BYTES_MAX) as body:
            asked = decode_body(body, CancellationBody)
        options = _options(parts, asked)
        if asked.function not in {function.id for function in parts.engine.overview.functions()}:
            raise not_found(f"function {asked.function!r}")
        selection = await select(queries, options)
        if selection.run_ids:
            await start(bulk, queries, options, selection.run_ids, parts.limits)
            await until_listed(queries, options.operation)
        shown = _cancellation(options.operation, asked.function, parts.now_ms())
        given = {"started_after": asked.started_after or None, "started_before": asked.started_before}
        return enveloped({**shown, **given, "if": asked.if_ or None}, parts.now_ms())

    @router.get("/v1/cancellations")
    async def list_cancellations() -> dict[str, Any]:
        listed = [each for each in await queries.bulks(BULK_LISTED_MAX) if _is_cancellation(each)]
        shown = [_cancellation(each.operation, each.why.removeprefix(_WHY), each.started_at) for each in listed]
        return enveloped(shown, parts.now_ms())

    @router.delete("/v1/cancellations/{operation}")
    async def stop_cancellation(operation: str) -> dict[str, bool]:
        known = is_operation_id(operation) and await bulk(BulkCancelRequested(operation, _BY)) != "absent"
        if not known:
            raise not_found(f"cancellation {operation!r}")
        return {"ok": True}


def _options(parts: RestParts, asked: CancellationBody) -> BulkOptions:
    before = moment_of(asked.started_before, "started_before")
    if before > parts.now_ms() + AHEAD_MS_MAX:
        raise InvalidInput("the time is in the future; a cancellation is of runs that exist", "started_before")
    after = moment_of(asked.started_after, "started_after") if asked.started_after else 0
    terms = {"function": asked.function, "before": iso(before) or "", "after": iso(after) or "", "cel": asked.if_}
    filter = Filter.parse(str(Filter().having_all(terms)))
    why = f"{_WHY}{asked.function}"
    return BulkOptions(BulkAction.CANCEL, filter, by=_BY, why=why, cap=BULK_RUNS_MAX, operation=secrets.token_hex(13))


def _is_cancellation(bulk: BulkChanged) -> bool:
    return bulk.action == BulkAction.CANCEL and bulk.why.startswith(_WHY)


def _cancellation(id: str, function: str, at: int) -> dict[str, Any]:
    return {"id": id, "environment_id": ENVIRONMENT_ID, "function_id": function, "created_at": iso(at)}
