"""The routes by which operators pause runs and resume them."""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from fastapi import FastAPI, HTTPException, Request

from stepstream.api.bodies import BodyBudget
from stepstream.api.control import Actor
from stepstream.api.facade import Operator
from stepstream.contract.errors import InvalidInput
from stepstream.contract.limits import MIB
from stepstream.runtime.pauses import pause_of
from stepstream.runtime.readmodel.index import RunIndex
from stepstream.runtime.reruns import check_reason

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


_decode_pause = msgspec.json.Decoder(PauseBody).decode
_decode_resume = msgspec.json.Decoder(ResumeBody).decode


def _parse(body: bytes, decode: Callable[[bytes], Any]) -> Any:
    try:
        parsed = decode(body.strip() or b"{}")
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise InvalidInput(str(error), "body") from None
    check_reason(parsed.why)
    return parsed


def add_pauses(
    api: FastAPI,
    operator: Operator,
    index: RunIndex,
    dependencies: Sequence[Any],
    bodies: BodyBudget,
    actor: Actor,
    now_ms: Callable[[], int],
) -> None:
    """Add the routes that pause runs and resume them."""

    async def refusal(run_id: str, open_reason: str) -> HTTPException:
        run = await index.queries.show(run_id)
        if run is None:
            return HTTPException(404, f"there is no run {run_id!r}")
        return HTTPException(409, f"run {run_id} has ended already" if run.ended_at else open_reason)

    @api.post("/v1/runs/{run_id}/pause", openapi_extra=_PAUSE_BODY, dependencies=dependencies, summary="Pause a run")
    async def pause(run_id: str, request: Request) -> dict[str, Any]:
        async with bodies.body(request, _BODY_BYTES_MAX) as body:
            asked: PauseBody = _parse(body, _decode_pause)
        pause = pause_of(asked.until, actor(request), asked.why, now_ms())
        if not await operator.pause(run_id, pause):
            raise await refusal(run_id, f"run {run_id} has ended already")
        return {"paused": True, "until": pause.until}

    @api.post("/v1/runs/{run_id}/resume", openapi_extra=_RESUME_BODY, dependencies=dependencies, summary="Resume a run")
    async def resume(run_id: str, request: Request) -> dict[str, Any]:
        async with bodies.body(request, _BODY_BYTES_MAX) as body:
            asked: ResumeBody = _parse(body, _decode_resume)
        if not await operator.unpause(run_id, actor(request), asked.why):
            raise await refusal(run_id, f"run {run_id} is not paused")
        return {"resumed": True}
