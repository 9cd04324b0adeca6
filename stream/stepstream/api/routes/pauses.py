"""The routes by which operators pause runs, functions and queues, and resume them."""

import dataclasses
import logging
from typing import Any, TypeVar

import msgspec
from fastapi import FastAPI, HTTPException, Request

from stepstream.api.bodies import decode_body
from stepstream.api.facade import EngineFacade, Operator
from stepstream.api.routes.control import OperatorRoutes
from stepstream.contract.limits import MIB
from stepstream.contract.operators.control import Pause, function_scope, queue_scope
from stepstream.contract.text.printable import printable
from stepstream.runtime.pauses import pause_of
from stepstream.runtime.reruns import check_reason

logger = logging.getLogger(__name__)
_BODY_BYTES_MAX = MIB // 16
_PAUSE_BODY = {
    "requestBody": {
        "description": "{until?, why?}: a duration such as 2h or an ISO 8601 time, and the reason",
        "content": {"application/json": {"schema": {"type": "object"}}},
    }
}
_RESUME_BODY = {
    "requestBody": {"description": "{why?}", "content": {"application/json": {"schema": {"type": "object"}}}}
}


class PauseBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a request to pause something; without `until` it is paused until an operator resumes it."""

    until: str = ""
    why: str = ""


class ResumeBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a request to resume something."""

    why: str = ""


T = TypeVar("T", PauseBody, ResumeBody)


async def pause_scope(operator: Operator, scope: str, pause: Pause) -> None:
    """Pause a function or a queue, or change its pause, and log who did it."""
    await operator.pause_scope(scope, pause)
    logger.info("%s paused %s: %s", printable(pause.by), printable(scope), printable(pause.why))


async def resume_scope(operator: Operator, scope: str, by: str, why: str = "") -> bool:
    """Resume a function or a queue, and log who did it; return whether it was paused."""
    if was_paused := await operator.pause_scope(scope, None, by, why):
        logger.info("%s resumed %s: %s", printable(by), printable(scope), printable(why))
    return was_paused


def _parse(body: bytes, kind: type[T]) -> T:
    parsed = decode_body(body.strip() or b"{}", kind)
    check_reason(parsed.why)
    return parsed


async def _pause_asked(routes: OperatorRoutes, request: Request) -> Pause:
    """Return the pause that a request asks for."""
    async with routes.bodies.body(request, _BODY_BYTES_MAX) as body:
        asked = _parse(body, PauseBody)
    return pause_of(asked.until, routes.actor(request), asked.why, routes.now_ms())


async def _reason_given(routes: OperatorRoutes, request: Request) -> str:
    """Return the reason of a request to resume something."""
    async with routes.bodies.body(request, _BODY_BYTES_MAX) as body:
        asked = _parse(body, ResumeBody)
    return asked.why


def add_pauses(api: FastAPI, routes: OperatorRoutes) -> None:
    """Add the routes that pause runs, functions and queues, and resume them."""
    pausing: dict[str, Any] = {"openapi_extra": _PAUSE_BODY, "dependencies": routes.dependencies}
    resuming: dict[str, Any] = {"openapi_extra": _RESUME_BODY, "dependencies": routes.dependencies}
    _add_runs(api, routes, pausing, resuming)
    _add_scopes(api, routes, pausing, resuming)


def _add_runs(api: FastAPI, routes: OperatorRoutes, pausing: dict[str, Any], resuming: dict[str, Any]) -> None:
    async def refusal(run_id: str, open_reason: str) -> HTTPException:
        run = await routes.queries.show(run_id)
        if run is None:
            return HTTPException(404, f"there is no run {run_id!r}")
        return HTTPException(409, f"run {run_id} has ended already" if run.ended_at else open_reason)

    @api.post("/v1/runs/{run_id}/pause", **pausing, summary="Pause a run")
    async def pause(run_id: str, request: Request) -> dict[str, Any]:
        pause = await _pause_asked(routes, request)
        if not await routes.operator.pause(run_id, pause):
            raise await refusal(run_id, f"run {run_id} has ended already")
        return {"paused": True, "until": pause.until}

    @api.post("/v1/runs/{run_id}/resume", **resuming, summary="Resume a run")
    async def resume(run_id: str, request: Request) -> dict[str, Any]:
        why = await _reason_given(routes, request)
        if not await routes.operator.unpause(run_id, routes.actor(request), why):
            raise await refusal(run_id, f"run {run_id} is not paused")
        return {"resumed": True}


def _function(engine: EngineFacade, function_id: str) -> str:
    """Return the scope of a function; raise HTTPException if it is unknown."""
    known = engine.overview.functions()
    if known and all(each.id != function_id for each in known):
        raise HTTPException(404, f"there is no function {function_id!r}")
    return function_scope(function_id)


def _queue(engine: EngineFacade, app: str, queue: str) -> str:
    """Return the scope of a queue; raise HTTPException if it is unknown."""
    known = engine.overview.functions()
    if known and all(each.app != app or queue not in each.queues for each in known):
        raise HTTPException(404, f"app {app!r} has no queue {queue!r}")
    return queue_scope(app, queue)


def _add_scopes(api: FastAPI, routes: OperatorRoutes, pausing: dict[str, Any], resuming: dict[str, Any]) -> None:
    engine = routes.engine

    async def pause(scope: str, request: Request) -> dict[str, Any]:
        pause = await _pause_asked(routes, request)
        await pause_scope(routes.operator, scope, pause)
        return {"paused": True, "until": pause.until}

    async def resume(scope: str, request: Request) -> dict[str, Any]:
        why = await _reason_given(routes, request)
        if not await resume_scope(routes.operator, scope, routes.actor(request), why):
            raise HTTPException(409, f"{scope.replace(':', ' ', 1)} is not paused")
        return {"resumed": True}

    @api.get("/v1/pauses", dependencies=routes.dependencies, summary="List the pauses of functions and queues")
    async def list_pauses() -> dict[str, Any]:
        return {"pauses": [dataclasses.asdict(each) for each in engine.overview.pauses()]}

    @api.post("/v1/functions/{function_id:path}/pause", **pausing, summary="Pause a function")
    async def pause_function(function_id: str, request: Request) -> dict[str, Any]:
        return await pause(_function(engine, function_id), request)

    @api.post("/v1/functions/{function_id:path}/resume", **resuming, summary="Resume a function")
    async def resume_function(function_id: str, request: Request) -> dict[str, Any]:
        return await resume(_function(engine, function_id), request)

    @api.post("/v1/queues/{app}/{queue}/pause", **pausing, summary="Pause a queue of an app")
    async def pause_queue(app: str, queue: str, request: Request) -> dict[str, Any]:
        return await pause(_queue(engine, app, queue), request)

    @api.post("/v1/queues/{app}/{queue}/resume", **resuming, summary="Resume a queue of an app")
    async def resume_queue(app: str, queue: str, request: Request) -> dict[str, Any]:
        return await resume(_queue(engine, app, queue), request)
