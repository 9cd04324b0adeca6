"""The events in the read model: those that started, resumed or cancelled runs; others leave no history."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from stepstream.contract.codec import Json
from stepstream.contract.events import decode_stored_events
from stepstream.contract.history import RunEnded, StepEnded
from stepstream.contract.kinds import StepKind
from stepstream.contract.outcomes import Value
from stepstream.runtime.readmodel.activity import ACTIVITY_FIELDS, Activity, activities
from stepstream.runtime.readmodel.dialect import Database
from stepstream.runtime.readmodel.views import json_of

# The tables of the events that ended waits, and of those that cancelled runs.
_WAITS, _CANCELS = "event_waits", "event_cancels"
# How many runs or waits one request reads to find a page of events; the next request continues after them.
EXAMINED_MAX = 2_000
# How many of the runs and waits of an event are listed, of each kind.
EFFECTS_MAX = 20
_DIGITS_MAX = 18


@dataclass(frozen=True, slots=True)
class Started:
    """A run that an event started; `status` is a RunStatus, the last three fields are those of RunSummary."""

    run_id: str
    function: str
    status: str
    started_at: int
    paused: Json
    waits: Json

    def activities(self, now_ms: int) -> Sequence[Activity]:
        """Return what the run does, of which `running` says little."""
        return activities({name: getattr(self, name) for name in ACTIVITY_FIELDS}, now_ms)


@dataclass(frozen=True, slots=True)
class Resumed:
    """A step that an event resumed: its hash `step`, its `id`, and the function of its run."""

    run_id: str
    function: str
    step: str
    id: str


@dataclass(frozen=True, slots=True)
class Cancelled:
    """A run that an event cancelled, and its function."""

    run_id: str
    function: str


@dataclass(frozen=True, slots=True)
class SeenEvent:
    """An event with what it did, the newest first and EFFECTS_MAX of each at most.

    `at` (Unix ms) is when its first run was accepted; if it started none, when it resumed or cancelled one.
    """

    id: str
    name: str
    at: int
    started: Sequence[Started]
    resumed: Sequence[Resumed]
    cancelled: Sequence[Cancelled]


@dataclass(frozen=True, slots=True)
class EventPage:
    """Events, newest first; `next` is what `before` of the next page must be, 0 or "" after the last one."""

    events: Sequence[SeenEvent]
    next: str = ""


@dataclass(frozen=True, slots=True)
class WholeEvent:
    """An event with its data; `value` is its record, which is the part `part` of the run `run_id`.

    Of an event that only cancelled runs the record is not kept: `value` is None, and `part` is empty.
    """

    seen: SeenEvent
    value: Json
    run_id: str
    part: str


@dataclass(frozen=True, slots=True)
class StartingEvent:
    """An event, as a run has it that it started: `index` counts the events of the run from 0; times are Unix ms."""

    run_id: str
    accepted_at: int
    index: int
    event: dict[str, Json]


def note_resumed(db: Database, ended: Sequence[StepEnded]) -> None:
    """Store which event resumed each of these steps, of those that waited for one."""
    found = ((entry, decode_stored_events(entry.outcome.data)) for entry in ended if isinstance(entry.outcome, Value))
    rows = (
        (event.id, event.name, entry.run_id, entry.step, entry.at)
        for entry, events in found
        for event in events.values()
    )
    into = "event_waits (event_id, name, run_id, step, at) VALUES (?, ?, ?, ?, ?)"
    db.executemany(f"INSERT INTO {into} ON CONFLICT DO NOTHING", rows)


def note_cancelled(db: Database, ended: Sequence[RunEnded]) -> None:
    """Store which event cancelled each of these runs, of those that one did."""
    rows = ((entry.cancelled_by, entry) for entry in ended)
    into = "event_cancels (event_id, name, run_id, at) VALUES (?, ?, ?, ?)"
    values = ((event.id, event.name, entry.run_id, entry.at) for event, entry in rows if event)
    db.executemany(f"INSERT INTO {into} ON CONFLICT DO NOTHING", values)


def is_resumed(entry: StepEnded) -> bool:
    """Return whether an event ended a step."""
    return entry.kind == StepKind.WAIT and isinstance(entry.outcome, Value)


def is_row_number(text: str) -> bool:
    """Return whether a text can be the `next` of a page of events that resumed waits, or cancelled runs."""
    return text.isascii() and text.isdecimal() and len(text) <= _DIGITS_MAX


def starting_events(db: Database, name: str, before: str, limit: int) -> EventPage:
    """Return the events that started runs with an id before `before`, of one name or of all."""
    # Run ids begin with their time.
    within = ("run_id < ?", before) if before else ("run_id > ?", "")
    query = f"SELECT run_id, events, accepted_at FROM runs WHERE {within[0]} ORDER BY run_id DESC LIMIT ?"
    values: tuple[str | int, ...] = (within[1], EXAMINED_MAX)
    if name:
        named = f"SELECT run_id FROM run_names WHERE {within[0]} AND name = ? ORDER BY run_id DESC LIMIT ?"
        query = f"SELECT run_id, events, accepted_at FROM ({named}) AS n JOIN runs USING (run_id) ORDER BY run_id DESC"
        values = (within[1], name, EXAMINED_MAX)
    found: dict[str, SeenEvent] = {}
    examined, last = 0, ""
    for run_id, events, at in db.execute(query, values):
        examined, last = examined + 1, run_id
        for id, its_name in _names(events):
            if name in ("", its_name) and id not in found and _first_run(db, id) == run_id:
                found[id] = _seen(db, id, its_name, at)
        if len(found) >= limit:
            return EventPage(list(found.values()), run_id)
    return EventPage(list(found.values()), last if examined == EXAMINED_MAX else "")


def _names(events: str) -> Iterator[tuple[str, str]]:
    listed = json_of(events)
    for event in listed if isinstance(listed, list) else ():
        if isinstance(event, dict):
            yield str(event.get("id", "")), str(event.get("name", ""))


def _first_run(db: Database, event_id: str) -> str:
    """Return the first run of an event, where the list has it: later ones may be its reruns."""
    (first,) = db.execute("SELECT min(run_id) FROM run_events WHERE event_id = ?", (event_id,)).fetchone()
    return str(first or "")


def resuming_events(db: Database, name: str, before: str, limit: int) -> EventPage:
    """Return the events that resumed waits, of one name or of all; `before` is the `next` of an earlier page."""
    return _ending_events(db, _WAITS, name, before, limit)


def cancelling_events(db: Database, name: str, before: str, limit: int) -> EventPage:
    """Return the events that cancelled runs, of one name or of all; `before` is the `next` of an earlier page."""
    return _ending_events(db, _CANCELS, name, before, limit)


def _ending_events(db: Database, table: str, name: str, before: str, limit: int) -> EventPage:
    query = f"SELECT rowid, event_id, name, at FROM {table} WHERE rowid < ? ORDER BY rowid DESC LIMIT ?"
    found: dict[str, SeenEvent] = {}
    examined, last = 0, 0
    first = int(before) if before else 2**62
    for rowid, id, its_name, at in db.execute(query, (first, EXAMINED_MAX)):
        examined, last = examined + 1, rowid
        if name in ("", its_name) and id not in found and not _is_later_row(db, table, id, rowid):
            found[id] = _seen(db, id, its_name, at)
        if len(found) >= limit:
            return EventPage(list(found.values()), str(rowid))
    return EventPage(list(found.values()), str(last) if examined == EXAMINED_MAX else "")


def _is_later_row(db: Database, table: str, event_id: str, rowid: int) -> bool:
    (newest,) = db.execute(f"SELECT max(rowid) FROM {table} WHERE event_id = ?", (event_id,)).fetchone()
    return bool(newest and newest > rowid)


def _seen(db: Database, id: str, name: str, at: int) -> SeenEvent:
    started = (
        "SELECT r.run_id, r.function, r.status, r.started_at, r.paused, r.waits FROM run_events e "
        "JOIN runs r USING (run_id) "
        "WHERE e.event_id = ? ORDER BY e.run_id DESC LIMIT ?"
    )
    resumed = (
        "SELECT w.run_id, r.function, w.step, s.id FROM event_waits w JOIN runs r USING (run_id) "
        "JOIN steps s USING (run_id, step) WHERE w.event_id = ? ORDER BY w.run_id DESC LIMIT ?"
    )
    cancelled = (
        "SELECT c.run_id, r.function FROM event_cancels c JOIN runs r USING (run_id) "
        "WHERE c.event_id = ? ORDER BY c.run_id DESC LIMIT ?"
    )
    return SeenEvent(
        *(id, name, at),
        [Started(*row[:-2], *map(json_of, row[-2:])) for row in db.execute(started, (id, EFFECTS_MAX))],
        [Resumed(*row) for row in db.execute(resumed, (id, EFFECTS_MAX))],
        [Cancelled(*row) for row in db.execute(cancelled, (id, EFFECTS_MAX))],
    )


def event_of_first_run(db: Database, id: str) -> StartingEvent | None:
    """Return an event as the first run that it started has it; None without a run that is kept."""
    query = (
        "SELECT t.run_id, t.events, r.accepted_at FROM run_events e JOIN run_texts t USING (run_id) "
        "JOIN runs r USING (run_id) WHERE e.event_id = ? ORDER BY e.run_id LIMIT 1"
    )
    if row := db.execute(query, (id,)).fetchone():
        events = json_of(row[1])
        for index, event in enumerate(events if isinstance(events, list) else ()):
            if isinstance(event, dict) and event.get("id") == id:
                return StartingEvent(row[0], row[2], index, event)
    return None


def find_event(db: Database, id: str) -> WholeEvent | None:
    """Return an event with its data; None if it started, resumed and cancelled no run that is kept."""
    if found := event_of_first_run(db, id):
        seen = _seen(db, id, str(found.event.get("name")), found.accepted_at)
        return WholeEvent(seen, found.event, found.run_id, f"event-{found.index}")
    query = (
        "SELECT w.run_id, w.step, w.name, w.at, s.output FROM event_waits w JOIN steps s USING (run_id, step) "
        "WHERE w.event_id = ? LIMIT 1"
    )
    if row := db.execute(query, (id,)).fetchone():
        return WholeEvent(_seen(db, id, row[2], row[3]), json_of(row[4]), row[0], f"step-{row[1]}")
    if row := db.execute("SELECT run_id, name, at FROM event_cancels WHERE event_id = ? LIMIT 1", (id,)).fetchone():
        return WholeEvent(_seen(db, id, row[1], row[2]), None, row[0], "")
    return None
