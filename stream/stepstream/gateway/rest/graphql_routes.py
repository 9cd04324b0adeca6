"""The endpoint of GraphQL, which only test suites and our own tools of development ask."""

import importlib
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from stepstream.contract.codec import load_json
from stepstream.contract.limits import MIB
from stepstream.gateway.rest.parts import RestParts

QUERY_BYTES_MAX = MIB


def add_graphql(router: APIRouter, parts: RestParts) -> None:
    """Add the endpoint; the library of GraphQL is loaded by the first query, since most servers get none."""

    @router.post("/v0/gql")
    async def ask(request: Request) -> JSONResponse:
        async with parts.bodies.body(request, QUERY_BYTES_MAX) as body:
            query = load_json(body, field="body")
        module: Any = importlib.import_module("stepstream.gateway.rest.graphql_api")
        return JSONResponse(await module.answer(parts, query))
