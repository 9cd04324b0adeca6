"""The functions that apps registered, with their counts of runs and the next times of their cron triggers."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI, HTTPException, Query
from fastapi.params import Depends

from stepstream.api.facade import EngineFacade
from stepstream.contract.codec import encode, load_json
from stepstream.contract.functions import CronTrigger, FunctionRegistered
from stepstream.contract.limits import HOUR_MS
from stepstream.engine.runs.admission import CRON_ERRORS, next_due
from stepstream.runtime.readmodel.index import RunIndex
from stepstream.runtime.readmodel.tables.timings import Rate

# How many of the next times of each cron trigger are listed.
CRON_TIMES = 3


@dataclass(frozen=True, slots=True)
class FunctionView:
    """A function: its registration, None if this process does not know it, and its number of runs by status.

    `rate` has the runs that completed or failed since `rated_since`.
    """

    id: str
    registration: FunctionRegistered | None
    counts: Mapping[str, int]
    rate: Rate


def rated_since(now_ms: int) -> int:
    """Return the time (Unix ms) since which rates count: one to two hours ago, because the counts are by hour."""
    return (now_ms // HOUR_MS - 1) * HOUR_MS


async def function_views(engine: EngineFacade, index: RunIndex, now_ms: int) -> Sequence[FunctionView]:
    """Return the registered functions and those that have runs, ordered by id."""
    registered = {each.id: each for each in engine.overview.functions()}
    counts, rates = await index.queries.function_counts(), await index.queries.rates(rated_since(now_ms))
    names = sorted({*registered, *counts})
    return [FunctionView(name, registered.get(name), counts.get(name, {}), rates.get(name, Rate())) for name in names]


def cron_times(trigger: CronTrigger, now_ms: int, times: int = CRON_TIMES) -> list[int]:
    """Return the next times (Unix ms) at which a cron trigger fires; fewer if this process does not know them."""
    found = [now_ms]
    try:
        while len(found) <= times:
            found.append(next_due(trigger, found[-1]))
    except CRON_ERRORS:
        # Another process registered it: this one may lack the time zone, and an expression may have no further time.
        pass
    return found[1:]


def _as_json(view: FunctionView, now_ms: int) -> dict[str, Any]:
    known = view.registration
    crons = [trigger for trigger in known.triggers if isinstance(trigger, CronTrigger)] if known else []
    return {
        "id": view.id,
        "registration": load_json(encode(known)) if known else None,
        "counts": view.counts,
        "rate": {"since": rated_since(now_ms), **dataclasses.asdict(view.rate)},
        "cron_times": {f"{each.expression} {each.timezone}": cron_times(each, now_ms) for each in crons},
    }


def add_functions(
    api: FastAPI, engine: EngineFacade, index: RunIndex, guarded: Sequence[Depends], now_ms: Callable[[], int]
) -> None:
    """Add the routes."""

    @api.get("/v1/functions", dependencies=guarded, summary="List the registered functions, ordered by id")
    async def list_functions(
        after: str = Query("", description="the `next` of the previous page"), limit: int = Query(100, ge=1, le=1_000)
    ) -> dict[str, Any]:
        views = [view for view in await function_views(engine, index, now_ms()) if view.id > after]
        shown = [_as_json(view, now_ms()) for view in views[:limit]]
        return {"functions": shown, "next": views[limit - 1].id if len(views) > limit else ""}

    @api.get("/v1/functions/{function:path}", dependencies=guarded, summary="Show a function and its durations")
    async def show_function(function: str) -> dict[str, Any]:
        view = next((each for each in await function_views(engine, index, now_ms()) if each.id == function), None)
        if view is None:
            raise HTTPException(404, f"there is no function {function!r}")
        found = await index.queries.durations(function)
        return {**_as_json(view, now_ms()), "durations": dataclasses.asdict(found)}
