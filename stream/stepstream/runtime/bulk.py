"""Starts bulk operations: finds their runs in the read model, and sends these to the engine in pages."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from stepstream.contract.codec import Raw, encode
from stepstream.contract.errors import Conflict, InvalidInput, TooLarge
from stepstream.contract.ids import is_run_id
from stepstream.contract.kinds import ENDED_RUN_STATUSES, OPEN_RUN_STATUSES, RunStatus
from stepstream.contract.limits import (
    BULK_BYTES_MAX,
    BULK_LISTED_MAX,
    BULK_OPEN_MAX,
    BULK_PAGE_BYTES_MAX,
    BULK_PAGE_RUNS_MAX,
    BULK_RATE_DEFAULT,
    BULK_RATE_MAX,
    BULK_RUNS_DEFAULT,
    BULK_RUNS_MAX,
    OPERATION_ID_CHARACTERS_MAX,
    Limits,
)
from stepstream.contract.operators.bulk import (
    OPEN_BULK_STATES,
    BulkAction,
    BulkChanged,
    BulkItem,
    BulkPageAdded,
    BulkRequest,
    BulkStarted,
    BulkState,
    is_operation_id,
)
from stepstream.contract.topics import CHANGELOG, payload_bytes_max
from stepstream.runtime.readmodel.queries import RunQueries
from stepstream.runtime.readmodel.search.filters import Filter, Pattern, Term
from stepstream.runtime.readmodel.search.search import RunCount
from stepstream.runtime.readmodel.tables.recorded import RecordedRun
from stepstream.runtime.readmodel.views import RunSummary
from stepstream.runtime.reruns import RerunOptions, rerun_request

SAMPLE_RUNS = 10
# A search of runs that needs longer must be narrowed; the client still waits for the answer.
SEARCH_S_MAX = 20.0
_PAGE = 1_000
_LISTED_CHECKS, _LISTED_CHECK_S = 40, 0.05
# What a row has besides the request of its run.
_ROW_BYTES_MORE = 1_024

Send = Callable[[BulkRequest], Awaitable[str]]


@dataclass(frozen=True, slots=True)
class BulkOptions:
    """What to do with which runs: those of a `filter`, or those of `ids`.

    At most `cap` runs are acted on, `rate` of them per second. The same `operation` starts one operation. With
    `from_failure` reruns take over the results before what failed; `data` replaces the data of the first event of each.
    Pauses end at `until` (Unix ms, 0: when an operator ends them).
    """

    action: BulkAction
    filter: Filter | None = None
    ids: tuple[str, ...] = ()
    by: str = ""
    why: str = ""
    cap: int = BULK_RUNS_DEFAULT
    rate: int = BULK_RATE_DEFAULT
    from_failure: bool = False
    data: Raw | None = None
    until: int = 0
    operation: str = field(default_factory=lambda: secrets.token_hex(8))

    def __post_init__(self) -> None:
        """Raise InvalidInput for options that no operation can have."""
        if (self.filter is None) == (not self.ids):
            raise InvalidInput("give a filter or the ids of runs", "filter")
        if self.filter is not None and not self.filter.terms:
            raise InvalidInput("an empty filter would find all runs; name a function, a status or a time", "filter")
        if len(self.ids) > BULK_RUNS_MAX:
            raise InvalidInput(f"expected at most {BULK_RUNS_MAX:,} ids", "ids")
        if wrong := next((run_id for run_id in self.ids if not is_run_id(run_id)), None):
            raise InvalidInput(f"{wrong!r} is not a run id", "ids")
        for name, value, most in (("cap", self.cap, BULK_RUNS_MAX), ("rate", self.rate, BULK_RATE_MAX)):
            if not 1 <= value <= most:
                raise InvalidInput(f"expected 1 to {most:,}", name)
        if not is_operation_id(self.operation):
            most = OPERATION_ID_CHARACTERS_MAX
            raise InvalidInput(f"use at most {most} ASCII letters, digits and . _ -", "request_id")
        if self.action != BulkAction.RERUN and (self.from_failure or self.data is not None):
            raise InvalidInput("only reruns have it", "from_failure" if self.from_failure else "data")
        if self.action != BulkAction.PAUSE and self.until:
            raise InvalidInput("only pauses have it", "until")

    @property
    def statuses(self) -> tuple[RunStatus, ...]:
        """The statuses of the runs to which the action applies."""
        if self.action != BulkAction.RERUN:
            return OPEN_RUN_STATUSES
        return (RunStatus.FAILED, RunStatus.CANCELLED) if self.from_failure else ENDED_RUN_STATUSES

    def applies_to(self, run: RunSummary) -> bool:
        """Return whether the action applies to a run."""
        return run.status in self.statuses and (self.action != BulkAction.RESUME or run.paused is not None)


@dataclass(slots=True)
class BulkSelection:
    """The runs of a bulk operation, the newest first, and the first of them as a sample.

    `skipped` counts those of the given ids to which the action does not apply.
    """

    run_ids: list[str]
    sample: list[RunSummary]
    skipped: int = 0

    def add(self, runs: Sequence[RunSummary], options: BulkOptions) -> None:
        """Add those of the runs to which the action applies: a summary is large, so only the sample keeps any."""
        applicable = [run for run in runs if options.applies_to(run)]
        self.run_ids += (run.run_id for run in applicable)
        self.sample += applicable[: SAMPLE_RUNS - len(self.sample)]
        self.skipped += len(runs) - len(applicable)


async def select(queries: RunQueries, options: BulkOptions) -> BulkSelection:
    """Return the runs of an operation.

    Raise TooLarge if they are more than its cap, and InvalidInput for ids of no run and for a search that takes long.
    """
    selected = BulkSelection([], [])
    if options.filter is None:
        await _take_listed(selected, queries, options)
        count = f"{len(selected.run_ids):,}"
    else:
        filter = _applied(options.filter, options)
        await _take_found(selected, queries, filter, options)
        count = await _counted(selected, queries, filter, options)
    if len(selected.run_ids) > options.cap:
        raise TooLarge(
            f"the operation would {options.action} {count} runs, and may {options.cap:,}; narrow the filter or raise "
            f"the cap (at most {BULK_RUNS_MAX:,})",
            "cap",
        )
    return selected


async def count_rerun(queries: RunQueries, options: BulkOptions) -> RunCount | None:
    """Return how many runs of a bulk rerun were rerun before; None if they are named, or the filter has that term."""
    filter = options.filter
    if options.action != BulkAction.RERUN or filter is None or any(term.key == "rerun" for term in filter.terms):
        return None
    return await queries.count(_applied(filter, options).having("rerun", "true"))


def _applied(filter: Filter, options: BulkOptions) -> Filter:
    paused = [Term("paused", (Pattern("true"),))] if options.action == BulkAction.RESUME else []
    return Filter((*filter.terms, Term("status", tuple(map(Pattern, options.statuses))), *paused))


async def _take_found(selected: BulkSelection, queries: RunQueries, filter: Filter, options: BulkOptions) -> None:
    """Add the runs of a filter, at most one more than the cap."""
    deadline, before = time.monotonic() + SEARCH_S_MAX, ""
    while True:
        left = options.cap + 1 - len(selected.run_ids)
        page = await queries.search(filter, before=before, limit=min(_PAGE, left))
        selected.add(page.runs, options)
        before = page.next
        if not before or len(selected.run_ids) > options.cap:
            return
        if time.monotonic() > deadline:
            reason = f"the search takes more than {SEARCH_S_MAX:g} s; narrow it with function:, status: or after:"
            raise InvalidInput(reason, "filter")


async def _counted(selected: BulkSelection, queries: RunQueries, filter: Filter, options: BulkOptions) -> str:
    """Return how many runs a filter finds, which may be more than were selected."""
    if len(selected.run_ids) <= options.cap:
        return f"{len(selected.run_ids):,}"
    counted = await queries.count(filter)
    return f"{'' if counted.exact else 'at least '}{max(counted.runs, len(selected.run_ids)):,}"


async def _take_listed(selected: BulkSelection, queries: RunQueries, options: BulkOptions) -> None:
    """Add the runs with the ids of an operation; raise InvalidInput if there is no such run."""
    ordered = sorted(set(options.ids), reverse=True)
    for at in range(0, len(ordered), _PAGE):
        page = ordered[at : at + _PAGE]
        found = {run.run_id: run for run in await queries.find_runs(page)}
        if unknown := next((run_id for run_id in page if run_id not in found), ""):
            raise InvalidInput(f"there is no run {unknown!r}", "ids")
        selected.add([found[run_id] for run_id in page], options)


async def start(
    send: Send, queries: RunQueries, options: BulkOptions, run_ids: Sequence[str], limits: Limits
) -> BulkState:
    """Start an operation on these runs, unless it was started before; return its state. Raise InvalidInput for no runs.

    It runs once its last page has arrived: if this call fails or its process ends before, the operation expires
    without having changed a run, and the same request may be sent again.
    """
    if not run_ids:
        if (known := await started_before(queries, options)) is not None:
            return known.state
        raise InvalidInput(f"there is no run to {options.action}", "ids" if options.ids else "filter")
    open_count = sum(each.state in OPEN_BULK_STATES for each in await queries.bulks(BULK_LISTED_MAX))
    if open_count >= BULK_OPEN_MAX:
        raise Conflict(
            f"{open_count} bulk operations are open, and at most {BULK_OPEN_MAX} may be; cancel one, or wait"
        )
    upload = secrets.token_hex(8)
    who = (options.by, options.why)
    found_by = "" if options.filter is None else str(options.filter)
    started = BulkStarted(
        options.operation, upload, options.action, options.rate, *who, until=options.until, filter=found_by
    )
    state = await send(started)
    if state != BulkState.RECEIVING:
        return BulkState(state)
    first = 0
    async for items, last in _pages(queries, options, run_ids, limits):
        state = await send(BulkPageAdded(options.operation, upload, first, items, last))
        if state != BulkState.RECEIVING and not last:
            raise Conflict(f"bulk operation {options.operation} is {state}; another request started or cancelled it")
        first += len(items)
    return BulkState(state)


async def select_and_start(
    send: Send, queries: RunQueries, options: BulkOptions, limits: Limits
) -> tuple[BulkState, int]:
    """Start an operation on the runs of its options; return its state and how many runs it has, once it is listed.

    An operation that was started before stays as it is. Raise what `select` and `start` raise.
    """
    if (known := await started_before(queries, options)) is not None:
        return known.state, known.total
    selection = await select(queries, options)
    state = await start(send, queries, options, selection.run_ids, limits)
    await until_listed(queries, options.operation)
    return state, len(selection.run_ids)


async def started_before(queries: RunQueries, options: BulkOptions) -> BulkChanged | None:
    """Return the operation with the id of these options whose runs have all arrived, None if there is none.

    Raise Conflict if it has another action: its id is used already.
    """
    known = await queries.bulk(options.operation)
    if known is None or known.state == BulkState.RECEIVING:
        return None
    if known.action != options.action:
        raise Conflict(f"bulk operation {options.operation} exists, and is to {known.action}; use another request_id")
    return known


async def until_listed(queries: RunQueries, operation: str) -> None:
    """Return when the read model has an operation, so that its client finds it; or after a while without it."""
    for _ in range(_LISTED_CHECKS):
        if await queries.bulk(operation) is not None:
            return
        await asyncio.sleep(_LISTED_CHECK_S)


async def _pages(
    queries: RunQueries, options: BulkOptions, run_ids: Sequence[str], limits: Limits
) -> AsyncIterator[tuple[tuple[BulkItem, ...], bool]]:
    """Yield the runs in pages, each with whether it is the last one; runs that were dropped meanwhile are left out."""
    whole = 0
    for at in range(0, len(run_ids), BULK_PAGE_RUNS_MAX):
        page: list[BulkItem] = []
        size = 0
        async for item in _items(queries, options, run_ids[at : at + BULK_PAGE_RUNS_MAX], limits):
            length = len(encode(item))
            whole += length
            if whole > BULK_BYTES_MAX:
                raise TooLarge(
                    f"the events and results of these runs exceed {BULK_BYTES_MAX:,} bytes; rerun fewer at a time",
                    "cap",
                )
            if page and size + length > BULK_PAGE_BYTES_MAX:
                yield tuple(page), False
                page, size = [], 0
            page.append(item)
            size += length
        yield tuple(page), at + BULK_PAGE_RUNS_MAX >= len(run_ids)


async def _items(
    queries: RunQueries, options: BulkOptions, run_ids: Sequence[str], limits: Limits
) -> AsyncIterator[BulkItem]:
    if options.action != BulkAction.RERUN:
        for run_id in run_ids:
            yield BulkItem(run_id)
        return
    for at in range(0, len(run_ids), _RECORDED):
        for run in await queries.recorded_all(run_ids[at : at + _RECORDED]):
            yield _rerun_item(run, options, limits)


# A run may have 32 MiB of results, so few are read at a time.
_RECORDED = 5


def _rerun_item(run: RecordedRun, options: BulkOptions, limits: Limits) -> BulkItem:
    rerun = RerunOptions(
        f"bulk:{options.operation}",
        from_failure=options.from_failure,
        data=options.data,
        by=options.by,
        why=options.why,
        bulk=options.operation,
    )
    item = BulkItem(run.run_id, rerun_request(run, rerun, limits))
    size, most = len(encode(item)) + _ROW_BYTES_MORE, payload_bytes_max(CHANGELOG)
    if size > most:
        raise TooLarge(
            f"the events and results of run {run.run_id} have {size:,} bytes, and a run of a bulk operation at most "
            f"{most:,}; rerun it alone",
            "ids",
        )
    return item
