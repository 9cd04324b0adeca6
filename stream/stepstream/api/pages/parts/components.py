"""The parts that pages share: text of users, times, states, links and messages."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote, urlencode

import htpy as h
from markupsafe import Markup, escape

from stepstream.api.page_options import ROOT
from stepstream.api.pages.parts.context import PageError, Visit
from stepstream.contract.kinds import OPEN_RUN_STATUSES
from stepstream.contract.text.printable import printable
from stepstream.runtime.readmodel.search.filters import Filter
from stepstream.runtime.readmodel.tables.seen_events import Started
from stepstream.runtime.readmodel.views import RunSummary
from stepstream.runtime.readmodel.why import local_time

NAME_CHARACTERS_MAX = 200
# In tables, longer text than this is broken where it must be; shorter text stays on one line.
_UNBROKEN_CHARACTERS_MAX = 40
_TAIL = 6
Query = Sequence[tuple[str, str]]


# The functions that build strings and not elements are by far the most frequent on a page; all they insert is escaped.


def text(value: object, characters_max: int = NAME_CHARACTERS_MAX) -> Markup:
    """Return text of a user: isolated from its surroundings, without control characters, cut with a note."""
    given = str(value)
    cut = f"… ({len(given):,} characters)" if len(given) > characters_max else ""
    shown = escape(printable(given[:characters_max], keep_lines=True))
    kind = ' class="long"' if len(given) > _UNBROKEN_CHARACTERS_MAX else ""
    return Markup(f"<bdi{kind}>{shown}{cut}</bdi>")  # noqa: S704 - escaped above


def prose(value: str, characters_max: int) -> h.Node:
    """Return a text that is not of users, in which backquotes enclose code."""
    parts = value.split("`")
    if len(parts) % 2 == 0:
        return text(value, characters_max)
    return [
        h.code[text(part, characters_max)] if number % 2 else text(part, characters_max)
        for number, part in enumerate(parts)
    ]


def at(at_ms: int) -> Markup | None:
    """Return a time as an element; None for 0."""
    if not at_ms:
        return None
    exact = datetime.fromtimestamp(at_ms / 1_000, tz=UTC).isoformat(timespec="milliseconds")
    return Markup(f'<time datetime="{exact}">{local_time(at_ms)}</time>')  # noqa: S704 - of digits


def state(status: str) -> Markup:
    """Return the state of a run or a step: a word and a colour."""
    word = escape(status)
    return Markup(f'<span class="state is-{word}">{word.replace("_", " ")}</span>')  # noqa: S704 - escaped above


def run_state(run: RunSummary | Started, now_ms: int) -> h.Fragment:
    """Return what a run does: its status, or what it waits for and until when."""
    return h.fragment[
        [
            [
                state(each.state),
                [" for ", text(each.name)] if each.name else None,
                [f" {each.word} ", at(each.until)] if each.until else None,
                " ",
            ]
            for each in run.activities(now_ms)
        ]
    ]


def url(*path: str, query: Iterable[tuple[str, str]] = ()) -> str:
    """Return a URL of the page; empty values of the query are left out."""
    pairs = urlencode([(name, value) for name, value in query if value])
    return "/".join((ROOT, *(quote(part, safe="") for part in path))) + (f"?{pairs}" if pairs else "")


def run_link(run_id: str, *, whole: bool = False) -> h.Element:
    """Return a link to a run: its id, or the end of its id."""
    return h.a(".id", href=url("runs", run_id), title=run_id)[run_id if whole else f"…{run_id[-_TAIL:]}"]


def filter_url(key: str, value: str) -> str:
    """Return the URL of the runs with this value of a key of filters."""
    return url("runs", query=[("filter", str(Filter().having(key, value)))])


def function_url(id: str) -> str:
    """Return the URL of the page of a function."""
    return url("function", query=[("id", id)])


def function_link(function: str) -> h.Element:
    """Return a link to the page of a function."""
    return h.a(href=function_url(function))[text(function)]


def event_url(id: str) -> str:
    """Return the URL of the page of an event."""
    return url("event", query=[("id", id)])


def event_link(id: str) -> h.Element:
    """Return a link to the page of an event."""
    return h.a(href=event_url(id))[text(id)]


def facts(rows: Iterable[tuple[h.Node, h.Node]]) -> h.Element:
    """Return pairs of a name and a value; those without a value are left out."""
    return h.dl(".facts")[[h.div[h.dt[name], h.dd[value]] for name, value in rows if value not in (None, "", 0)]]


def note(content: h.Node, kind: str = "info") -> h.Element:
    """Return a message to the reader; `kind` is info, good or bad."""
    return h.p(f".note.is-{kind}", role="status" if kind != "bad" else "alert")[content]


def known_params(visit: Visit, *names: str) -> dict[str, str]:
    """Return the values of a URL's parameters, "" for those without one; raise PageError for an unknown one."""
    given = visit.request.query_params
    if unknown := sorted(given.keys() - set(names)):
        raise PageError(400, f"unknown parameter {unknown[0]!r}; this page takes {', '.join(names) or 'none'}")
    return {name: given.get(name, "").strip() for name in names}


def page_number(given: str, last: int) -> int:
    """Return the number of a page, from 1 to `last`, that a URL names; 1 for anything else."""
    # SQLite takes no number that is much larger.
    return min(max(int(given), 1), last) if given.isascii() and given.isdecimal() and len(given) < 10 else 1


def text_field(name: str, label: str, value: str, *, error: str = "", hint: str = "") -> h.Element:
    """Return a field with its label, what is expected, and what is wrong with its value."""
    note_id = f"{name}-note" if error or hint else None
    return h.label[
        label,
        h.input(
            name=name,
            value=value,
            autocomplete="off",
            spellcheck="false",
            placeholder=hint or None,
            size=str(len(hint)) if hint else None,
            aria_describedby=note_id if error else None,
            aria_invalid="true" if error else None,
        ),
        h.span(f"#{note_id}.bad", role="alert")[text(error, 2_000)] if error else None,
    ]


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table: its heading, the class of its cells, and what its heading means.

    A narrow window has no headings; there, `label` is before each value.
    """

    name: str
    kind: str = ""
    label: str = ""
    hint: str = ""


def labelled(*names: str) -> tuple[Column, ...]:
    """Return columns whose values are labelled with their names in a narrow window."""
    return tuple(Column(name, label=name.lower()) for name in names)


def numbers(*names: str) -> tuple[Column, ...]:
    """Return columns of numbers, which are labelled in a narrow window."""
    return tuple(Column(name, "number", name.lower()) for name in names)


def row(columns: Sequence[Column], *values: h.Node, id: str | None = None) -> h.Element:
    """Return a row of a table, with a cell for each column."""
    return h.tr(id=id, data_row=True)[cells(columns, *values)]


def cells(columns: Sequence[Column], *values: h.Node) -> list[h.Element]:
    """Return the cells of a row, one for each column."""
    return [
        h.td(class_=column.kind or None, data_label=column.label or None)[value]
        for column, value in zip(columns, values, strict=True)
    ]


def heading(column: Column) -> h.Element:
    """Return the heading of a column."""
    return h.th(scope="col", class_="number" if column.kind == "number" else None, title=column.hint or None)[
        column.name
    ]


def listing(label: str, columns: Sequence[Column], rows: Sequence[h.Node], *, id: str = "") -> h.Element:
    """Return rows as a table that scrolls; rows with `data_row` are those that the keyboard moves through.

    A narrow window shows each row as a card without headings: cells must say what they are, or have a label.
    """
    return h.div(".scroll", role="region", aria_label=label, tabindex="0")[
        h.table(".rows", id=id or None)[h.thead[h.tr[[heading(column) for column in columns]]], h.tbody[rows]]
    ]


def is_open(status: str) -> bool:
    """Return whether a run has not ended."""
    return status in OPEN_RUN_STATUSES
