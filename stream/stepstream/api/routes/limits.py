"""The routes that show limits: who holds them and who waits."""

import json
from typing import Annotated, Any

import msgspec
from fastapi import FastAPI, HTTPException, Query

from stepstream.api.facade import Operator
from stepstream.api.routes.control import OperatorRoutes
from stepstream.contract.errors import InvalidInput
from stepstream.contract.gates import gate_id
from stepstream.contract.operators.limit_views import LimitsPage

# A part of the list is read in one transaction of each shard.
LIMITS_MAX = 100


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


def add_limits(api: FastAPI, routes: OperatorRoutes) -> None:
    """Add the routes."""

    @api.get("/v1/limits", dependencies=routes.dependencies, summary="List limits that runs hold or wait for, by name")
    async def list_limits(
        name: str = "",
        after: Annotated[str, Query(description="the `next` of the previous page")] = "",
        limit: Annotated[int, Query(ge=1, le=LIMITS_MAX)] = 50,
    ) -> dict[str, Any]:
        page, after = await limits_page(routes.operator, name, after, limit)
        return {**msgspec.to_builtins(page), "next": after}

    @api.get("/v1/limits/{name:path}", dependencies=routes.dependencies, summary="Show a limit, for a value of its key")
    async def show_limit(name: str, key: str = "") -> dict[str, Any]:
        view = await routes.operator.limit(name, key)
        if view is None:
            of_key = f" for the key {key!r}" if key else ""
            raise HTTPException(404, f"no run holds the limit {name!r}{of_key} or waits for it")
        return {"limit": msgspec.to_builtins(view)}
