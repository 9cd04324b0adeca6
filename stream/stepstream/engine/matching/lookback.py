"""The look-back: events are kept for waits that come after them, and a wait meets those that were kept, bit by bit."""

from msgspec.structs import replace

from stepstream.contract.events import EventRecord, event_fields
from stepstream.contract.inbox import EventMatched, WaitOpened
from stepstream.contract.limits import MINUTE_MS
from stepstream.contract.lookback import LookBackContinued, LookBackEnded
from stepstream.engine.matching.match_budget import MatchBudget
from stepstream.engine.state.draft import Draft
from stepstream.engine.state.keys import (
    KEEPING_KEY,
    KEPT_KEY,
    RECENT,
    Key,
    bucket_routing,
    look_back_key,
    recent_at,
    recent_key,
    recent_number,
    recent_part,
    recent_place,
    timer_key,
)
from stepstream.engine.state.rows import EventRetention, LookBack, RecentEvent, RetentionRow, Timer

KEPT_EVENTS = "kept-events"


def keep_event(draft: Draft, event: EventRecord) -> None:
    """Keep an event for waits that look back, as long as any may; a timer for those of one minute lets go of them."""
    keeping = draft.get(RetentionRow, KEEPING_KEY)
    if keeping is None or not keeping.by_function:
        return
    last = _last_kept(draft)
    # The clock of another machine may be behind; whoever looks back is to meet the events as they came.
    kept = EventRetention(last.count + 1, max(draft.now, last.arrived_at))
    draft.put(KEPT_KEY, kept)
    # A wait is under way for a while, and a long look-back takes some.
    until = draft.now + max(keeping.by_function.values()) + MINUTE_MS
    draft.put(recent_key(event.name, kept.arrived_at, kept.count), RecentEvent(event, draft.now, until))
    due = (until // MINUTE_MS + 1) * MINUTE_MS
    if draft.get(Timer, timer_key(due, event.name, KEPT_EVENTS)) is None:
        draft.arm(due, KEPT_EVENTS, event.name, KEPT_EVENTS)


def forget_events(draft: Draft, name: str) -> None:
    """Let go of the kept events of a name whose time is over, as many as one record may; the next tick goes on."""
    meeting = MatchBudget(draft)
    gone: list[Key] = []
    for key, recent in draft.walk(RecentEvent, RECENT, recent_part(name)):
        if recent.until > draft.now:
            break
        if len(gone) == draft.limits.waits_per_match_max or meeting.full:
            draft.arm(draft.now, KEPT_EVENTS, name, KEPT_EVENTS)
            break
        meeting.charge(len(recent.event.data) + len(recent.event.user))
        gone.append(key)
    for key in gone:
        draft.delete(key)


def _last_kept(draft: Draft) -> EventRetention:
    return draft.get(EventRetention, KEPT_KEY) or EventRetention(0, 0)


def begin_look_back(draft: Draft, wait: WaitOpened) -> EventRecord | LookBackContinued | None:
    """Hold a wait against the first kept events: return the one that fulfils it, or how to go on, None at the end."""
    first = LookBackContinued(wait.event, wait.run_id, wait.step, wait.lookback_from, 0)
    return _meet(draft, wait, first, _last_kept(draft).count)


def go_on_looking(draft: Draft, wait: WaitOpened, path: str, value: str, due: LookBackContinued) -> None:
    """Have a look-back go on that has only begun; its wait stands meanwhile with `path` equal to `value`."""
    row = LookBack(wait, path, value, _last_kept(draft).count)
    draft.put(look_back_key(wait.event, wait.run_id, wait.step), row)
    draft.go_on_later(wait.event, due)


def continue_look_back(draft: Draft, due: LookBackContinued) -> None:
    """Hold a wait against the next kept events, unless it waits no longer."""
    key = look_back_key(due.event, due.run_id, due.step)
    row = draft.get(LookBack, key)
    if row is None:
        return
    found = _meet(draft, row.wait, due, row.last)
    if isinstance(found, LookBackContinued):
        draft.go_on_later(due.event, found)
        return
    draft.delete(key)
    if found is None:
        ended = LookBackEnded(due.event, due.run_id, due.step, row.path, row.value)
        draft.route(bucket_routing(due.event, row.path, row.value), ended)
    else:
        draft.route_to_run(due.run_id, EventMatched(due.run_id, due.step, found))


def drop_look_back(draft: Draft, event: str, run_id: str, step: str) -> None:
    """Look back no more: nobody waits."""
    key = look_back_key(event, run_id, step)
    if draft.get(LookBack, key):
        draft.delete(key)


def _meet(draft: Draft, wait: WaitOpened, due: LookBackContinued, last: int) -> EventRecord | LookBackContinued | None:
    """Hold a wait against as many kept events as one record may, up to the one numbered `last`."""
    meeting = MatchBudget(draft)
    after = recent_place(due.arrived_at, due.number)
    met = draft.walk(RecentEvent, RECENT, recent_part(wait.event), after)
    for count, (key, recent) in enumerate(met):
        event, number = recent.event, recent_number(key)
        if number > last:
            return None  # It came after the wait, which stood by then.
        if count == draft.limits.waits_per_match_max or meeting.full:
            return due
        meeting.charge(len(event.data) + len(event.user))
        too_old = recent.arrived_at < wait.lookback_from or event.id == wait.trigger_id
        if not too_old and meeting.fulfils(wait.predicate, event_fields(event)):
            return event
        due = replace(due, arrived_at=recent_at(key), number=number)
    return None
