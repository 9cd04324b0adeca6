"""Turns the terms of a filter into SQL: conditions on rows of runs, and reads of indexes in the order of run ids."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

from stepstream.contract.ids import run_id_at
from stepstream.contract.kinds import RunStatus
from stepstream.runtime.readmodel.activity import WaitState
from stepstream.runtime.readmodel.search.filters import (
    STATUS_GROUPS,
    TAIL_CHARACTERS,
    TIME_FIELDS,
    WAIT_STATES,
    Pattern,
    Term,
    filter_time_ms,
)
from stepstream.runtime.readmodel.tables.schema import BULK, TAIL, WAIT_STATE

# The greatest character: no text with a prefix is greater than the prefix and this.
_LAST = "\U0010ffff"
_RANGES = {"after": ">=", "before": "<"}
_WORDS = ("function", "app", "caller", "origin", "error_group", "status")
# The tables of the events that started, resumed and cancelled runs.
EVENT_TABLES = ("run_events", "event_waits", "event_cancels")
# The statuses of runs that may have an error.
FAILING = (RunStatus.SCHEDULED, RunStatus.RUNNING, RunStatus.FAILED, RunStatus.CANCELLED, RunStatus.SKIPPED)


@dataclass(frozen=True, slots=True)
class Sql:
    """A part of a statement, with the values of its placeholders."""

    text: str
    values: tuple[str | int, ...] = ()


def joined(word: str, parts: Sequence[Sql]) -> Sql:
    """Return parts with a word between them, and the values of all."""
    return Sql(word.join(part.text for part in parts), tuple(chain.from_iterable(part.values for part in parts)))


def statuses_of(term: Term) -> list[str]:
    """Return the statuses of the runs that a term about the status finds; those that wait are running."""
    return list(dict.fromkeys(chain.from_iterable(_named(text) for text in term.texts)))


def _named(text: str) -> tuple[str, ...]:
    return (RunStatus.RUNNING,) if text in WAIT_STATES else STATUS_GROUPS.get(text, (text,))


def names_waits(term: Term) -> bool:
    """Return whether a term is about what running runs wait for, of which the status says nothing."""
    return term.key == "status" and any(text in WAIT_STATES for text in term.texts)


def id_range(terms: Sequence[Term], before: str, now_ms: int) -> Sql:
    """Return the condition on `run_id` of terms about the time of runs, which their ids contain, and of a page."""
    parts = [Sql(" AND run_id < ?", (before,))] if before else []
    for term in terms:
        if term.key in _RANGES:
            first = run_id_at(filter_time_ms(term.texts[0], now_ms), "")
            parts.append(Sql(f" AND run_id {_RANGES[term.key]} ?", (first,)))
    return joined("", parts)


def row_condition(term: Term, now_ms: int) -> Sql | None:
    """Return what a term asks of a row `r` of runs; None if the range of ids or an expression decides it."""
    if term.key in _RANGES or term.key == "cel":
        return None
    if term.key in TIME_FIELDS:
        column, _, side = term.key.partition("_")
        moment = filter_time_ms(term.texts[0], now_ms)
        known = " AND r.ended_at > 0" if column == "ended" else ""
        return Sql(f"(r.{column}_at {_RANGES[side]} ?{known})", (moment,))
    if term.key == "status":
        found = joined(" OR ", [_status_condition(text, now_ms) for text in term.texts])
    else:
        found = joined(" OR ", [_value_condition(term, value) for value in term.values])
    return Sql(f"{'NOT ' * term.excluded}coalesce(({found.text}), false)", found.values)


def _status_condition(text: str, now_ms: int) -> Sql:
    if text not in WAIT_STATES:
        statuses = _named(text)
        return Sql(f"r.status IN ({', '.join('?' * len(statuses))})", statuses)
    found = Sql("r.waits IS NOT NULL AND json_extract(r.waits, '$.state') = ?", (text,))
    if text != WaitState.RETRYING:
        return found
    return Sql(f"{found.text} AND CAST(json_extract(r.waits, '$.until') AS BIGINT) > ?", (text, now_ms))


def _value_condition(term: Term, value: Pattern) -> Sql:
    if term.attribute:
        return _attribute_condition(term.attribute, value)
    match term.key:
        case "run_id":
            return _id_ends_with(value.text)
        case "event":
            named = "SELECT 1 FROM json_each(r.events) AS e WHERE "
            compared = _compared("json_extract(e.value, '$.name')", value)
            return Sql(f"EXISTS ({named}{compared.text})", compared.values)
        case "event_id":
            return _event_condition(value.text)
        case "error":
            return Sql(
                f"r.error IS NOT NULL AND lower({_ERROR_TEXT}) LIKE lower(?) ESCAPE '\\'",
                (f"%{_LIKE.sub(_escaped, value.text)}%",),
            )
        case "paused" | "rerun":
            return Sql(f"({_FLAGS[term.key]}) = ?", (value.text == "true",))
        case "bulk":
            return Sql("r.rerun IS NOT NULL AND json_extract(r.rerun, '$.bulk') = ?", (value.text,))
        case "":
            return _word_condition(value.text)
        case key if key in _WORDS:
            return _compared(f"r.{key}", value)
        case _:
            raise AssertionError(term)


_FLAGS = {
    "paused": "r.paused IS NOT NULL",
    "rerun": "EXISTS (SELECT 1 FROM runs AS o WHERE o.origin = r.run_id AND o.origin != '')",
}
_ERROR_TEXT = "json_extract(r.error, '$.name') || ': ' || json_extract(r.error, '$.message')"
# An attribute as it is in run_attributes.
_ATTRIBUTE_TEXT = (
    "CASE type WHEN 'true' THEN 'true' WHEN 'false' THEN 'false' "
    "WHEN 'real' THEN rtrim(rtrim(CAST(value AS TEXT), '0'), '.') ELSE CAST(value AS TEXT) END"
)
_LIKE = re.compile(r"[%_\\]")


def _escaped(found: re.Match[str]) -> str:
    return f"\\{found[0]}"


def _compared(column: str, value: Pattern) -> Sql:
    if value.prefix:
        return Sql(f"({column} >= ? AND {column} < ?)", (value.text, value.text + _LAST))
    return Sql(f"{column} = ?", (value.text,))


def _attribute_condition(name: str, value: Pattern) -> Sql:
    if value.prefix:
        compared = _compared("a.text", value)
        text = f"SELECT {_ATTRIBUTE_TEXT} AS text FROM json_each(r.attributes) WHERE key = ?"
        return Sql(f"EXISTS (SELECT 1 FROM ({text}) AS a WHERE {compared.text})", (name, *compared.values))
    query = "SELECT 1 FROM run_attributes AS a WHERE a.value = ? AND a.name = ? AND a.run_id = r.run_id"
    return Sql(f"EXISTS ({query})", (value.text, name))


def _id_ends_with(text: str) -> Sql:
    return Sql(f"substr(r.run_id, length(r.run_id) - {len(text) - 1}) = ?", (text.upper(),))


def _event_condition(event_id: str) -> Sql:
    """Return the condition that an event started, resumed or cancelled a run."""
    one = "EXISTS (SELECT 1 FROM {} AS e WHERE e.event_id = ? AND e.run_id = r.run_id)"
    return joined(" OR ", [Sql(one.format(table), (event_id,)) for table in EVENT_TABLES])


def _event_reads(event_id: str) -> Iterator[Sql]:
    # An event may have resumed several steps of a run.
    return (Sql(f"SELECT DISTINCT run_id FROM {table} WHERE event_id = ?", (event_id,)) for table in EVENT_TABLES)


def _word_condition(text: str) -> Sql:
    parts = [
        _event_condition(text),
        Sql(f"EXISTS (SELECT 1 FROM json_each(r.attributes) WHERE {_ATTRIBUTE_TEXT} = ?)", (text,)),
    ]
    if len(text) >= TAIL_CHARACTERS:
        parts.append(_id_ends_with(text))
    return joined(" OR ", parts)


# How a value is compared, with the condition of the partial index that is used.
_PARTIAL = {
    "caller": "caller = ? AND caller != ''",
    "origin": "origin = ? AND origin != ''",
    "error_group": "error_group = ? AND error_group IS NOT NULL",
    "bulk": f"{BULK} = ? AND rerun IS NOT NULL",
}
# The reads of the runs for which a term holds whose index has no values.
_UNVALUED = {
    "error": "SELECT run_id FROM runs WHERE error IS NOT NULL",
    "paused": "SELECT run_id FROM runs WHERE paused IS NOT NULL",
    "rerun": "SELECT DISTINCT run_id FROM (SELECT origin AS run_id FROM runs WHERE origin != '') AS o WHERE true",
}


def index_reads(term: Term) -> list[Sql] | None:
    """Return statements that read an index for one term, each in the order of run ids; None if no index has it.

    A range of run ids can be added to each. What they return may be more than the term means, never less.
    """
    if term.excluded or any(value.prefix for value in term.values):
        return None
    if name := term.attribute:
        one = "SELECT run_id FROM run_attributes WHERE value = ? AND name = ?"
        return [Sql(one, (text, name)) for text in term.texts]
    match term.key:
        case "run_id":
            return list(chain.from_iterable(_id_reads(text) for text in term.texts))
        case "":
            return list(chain.from_iterable(_word_reads(text) for text in term.texts))
        case "event_id":
            return list(chain.from_iterable(map(_event_reads, term.texts)))
        case "event":
            return [Sql("SELECT run_id FROM run_names WHERE name = ?", (text,)) for text in term.texts]
        case "status":
            return list(chain.from_iterable(_status_reads(text) for text in dict.fromkeys(term.texts)))
        case key if key in _PARTIAL:
            return [Sql(f"SELECT run_id FROM runs WHERE {_PARTIAL[key]}", (text,)) for text in term.texts]
        case key if key == "error" or (key in _UNVALUED and term.texts == ("true",)):
            return [Sql(_UNVALUED[key])]
        case _:
            return None


def _id_reads(text: str) -> Iterator[Sql]:
    upper = text.upper()
    yield Sql("SELECT run_id FROM runs WHERE run_id = ?", (upper,))
    yield Sql(f"SELECT run_id FROM runs WHERE {TAIL} = ?", (upper[-TAIL_CHARACTERS:],))


def _status_reads(text: str) -> Iterator[Sql]:
    if text in WAIT_STATES:
        yield Sql(f"SELECT run_id FROM runs WHERE {WAIT_STATE} = ? AND waits IS NOT NULL", (text,))
        return
    for status in _named(text):
        yield Sql("SELECT run_id FROM runs WHERE status = ?", (status,))


def _word_reads(text: str) -> Iterator[Sql]:
    if len(text) >= TAIL_CHARACTERS:
        yield from _id_reads(text)
    yield from _event_reads(text)
    yield Sql("SELECT run_id FROM run_attributes WHERE value = ?", (text,))


def names_read(column: str, table: str, prefix: str, most: int) -> Sql:
    """Return a statement for the different texts of the first column of an index that start with a prefix."""
    first = f"SELECT min({column}) FROM {table} WHERE {column} >= ? AND {column} < ?"
    following = f"SELECT min({column}) FROM {table} WHERE {column} > n.name AND {column} < ?"
    query = (
        f"WITH RECURSIVE n (name) AS ({first} UNION ALL SELECT ({following}) FROM n WHERE n.name IS NOT NULL) "
        "SELECT name FROM n WHERE name IS NOT NULL LIMIT ?"
    )
    last = prefix + _LAST
    return Sql(query, (prefix, last, last, most))


def newest(reads: Sequence[Sql], within: Sql, limit: int, *, lazy: bool) -> Sql:
    """Return the statement of the newest runs of several reads of indexes, each in a range of ids, newest first.

    Without `lazy`, each read is limited, because the database would read all of it before it merges them.
    """
    each = [joined("", (read, within)) for read in reads]
    end = Sql(f" ORDER BY run_id DESC LIMIT {limit}")
    if not lazy and len(each) > 1:
        each = [Sql(f"SELECT * FROM ({one.text}{end.text}) AS one", one.values) for one in each]
    return joined("", (joined(" UNION ", each), end))


def function_reads(functions: Sequence[str], statuses: Sequence[str]) -> list[Sql]:
    """Return statements that read the runs of functions with one of some statuses."""
    one = "SELECT run_id FROM runs WHERE function = ? AND status = ?"
    return [Sql(one, (function, status)) for function in functions for status in statuses]


def cel_sources(terms: Sequence[Term]) -> list[list[str]]:
    """Return the expressions of the terms: of each inner list one must hold."""
    return [list(term.texts) for term in terms if term.key == "cel"]
