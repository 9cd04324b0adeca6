"""The routes by which operators control runs."""

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from fastapi import FastAPI, HTTPException, Query, Request

from stepstream.api.actors import actor_of
from stepstream.api.bodies import BodyBudget, decode_body
from stepstream.api.facade import EngineFacade, Operator
from stepstream.api.page_options import PageOptions
from stepstream.contract.codec import Raw, load_json
from stepstream.contract.errors import InvalidInput
from stepstream.contract.limits import REQUEST_ID_CHARACTERS_MAX, Limits
from stepstream.runtime.readmodel.queries import RunQueries
from stepstream.runtime.reruns import RerunOptions, check_reason, rerun_request

Actor = Callable[[Request], str]
_RERUN_BODY = {
    "requestBody": {
        "description": "{from_step?, from_failure?, data?, results?, why?, request_id?}",
        "content": {"application/json": {"schema": {"type": "object"}}},
    }
}


@dataclass(frozen=True, slots=True)
class OperatorRoutes:
    """What the routes of operators use; `actor` returns who sent a request, `now_ms` the time (Unix ms)."""

    engine: EngineFacade
    queries: RunQueries
    dependencies: Sequence[Any]
    bodies: BodyBudget
    limits: Limits
    actor: Actor
    now_ms: Callable[[], int]

    @property
    def operator(self) -> Operator:
        """What controls the runs of the engine."""
        return self.engine.operator


class RerunBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a request to rerun a run, as RerunOptions."""

    from_step: str = ""
    from_failure: bool = False
    data: Raw = Raw(b"")
    results: dict[str, Raw] = {}
    why: str = ""
    request_id: str = ""


def actors(options: PageOptions, api_key: str) -> Actor:
    """Return a function that returns who sent a request; what a header states counts if a trusted proxy sent it."""

    def actor(request: Request) -> str:
        header = options.user_header if options.trusts(request.client and request.client.host) else ""
        return actor_of(request.headers, header, has_key=bool(api_key))

    return actor


def parse_rerun(body: bytes, by: str) -> RerunOptions:
    """Return the options of a request to rerun a run; an empty body reruns it from its start."""
    parsed = decode_body(body.strip() or b"{}", RerunBody)
    if bytes(parsed.data) and not isinstance(load_json(parsed.data, field="data"), dict):
        raise InvalidInput("expected a JSON object", "data")
    for step, result in parsed.results.items():
        load_json(result, field=f"results.{step}")
    check_reason(parsed.why)
    if len(parsed.request_id) > REQUEST_ID_CHARACTERS_MAX:
        raise InvalidInput(f"expected at most {REQUEST_ID_CHARACTERS_MAX} characters", "request_id")
    data = parsed.data if bytes(parsed.data) else None
    request = parsed.request_id or secrets.token_hex(8)
    return RerunOptions(request, parsed.from_step, parsed.from_failure, data, parsed.results, by, parsed.why)


def add_control(api: FastAPI, routes: OperatorRoutes) -> None:
    """Add the routes that cancel and rerun runs."""
    guarded: dict[str, Any] = {"dependencies": routes.dependencies}

    @api.delete("/v1/runs/{run_id}", **guarded, summary="Cancel a run")
    async def cancel_run(
        request: Request,
        run_id: str,
        why: str = Query("", description="the reason, for the history of the run"),
        children: bool = Query(False, description="also cancel the runs that it invoked and waits for"),
    ) -> dict[str, bool]:
        check_reason(why)
        if await routes.operator.cancel(run_id, routes.actor(request), why, children=children):
            return {"cancelled": True}
        if await routes.queries.show(run_id) is None:
            raise HTTPException(404, f"there is no run {run_id!r}")
        raise HTTPException(409, f"run {run_id} has ended already")

    @api.post("/v1/runs/{run_id}/rerun", openapi_extra=_RERUN_BODY, **guarded, summary="Rerun a run")
    async def rerun(run_id: str, request: Request) -> dict[str, Any]:
        async with routes.bodies.body(request, routes.limits.request_bytes_max) as body:
            options = parse_rerun(body, routes.actor(request))
            recorded = await routes.queries.recorded(run_id)
            if recorded is None:
                raise HTTPException(404, f"there is no run {run_id!r}")
            return {"run_id": await routes.operator.rerun(rerun_request(recorded, options, routes.limits))}
