"""Finds events, in those that this process accepted and in the read model, and the runs that they started."""

from collections.abc import Iterator, Mapping
from typing import Any

from stepstream.contract.codec import Raw, encode
from stepstream.contract.events import CANCELLED, FAILED, FINISHED, EventRecord
from stepstream.contract.gates import Excess
from stepstream.contract.kinds import RunStatus
from stepstream.gateway.rest.parts import RestParts
from stepstream.gateway.rest.recent_events import AcceptedEvent
from stepstream.gateway.rest.sdk_shapes import (
    accepted_json,
    event_fields,
    events_of,
    listed_event,
    moment_of,
    record_fields,
)
from stepstream.gateway.wire.internal_events import SDK_PREFIX, own_name
from stepstream.runtime.readmodel.search.filters import Filter
from stepstream.runtime.readmodel.tables.seen_events import SeenEvent
from stepstream.runtime.readmodel.views import RunSummary

# An event may resume many runs, which the read model finds together with those that it started.
_PAGES_MAX = 10
# The latest events of each name that a filter has.
_EVENTS_FILTERED_MAX = 1_000
_ENDED_BY = {
    FINISHED: (RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED),
    FAILED: (RunStatus.FAILED,),
    CANCELLED: (RunStatus.CANCELLED,),
}


async def runs_of_event(parts: RestParts, event_id: str, limit: int) -> list[RunSummary]:
    """Return the runs that an event started, by the id that the engine knows, the newest first."""
    found: list[RunSummary] = []
    filter, before = Filter().having_all({"event_id": event_id}), ""
    for _ in range(_PAGES_MAX):
        page = await parts.index.queries.search(filter, before=before, limit=limit)
        found += [run for run in page.runs if not is_batched(run) and await _started(parts, event_id, run)]
        before = page.next
        if not before or len(found) >= limit:
            break
    return found[:limit]


def is_batched(run: RunSummary) -> bool:
    """Return whether another run has the event of this one: apps know only the run of the whole batch."""
    return run.status == RunStatus.SKIPPED and isinstance(run.error, dict) and run.error.get("code") == Excess.BATCHED


async def _started(parts: RestParts, event_id: str, run: RunSummary) -> bool:
    listed = events_of(run)
    if any(event["id"] == event_id for event in listed):
        return True
    # A list has the first events of a batch only.
    whole = await parts.index.queries.show(run.run_id) if run.event_count > len(listed) else None
    return whole is not None and any(event["id"] == event_id for event in events_of(whole))


async def find_event_json(parts: RestParts, event_id: str) -> dict[str, Any] | None:
    """Return an event as in /v1/events; None for one that this process did not accept and that had no effect."""
    if accepted := parts.recent.find(event_id):
        return accepted_json(accepted)
    whole = await parts.index.queries.event(event_id)
    if whole is None:
        return None
    value = whole.value if isinstance(whole.value, dict) else {}
    fields = event_fields({"id": event_id, "name": whole.seen.name, **value})
    return listed_event(fields, event_id, whole.seen.at)


async def listed_events(parts: RestParts, name: str, cursor: str, limit: int) -> list[tuple[int, dict[str, Any]]]:
    """Return events with their times, the newest first: those that were accepted here, then those that had effects."""
    found = [(each.received_at, accepted_json(each)) for each in _newest(parts, name, cursor)][:limit]
    if len(found) == limit:
        return found
    before = "" if parts.recent.find(cursor) else cursor
    page = await parts.index.queries.starting_events(own_name(name), before=before, limit=limit)
    others = [seen for seen in page.events if parts.recent.find(seen.id) is None]
    found += [(seen.at, await _seen_json(parts, seen)) for seen in others[: limit - len(found)]]
    return found


async def filtered_events(parts: RestParts, given: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the events that the fields of EventsFilter describe, the newest first, of each name the latest ones."""
    after, before = (moment_of(str(given[name]), name) if given.get(name) else 0 for name in ("from", "until"))
    names = given.get("eventNames") or [""]
    if not given.get("includeInternalEvents"):
        names = [name for name in names if not name.startswith(SDK_PREFIX)]
    found = [each for name in names for each in await _events_named(parts, name)]
    found.sort(key=lambda each: each[0], reverse=True)
    return [event for at, event in found if after <= at and (not before or at < before)]


async def _events_named(parts: RestParts, name: str) -> list[tuple[int, dict[str, Any]]]:
    """Return the latest events of a name; those about the end of runs are made from the runs."""
    statuses = _ENDED_BY.get(own_name(name))
    if statuses is None:
        return await listed_events(parts, name, "", _EVENTS_FILTERED_MAX)
    page = await parts.index.queries.search(Filter().having("status", *statuses), limit=_EVENTS_FILTERED_MAX)
    return [(run.ended_at, _end_event(run, own_name(name))) for run in page.runs]


def _end_event(run: RunSummary, name: str) -> dict[str, Any]:
    """Return the event about the end of a run, under the id of the run, without its result."""
    data = Raw(encode({"function_id": run.function, "run_id": run.run_id, "status": run.status}))
    event = record_fields(EventRecord(name, data, run.run_id, run.ended_at))
    return listed_event(event, run.run_id, run.ended_at)


def _newest(parts: RestParts, name: str, cursor: str) -> Iterator[AcceptedEvent]:
    """Yield the accepted events that follow the one with the id `cursor`: the newest ones without it."""
    newest = parts.recent.newest(own_name(name))
    if not cursor:
        return newest
    accepted = parts.recent.find(cursor)
    if accepted is None:
        return iter(())
    return _after(newest, accepted)


def _after(events: Iterator[AcceptedEvent], last: AcceptedEvent) -> Iterator[AcceptedEvent]:
    for event in events:
        if event is last:
            break
    return events


async def _seen_json(parts: RestParts, seen: SeenEvent) -> dict[str, Any]:
    found = await find_event_json(parts, seen.id)
    return found or listed_event(event_fields({"id": seen.id, "name": seen.name}), seen.id, seen.at)
