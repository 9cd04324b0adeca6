"""Matching: a wait is registered in the bucket where the events that can end it arrive."""

from collections.abc import Iterable

from stepstream.contract.events import EventRecord
from stepstream.contract.ids import Bucket, StepRef, branch_waiter
from stepstream.contract.inbox import StepResolved
from stepstream.contract.limits import BATCH_BYTES_MAX, PATH_USED_MS, PATHS_PER_NAME_MAX, TIMESTAMP_MS_MAX
from stepstream.contract.matching import (
    EventForwarded,
    EventMatched,
    EventRouted,
    LookBackContinued,
    MatchContinued,
    Predicate,
    SignalWaitClosed,
    WaitClosed,
    WaitOpened,
    WaitPlaced,
    WaitRemoved,
    WaitRenewed,
)
from stepstream.contract.outcomes import TimedOut
from stepstream.engine.gates.passing import leave_step_gates
from stepstream.engine.matching.kept import keep_event
from stepstream.engine.matching.lookback import begin_look_back, close_look_back, continue_look_back
from stepstream.engine.matching.match_budget import LARGE_BYTES_MIN, READ_PER_PARSED, Candidate, MatchBudget
from stepstream.engine.state.draft import Draft
from stepstream.engine.state.keys import Key
from stepstream.engine.state.rows import EventName, OpenStep, QueuedCount, QueuedEvent, Timer, TimerKind, Wait
from stepstream.engine.state.tables import (
    QUEUED_COUNT_KEY,
    QUEUED_EVENTS,
    WAITS,
    bucket_part,
    event_name_key,
    queue_number,
    queued_event_key,
    wait_key,
    waiter_place,
)
from stepstream.expressions.limits import PATH_CHARACTERS_MAX
from stepstream.expressions.predicates import index_key, lookup


def bucket_of(event: str, predicate: Predicate) -> Bucket:
    """Return the bucket of a wait: that of its first equality, or the scan bucket."""
    return Bucket(event, *predicate.equalities[0]) if predicate.equalities else Bucket(event)


def open_wait(draft: Draft, wait: WaitOpened) -> None:
    """At the shard of the event name: look back, then send the wait to its bucket."""
    if not wait.lookback_from:
        _send_to_bucket(draft, wait)
    elif unmatched := begin_look_back(draft, wait):
        _send_to_bucket(draft, unmatched)


def look_further_back(draft: Draft, due: LookBackContinued) -> None:
    """At the shard of the event name: continue a look-back, then send its wait to its bucket."""
    if unmatched := continue_look_back(draft, due):
        _send_to_bucket(draft, unmatched)


def _send_to_bucket(draft: Draft, wait: WaitOpened) -> None:
    used_until = wait.expires_at if wait.expires_at < TIMESTAMP_MS_MAX else draft.now + PATH_USED_MS
    bucket = _note_path(draft, wait.bucket, used_until)
    placed = WaitPlaced(wait.waiter, bucket, wait.predicate, wait.expires_at, wait.trigger_id)
    if bucket.path:
        draft.route(bucket.routing_key, placed)
    else:
        place_wait(draft, placed)


def place_wait(draft: Draft, wait: WaitPlaced) -> None:
    """At the shard of the bucket: register a wait."""
    row = Wait(wait.waiter, wait.predicate, wait.expires_at, _queued_count(draft), wait.trigger_id)
    draft.put(wait_key(wait.bucket, wait.waiter), row)


def _note_path(draft: Draft, bucket: Bucket, until: int) -> Bucket:
    """Note that a path is used; return the bucket, or the scan bucket when the name has too many paths.

    Each path of a name costs each of its events a lookup. A path per run, such as async.data["order-7"], is no index.
    """
    key = event_name_key(bucket.event)
    row = draft.get(key)
    live = {path: end for path, end in row.paths.items() if end > draft.now} if row else {}
    if bucket.path not in live and (len(live) >= PATHS_PER_NAME_MAX or len(bucket.path) > PATH_CHARACTERS_MAX):
        bucket = Bucket(bucket.event)
    if live.get(bucket.path, -1) < until:
        draft.put(key, EventName({**live, bucket.path: until}))
    if row is None:
        draft.arm(until, Timer(TimerKind.EVENT_NAME_EXPIRY, bucket.event))
    return bucket


def renew_wait(draft: Draft, renewed: WaitRenewed) -> None:
    """At the shard of the event name: use the paths for longer under which a wait may have been placed."""
    event = renewed.bucket.event
    row = draft.get(event_name_key(event))
    for path in dict.fromkeys((renewed.bucket.path, "")):
        if row and path in row.paths:
            _note_path(draft, Bucket(event, path), draft.now + PATH_USED_MS)


def forget_paths(draft: Draft, event: str) -> None:
    """Delete the paths of an event name that no wait can use any longer."""
    key = event_name_key(event)
    row = draft.get(key)
    live = {path: end for path, end in row.paths.items() if end > draft.now} if row else {}
    if live:
        draft.put(key, EventName(live))
        draft.arm(max(live.values()), Timer(TimerKind.EVENT_NAME_EXPIRY, event))
    elif row:
        draft.delete(key)


def close_wait(draft: Draft, closed: WaitClosed) -> None:
    """At the shard of the event name: remove a wait. It takes the route of the wait, so that it cannot overtake it."""
    if closed.looking_back and close_look_back(draft, closed):
        return
    if not _remove(draft, Bucket(closed.bucket.event), closed) and closed.bucket.path:
        removed = WaitRemoved(closed.waiter, closed.bucket, closed.expired)
        draft.route(closed.bucket.routing_key, removed)


def remove_wait(draft: Draft, removed: WaitRemoved) -> None:
    """At the shard of the bucket: remove a wait."""
    _remove(draft, removed.bucket, removed)


def _remove(draft: Draft, bucket: Bucket, closed: WaitClosed | WaitRemoved) -> bool:
    """Remove a wait from a bucket and answer an expired one with a timeout; return whether it was in the bucket."""
    key = wait_key(bucket, closed.waiter)
    if draft.get(key) is None:
        return False
    draft.delete(key)
    if closed.expired:
        run_id, step = closed.waiter.run_id, closed.waiter.step
        draft.route_to_run(run_id, StepResolved(run_id, step, TimedOut()))
    return True


def close_step(draft: Draft, run_id: str, step: str, opened: OpenStep) -> None:
    """Undo what an open step has elsewhere: its timer, its gates, and its registration as a wait."""
    draft.disarm(opened.due, Timer(TimerKind.STEP, run_id, step))
    leave_step_gates(draft, run_id, step, opened)
    withdraw(draft, run_id, step, opened)


def withdraw(draft: Draft, run_id: str, step: str, opened: OpenStep, *, expired: bool = False) -> None:
    """Close the wait of a step, if it has one; an `expired` wait is answered."""
    waiter = StepRef(run_id, step)
    if opened.bucket:
        draft.route(opened.bucket.event, WaitClosed(waiter, opened.bucket, opened.looking_back, expired))
    elif opened.signal:
        draft.route(opened.signal, SignalWaitClosed(waiter, opened.signal))
    for number, branch in enumerate(opened.branches):
        if branch.bucket:
            closed = WaitClosed(branch_waiter(run_id, step, number), branch.bucket, branch.looking_back, expired)
            draft.route(branch.bucket.event, closed)


def route_event(draft: Draft, routed: EventRouted) -> None:
    """At the shard of the event name: keep the event, and send it to every bucket that may hold a wait for it."""
    candidate = Candidate(routed.event)
    keep_event(draft, candidate)
    name = routed.event.name
    row = draft.get(event_name_key(name))
    if row is None:
        return
    for path, until in row.paths.items():
        if until <= draft.now:
            continue
        if not path:
            match_event(draft, EventForwarded(routed.event, Bucket(name), routed.arrived_at))
            continue
        value = index_key(lookup(candidate.fields, path))
        if value is not None:
            bucket = Bucket(name, path, value)
            draft.route(bucket.routing_key, EventForwarded(routed.event, bucket, routed.arrived_at))


def match_event(draft: Draft, forwarded: EventForwarded) -> None:
    """At the shard of a bucket: end each wait that the event satisfies, over several batches if there are many."""
    event, bucket = forwarded.event, forwarded.bucket
    part = bucket_part(bucket)
    waits = draft.walk(WAITS, part)
    if not waits:
        return
    queued = draft.scan(QUEUED_EVENTS, part, 1)
    after = None if queued else _match(draft, event, waits, forwarded.arrived_at)
    if not queued and after is None:
        return
    number = _queued_count(draft) + 1
    draft.put(QUEUED_COUNT_KEY, QueuedCount(number))
    draft.put(queued_event_key(bucket, number), QueuedEvent(event, after, forwarded.arrived_at))
    if not queued:
        draft.continue_later(bucket.routing_key, MatchContinued(bucket))


def continue_match(draft: Draft, due: MatchContinued) -> None:
    """Evaluate the next waits of a bucket against the first of its queued events, and drop it after the last wait."""
    part = bucket_part(due.bucket)
    queued = draft.scan(QUEUED_EVENTS, part, 2)
    if not queued:
        return
    key, first = queued[0]
    waits = draft.walk(WAITS, part, waiter_place(first.after) if first.after else b"")
    after = _match(draft, first.event, waits, first.arrived_at, number=queue_number(key))
    if after:
        draft.put(key, QueuedEvent(first.event, after, first.arrived_at))
    else:
        draft.delete(key)
    if after or len(queued) > 1:
        draft.continue_later(due.bucket.routing_key, due)


def _match(
    draft: Draft, event: EventRecord, waits: Iterable[tuple[Key[Wait], Wait]], arrived_at: int, number: int = 0
) -> StepRef | None:
    """Evaluate as many waits against an event as one transition may; return the last of them if there are more."""
    # Each run whose wait the event ends gets a copy of the event.
    waits_max = max(1, min(draft.limits.waits_per_match_max, BATCH_BYTES_MAX // (len(event.data) + 1)))
    budget, candidate = MatchBudget(draft), Candidate(event)
    matched: list[tuple[Key[Wait], Wait]] = []
    last: StepRef | None = None
    more = False
    for count, (key, wait) in enumerate(waits):
        if count == waits_max or budget.full:
            more = True
            break
        last = wait.waiter
        size = len(wait.predicate.bindings)
        if size >= LARGE_BYTES_MIN:
            budget.charge(size // READ_PER_PARSED)
        is_open = (not number or wait.behind < number) and wait.expires_at > draft.now and wait.trigger_id != event.id
        if is_open and budget.satisfies(candidate, wait.predicate):
            matched.append((key, wait))
    for key, wait in matched:
        draft.delete(key)
        run_id, step = wait.waiter.run_id, wait.waiter.step
        draft.route_to_run(run_id, EventMatched(run_id, step, event, arrived_at))
    return last if more else None


def _queued_count(draft: Draft) -> int:
    row = draft.get(QUEUED_COUNT_KEY)
    return row.count if row else 0
