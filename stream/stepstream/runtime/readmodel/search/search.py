"""Finds runs in the read model by a filter: the index that leaves the fewest runs, then the other terms on each."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from stepstream.contract.codec import Json, load_json
from stepstream.contract.kinds import RunStatus
from stepstream.contract.limits import MIB
from stepstream.expressions.errors import EvaluationError
from stepstream.expressions.predicates import holds
from stepstream.runtime.readmodel.dialect import ALL, Database
from stepstream.runtime.readmodel.reading import counts
from stepstream.runtime.readmodel.search.conditions import (
    FAILING,
    Sql,
    cel_sources,
    function_reads,
    id_range,
    index_reads,
    joined,
    names_read,
    names_waits,
    newest,
    row_condition,
    statuses_of,
)
from stepstream.runtime.readmodel.search.filters import Filter, Pattern, Term
from stepstream.runtime.readmodel.views import LISTED_EVENTS_MAX, RUN_COLUMNS, RunSummary, summary_of

# What one request examines of the runs that an index has; the next request continues after them.
EXAMINED_MAX = 20_000
# What one request evaluates expressions on, which takes about 30 us for a small event, and more for a large one.
EVALUATED_MAX = 2_000
EVALUATED_BYTES_MAX = 32 * MIB
EVALUATED_S_MAX = 0.5
# What the numbers by status of a filter examine, whose list examines as many runs again.
COUNTED_MAX = 2_000
# A wildcard that stands for more names is checked on each run.
_NAMES_MAX = 50
_NAMED = {"function": ("function", "runs"), "event": ("name", "run_names")}
# SQLite merges at most 500 statements.
_READS_MAX = 250
_COLUMNS = ", ".join(f"r.{name}" for name in RUN_COLUMNS.split(", "))


@dataclass(frozen=True, slots=True)
class RunPage:
    """Runs that a filter found, newest first.

    `next` is what `before` of the next page must be, empty after the last one. If `stopped`, the search ended at its
    bound before the page was full, having examined so many runs; the next page continues it.
    """

    runs: list[RunSummary]
    next: str = ""
    examined: int = 0
    stopped: bool = False


@dataclass(frozen=True, slots=True)
class RunCount:
    """How many runs a filter finds; at least so many if it is not `exact`."""

    runs: int
    exact: bool


@dataclass(frozen=True, slots=True)
class StatusCounts:
    """How many runs a filter finds by status, whatever its own says; at least so many if they are not `exact`."""

    runs: Mapping[str, int]
    exact: bool = True


@dataclass(frozen=True, slots=True)
class _Plan:
    """How a filter is executed: reads of indexes, in a range of ids, conditions on their rows, and expressions.

    If there is neither a condition nor an expression, the runs of the indexes are the result.
    """

    reads: Sequence[Sql]
    within: Sql
    conditions: Sql
    expressions: list[list[str]]

    @property
    def is_exact(self) -> bool:
        return not self.conditions.text and not self.expressions

    def candidates(self, db: Database, limit: int) -> Sql:
        """Return the statement of the ids that the indexes have, newest first."""
        return newest(self.reads, self.within, limit, lazy=db.keeps_order)


def list_runs(db: Database, filter: Filter, before: str, limit: int) -> list[RunSummary]:
    """Return the runs of a filter without an expression, however many must be examined."""
    plan = _plan(db, filter, before, 0)
    return [_listed(row) for row in _rows(db, plan, ALL, limit)]


def find_runs(db: Database, run_ids: Sequence[str]) -> list[RunSummary]:
    """Return the runs with these ids, at most 1,000, that the tables have."""
    marks = ", ".join("?" * len(run_ids))
    query = f"SELECT {_COLUMNS} FROM runs AS r WHERE run_id IN ({marks})"
    return [_listed(row) for row in db.execute(query, run_ids)]


def search(db: Database, filter: Filter, now_ms: int, *, before: str = "", limit: int = 50) -> RunPage:
    """Return the runs of a filter with an id before `before`, newest first."""
    plan = _plan(db, filter, before, now_ms)
    rows: list[Sequence[Any]] = []
    examined, last, stopped = 0, "", False
    if plan.expressions:
        deadline, read = time.perf_counter() + EVALUATED_S_MAX, 0
        for row in _rows(db, plan, EXAMINED_MAX, with_texts=True):
            if stopped := examined >= EVALUATED_MAX or read > EVALUATED_BYTES_MAX or time.perf_counter() > deadline:
                break
            examined, last = examined + 1, row[0]
            read += len(row[-1] or "") + len(row[-2])
            if _holds(plan.expressions, row):
                rows.append(row[:-2])
                if len(rows) > limit:
                    break
    else:
        rows = list(_rows(db, plan, limit + 1 if plan.is_exact else EXAMINED_MAX, limit + 1))
    runs = [_listed(row) for row in rows[:limit]]
    if len(rows) > limit:
        return RunPage(runs, runs[-1].run_id, examined)
    if stopped:
        return RunPage(runs, last, examined, stopped=True)
    counted, least = (len(rows), "") if plan.is_exact else _extent(db, plan)
    if counted >= EXAMINED_MAX:
        return RunPage(runs, least, examined or counted, stopped=True)
    return RunPage(runs, "", examined or counted)


def _listed(row: Sequence[Any]) -> RunSummary:
    return RunSummary(**summary_of(row, LISTED_EVENTS_MAX))


def count(db: Database, filter: Filter, now_ms: int) -> RunCount:
    """Return how many runs a filter finds, among the newest EXAMINED_MAX candidates at most."""
    plan = _plan(db, filter, "", now_ms)
    if plan.expressions:
        page = search(db, filter, now_ms, limit=EVALUATED_MAX)
        return RunCount(len(page.runs), not page.next)
    found = _found(db, plan, EXAMINED_MAX)
    (runs,) = db.execute(f"SELECT count(*) FROM {found.text}", found.values).fetchone()
    examined = runs if plan.is_exact else _extent(db, plan)[0]
    return RunCount(runs, examined < EXAMINED_MAX)


def count_statuses(db: Database, filter: Filter, now_ms: int) -> StatusCounts:
    """Count the runs of a filter by status, where that is cheap: among COUNTED_MAX runs, or all of one function.

    Those for which an expression must be evaluated are not counted.
    """
    rest = filter.without("status")
    if not rest.terms or (len(rest.terms) == 1 and (function := _only_function(rest.terms[0]))):
        return StatusCounts(counts(db, function if rest.terms else ""))
    plan = _plan(db, rest, "", now_ms)
    if plan.expressions:
        return StatusCounts({}, exact=False)
    found, some = _found(db, plan, COUNTED_MAX), plan.candidates(db, COUNTED_MAX)
    runs = dict(db.execute(f"SELECT r.status, count(*) FROM {found.text} GROUP BY r.status", found.values).fetchall())
    (examined,) = db.execute(f"SELECT count(*) FROM ({some.text}) AS c", some.values).fetchone()
    return StatusCounts(runs, exact=examined < COUNTED_MAX)


def _only_function(term: Term) -> str:
    """Return the function that a term names, "" if it names none, several, or excludes one."""
    (value, *others) = term.values
    return "" if term.key != "function" or term.excluded or others or value.prefix else value.text


def _found(db: Database, plan: _Plan, examined: int) -> Sql:
    """Return the FROM and WHERE of the runs among so many candidates."""
    some = plan.candidates(db, examined)
    where = f" WHERE {plan.conditions.text}" if plan.conditions.text else ""
    text = f"({some.text}) AS c CROSS JOIN runs AS r ON r.run_id = c.run_id{where}"
    return Sql(text, (*some.values, *plan.conditions.values))


def _rows(db: Database, plan: _Plan, examined: int, limit: int = ALL, *, with_texts: bool = False) -> Iterator[Any]:
    found = _found(db, plan, examined)
    columns = _COLUMNS
    if with_texts:
        columns += (
            ", (SELECT t.events FROM run_texts AS t WHERE t.run_id = r.run_id)"
            ", (SELECT t.output FROM run_texts AS t WHERE t.run_id = r.run_id)"
        )
    order = "" if db.keeps_order else " ORDER BY c.run_id DESC"
    read = db.stream if with_texts else db.execute
    return iter(read(f"SELECT {columns} FROM {found.text}{order} LIMIT ?", (*found.values, limit)))


def _extent(db: Database, plan: _Plan) -> tuple[int, str]:
    """Return how many candidates were examined, and the id of the last one."""
    some = plan.candidates(db, EXAMINED_MAX)
    counted, least = db.execute(f"SELECT count(*), min(run_id) FROM ({some.text}) AS c", some.values).fetchone()
    return counted, least or ""


def _plan(db: Database, filter: Filter, before: str, now_ms: int) -> _Plan:
    within = id_range(filter.terms, before, now_ms)
    terms = [_expanded(db, term) for term in filter.terms]
    sources = [source for source in _sources(terms) if len(source[0]) <= _READS_MAX]
    best, covered = [Sql("SELECT run_id FROM runs WHERE true")], list[Term]()
    if len(sources) == 1:
        best, covered = sources[0]
    elif sources:
        best, covered = min(sources, key=lambda source: _size(db, source[0], within))
    conditions = [
        condition for term in terms if term not in covered and (condition := row_condition(term, now_ms)) is not None
    ]
    return _Plan(best, within, joined(" AND ", conditions), cel_sources(filter.terms))


def _expanded(db: Database, term: Term) -> Term:
    """Return a term with the names that a wildcard stands for, unless they are many."""
    if term.key not in _NAMED or not any(value.prefix for value in term.values):
        return term
    column, table = _NAMED[term.key]
    values = list[Pattern]()
    for value in term.values:
        if not value.prefix:
            values.append(value)
            continue
        read = names_read(column, table, value.text, _NAMES_MAX + 1)
        names = [name for (name,) in db.execute(read.text, read.values)]
        if len(names) > _NAMES_MAX or not names:
            return term
        values += map(Pattern, names)
    return replace(term, values=tuple(values))


def _size(db: Database, reads: Sequence[Sql], within: Sql) -> int:
    some = newest(reads, within, EXAMINED_MAX, lazy=db.keeps_order)
    return int(db.execute(f"SELECT count(*) FROM ({some.text}) AS c", some.values).fetchone()[0])


def _sources(terms: Sequence[Term]) -> Iterator[tuple[list[Sql], list[Term]]]:
    """Yield the ways to find candidates, the most selective first, each with the terms that need no other check."""
    plain = [term for term in terms if not term.excluded]
    for term in sorted(plain, key=lambda term: term.key in ("event", "status", "error")):
        reads = index_reads(term)
        if reads is not None:
            # The index of the ends of ids has only six characters, the words may match in several ways, and runs that
            # were rerun may have been dropped.
            unsure = term.key in ("run_id", "", "error", "rerun") or names_waits(term)
            yield reads, [] if unsure else [term]
    functions = [term for term in plain if term.key == "function" and not any(v.prefix for v in term.values)]
    statuses = [term for term in plain if term.key == "status"]
    if functions:
        failing = any(term.key in ("error", "error_group") for term in plain)
        named = [statuses_of(term) for term in statuses]
        possible = [each for each in (FAILING if failing else RunStatus) if all(each in names for names in named)]
        if possible:
            whole = [term for term in statuses if not names_waits(term)]
            yield function_reads(functions[0].texts, possible), [functions[0], *whole]


def _holds(expressions: Sequence[Sequence[str]], row: Sequence[Any]) -> bool:
    """Return whether the event, the result and the attributes of a run satisfy expressions; those that fail do not."""
    events = _json(row[-2]) or []
    bindings = {
        "event": events[0] if isinstance(events, list) and events else None,
        "output": _json(row[-1]),
        "error": _json(row[_ERROR]),
        "attributes": _json(row[_ATTRIBUTES]),
    }
    return all(any(_true(source, bindings) for source in sources) for sources in expressions)


_ATTRIBUTES, _ERROR = (RUN_COLUMNS.split(", ").index(name) for name in ("attributes", "error"))


def _json(text: str | None) -> Json:
    return None if text is None else load_json(text.encode(), own=True)


def _true(source: str, bindings: dict[str, Json]) -> bool:
    try:
        return holds(source, bindings)
    except EvaluationError:
        return False
