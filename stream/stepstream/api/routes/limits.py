"""The routes that show limits, and by which operators change them."""

import json
import logging
from typing import Annotated, Any

import msgspec
from fastapi import FastAPI, HTTPException, Query, Request

from stepstream.api.bodies import decode_body
from stepstream.api.facade import EngineFacade, Operator
from stepstream.api.routes.control import OperatorRoutes
from stepstream.contract.errors import InvalidInput
from stepstream.contract.gates import gate_id
from stepstream.contract.limits import MIB
from stepstream.contract.operators.limit_settings import LimitAction, LimitChangeRequested
from stepstream.contract.operators.limit_views import LimitsPage
from stepstream.contract.text.printable import printable
from stepstream.runtime.limit_changes import (
    LimitTarget,
    NewNumbers,
    pause_request,
    set_request,
    target_in_use,
    target_of,
    undo_request,
)

logger = logging.getLogger(__name__)
# A part of the list is read in one transaction of each shard.
LIMITS_MAX = 100
_BODY_BYTES_MAX = MIB // 16
_BODY = {
    "requestBody": {
        "description": "{limit, period?, burst?, until?, why} to set it, {paused, until?, why?} to pause or resume it",
        "content": {"application/json": {"schema": {"type": "object"}}},
    }
}


class LimitBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a request to change a limit: its numbers, or whether it is paused."""

    limit: int | None = None
    period: str = ""
    burst: int | None = None
    paused: bool | None = None
    until: str = ""
    why: str = ""


async def limits_page(operator: Operator, name: str, after: str, count: int) -> tuple[LimitsPage, str]:
    """Return a part of the list, only the limits of `name` if it is given, and the `after` of the next part."""
    page = await operator.limits(name, _gate_of(after), count)
    return page, json.dumps(page.next.split("\x00", 1)) if page.next else ""


def _gate_of(after: str) -> str:
    """Return the gate after which a part of the list begins; raise InvalidInput if there is none."""
    if not after:
        return ""
    try:
        name, key = json.loads(after)
        return gate_id(name + "", key + "")
    except (ValueError, TypeError, RecursionError):
        raise InvalidInput("it is not the `next` of a previous page", "after") from None


async def limit_to_change(engine: EngineFacade, name: str, key: str) -> LimitTarget:
    """Return a limit that an operator changes; raise HTTPException if no function has it, and nothing uses it.

    A limit of single steps that its app does not declare is found while it is in use, or after it was changed.
    """
    if found := target_of(name, key, engine.overview.functions()):
        return found
    page = await engine.operator.limits(name, "", 1)
    return (
        target_in_use(page.limits[0], key)
        if page.limits
        else known_limit(engine, name, key, is_used=bool(page.changed))
    )


def known_limit(engine: EngineFacade, name: str, key: str, *, is_used: bool = False) -> LimitTarget:
    """Return a limit; raise HTTPException if no function has it, and nothing uses it."""
    functions = engine.overview.functions()
    found = target_of(name, key, functions)
    if found is None and functions and not is_used:
        raise HTTPException(404, f"no function has the limit {name!r}, and no step uses it now")
    return found or LimitTarget(name, key)


async def change_limit(operator: Operator, request: LimitChangeRequested) -> bool:
    """Change a limit, and log who did it; return whether there was something to change."""
    if changed := await operator.change_limit(request):
        of_key = f" for the key {printable(request.key)!r}" if request.key else ""
        what = f"{request.action} of limit {printable(request.name)}{of_key}"
        logger.info("%s asked for %s: %s", printable(request.by), what, printable(request.why))
    return changed


def _request_of(target: LimitTarget, body: LimitBody, by: str, now_ms: int) -> LimitChangeRequested:
    """Return what a body asks for; raise InvalidInput unless it is one of the three."""
    if (body.limit is None) == (body.paused is None):
        raise InvalidInput("give either `limit` or `paused`", "limit")
    if body.paused is None:
        return set_request(target, NewNumbers(body.limit, body.period, body.burst, body.until), by, body.why, now_ms)
    if body.paused:
        return pause_request(target, body.until, by, body.why, now_ms)
    return undo_request(target, LimitAction.RESUME, by, body.why)


def add_limits(api: FastAPI, routes: OperatorRoutes) -> None:
    """Add the routes."""
    guarded: dict[str, Any] = {"dependencies": routes.dependencies}

    @api.get("/v1/limits", **guarded, summary="List limits that are in use or were changed, by name and key")
    async def list_limits(
        name: str = "",
        after: Annotated[str, Query(description="the `next` of the previous page")] = "",
        limit: Annotated[int, Query(ge=1, le=LIMITS_MAX)] = 50,
    ) -> dict[str, Any]:
        page, next_ = await limits_page(routes.operator, name, after, limit)
        return {**msgspec.to_builtins(page), "next": next_}

    @api.get("/v1/limits/{name:path}", **guarded, summary="Show a limit, for a value of its key")
    async def show_limit(name: str, key: str = "") -> dict[str, Any]:
        answer = await routes.operator.limit(name, key)
        known_limit(routes.engine, name, key, is_used=bool(answer.limit or answer.changed))
        shown: dict[str, Any] = msgspec.to_builtins(answer)
        return shown

    @api.put("/v1/limits/{name:path}", **guarded, openapi_extra=_BODY, summary="Set, pause or resume a limit")
    async def put_limit(name: str, request: Request, key: str = "") -> dict[str, bool]:
        async with routes.bodies.body(request, _BODY_BYTES_MAX) as raw:
            body = decode_body(raw, LimitBody)
        target = await limit_to_change(routes.engine, name, key)
        change = _request_of(target, body, routes.actor(request), routes.now_ms())
        if not await change_limit(routes.operator, change):
            raise HTTPException(409, f"the limit {name!r} is not paused" if body.paused is False else "nothing changes")
        return {"changed": True}

    @api.delete("/v1/limits/{name:path}", **guarded, summary="Reset a limit to the numbers in code")
    async def reset_limit(name: str, request: Request, key: str = "", why: str = "") -> dict[str, bool]:
        change = undo_request(LimitTarget(name, key), LimitAction.RESET, routes.actor(request), why)
        if not await change_limit(routes.operator, change):
            raise HTTPException(409, f"the limit {name!r} is as in code")
        return {"changed": True}
