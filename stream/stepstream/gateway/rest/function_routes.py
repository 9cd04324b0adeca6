"""The endpoints of functions and apps, and those by which a client finds out that the server runs."""

from typing import Any

from fastapi import APIRouter, HTTPException, Request

from stepstream.contract.errors import Conflict
from stepstream.contract.functions import CronTrigger, FunctionRegistered
from stepstream.contract.limits import MIB
from stepstream.gateway.rest.parts import RestParts
from stepstream.gateway.rest.replies import not_found
from stepstream.gateway.rest.sent_events import read_invocation
from stepstream.gateway.wire.calls import function_uuid
from stepstream.gateway.wire.signing import ServerKind

INVOKE_BYTES_MAX = MIB


def live_functions(parts: RestParts) -> list[FunctionRegistered]:
    """Return the functions that events may start."""
    return [function for function in parts.engine.overview.functions() if not function.retired]


def function_json(function: FunctionRegistered) -> dict[str, Any]:
    """Return a function as in /v1/apps and /dev."""
    triggers = [
        {"cron": each.expression}
        if isinstance(each, CronTrigger)
        else {"event": each.event, **({"expression": each.condition} if each.condition else {})}
        for each in function.triggers
    ]
    return {
        "id": function_uuid(function.id),
        "app_id": function.app,
        "slug": function.id,
        "name": function.name or function.id.removeprefix(f"{function.app}-"),
        "triggers": triggers,
        "steps": [{"id": "step", "name": "step", "uri": function.endpoint}] if function.endpoint else [],
    }


def add_functions(router: APIRouter, parts: RestParts) -> None:
    """Add the endpoints that list functions, and the one that starts a function."""

    @router.get("/v1/apps/{name}/functions")
    async def list_functions(name: str) -> list[dict[str, Any]]:
        functions = [each for each in parts.engine.overview.functions() if each.app == name]
        if not functions:
            raise not_found(f"app {name!r}")
        return [function_json(each) for each in functions if not each.retired]

    @router.post("/invoke/{function_id}")
    async def invoke(function_id: str, request: Request) -> dict[str, Any]:
        async with parts.bodies.body(request, INVOKE_BYTES_MAX) as body:
            return {"id": await start_function(parts, function_id, body), "status": 200}


async def start_function(parts: RestParts, function_id: str, invocation: bytes) -> str:
    """Start only this function, by an event as SDKs send it; return the id of the run."""
    event = read_invocation(invocation, parts.limits)
    try:
        return await parts.engine.operator.invoke(function_id, event)
    except Conflict:
        raise not_found(f"function {function_id!r}") from None


def add_probes(router: APIRouter, parts: RestParts) -> None:
    """Add the endpoints that say that the server runs."""

    @router.get("/health")
    async def health() -> dict[str, Any]:
        return {"status": 200, "message": "OK"}

    @router.get("/dev")
    async def describe() -> dict[str, Any]:
        if parts.options.kind != ServerKind.DEV:
            raise HTTPException(404, "this server is not in dev mode")
        functions = [function_json(each) for each in live_functions(parts)]
        return {"functions": functions, "handlers": [], "startOpts": {"autodiscover": False, "poll": False}}
