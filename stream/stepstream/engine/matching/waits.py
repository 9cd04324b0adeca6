"""The matcher and the signals: a wait stands where the events that can end it come by."""

from collections.abc import Iterable

from msgspec.structs import replace

from stepstream.contract.codec import Json
from stepstream.contract.events import EventRecord, event_fields
from stepstream.contract.inbox import (
    EventForwarded,
    EventMatched,
    EventRouted,
    MatchContinued,
    Predicate,
    SignalSent,
    SignalWaitClosed,
    SignalWaitOpened,
    StepResolved,
    WaitClosed,
    WaitOpened,
)
from stepstream.contract.limits import BATCH_BYTES_MAX, PATHS_PER_NAME_MAX
from stepstream.contract.lookback import LookBackContinued, LookBackEnded
from stepstream.contract.outcomes import ErrorInfo, Failure, Value
from stepstream.engine.matching.lookback import begin_look_back, drop_look_back, go_on_looking, keep_event
from stepstream.engine.matching.match_budget import LARGE_BYTES_MIN, READ_PER_PARSED, MatchBudget
from stepstream.engine.state.draft import Draft
from stepstream.engine.state.keys import (
    QUEUE,
    QUEUED_KEY,
    WAIT,
    Key,
    bucket_part,
    bucket_routing,
    name_key,
    queue_key,
    queue_number,
    signal_key,
    wait_key,
    wait_place,
)
from stepstream.engine.state.rows import EventName, OpenStep, Queued, QueuedEvent, SignalWaiter, Wait
from stepstream.expressions.limits import PATH_CHARACTERS_MAX
from stepstream.expressions.predicates import index_key, lookup

EVENT_NAME = "event-name"


def place(predicate: Predicate) -> tuple[str, str]:
    """Return the path and the index key of the bucket where a wait stands; ("", "") is the scan bucket."""
    return predicate.equalities[0] if predicate.equalities else ("", "")


def open_wait(draft: Draft, wait: WaitOpened) -> None:
    """At the name's shard: look back, note the path and send the wait on. At the bucket's shard: let it stand."""
    path, value = place(wait.predicate)
    further: LookBackContinued | None = None
    if not wait.placed:
        if wait.lookback_from:
            found = begin_look_back(draft, wait)
            if isinstance(found, EventRecord):
                draft.route_to_run(wait.run_id, EventMatched(wait.run_id, wait.step, found))
                return
            wait, further = wait if found else replace(wait, lookback_from=0), found
        if _note_path(draft, wait.event, path, wait.expires_at):
            draft.route(bucket_routing(wait.event, path, value), replace(wait, placed=True))
            if further:
                go_on_looking(draft, wait, path, value, further)
            return
        path = value = ""
    key = wait_key(wait.event, path, value, wait.run_id, wait.step)
    looking = wait.lookback_from > 0
    draft.put(key, Wait(wait.run_id, wait.step, wait.predicate, wait.expires_at, _queued_count(draft), looking))
    if further:
        go_on_looking(draft, wait, path, value, further)


def end_look_back(draft: Draft, ended: LookBackEnded) -> None:
    """At the bucket's shard: no kept event fulfils a wait; the first that did since ends it, or it waits on."""
    key = wait_key(ended.event, ended.path, ended.value, ended.run_id, ended.step)
    wait = draft.get(Wait, key)
    if wait is None:
        return
    if wait.met:
        draft.delete(key)
        draft.route_to_run(wait.run_id, wait.met)
    else:
        draft.put(key, replace(wait, looking=False))


def _note_path(draft: Draft, event: str, path: str, until: int) -> str:
    """Note that a path is in use; return it, or "" for a wait that is to stand in the scan bucket.

    Each path of a name costs each of its events a look-up: one for each run, as async.data["order-7"], is no index.
    """
    key = name_key(event)
    row = draft.get(EventName, key)
    live = {known: end for known, end in row.paths.items() if end > draft.now} if row else {}
    if path not in live and (len(live) >= PATHS_PER_NAME_MAX or len(path) > PATH_CHARACTERS_MAX):
        path = ""
    if live.get(path, -1) < until:
        draft.put(key, EventName({**live, path: until}))
    if row is None:
        draft.arm(until, EVENT_NAME, event, EVENT_NAME)
    return path


def forget_paths(draft: Draft, event: str) -> None:
    """Let go of what is known of an event name: nobody may wait for it any more, or only by fewer paths."""
    key = name_key(event)
    row = draft.get(EventName, key)
    live = {path: end for path, end in row.paths.items() if end > draft.now} if row else {}
    if live:
        draft.put(key, EventName(live))
        draft.arm(max(live.values()), EVENT_NAME, event, EVENT_NAME)
    elif row:
        draft.delete(key)


def close_wait(draft: Draft, wait: WaitClosed) -> None:
    """Take a wait away; it goes the way of the wait itself, so that it cannot overtake it."""
    if wait.looking and not wait.placed:
        drop_look_back(draft, wait.event, wait.run_id, wait.step)
    path, value = (wait.path, wait.value) if wait.placed else ("", "")
    key = wait_key(wait.event, path, value, wait.run_id, wait.step)
    if draft.get(Wait, key):
        draft.delete(key)
    elif wait.path and not wait.placed:
        draft.route(bucket_routing(wait.event, wait.path, wait.value), replace(wait, placed=True))


def close_step(draft: Draft, run_id: str, step: str, opened: OpenStep) -> None:
    """Undo what an open step has elsewhere: its timer, and its place in the matcher or among the signals."""
    draft.disarm(opened.due, run_id, step)
    if opened.kind == "wait" and opened.event:
        draft.route(
            opened.event, WaitClosed(run_id, step, opened.event, opened.path, opened.value, looking=opened.looking)
        )
    elif opened.kind == "signal":
        draft.route(opened.event, SignalWaitClosed(run_id, step, opened.event))


def route_event(draft: Draft, routed: EventRouted) -> None:
    """At the name's shard: send the event to every bucket that can hold a wait for it."""
    event = routed.event
    keep_event(draft, event)
    row = draft.get(EventName, name_key(event.name))
    if row is None:
        return
    fields: dict[str, Json] = {}
    for path, until in row.paths.items():
        if until <= draft.now:
            continue
        if not path:
            match_event(draft, EventForwarded(event, "", "", routed.arrived_at))
            continue
        fields = fields or event_fields(event)
        found = lookup(fields, path)
        value = index_key(found)
        if value is not None:
            draft.route(bucket_routing(event.name, path, value), EventForwarded(event, path, value, routed.arrived_at))


def match_event(draft: Draft, forwarded: EventForwarded) -> None:
    """At a bucket's shard: wake every wait in it that the event fulfils; where they are too many, bit by bit."""
    event, path, value = forwarded.event, forwarded.path, forwarded.value
    bucket = bucket_part(event.name, path, value)
    waits = draft.walk(Wait, WAIT, bucket)
    if not waits:
        return
    queued = draft.scan(QueuedEvent, QUEUE, bucket, 1)
    after = None if queued else _wake(draft, event, waits, forwarded.arrived_at)
    if not queued and after is None:
        return
    number = _queued_count(draft) + 1
    draft.put(QUEUED_KEY, Queued(number))
    draft.put(queue_key(event.name, path, value, number), QueuedEvent(event, after, forwarded.arrived_at))
    if not queued:
        draft.go_on_later(bucket_routing(event.name, path, value), MatchContinued(event.name, path, value))


def continue_match(draft: Draft, due: MatchContinued) -> None:
    """Hold the next waits of a bucket against the first event in its queue; the event leaves it after the last."""
    bucket = bucket_part(due.event, due.path, due.value)
    queued = draft.scan(QueuedEvent, QUEUE, bucket, 2)
    if not queued:
        return
    key, first = queued[0]
    waits = draft.walk(Wait, WAIT, bucket, wait_place(*first.after) if first.after else b"")
    after = _wake(draft, first.event, waits, first.arrived_at, number=queue_number(key))
    if after:
        draft.put(key, QueuedEvent(first.event, after, first.arrived_at))
    else:
        draft.delete(key)
    if after or len(queued) > 1:
        draft.go_on_later(bucket_routing(due.event, due.path, due.value), due)


def _wake(
    draft: Draft, event: EventRecord, waits: Iterable[tuple[Key, Wait]], arrived_at: int, number: int = 0
) -> tuple[str, str] | None:
    """Hold an event against as many waits as one record may; return the run and the step met last if there are more."""
    # Each run that wakes gets the event.
    waits_max = max(1, min(draft.limits.waits_per_match_max, BATCH_BYTES_MAX // (len(event.data) + 1)))
    meeting = MatchBudget(draft)
    fields = event_fields(event)
    woken: list[tuple[Key, Wait]] = []
    last: Wait | None = None
    unmet = False
    for count, (key, wait) in enumerate(waits):
        if count == waits_max or meeting.full:
            unmet = True
            break
        last = wait
        size = len(wait.predicate.bindings)
        if size >= LARGE_BYTES_MIN:
            meeting.charge(size // READ_PER_PARSED)
        open_to_it = (not number or wait.behind < number) and wait.expires_at > draft.now and not wait.met
        if open_to_it and meeting.fulfils(wait.predicate, fields):
            woken.append((key, wait))
    for key, wait in woken:
        matched = EventMatched(wait.run_id, wait.step, event, arrived_at)
        if wait.looking:
            draft.put(key, replace(wait, met=matched))
        else:
            draft.delete(key)
            draft.route_to_run(wait.run_id, matched)
    return (last.run_id, last.step) if unmet and last else None


def _queued_count(draft: Draft) -> int:
    row = draft.get(Queued, QUEUED_KEY)
    return row.count if row else 0


def open_signal(draft: Draft, wait: SignalWaitOpened) -> None:
    """Let a run wait for a signal: the first to come stays, unless the newcomer replaces it."""
    key = signal_key(wait.signal)
    waiter = draft.get(SignalWaiter, key)
    if waiter and waiter.expires_at > draft.now and (waiter.run_id, waiter.step) != (wait.run_id, wait.step):
        loser = waiter if wait.replace else wait
        name, code = ("SignalReplaced", "signal-replaced") if wait.replace else ("SignalConflict", "signal-conflict")
        by = wait if wait.replace else waiter
        error = ErrorInfo(name, f"run {by.run_id} waits for the signal {wait.signal!r}", code=code)
        draft.route_to_run(loser.run_id, StepResolved(loser.run_id, loser.step, Failure(error)))
        if not wait.replace:
            return
    draft.put(key, SignalWaiter(wait.run_id, wait.step, wait.expires_at))


def close_signal(draft: Draft, wait: SignalWaitClosed) -> None:
    """Take a waiter for a signal away, if it is still the one."""
    key = signal_key(wait.signal)
    waiter = draft.get(SignalWaiter, key)
    if waiter and (waiter.run_id, waiter.step) == (wait.run_id, wait.step):
        draft.delete(key)


def send_signal(draft: Draft, signal: SignalSent) -> None:
    """Hand a signal to its waiter; without one it is not kept, and the sender hears so."""
    key = signal_key(signal.signal)
    waiter = draft.get(SignalWaiter, key)
    if waiter is None or waiter.expires_at <= draft.now:
        draft.reply(signal.reply_to, "not_found")
        return
    draft.delete(key)
    draft.route_to_run(waiter.run_id, StepResolved(waiter.run_id, waiter.step, Value(signal.data)))
    draft.reply(signal.reply_to, "delivered")
