"""How long steps and runs took in the last hours: what the page and the API ask for, and the route."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any

from fastapi import FastAPI, Query
from fastapi.params import Depends

from stepstream.runtime.readmodel.index import RunIndex
from stepstream.runtime.readmodel.search.filters import filter_time_ms
from stepstream.runtime.readmodel.tables.timings import Timing, TimingOrder

SINCE_DEFAULT = "-1d"
# All hours that are kept.
SINCE_ALL = "all"
OFFSET_MAX = 100_000


class TimingsOf(StrEnum):
    """What is measured."""

    STEPS = "steps"
    FUNCTIONS = "functions"


@dataclass(frozen=True, slots=True)
class TimingsAsked:
    """Which timings to list: since a time as in filters (`-1d`) or SINCE_ALL, of one function or of all (empty)."""

    of: TimingsOf = TimingsOf.STEPS
    since: str = SINCE_DEFAULT
    function: str = ""
    sort: TimingOrder = TimingOrder.P95


async def find_timings(
    index: RunIndex, asked: TimingsAsked, now_ms: int, *, limit: int, offset: int = 0
) -> Sequence[Timing]:
    """Return timings in their order; raise InvalidInput for a time that is not one."""
    since = 0 if asked.since == SINCE_ALL else filter_time_ms(asked.since, now_ms)
    steps = asked.of == TimingsOf.STEPS
    return await index.queries.timings(
        since, steps=steps, function=asked.function, order=asked.sort, limit=limit, offset=offset
    )


def add_timings(api: FastAPI, index: RunIndex, guarded: Sequence[Depends], now_ms: Callable[[], int]) -> None:
    """Add the route."""

    @api.get("/v1/timings", dependencies=guarded, summary="List how long steps or runs took, the slowest first")
    async def list_timings(
        of: TimingsOf = TimingsOf.STEPS,
        since: Annotated[str, Query(description="a time such as -1h, or all; a week is kept")] = SINCE_DEFAULT,
        function: str = "",
        sort: TimingOrder = TimingOrder.P95,
        limit: Annotated[int, Query(ge=1, le=1_000)] = 50,
        offset: Annotated[int, Query(ge=0, le=OFFSET_MAX)] = 0,
    ) -> dict[str, Any]:
        asked = TimingsAsked(of, since, function, sort)
        found = await find_timings(index, asked, now_ms(), limit=limit, offset=offset)
        return {"timings": [dataclasses.asdict(each) for each in found]}
