"""Look-back: a wait with `lookback=` is evaluated against kept events before it is placed in its bucket.

It reads the index of its bucket. If one equality is the whole predicate, the first entry in the window ends the wait.
Otherwise the newest entries are evaluated in the order of their arrival, at most LOOKBACK_EVENTS_MAX of them; if
there are more in the window, the run is warned. A wait that expires meanwhile ends with the look-back: by an event or
a timeout.
"""

from msgspec.structs import replace

from stepstream.contract.ids import Bucket
from stepstream.contract.inbox import StepResolved
from stepstream.contract.limits import LOOKBACK_EVENTS_MAX
from stepstream.contract.matching import EventMatched, LookBackContinued, LookBackTruncated, WaitClosed, WaitOpened
from stepstream.contract.outcomes import TimedOut
from stepstream.engine.matching.kept import kept_head, use_index
from stepstream.engine.matching.match_budget import Candidate, MatchBudget
from stepstream.engine.state.draft import Draft
from stepstream.engine.state.kept_rows import KeptEvent, KeptPlace, LookBack
from stepstream.engine.state.tables import (
    KEPT_INDEX,
    bucket_part,
    kept_event_key,
    look_back_key,
    place_bytes,
    place_of,
)


def begin_look_back(draft: Draft, wait: WaitOpened) -> WaitOpened | None:
    """Look back for a wait; return it if no kept event ends it and it must be placed now."""
    bucket, complete = use_index(draft, wait.bucket)
    look_back = LookBack(wait, kept_head(draft).count)
    if complete:
        return _look_back(draft, bucket, look_back)
    draft.put(look_back_key(bucket.event, bucket.path, wait.waiter), look_back)
    return None


def continue_look_back(draft: Draft, due: LookBackContinued) -> WaitOpened | None:
    """Continue a look-back, unless its wait was closed; return the wait if it must be placed now."""
    look_back = draft.get(look_back_key(due.bucket.event, due.bucket.path, due.waiter))
    return _look_back(draft, due.bucket, look_back) if look_back else None


def close_look_back(draft: Draft, closed: WaitClosed) -> bool:
    """Stop the look-back of a wait, or note that the wait expired; return whether a look-back was in progress."""
    for path in dict.fromkeys((closed.bucket.path, "")):
        key = look_back_key(closed.bucket.event, path, closed.waiter)
        look_back = draft.get(key)
        if look_back and closed.expired:
            draft.put(key, replace(look_back, expired=True))
        elif look_back:
            draft.delete(key)
        if look_back:
            return True
    return False


def _look_back(draft: Draft, bucket: Bucket, look_back: LookBack) -> WaitOpened | None:
    wait, waiter = look_back.wait, look_back.wait.waiter
    key = look_back_key(bucket.event, bucket.path, waiter)
    found = _evaluate(draft, bucket, look_back)
    if isinstance(found, LookBack):
        draft.put(key, found)
        draft.continue_later(bucket.event, LookBackContinued(bucket, waiter))
        return None
    if draft.get(key):
        draft.delete(key)
    if found:
        draft.route_to_run(waiter.run_id, EventMatched(waiter.run_id, waiter.step, found.event))
    elif look_back.expired:
        draft.route_to_run(waiter.run_id, StepResolved(waiter.run_id, waiter.step, TimedOut()))
    else:
        return wait
    return None


def _evaluate(draft: Draft, bucket: Bucket, look_back: LookBack) -> KeptEvent | LookBack | None:
    """Evaluate as many entries as one transition may: return the event that ends the wait, or how to continue."""
    wait, budget = look_back.wait, MatchBudget(draft)
    after = look_back.after or _start(draft, bucket, wait)
    for count, (key, _) in enumerate(draft.walk(KEPT_INDEX, bucket_part(bucket), place_bytes(after))):
        if count == draft.limits.waits_per_match_max or budget.full:
            return replace(look_back, after=after)
        after = place_of(key)
        kept = draft.get(kept_event_key(bucket.event, after))
        if kept is None:
            continue
        budget.charge(kept.event.payload_bytes)
        if _is_candidate(kept, after, look_back) and budget.satisfies(Candidate(kept.event), wait.predicate):
            return kept
    return None


def _is_candidate(kept: KeptEvent, place: KeptPlace, look_back: LookBack) -> bool:
    wait = look_back.wait
    in_time = place[1] <= look_back.opened or kept.arrived_at < wait.expires_at
    return in_time and kept.arrived_at >= wait.lookback_from and kept.event.id != wait.trigger_id


def _start(draft: Draft, bucket: Bucket, wait: WaitOpened) -> KeptPlace:
    """Return the place after which a look-back evaluates entries, and warn the run if that leaves out some."""
    start = (wait.lookback_from, 0)
    predicate = wait.predicate
    if bucket.path and len(predicate.equalities) == 1 and not predicate.residual:
        return start
    newest = draft.last(KEPT_INDEX, bucket_part(bucket), LOOKBACK_EVENTS_MAX + 1)
    if len(newest) <= LOOKBACK_EVENTS_MAX or place_of(newest[0][0]) <= start:
        return start
    truncated = LookBackTruncated(wait.waiter.run_id, wait.waiter.step, bucket.event)
    draft.route_to_run(wait.waiter.run_id, truncated)
    return place_of(newest[0][0])
