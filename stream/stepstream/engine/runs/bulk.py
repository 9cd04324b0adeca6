"""Bulk operations: an action on many runs, which a timer sends at a limited rate and whose outcomes count once."""

from collections.abc import Iterable
from typing import assert_never

from msgspec.structs import replace

from stepstream.contract.ids import run_routing
from stepstream.contract.inbox import CancelRequested, RunOperation
from stepstream.contract.limits import (
    BULK_ANSWER_MS_MAX,
    BULK_FAILURES_MAX,
    BULK_PAGE_BYTES_MAX,
    BULK_PAGE_RUNS_MAX,
    BULK_REMEMBERED_MS,
    BULK_UPLOAD_MS_MAX,
    DAY_MS,
    REASON_CHARACTERS_MAX,
)
from stepstream.contract.operators.bulk import (
    FAILED,
    OPEN_BULK_STATES,
    UNANSWERED,
    BulkAction,
    BulkCancelRequested,
    BulkChanged,
    BulkFailure,
    BulkItem,
    BulkItemEnded,
    BulkPageAdded,
    BulkRecord,
    BulkStarted,
    BulkState,
)
from stepstream.contract.operators.control import BulkRef, Pause, PauseRequested, UnpauseRequested
from stepstream.contract.outcomes import outcome_bytes
from stepstream.engine.state.draft import Draft
from stepstream.engine.state.lifecycle import check_bulk
from stepstream.engine.state.records import Input
from stepstream.engine.state.rows import Bulk, Timer, TimerKind
from stepstream.engine.state.tables import BULK_ITEMS, bulk_item_key, bulk_item_of, bulk_key, bulk_part

# How often requests are sent, and how often history has the progress at most.
_SEND_EVERY_MS, _RECORD_EVERY_MS = 100, 1_000


def apply_bulk(draft: Draft, record: BulkRecord) -> None:
    """Apply a record to its bulk operation; one that does not fit its state changes nothing."""
    bulk = draft.get(bulk_key(record.operation))
    match record:
        case BulkStarted():
            _start(draft, bulk, record)
        case BulkPageAdded():
            _add_page(draft, bulk, record)
        case BulkItemEnded():
            _end_item(draft, bulk, record)
        case BulkCancelRequested():
            _cancel(draft, bulk, record)
        case _:
            assert_never(record)


def _start(draft: Draft, bulk: Bulk | None, started: BulkStarted) -> None:
    if bulk is None or (bulk.shown.state == BulkState.RECEIVING and bulk.upload != started.upload):
        seq = bulk.shown.seq if bulk else 0
        shown = BulkChanged(
            started.operation,
            seq,
            draft.now,
            started.action,
            BulkState.RECEIVING,
            started.rate,
            draft.now,
            started.by,
            started.why,
            until=started.until,
            filter=started.filter,
        )
        # The pages of another upload overwrite those of this one, and what they leave is deleted at the end.
        received = Bulk(shown, started.upload, due=bulk.due if bulk else 0)
        bulk = _write(draft, bulk, received, draft.now + BULK_UPLOAD_MS_MAX, record=True)
    draft.reply(started.reply_to, bulk.shown.state)


def _add_page(draft: Draft, bulk: Bulk | None, page: BulkPageAdded) -> None:
    expected = bulk is not None and (bulk.upload, bulk.received) == (page.upload, page.first)
    if bulk is None or not expected or bulk.shown.state != BulkState.RECEIVING:
        draft.count("stale_bulk_pages")
        draft.reply(page.reply_to, bulk.shown.state if bulk else "absent")
        return
    for number, item in enumerate(page.items, page.first):
        draft.put(bulk_item_key(page.operation, number), item)
    after = replace(bulk, received=page.first + len(page.items))
    if not page.last:
        after = _write(draft, bulk, after, draft.now + BULK_UPLOAD_MS_MAX)
    elif after.received:
        after = replace(after, shown=replace(bulk.shown, state=BulkState.RUNNING, total=after.received))
        after = _write(draft, bulk, after, draft.now, record=True)
    else:
        after = _write(draft, bulk, _in_state(after, BulkState.COMPLETED), draft.now + BULK_REMEMBERED_MS, record=True)
    draft.reply(page.reply_to, after.shown.state)


def _end_item(draft: Draft, bulk: Bulk | None, ended: BulkItemEnded) -> None:
    """Count the outcome of a run, unless it was counted before."""
    key = bulk_item_key(ended.operation, ended.item)
    item = draft.get(key)
    if bulk is None or item is None or bulk.shown.state not in (BulkState.RUNNING, BulkState.CANCELLED):
        draft.count("stale_bulk_outcomes")
        return
    draft.delete(key)
    shown = _count(bulk.shown, ended.outcome, 1)
    if ended.outcome == FAILED:
        shown = _name(shown, [item.run_id], ended.reason)
    after, answered = replace(bulk, shown=shown), _answered(shown)
    if shown.state == BulkState.RUNNING and answered == shown.total:
        _write(draft, bulk, _in_state(after, BulkState.COMPLETED), draft.now + BULK_REMEMBERED_MS, record=True)
    else:
        last = shown.state != BulkState.RUNNING and answered == shown.sent
        _write(draft, bulk, after, bulk.due, record=last or _is_record_due(draft, shown))


def _count(shown: BulkChanged, outcome: str, runs: int) -> BulkChanged:
    counts = dict(shown.outcomes)
    counts[outcome] = counts.get(outcome, 0) + runs
    return replace(shown, outcomes=tuple(sorted(counts.items())))


def _answered(shown: BulkChanged) -> int:
    return sum(runs for _, runs in shown.outcomes)


def _name(shown: BulkChanged, run_ids: Iterable[str], reason: str) -> BulkChanged:
    """Name runs that failed, up to a number."""
    failures = [*shown.failures, *(BulkFailure(run_id, reason[:REASON_CHARACTERS_MAX]) for run_id in run_ids)]
    return replace(shown, failures=tuple(failures[:BULK_FAILURES_MAX]))


def failed_outcome(record: Input, reason: str) -> BulkItemEnded | None:
    """Return the outcome of a request that cannot be applied; None if no bulk operation has sent it."""
    if not isinstance(record, RunOperation) or record.bulk is None:
        return None
    return BulkItemEnded(record.bulk.operation, record.bulk.item, FAILED, reason[:REASON_CHARACTERS_MAX])


def _cancel(draft: Draft, bulk: Bulk | None, request: BulkCancelRequested) -> None:
    if bulk is not None and bulk.shown.state in OPEN_BULK_STATES:
        shown = replace(bulk.shown, state=BulkState.CANCELLED, ended_by=request.by)
        bulk = _write(draft, bulk, replace(bulk, shown=shown), draft.now, record=True)
    draft.reply(request.reply_to, bulk.shown.state if bulk else "absent")


def fire_bulk(draft: Draft, operation: str) -> None:
    """Send the next requests of a bulk operation, let it expire, or remove what it leaves."""
    bulk = draft.get(bulk_key(operation))
    if bulk is None:
        return
    bulk, fired = replace(bulk, due=0), bulk
    match bulk.shown.state:
        case BulkState.RUNNING if bulk.shown.sent < bulk.shown.total:
            _send(draft, fired, bulk)
        case BulkState.RUNNING:
            _stop_waiting(draft, fired, bulk)
        case BulkState.RECEIVING:
            _write(draft, fired, _in_state(bulk, BulkState.EXPIRED), draft.now + 1, record=True)
        case BulkState.COMPLETED | BulkState.CANCELLED | BulkState.EXPIRED:
            _remove(draft, fired, bulk)
        case _:
            assert_never(bulk.shown.state)


def _send(draft: Draft, fired: Bulk, bulk: Bulk) -> None:
    """Send the requests for the next runs: as many as the rate allows, but no more bytes than a page has."""
    shown = bulk.shown
    most, sent, size = max(shown.rate * _SEND_EVERY_MS // 1_000, 1), shown.sent, 0
    while sent < min(shown.sent + most, shown.total) and size < BULK_PAGE_BYTES_MAX:
        item = draft.get(bulk_item_key(shown.operation, sent))
        if item is not None:
            _send_item(draft, shown, sent, item)
            size += _bytes_of(item)
        sent += 1
    last = sent == shown.total
    wait_ms = BULK_ANSWER_MS_MAX if last else max(1_000 * (sent - shown.sent) // shown.rate, 1)
    after = replace(bulk, shown=replace(shown, sent=sent))
    _write(draft, fired, after, draft.now + wait_ms, record=_is_record_due(draft, shown) or last)


def _stop_waiting(draft: Draft, fired: Bulk, bulk: Bulk) -> None:
    """Complete an operation whose last outcomes are missing: the topic no longer retains their requests."""
    shown = bulk.shown
    named = draft.scan(BULK_ITEMS, bulk_part(shown.operation), BULK_FAILURES_MAX)
    days = BULK_ANSWER_MS_MAX // DAY_MS
    shown = _name(shown, (item.run_id for _, item in named), f"its request was not answered within {days} days")
    shown = _count(shown, UNANSWERED, shown.total - _answered(shown))
    after = _in_state(replace(bulk, shown=shown), BulkState.COMPLETED)
    _write(draft, fired, after, draft.now + BULK_REMEMBERED_MS, record=True)


def _send_item(draft: Draft, shown: BulkChanged, number: int, item: BulkItem) -> None:
    ref = BulkRef(shown.operation, number)
    request: RunOperation
    match shown.action:
        case BulkAction.CANCEL:
            request = CancelRequested(item.run_id, by=shown.by, why=shown.why, bulk=ref)
        case BulkAction.PAUSE:
            request = PauseRequested(item.run_id, Pause(shown.until, shown.by, shown.why), bulk=ref)
        case BulkAction.RESUME:
            request = UnpauseRequested(item.run_id, shown.by, shown.why, bulk=ref)
        case BulkAction.RERUN:
            if item.rerun is not None:
                draft.route_later(item.rerun.routing_key, replace(item.rerun, bulk=ref))
            else:
                ended = BulkItemEnded(shown.operation, number, FAILED, "it has no request for a rerun")
                draft.route_later(shown.operation, ended)
            return
        case _:
            assert_never(shown.action)
    draft.route_later(run_routing(item.run_id), request)


def _bytes_of(item: BulkItem) -> int:
    if item.rerun is None:
        return 0
    events = sum(len(bytes(event.data)) for event in item.rerun.events)
    return events + sum(outcome_bytes(memo.outcome) for memo in item.rerun.memos)


def _remove(draft: Draft, fired: Bulk, bulk: Bulk) -> None:
    """Delete the runs that were not acted on, a page at a time; when its time has come, all others and the operation.

    A request that was sent is answered also after the operation was cancelled.
    """
    shown = bulk.shown
    forgotten = shown.at + BULK_REMEMBERED_MS <= draft.now
    after = b"" if forgotten or not shown.sent else bulk_item_key(shown.operation, shown.sent - 1).sort
    removed = size = 0
    for key, item in draft.walk(BULK_ITEMS, bulk_part(shown.operation), after):
        if removed == BULK_PAGE_RUNS_MAX or size >= BULK_PAGE_BYTES_MAX:
            _write(draft, fired, bulk, draft.now + 1)
            return
        draft.delete(bulk_item_key(shown.operation, bulk_item_of(key)))
        removed, size = removed + 1, size + _bytes_of(item)
    if not forgotten:
        _write(draft, fired, bulk, shown.at + BULK_REMEMBERED_MS)
    else:
        check_bulk(fired, draft.record_type, None)
        draft.delete(bulk_key(shown.operation))


def _in_state(bulk: Bulk, state: BulkState) -> Bulk:
    return replace(bulk, shown=replace(bulk.shown, state=state))


def _is_record_due(draft: Draft, shown: BulkChanged) -> bool:
    return draft.now - shown.at >= _RECORD_EVERY_MS


def _write(draft: Draft, before: Bulk | None, after: Bulk, due: int, *, record: bool = False) -> Bulk:
    """Write a bulk operation, whose row was `before`, with the time of its timer; return it as it was written."""
    check_bulk(before, draft.record_type, after)
    if record:
        after = replace(after, shown=replace(after.shown, seq=after.shown.seq + 1, at=draft.now))
        draft.record_bulk(after.shown)
    timer = Timer(TimerKind.BULK, after.shown.operation)
    if after.due != due:
        draft.disarm(after.due, timer)
        if due:
            draft.arm(due, timer)
    after = replace(after, due=due)
    draft.put(bulk_key(after.shown.operation), after)
    return after
