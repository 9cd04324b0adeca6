"""The routes of approvals: what waits for a decision, and the decision of a person, which counts once."""

from collections.abc import Callable, Sequence

from fastapi import FastAPI, HTTPException, Query, Request
from fastapi.params import Depends
from fastapi.responses import Response

from stepstream.api.approval_links import ApprovalLink, ApprovalLinks, parse_link
from stepstream.api.bodies import BodyBudget
from stepstream.api.facade import SendSignal
from stepstream.api.page_options import ROOT
from stepstream.api.responses import json_response
from stepstream.contract.limits import MIB
from stepstream.runtime.decisions import decide, parse_decision
from stepstream.runtime.readmodel.index import RunIndex

ANSWER_BYTES_MAX = MIB
LINK_BYTES_MAX = 16 * 1024
_LINK = {
    "requestBody": {
        "description": 'how long the link is valid and who decides by it: {"expires"?: "24h", "by"?}',
        "content": {"application/json": {"schema": {"type": "object"}}},
    }
}
_FORM = {
    "requestBody": {
        "required": True,
        "description": 'the decision {"approved", "by", "comment"?, "values"?}; "values" must fit the form',
        "content": {"application/json": {"schema": {"type": "object"}}},
    }
}


def add_approval_links(
    api: FastAPI,
    links: ApprovalLinks,
    index: RunIndex,
    guarded: Sequence[Depends],
    bodies: BodyBudget,
    now_ms: Callable[[], int],
) -> None:
    """Add the route that makes links by which persons without the key decide."""

    @api.post("/v1/approvals/{run_id}/{step}/link", openapi_extra=_LINK, dependencies=guarded, summary="Make a link")
    async def make_link(run_id: str, step: str, request: Request) -> dict[str, str | int]:
        links.check()
        async with bodies.body(request, LINK_BYTES_MAX) as body:
            expires_at, by = parse_link(body, now_ms())
        asked = await index.queries.approval(run_id, step)
        if asked is None:
            raise HTTPException(404, f"step {step!r} of run {run_id!r} asks for no approval")
        if not asked.is_open:
            raise HTTPException(409, "this approval was answered already, or it has expired")
        expires_at = min(expires_at, asked.until or expires_at)
        token = links.token(ApprovalLink(run_id, step, expires_at, by))
        return {"path": f"{ROOT}/approve/{token}", "expires_at": expires_at}


def add_approvals(
    api: FastAPI,
    signal: SendSignal,
    index: RunIndex,
    guarded: Sequence[Depends],
    bodies: BodyBudget,
    now_ms: Callable[[], int],
) -> None:
    """Add the routes."""

    @api.get("/v1/approvals", dependencies=guarded, summary="List what waits for a decision, the oldest first")
    async def list_approvals(limit: int = Query(100, ge=1, le=1_000)) -> Response:
        return json_response({"approvals": await index.queries.open_approvals(limit)})

    @api.post("/v1/approvals/{run_id}/{step}", openapi_extra=_FORM, dependencies=guarded, summary="Decide")
    async def answer_approval(run_id: str, step: str, request: Request) -> dict[str, bool]:
        async with bodies.body(request, ANSWER_BYTES_MAX) as body:
            decision = parse_decision(body)
        asked = await index.queries.approval(run_id, step)
        if asked is None:
            raise HTTPException(404, f"step {step!r} of run {run_id!r} asks for no approval")
        if not await decide(signal, asked, decision, now_ms()):
            raise HTTPException(409, "this approval was answered before, or has timed out")
        return {"accepted": True}
