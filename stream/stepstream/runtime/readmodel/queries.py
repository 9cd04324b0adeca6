"""The queries of pages, the API and bulk actions on the read model; none of them holds up the event loop."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

from stepstream.contract.codec import Json
from stepstream.contract.errors import InvalidInput
from stepstream.contract.operators.bulk import BulkChanged
from stepstream.runtime.readmodel import reading
from stepstream.runtime.readmodel.dialect import Database
from stepstream.runtime.readmodel.durations import Durations, durations, latest_event
from stepstream.runtime.readmodel.search.filters import Filter
from stepstream.runtime.readmodel.search.search import (
    RunCount,
    RunPage,
    StatusCounts,
    count,
    count_statuses,
    find_runs,
    search,
)
from stepstream.runtime.readmodel.tables.approvals import (
    ApprovalView,
    count_open_approvals,
    find_approval,
    open_approvals,
)
from stepstream.runtime.readmodel.tables.bulks import find_bulk, list_bulks
from stepstream.runtime.readmodel.tables.error_groups import ErrorGroup, list_groups
from stepstream.runtime.readmodel.tables.logged_lines import LoggedLine, read_lines
from stepstream.runtime.readmodel.tables.recorded import RecordedRun, recorded_run
from stepstream.runtime.readmodel.tables.run_requests import (
    AcceptingStep,
    RequestState,
    find_accepting,
    find_request,
)
from stepstream.runtime.readmodel.tables.seen_events import (
    EventPage,
    WholeEvent,
    cancelling_events,
    find_event,
    resuming_events,
    starting_events,
)
from stepstream.runtime.readmodel.tables.timings import Rate, Timing, TimingOrder, list_rates, list_timings
from stepstream.runtime.readmodel.tables.waiting import WaitingStep, WaitKind, count_waiting, waiting_steps
from stepstream.runtime.readmodel.views import RunSummary, RunView

T = TypeVar("T")
QUERY_S_MAX = 2.0
OPEN_APPROVALS = "open approvals"
# Beyond these, approvals and waiting steps are not counted.
OPEN_APPROVALS_MAX = WAITING_MAX = 1_000


class QueryTooSlow(InvalidInput):
    """A query took longer than it may."""

    code = "query-too-slow"

    def __init__(self) -> None:
        super().__init__(
            f"the search took more than {QUERY_S_MAX:g} s; narrow the filter with function:, status: or after:",
            "filter",
        )


class Ask(Protocol):
    """Asks the tables."""

    async def __call__(self, query: Callable[[Database], T]) -> T:
        """Return the answer of a query."""


class RunQueries:
    """What pages, the API and bulk actions ask of the read model; RunIndex makes it, as its `queries`.

    None of them holds up the event loop; each sees the last batch that was folded. `now_ms` returns the time by which a
    run sleeps or waits.
    """

    def __init__(self, ask: Ask, now_ms: Callable[[], int]) -> None:
        self._ask = ask
        self._now_ms = now_ms

    async def search(self, filter: Filter, *, before: str = "", limit: int = 50) -> RunPage:
        """Return the runs of a filter with an id before `before`, newest first."""
        now_ms = self._now_ms()
        return await self._ask(lambda db: search(db, filter, now_ms, before=before, limit=limit))

    async def find_runs(self, run_ids: Sequence[str]) -> list[RunSummary]:
        """Return the runs with these ids, at most 1,000, that the read model has."""
        return await self._ask(lambda db: find_runs(db, run_ids))

    async def count(self, filter: Filter) -> RunCount:
        """Return how many runs a filter finds; if they are very many, at least how many."""
        now_ms = self._now_ms()
        return await self._ask(lambda db: count(db, filter, now_ms))

    async def count_statuses(self, filter: Filter) -> StatusCounts:
        """Return how many runs a filter finds by status, whatever its own says, where that is cheap."""
        now_ms = self._now_ms()
        return await self._ask(lambda db: count_statuses(db, filter, now_ms))

    async def show(self, run_id: str) -> RunView | None:
        """Return one run with its steps in order."""
        return await self._ask(lambda db: reading.show(db, run_id))

    async def results(self, run_ids: Sequence[str]) -> dict[str, tuple[Json, Json]]:
        """Return the outputs and the errors of at most 100 runs, None where there is none."""
        return await self._ask(lambda db: reading.results(db, run_ids))

    async def recorded(self, run_id: str) -> RecordedRun | None:
        """Return what a rerun of a run needs, None if there is no such run."""
        return await self._ask(lambda db: recorded_run(db, run_id))

    async def open_approvals(self, limit: int, after: tuple[str, str] = ("", "")) -> list[ApprovalView]:
        """Return the approvals that wait for a decision, the oldest first: those after a step (run id and hash)."""
        return await self._ask(lambda db: open_approvals(db, limit, after))

    async def logs(
        self, run_id: str, *, step: str | None = None, after: str = "", limit: int = 1_000
    ) -> list[LoggedLine]:
        """Return lines that a run logged, or one step of it, in order of time."""
        return await self._ask(lambda db: read_lines(db, run_id, step=step, after=after, limit=limit))

    async def approval(self, run_id: str, step: str) -> ApprovalView | None:
        """Return what a step asks or asked a person, None if it asked nothing."""
        return await self._ask(lambda db: find_approval(db, run_id, step))

    async def run_request(self, run_id: str, name: str, id: str) -> RequestState | None:
        """Return what a run has done with a request, None if there is no such run."""
        return await self._ask(lambda db: find_request(db, run_id, name, id))

    async def accepting(self, run_id: str, step: str) -> AcceptingStep | None:
        """Return what a step accepts or accepted, None if it accepts no requests."""
        return await self._ask(lambda db: find_accepting(db, run_id, step))

    async def waiting(self, kind: WaitKind, limit: int, after: tuple[str, str] = ("", "")) -> list[WaitingStep]:
        """Return the waiting steps of a kind, by what they wait for: those after a step."""
        return await self._ask(lambda db: waiting_steps(db, kind, limit, after))

    async def recorded_all(self, run_ids: Sequence[str]) -> list[RecordedRun]:
        """Return what reruns of these runs need, in their order; runs that do not exist are left out."""
        return await self._ask(lambda db: [run for run_id in run_ids if (run := recorded_run(db, run_id))])

    async def count_waiting(self) -> dict[WaitKind, int]:
        """Return how many steps wait by kind, WAITING_MAX each."""
        return await self._ask(lambda db: count_waiting(db, WAITING_MAX))

    async def bulk(self, operation: str) -> BulkChanged | None:
        """Return a bulk operation, None if there is none with this id."""
        return await self._ask(lambda db: find_bulk(db, operation))

    async def bulks(self, limit: int) -> list[BulkChanged]:
        """Return bulk operations, the newest first."""
        return await self._ask(lambda db: list_bulks(db, limit))

    async def counts(self) -> dict[str, int]:
        """Return how many runs there are by status, and how many approvals wait as OPEN_APPROVALS, if any do."""
        return await self._ask(_counts)

    async def function_counts(self) -> dict[str, dict[str, int]]:
        """Return how many runs there are by function and status."""
        return await self._ask(reading.function_counts)

    async def rates(self, since: int) -> dict[str, Rate]:
        """Return how many runs completed or failed since the hour of a time (Unix ms), by function."""
        return await self._ask(lambda db: list_rates(db, since))

    async def durations(self, function: str) -> Durations:
        """Return how long the latest completed runs of a function took."""
        return await self._ask(lambda db: durations(db, function))

    async def timings(
        self,
        since: int,
        *,
        steps: bool = True,
        function: str = "",
        order: TimingOrder = TimingOrder.P95,
        limit: int = 50,
        offset: int = 0,
    ) -> list[Timing]:
        """Return how long steps, or whole runs, took since the hour of a time (Unix ms), of a function or of all."""
        asked: dict[str, Any] = {"since": since, "steps": steps, "function": function, "order": order}
        return await self._ask(lambda db: list_timings(db, **asked, limit=limit, offset=offset))

    async def latest_event(self, function: str) -> Json:
        """Return the latest event from outside that started a run of a function; None if there is none."""
        return await self._ask(lambda db: latest_event(db, function))

    async def starting_events(self, name: str = "", *, before: str = "", limit: int = 50) -> EventPage:
        """Return the events that started runs, newest first; `before` is the `next` of the page before."""
        return await self._ask(lambda db: starting_events(db, name, before, limit))

    async def resuming_events(self, name: str = "", *, before: str = "", limit: int = 50) -> EventPage:
        """Return the events that resumed waits, newest first; `before` is the `next` of the page before."""
        return await self._ask(lambda db: resuming_events(db, name, before, limit))

    async def cancelling_events(self, name: str = "", *, before: str = "", limit: int = 50) -> EventPage:
        """Return the events that cancelled runs, newest first; `before` is the `next` of the page before."""
        return await self._ask(lambda db: cancelling_events(db, name, before, limit))

    async def event(self, id: str) -> WholeEvent | None:
        """Return an event with what it started, resumed and cancelled; None if nothing that is kept."""
        return await self._ask(lambda db: find_event(db, id))

    async def error_groups(
        self, function: str = "", *, since: int = 0, limit: int = 50, offset: int = 0
    ) -> list[ErrorGroup]:
        """Return the groups of errors seen since a time (Unix ms), those with the most failures first."""
        return await self._ask(lambda db: list_groups(db, function, since, limit, offset))


def _counts(db: Database) -> dict[str, int]:
    approvals = count_open_approvals(db, OPEN_APPROVALS_MAX)
    return {**reading.counts(db), **({OPEN_APPROVALS: approvals} if approvals else {})}
