"""The page of runs: a list that is filtered by its URL, and the stream that keeps it current."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import htpy as h
from markupsafe import Markup
from starlette.responses import Response

from stepstream.api.pages.parts.components import (
    Column,
    at,
    event_link,
    function_link,
    labelled,
    listing,
    note,
    numbers,
    row,
    run_link,
    run_state,
    text,
    url,
)
from stepstream.api.pages.parts.context import PageError, Site, Visit, html, see
from stepstream.api.pages.parts.layout import document, navigation, status_counts
from stepstream.api.pages.parts.live import AFTER, live_part, partial, stream
from stepstream.api.pages.runs.bulk_page import bulk_links
from stepstream.api.pages.runs.filter_help import filter_help, nothing_found
from stepstream.api.streams import Update
from stepstream.contract.codec import Json
from stepstream.contract.ids import is_run_id
from stepstream.contract.kinds import ENDED_RUN_STATUSES, OPEN_RUN_STATUSES, RunStatus
from stepstream.contract.limits import FILTER_CHARACTERS_MAX
from stepstream.contract.text.wording import counted, length_text
from stepstream.runtime.readmodel.activity import WaitState
from stepstream.runtime.readmodel.queries import QueryTooSlow
from stepstream.runtime.readmodel.search.filters import WAIT_STATES, Filter, FilterError, Pattern, Term
from stepstream.runtime.readmodel.search.search import RunPage, StatusCounts
from stepstream.runtime.readmodel.tables.schema import attribute_text
from stepstream.runtime.readmodel.views import RunSummary

ROWS = 50
_COLUMNS = (
    Column("Run"),
    Column("Function"),
    Column("Status", "status"),
    Column("Attributes or event", "wide"),
    *labelled("Started"),
    *numbers("Took"),
    Column("Error", "error"),
)
# Of a run that has not started, the value says by itself since when it waits.
_NOT_STARTED = tuple(Column(each.name) if each.name == "Started" else each for each in _COLUMNS)
# Parameters that links may have instead of a filter, and the keys of filters that they mean.
_KEYS = {"status": "status", "function": "function", "event_id": "event_id", "tail": "run_id"}
# The ids of the runs that a page shows, in the URL of its stream.
_SHOWN = "shown"
_ERROR_CHARACTERS = 120
_ATTRIBUTES_SHOWN = 3
_ATTRIBUTE_CHARACTERS = 80
_EXAMPLE = 'function:orders.* status:failed order_id=4711 error:"refused" after:-1h'


@dataclass(frozen=True, slots=True)
class _Asked:
    """The filter of a URL as it was written, the list before which the page begins, and why it is not a filter."""

    text: str
    before: str
    filter: Filter
    error: str = ""


def _asked(parameters: Mapping[str, str]) -> _Asked:
    """Return what a URL asks for; raise PageError for a parameter that is unknown or is not a run id."""
    given = {name: value.strip() for name, value in parameters.items()}
    if unknown := sorted(given.keys() - {*_KEYS, "filter", "before"}):
        raise PageError(400, f"unknown parameter {unknown[0]!r}; this page takes filter, before, {', '.join(_KEYS)}")
    before = given.get("before", "")
    if before and not is_run_id(before):
        raise PageError(400, f"before {before!r} is not a run id")
    written = given.get("filter", "")
    try:
        found = Filter.parse(written)
        for name, key in _KEYS.items():
            found = found.having(key, given[name]) if given.get(name) else found
        if any(given.get(name) for name in _KEYS):
            written = str(found)
        return _Asked(written, before, Filter.parse(written))
    except FilterError as error:
        return _Asked(written, before, Filter(), error.reason)


async def show_runs(site: Site, visit: Visit) -> Response:
    """Answer with a page of the list; a filter that is not one is answered with the reason beside its field."""
    asked, mark = _asked(visit.request.query_params), site.streams.changes.mark()
    counts = await site.runs.queries.counts()
    error, page, statuses = asked.error, RunPage([]), StatusCounts(counts)
    if not error:
        try:
            found = asked.filter.at(site.now_ms())
            statuses = await site.runs.queries.count_statuses(found)
            page = await site.runs.queries.search(found, before=asked.before, limit=ROWS)
        except QueryTooSlow as slow:
            error = slow.reason
    return html(
        document(
            visit,
            "Runs",
            "Runs",
            counts,
            h.h1["Runs"],
            _statuses(statuses, asked.filter),
            _running(asked.filter),
            _filter_form(asked.text, error),
            bulk_links(visit, asked.filter, may_be_open=_may_be_open(statuses, asked.filter)) if page.runs else None,
            [_live(mark, asked, page), _list(page, asked, site.now_ms())] if not error else None,
            h.p(".hint")[h.a(href=url("bulk"))["All bulk operations"]],
        ),
        400 if error else 200,
    )


def _live(mark: str, asked: _Asked, page: RunPage) -> h.Node:
    shown = ",".join(run.run_id for run in page.runs)
    query = [("filter", asked.text), ("before", asked.before), (_SHOWN, shown)]
    return [live_part(mark, ("live", "runs"), query), _new_runs(asked, [])]


async def stream_runs(site: Site, visit: Visit) -> Response:
    """Answer with the changes of a page of the list: of its rows and the counts, and how many runs are new."""
    given = dict(visit.request.query_params)
    given.pop(AFTER, None)
    shown = [run_id for run_id in given.pop(_SHOWN, "").split(",") if is_run_id(run_id)][:ROWS]
    asked = _asked(given)
    if asked.error:
        raise PageError(400, asked.error)
    new: list[str] = []

    async def compose(since: int) -> Update:
        queries, now_ms = site.runs.queries, site.now_ms()
        counts = await queries.counts()
        statuses = _statuses(await queries.count_statuses(asked.filter.at(now_ms)), asked.filter)
        parts = [partial("pages", navigation("Runs", counts)), partial("statuses", statuses)]
        if changed := site.streams.changes.among(shown, since):
            parts += [partial(f"run-{run.run_id}", _row(run, now_ms)) for run in await queries.find_runs(changed)]
        # Beyond the rows of a page, a larger number says nothing more.
        if not asked.before and len(new) < ROWS:
            page = await queries.search(asked.filter.at(now_ms), limit=ROWS + len(shown))
            oldest = min(shown) if len(shown) == ROWS else ""
            found = (run.run_id for run in page.runs if run.run_id not in shown and run.run_id > oldest)
            new[:] = list(found)[:ROWS]
            parts.append(partial("new-runs", _new_runs(asked, new)))
        return Update("".join(parts))

    return stream(site, visit, compose)


async def find_run(site: Site, visit: Visit) -> Response:
    """Answer with the only run that a pasted text means, or with the list of those that it may mean."""
    given = visit.param("id").strip()
    if not given:
        return see(url("runs"))
    word = Filter((Term("", (Pattern(given),)),))
    found: Sequence[RunSummary] = ()
    if len(given) <= FILTER_CHARACTERS_MAX:
        found = (await site.runs.queries.search(word, limit=2)).runs
    if len(found) == 1:
        return see(url("runs", found[0].run_id))
    if not found and is_run_id(given.upper()):
        return see(url("runs", given.upper()))
    return see(url("runs", query=[("filter", str(word) if found or not _is_filter(given) else given)]))


def _is_filter(given: str) -> bool:
    try:
        Filter.parse(given)
    except FilterError:
        return False
    return True


def _status_of(filter: Filter) -> str:
    """Return the status that a filter asks for, empty if it asks for several or for none."""
    found = [term.texts for term in filter.terms if term.key == "status" and not term.excluded]
    return found[0][0] if found and len(found[0]) == 1 else ""


def _may_be_open(counts: StatusCounts, filter: Filter) -> bool:
    """Return whether a filter may find runs that have not ended, as far as its status and the numbers say."""
    if _status_of(filter) in (*ENDED_RUN_STATUSES, "ended"):
        return False
    return not counts.exact or any(counts.runs.get(status, 0) for status in OPEN_RUN_STATUSES)


def _statuses(counts: StatusCounts, filter: Filter) -> h.Element:
    status = _status_of(filter)
    return status_counts(counts, RunStatus.RUNNING if status in WAIT_STATES else status, _status_links(filter))


def _running(filter: Filter) -> h.Element | None:
    """Return links to what running runs do, beside the list of them."""
    status, states = _status_of(filter), (RunStatus.RUNNING, *WaitState)
    if status not in states:
        return None
    return h.ul(".tabs", aria_label="What the running runs do")[
        [
            h.li[
                h.a(
                    href=_list_url(str(filter.having("status", each))), aria_current="true" if each == status else None
                )["all running" if each == RunStatus.RUNNING else each.value]
            ]
            for each in states
        ]
    ]


def _new_runs(asked: _Asked, new: Sequence[str]) -> h.Element:
    """Return the line that leads to runs that a page does not show yet; the script follows it if they are few."""
    more = "or more " if len(new) == ROWS else ""
    line = h.a(href=_list_url(asked.text))[f"Show {len(new)} {more}new {'run' if len(new) == 1 else 'runs'}"]
    return h.p("#new-runs", data_new=f"{len(new)}", aria_live="polite")[line if new else None]


def _status_links(filter: Filter) -> dict[str, str]:
    links = {status.value: _list_url(str(filter.having("status", status))) for status in RunStatus}
    return {"": _list_url(str(filter.without("status"))), **links}


def _list_url(filter: str, before: str = "") -> str:
    return url("runs", query=[("filter", filter), ("before", before)])


def _filter_form(written: str, error: str) -> h.Node:
    form = h.form(".filters", action=url("runs"), role="search", aria_label="Filter the runs")[
        h.label(".wide")[
            "Filter",
            h.input(
                "#filter",
                type="search",
                name="filter",
                value=written,
                aria_describedby="filter-error" if error else "filter-help",
                aria_invalid="true" if error else None,
                autocomplete="off",
                spellcheck="false",
            ),
        ],
        h.button["Filter"],
        h.a(href=url("runs"))["Clear"],
        h.p("#filter-error.note.is-bad", role="alert")[text(error, 2_000)] if error else None,
        h.p("#filter-help.hint")["For example ", h.code[_EXAMPLE]],
    ]
    return [form, filter_help(), _saved_views()]


def _saved_views() -> h.Element:
    """Return what the script fills with the views that a reader saved in the browser; without it, it is not shown."""
    return h.nav("#views.tabs", aria_label="Saved views", hidden=True)[
        h.ul(".tabs"),
        h.form(aria_label="Save this filter")[
            h.label["Save this filter as ", h.input(name="name", maxlength="60", required=True, autocomplete="off")],
            h.button["Save"],
        ],
    ]


def _list(page: RunPage, asked: _Asked, now_ms: int) -> h.Node:
    stopped = f"The search examined {page.examined:,} runs; older runs may match as well." if page.stopped else ""
    return [
        _table(page.runs, now_ms) if page.runs else None if stopped else _nothing(asked.filter),
        note(stopped) if stopped else None,
        h.nav(".pages", aria_label="Pages of the list")[
            h.a("#earlier", href=_list_url(asked.text))["Newest runs"] if asked.before else None,
            h.a("#later", href=_list_url(asked.text, page.next))["Older runs"] if page.next else None,
        ],
    ]


def _table(runs: Sequence[RunSummary], now_ms: int) -> h.Element:
    return listing("Table of runs", _COLUMNS, [_row(run, now_ms) for run in runs], id="runs")


def _row(run: RunSummary, now_ms: int) -> h.Element:
    events = run.events if isinstance(run.events, list) else []
    first = events[0] if events and isinstance(events[0], dict) else {}
    error = run.last_error
    length = (run.ended_at or now_ms) - run.started_at
    warnings = h.span(".warn")[f" {counted(len(run.warnings), 'warning')}"] if run.warnings else None
    return row(
        _COLUMNS if run.has_started else _NOT_STARTED,
        run_link(run.run_id),
        function_link(run.function),
        [run_state(run, now_ms), warnings],
        [_named(run, first), f" +{run.event_count - 1}" if run.event_count > 1 else None],
        at(run.started_at) if run.has_started else ["waits since ", at(run.accepted_at)],
        length_text(length) if length >= 0 and run.has_started else None,
        text(f"{error.get('name')}: {error.get('message')}", _ERROR_CHARACTERS) if error else None,
        id=f"run-{run.run_id}",
    )


def _named(run: RunSummary, event: Mapping[str, Json]) -> h.Node:
    """Return what distinguishes a run from others of its function: its attributes, or else its event with its id."""
    attributes = run.attributes if isinstance(run.attributes, dict) else {}
    if not attributes:
        id = str(event.get("id", ""))
        # An id that no person chose says nothing.
        return [text(event.get("name", "")), [" ", event_link(id)] if id and not is_run_id(id) else None]
    shown = [f"{name}: {attribute_text(value)}" for name, value in islice(attributes.items(), _ATTRIBUTES_SHOWN)]
    more = f" and {len(attributes) - _ATTRIBUTES_SHOWN} more" if len(attributes) > _ATTRIBUTES_SHOWN else None
    return [Markup(", ").join(text(each, _ATTRIBUTE_CHARACTERS) for each in shown), more]


def _nothing(filter: Filter) -> h.Element:
    if filter.terms:
        return nothing_found(filter)
    return note("No run yet: send an event whose name a function has as its trigger.")
