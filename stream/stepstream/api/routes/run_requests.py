"""The routes of requests to runs: each is taken once, and its sender gets the reply of the run."""

import secrets
from typing import Any
from urllib.parse import quote

from fastapi import FastAPI, HTTPException, Query, Request
from fastapi.responses import Response

from stepstream.api.responses import json_response
from stepstream.api.routes.control import OperatorRoutes
from stepstream.api.waits import parse_wait
from stepstream.contract.codec import dump_json, load_json
from stepstream.contract.limits import REQUEST_DATA_BYTES_MAX, REQUEST_WAIT_MS_DEFAULT, REQUEST_WAIT_MS_MAX
from stepstream.contract.operators.run_requests import check_request_id
from stepstream.runtime.readmodel.changes import RunChanges
from stepstream.runtime.requests import RequestAnswer, RequestRef, RunRequests

_DATA = {
    "requestBody": {
        "description": "the data of the request; it must fit the schema of the step",
        "content": {"application/json": {"schema": {}}},
    }
}
_WAIT = Query(
    f"{REQUEST_WAIT_MS_DEFAULT // 1_000}s",
    description=f"how long to wait for the reply, from 0s to {REQUEST_WAIT_MS_MAX // 1_000}s",
)
_PATH = "/v1/runs/{run_id}/requests/{name:path}"


def _answer(ref: RequestRef, answer: RequestAnswer | None) -> Response:
    """Return a reply with 200; while the run has not replied, 202 and where to read the reply."""
    if answer is None:
        raise HTTPException(404, f"there is no run {ref.run_id!r}")
    if answer.is_replied:
        return json_response({"id": ref.id, "reply": answer.reply})
    path = f"/v1/runs/{ref.run_id}/requests/{quote(ref.name)}/{ref.id}"
    response = json_response({"id": ref.id, "path": path})
    response.status_code, response.headers["Location"] = 202, path
    return response


def add_run_requests(api: FastAPI, routes: OperatorRoutes, changes: RunChanges) -> None:
    """Add the routes."""
    requests = RunRequests(routes.engine.signal, routes.queries, changes, routes.now_ms)
    guarded: dict[str, Any] = {"dependencies": routes.dependencies}

    @api.post(_PATH, openapi_extra=_DATA, **guarded, summary="Send a request to a run, and wait for its reply")
    async def ask(run_id: str, name: str, request: Request, wait: str = _WAIT) -> Response:
        wait_s = parse_wait(wait, REQUEST_WAIT_MS_MAX)
        key = request.headers.get("Idempotency-Key")
        ref = RequestRef(run_id, name, secrets.token_hex(8) if key is None else check_request_id(key))
        async with routes.bodies.body(request, REQUEST_DATA_BYTES_MAX) as body:
            data = dump_json(load_json(body.strip() or b"null", field="body"), "body")
        return _answer(ref, await requests.ask(ref, data, routes.actor(request), wait_s))

    @api.get(f"{_PATH}/{{request_id}}", **guarded, summary="Read the reply to a request, or wait for it")
    async def show_reply(run_id: str, name: str, request_id: str, wait: str = _WAIT) -> Response:
        ref = RequestRef(run_id, name, check_request_id(request_id))
        return _answer(ref, await requests.reply(ref, parse_wait(wait, REQUEST_WAIT_MS_MAX)))
