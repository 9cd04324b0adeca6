"""Look-back: events are kept for a while, and a wait with `lookback=` is evaluated against those of its name."""

from msgspec.structs import replace

from stepstream.contract.events import EventRecord, event_fields
from stepstream.contract.ids import Bucket, StepRef
from stepstream.contract.limits import MINUTE_MS
from stepstream.contract.matching import EventMatched, LookBackContinued, LookBackEnded, WaitOpened
from stepstream.engine.matching.match_budget import MatchBudget
from stepstream.engine.state.draft import Draft
from stepstream.engine.state.keys import Key, text_bytes
from stepstream.engine.state.rows import KeptEvent, KeptHead, LookBack, Timer, TimerKind
from stepstream.engine.state.tables import (
    KEPT_EVENTS,
    KEPT_HEAD_KEY,
    LOOKBACK_WINDOWS_KEY,
    kept_at,
    kept_event_key,
    kept_number,
    kept_place,
    look_back_key,
    timer_key,
)


def keep_event(draft: Draft, event: EventRecord) -> None:
    """Keep an event for as long as any function may look back; one timer deletes those of a name and a minute."""
    windows = draft.get(LOOKBACK_WINDOWS_KEY)
    if windows is None or not windows.by_function:
        return
    last = _head(draft)
    # The clock of the shard's next owner may be behind, but kept events must sort in the order of the log.
    head = KeptHead(last.count + 1, max(draft.now, last.arrived_at))
    draft.put(KEPT_HEAD_KEY, head)
    # A wait takes a while to reach this shard, and a long look-back takes a while to finish.
    until = draft.now + max(windows.by_function.values()) + MINUTE_MS
    draft.put(kept_event_key(event.name, head.arrived_at, head.count), KeptEvent(event, draft.now, until))
    due = (until // MINUTE_MS + 1) * MINUTE_MS
    timer = Timer(TimerKind.KEPT_EVENTS_EXPIRY, event.name)
    if draft.get(timer_key(due, timer)) is None:
        draft.arm(due, timer)


def forget_events(draft: Draft, name: str) -> None:
    """Delete the kept events of a name that are too old, as many as one transition may; the next tick continues."""
    budget = MatchBudget(draft)
    old: list[Key[KeptEvent]] = []
    for key, kept in draft.walk(KEPT_EVENTS, text_bytes(name)):
        if kept.until > draft.now:
            break
        if len(old) == draft.limits.waits_per_match_max or budget.full:
            draft.arm(draft.now, Timer(TimerKind.KEPT_EVENTS_EXPIRY, name))
            break
        budget.charge(len(kept.event.data) + len(kept.event.user))
        old.append(key)
    for key in old:
        draft.delete(key)


def _head(draft: Draft) -> KeptHead:
    return draft.get(KEPT_HEAD_KEY) or KeptHead(0, 0)


def begin_look_back(draft: Draft, wait: WaitOpened) -> EventRecord | LookBackContinued | None:
    """Evaluate a wait against the first kept events: return the one that ends it, how to continue, or None."""
    first = LookBackContinued(wait.bucket.event, wait.waiter, wait.lookback_from, 0)
    return _evaluate(draft, wait, first, _head(draft).count)


def schedule_look_back(draft: Draft, wait: WaitOpened, bucket: Bucket, due: LookBackContinued) -> None:
    """Continue a look-back in later batches; its wait is placed in `bucket` meanwhile."""
    draft.put(look_back_key(due.event, wait.waiter), LookBack(wait, bucket, _head(draft).count))
    draft.continue_later(due.event, due)


def continue_look_back(draft: Draft, due: LookBackContinued) -> None:
    """Evaluate a wait against the next kept events, unless it was closed."""
    key = look_back_key(due.event, due.waiter)
    row = draft.get(key)
    if row is None:
        return
    found = _evaluate(draft, row.wait, due, row.last)
    if isinstance(found, LookBackContinued):
        draft.continue_later(due.event, found)
        return
    draft.delete(key)
    if found is None:
        draft.route(row.bucket.routing_key, LookBackEnded(due.waiter, row.bucket))
    else:
        draft.route_to_run(due.waiter.run_id, EventMatched(due.waiter.run_id, due.waiter.step, found))


def drop_look_back(draft: Draft, event: str, waiter: StepRef) -> None:
    """Stop a look-back, if one is in progress: its wait was closed."""
    key = look_back_key(event, waiter)
    if draft.get(key):
        draft.delete(key)


def _evaluate(
    draft: Draft, wait: WaitOpened, due: LookBackContinued, last: int
) -> EventRecord | LookBackContinued | None:
    """Evaluate a wait against as many kept events as one transition may, up to the one numbered `last`."""
    budget = MatchBudget(draft)
    after = kept_place(due.arrived_at, due.number)
    for count, (key, kept) in enumerate(draft.walk(KEPT_EVENTS, text_bytes(due.event), after)):
        event, number = kept.event, kept_number(key)
        if number > last:
            return None  # It arrived after the wait was placed in its bucket.
        if count == draft.limits.waits_per_match_max or budget.full:
            return due
        budget.charge(len(event.data) + len(event.user))
        excluded = kept.arrived_at < wait.lookback_from or event.id == wait.trigger_id
        if not excluded and budget.satisfies(event_fields(event), wait.predicate):
            return event
        due = replace(due, arrived_at=kept_at(key), number=number)
    return None
