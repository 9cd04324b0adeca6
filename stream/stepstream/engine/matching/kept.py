"""Kept events: they are stored for look-backs at the shard of their name, and indexed by the paths that waits use.

A path is learned from the first look-back by it. From then on each event of the name gets an entry in the index of
its bucket when it arrives. Events that were kept before are indexed in bounded batches, and look-backs by the path
wait until that is done. The index has no copies of events and stays in the shard: it costs one small row per event
and path. A path that no look-back has used for an hour is no longer maintained, and is forgotten with the last event
that it indexes.
"""

from msgspec.structs import replace

from stepstream.contract.ids import Bucket
from stepstream.contract.limits import HOUR_MS, LOOKBACK_PATHS_PER_NAME_MAX, MINUTE_MS
from stepstream.contract.matching import IndexContinued, LookBackContinued
from stepstream.engine.matching.match_budget import Candidate, MatchBudget
from stepstream.engine.state.draft import Draft
from stepstream.engine.state.kept_rows import IndexedEvent, KeptEvent, KeptHead, KeptPath, KeptPaths, KeptPlace
from stepstream.engine.state.keys import text_bytes
from stepstream.engine.state.rows import Timer, TimerKind
from stepstream.engine.state.tables import (
    KEPT_EVENTS,
    KEPT_HEAD_KEY,
    LOOK_BACKS,
    LOOKBACK_WINDOWS_KEY,
    index_entry_key,
    kept_event_key,
    kept_paths_key,
    look_backs_part,
    place_bytes,
    place_of,
    timer_key,
    waiter_place,
)
from stepstream.expressions.limits import PATH_CHARACTERS_MAX
from stepstream.expressions.predicates import index_key, lookup

_START: KeptPlace = (0, 0)
_ENTRY = IndexedEvent()


def kept_head(draft: Draft) -> KeptHead:
    """Return how many events the shard has kept, and when the last of them arrived."""
    return draft.get(KEPT_HEAD_KEY) or KeptHead(0, 0)


def keep_event(draft: Draft, candidate: Candidate) -> None:
    """Keep an event for as long as any function may look back, and index it."""
    windows = draft.get(LOOKBACK_WINDOWS_KEY)
    if windows is None:
        return
    event = candidate.event
    paths = _paths(draft, event.name)
    # A look-back that waits for an index must also see what arrives meanwhile.
    if not windows.longest and not any(_has_look_backs(draft, event.name, path) for path in paths):
        return
    last = kept_head(draft)
    # The clock of the shard's next owner may be behind, but kept events must sort in the order of the log.
    head = KeptHead(last.count + 1, max(draft.now, last.arrived_at))
    draft.put(KEPT_HEAD_KEY, head)
    # A wait takes a while to reach this shard, and a long look-back takes a while to finish.
    until = head.arrived_at + windows.longest + MINUTE_MS
    draft.put(kept_event_key(event.name, head.place), KeptEvent(event, draft.now, until))
    _arm_expiry(draft, event.name, until, windows.version, last.place)
    stopped: dict[str, KeptPath] = {}
    for path, use in paths.items():
        if use.indexed_to is not None:
            continue
        if use.until > draft.now or _has_look_backs(draft, event.name, path):
            _index(draft, candidate, path, head.place)
        else:
            stopped[path] = replace(use, indexed_to=last.place)
    if stopped:
        _put_paths(draft, event.name, paths | stopped)


def _paths(draft: Draft, event: str) -> dict[str, KeptPath]:
    row = draft.get(kept_paths_key(event))
    return row.paths if row else {}


def _put_paths(draft: Draft, event: str, paths: dict[str, KeptPath]) -> None:
    draft.put(kept_paths_key(event), KeptPaths(paths))


def _has_look_backs(draft: Draft, event: str, path: str) -> bool:
    return bool(draft.scan(LOOK_BACKS, look_backs_part(event, path), 1))


def _arm_expiry(
    draft: Draft, event: str, until: int, windows: int | None = None, after: KeptPlace | None = None
) -> None:
    """Set the one timer of a name, minute and version of the windows, by the first event that it deletes.

    After a window has become shorter, events are deleted before older ones, which were kept for longer.
    """
    due = (until // MINUTE_MS + 1) * MINUTE_MS
    timer = Timer(TimerKind.KEPT_EVENTS_EXPIRY, event, "" if windows is None else str(windows), after)
    if draft.get(timer_key(due, timer)) is None:
        draft.arm(due, timer)


def indexed_value(candidate: Candidate, path: str) -> str | None:
    """Return the value under which an event is indexed by a path; None when it has no scalar there."""
    return index_key(lookup(candidate.fields, path)) if path else ""


def _index(draft: Draft, candidate: Candidate, path: str, place: KeptPlace) -> None:
    value = indexed_value(candidate, path)
    if value is not None:
        draft.put(index_entry_key(Bucket(candidate.event.name, path, value), place), _ENTRY)


def _remove_from_index(draft: Draft, candidate: Candidate, path: str, place: KeptPlace) -> None:
    value = indexed_value(candidate, path)
    if value is not None:
        draft.delete(index_entry_key(Bucket(candidate.event.name, path, value), place))


def use_index(draft: Draft, bucket: Bucket) -> tuple[Bucket, bool]:
    """Return the bucket whose index a look-back is to use, and whether that index is complete.

    It is the index of all events of the name when there are too many paths already.
    """
    paths = _paths(draft, bucket.event)
    learned = sum(path != "" for path in paths)
    if bucket.path not in paths and (learned >= LOOKBACK_PATHS_PER_NAME_MAX or len(bucket.path) > PATH_CHARACTERS_MAX):
        bucket = Bucket(bucket.event)
    path, use = bucket.path, paths.get(bucket.path)
    windows = draft.get(LOOKBACK_WINDOWS_KEY)
    until = draft.now + HOUR_MS + (windows.longest if windows else 0)
    if use is None or use.until < until - HOUR_MS // 2:
        use = KeptPath(until, use.indexed_to if use else _START)
        _put_paths(draft, bucket.event, paths | {path: use})
        _arm_expiry(draft, bucket.event, until)
    if use.indexed_to is not None and not _has_look_backs(draft, bucket.event, path):
        use = _index_more(draft, bucket.event, path, use)
        if use.indexed_to is not None:
            draft.continue_later(bucket.event, IndexContinued(bucket.event, path))
    return bucket, use.indexed_to is None


def _index_more(draft: Draft, event: str, path: str, use: KeptPath) -> KeptPath:
    """Index as many of the kept events of a name as one transition may; return how far the index is."""
    budget = MatchBudget(draft)
    indexed_to = use.indexed_to or _START
    entries: list[tuple[Candidate, KeptPlace]] = []
    use = replace(use, indexed_to=None)
    for key, kept in draft.walk(KEPT_EVENTS, text_bytes(event), place_bytes(indexed_to)):
        if len(entries) == draft.limits.waits_per_match_max or budget.full:
            use = replace(use, indexed_to=indexed_to)
            break
        budget.charge(kept.event.payload_bytes)
        indexed_to = place_of(key)
        entries.append((Candidate(kept.event), indexed_to))
    for candidate, place in entries:
        _index(draft, candidate, path, place)
    _put_paths(draft, event, _paths(draft, event) | {path: use})
    return use


def continue_index(draft: Draft, due: IndexContinued) -> None:
    """Index the next kept events of a name by a path; when all are, start the look-backs that waited for it."""
    use = _paths(draft, due.event).get(due.path)
    if use is None:
        return
    if use.indexed_to is not None:
        use = _index_more(draft, due.event, due.path, use)
    if use.indexed_to is not None:
        draft.continue_later(due.event, due)
        return
    after = waiter_place(due.started) if due.started else b""
    started = draft.scan(LOOK_BACKS, look_backs_part(due.event, due.path), draft.limits.waits_per_match_max, after)
    for _, row in started:
        bucket = row.wait.bucket if due.path else Bucket(due.event)
        draft.continue_later(due.event, LookBackContinued(bucket, row.wait.waiter))
    if len(started) == draft.limits.waits_per_match_max:
        draft.continue_later(due.event, replace(due, started=started[-1][1].wait.waiter))


def forget_events(draft: Draft, timer: Timer, due: int) -> None:
    """Delete the kept events of a timer that was due (Unix ms), as many as one transition may.

    If some are left, a timer that is due at the same time continues at the next tick. With the current time it could
    replace the timer of another minute.
    """
    paths = _paths(draft, timer.owner)
    left = _forget_events(draft, timer, timer.after, paths) if timer.after else None
    if left:
        draft.arm(due, replace(timer, after=left))
    elif paths:
        _forget_paths(draft, timer, paths)


def _forget_events(draft: Draft, timer: Timer, after: KeptPlace, paths: dict[str, KeptPath]) -> KeptPlace | None:
    """Delete the next events that have expired; return the last of them if there may be more."""
    event, budget = timer.owner, MatchBudget(draft)
    old: list[tuple[KeptPlace, KeptEvent]] = []
    left: KeptPlace | None = None
    for key, kept in draft.walk(KEPT_EVENTS, text_bytes(event), place_bytes(after)):
        if kept.until > draft.now:
            break
        if len(old) == draft.limits.waits_per_match_max or budget.full:
            left = old[-1][0]
            break
        budget.charge(kept.event.payload_bytes)
        old.append((place_of(key), kept))
    for place, kept in old:
        draft.delete(kept_event_key(event, place))
        candidate = Candidate(kept.event)
        for path, use in paths.items():
            if use.indexed_to is None or place <= use.indexed_to:
                _remove_from_index(draft, candidate, path, place)
    return left


def _forget_paths(draft: Draft, timer: Timer, paths: dict[str, KeptPath]) -> None:
    """Stop maintaining indexes that look-backs no longer use, and forget those without entries."""
    event = timer.owner
    left = {path: use for path, use in paths.items() if use.until > draft.now}
    unused = {path: use.indexed_to or kept_head(draft).place for path, use in paths.items() if path not in left}
    for path in tuple(unused):
        if _has_look_backs(draft, event, path):
            left[path] = paths[path]
            del unused[path]
            _arm_expiry(draft, event, draft.now + MINUTE_MS)
    kept = _first_kept(draft, timer, min(unused.values())) if unused else None
    left |= {path: replace(paths[path], indexed_to=to) for path, to in unused.items() if kept and kept <= to}
    if not left:
        draft.delete(kept_paths_key(event))
    elif left != paths:
        _put_paths(draft, event, left)


def _first_kept(draft: Draft, timer: Timer, enough: KeptPlace) -> KeptPlace | None:
    """Return the place of the oldest kept event of a name, or of another one that is not after the place `enough`.

    One after those that were just deleted is found at once. The oldest is behind all that were deleted lately, and
    RocksDB reads through them: 0.2 s of CPU for 1,000,000.
    """
    part = text_bytes(timer.owner)
    for key, _ in draft.scan(KEPT_EVENTS, part, 1, place_bytes(timer.after)) if timer.after else ():
        if place_of(key) <= enough:
            return place_of(key)
    oldest = draft.scan(KEPT_EVENTS, part, 1)
    return place_of(oldest[0][0]) if oldest else None
