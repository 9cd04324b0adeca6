"""Lists runs in the order that a GraphQL query asks for."""

from collections.abc import Sequence
from typing import TypedDict

from stepstream.runtime.readmodel.queries import RunQueries
from stepstream.runtime.readmodel.search.filters import Filter
from stepstream.runtime.readmodel.search.search import RunPage
from stepstream.runtime.readmodel.views import RunSummary

# The read model lists runs by the time at which they were accepted. Of any other order, these are the latest runs.
ORDERED_RUNS_MAX = 1_000
_FIELDS = {"QUEUED_AT": "accepted_at", "STARTED_AT": "started_at", "ENDED_AT": "ended_at"}


class RunOrder(TypedDict):
    """A time by which runs are ordered: its `field` and its `direction` are those of RunsV2OrderBy."""

    field: str
    direction: str


async def listed_runs(queries: RunQueries, terms: Filter, order: Sequence[RunOrder], after: str, limit: int) -> RunPage:
    """Return the runs of a filter that follow the run `after` in an order: its first field decides, then the next."""
    if order and order[0] == {"field": "QUEUED_AT", "direction": "DESC"}:
        return await queries.search(terms, before=after, limit=limit)
    found = (await queries.search(terms, limit=ORDERED_RUNS_MAX)).runs
    for each in reversed(order):
        found.sort(key=lambda run, each=each: _time(run, each["field"]), reverse=each["direction"] == "DESC")  # type: ignore[misc]
    ids = [run.run_id for run in found]
    start = ids.index(after) + 1 if after in ids else 0
    page = found[start : start + limit]
    return RunPage(page, page[-1].run_id if len(found) > start + limit else "")


def _time(run: RunSummary, field: str) -> tuple[int, str]:
    return getattr(run, _FIELDS[field]), run.run_id
