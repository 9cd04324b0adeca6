"""The endpoints that only test suites ask, in dev mode."""

from typing import Any

from fastapi import APIRouter

from stepstream.contract.kinds import OPEN_RUN_STATUSES
from stepstream.contract.operators.control import Pause, function_scope
from stepstream.gateway.rest.parts import RestParts
from stepstream.gateway.rest.replies import not_found, unsupported
from stepstream.gateway.wire.calls import function_uuid
from stepstream.gateway.wire.signing import ServerKind
from stepstream.runtime.readmodel.search.filters import Filter

_LIMITS = "limits that are changed while it runs"
_BY = "test suite"
_OPEN = Filter().having("status", *OPEN_RUN_STATUSES)
RESET_RUNS_MAX = 1_000


def add_test_endpoints(router: APIRouter, parts: RestParts) -> None:
    """Add the endpoints."""
    if parts.options.kind != ServerKind.DEV:
        return
    _add_apps(router, parts)
    _add_functions(router, parts)

    @router.post("/test/reset")
    async def reset() -> dict[str, int]:
        found = await parts.index.queries.search(_OPEN, limit=RESET_RUNS_MAX)
        for run in found.runs:
            await parts.engine.operator.cancel(run.run_id, by=_BY)
        return {"cancelled": len(found.runs)}


def _add_apps(router: APIRouter, parts: RestParts) -> None:
    @router.delete("/fn/remove")
    async def remove_app(url: str) -> dict[str, bool]:
        if parts.apps is None or not await parts.apps.remove(url):
            raise not_found(f"app at {url!r}")
        return {"ok": True}

    @router.post("/fn/step-limit")
    @router.delete("/fn/step-limit")
    @router.post("/fn/state-size-limit")
    @router.delete("/fn/state-size-limit")
    async def change_limits() -> None:
        raise unsupported(_LIMITS)


def _add_functions(router: APIRouter, parts: RestParts) -> None:
    def slug(id: str) -> str:
        found = next((each.id for each in parts.engine.overview.functions() if function_uuid(each.id) == id), None)
        if found is None:
            raise not_found(f"function {id!r}")
        return found

    @router.post("/test/function/pause")
    async def pause(fnId: str) -> dict[str, bool]:
        await parts.engine.operator.pause_scope(function_scope(slug(fnId)), Pause(by=_BY))
        return {"ok": True}

    @router.post("/test/function/runs/cancel")
    async def cancel(runId: str) -> dict[str, bool]:
        return {"ok": await parts.engine.operator.cancel(runId, by=_BY)}

    @router.get("/test/queue/function-queue-size")
    async def count_open(fnId: str) -> dict[str, Any]:
        counted = await parts.index.queries.count(_OPEN.having("function", slug(fnId)))
        return {"count": counted.runs}
