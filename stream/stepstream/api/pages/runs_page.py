"""The page of runs: a list that is filtered by its URL."""

from collections.abc import Sequence

import htpy as h
from starlette.responses import Response

from stepstream.api.pages.components import (
    Query,
    at,
    function_link,
    note,
    run_link,
    state,
    text,
    took,
    url,
)
from stepstream.api.pages.context import PageError, Site, Visit, html, see
from stepstream.api.pages.layout import document, status_counts
from stepstream.contract.ids import is_run_id
from stepstream.contract.kinds import RunStatus
from stepstream.contract.wording import counted
from stepstream.runtime.readmodel.filters import TAIL_CHARACTERS
from stepstream.runtime.readmodel.views import RunSummary

ROWS = 50
_FILTERS = ("status", "function", "event_id", "tail")
_ERROR_CHARACTERS = 120


def _filters(visit: Visit) -> dict[str, str]:
    """Return the filters of a URL; raise PageError for a parameter that is unknown or cannot match anything."""
    given = dict(visit.request.query_params)
    if unknown := sorted(given.keys() - {*_FILTERS, "before"}):
        raise PageError(400, f"unknown parameter {unknown[0]!r}; this page takes {', '.join(_FILTERS)} and before")
    filters = {name: value.strip() for name, value in given.items() if value.strip()}
    if (status := filters.get("status")) and status not in list(RunStatus):
        raise PageError(400, f"status {status!r} is not one of {', '.join(RunStatus)}")
    if (before := filters.get("before")) and not is_run_id(before):
        raise PageError(400, f"before {before!r} is not a run id")
    if (tail := filters.get("tail")) and len(tail) < TAIL_CHARACTERS:
        raise PageError(400, f"give at least {TAIL_CHARACTERS} characters of the run id")
    return filters


async def show_runs(site: Site, visit: Visit) -> Response:
    """Answer with a page of the list."""
    filters = _filters(visit)
    before = filters.pop("before", "")
    found = site.runs.list(**filters, before=before, limit=ROWS + 1)
    counts = site.runs.counts()
    query = [(name, filters.get(name, "")) for name in _FILTERS]
    links = {status: _with(query, status=status) for status in ("", *RunStatus)}
    return html(
        document(
            visit,
            "Runs",
            "Runs",
            counts,
            h.h1["Runs"],
            status_counts(counts, filters.get("status", ""), links),
            _filter_form(filters),
            _table(found[:ROWS], site.now_ms()) if found else _nothing(filters),
            _pages(query, found, before),
        )
    )


async def find_run(site: Site, visit: Visit) -> Response:
    """Answer with what a pasted id means: a run, the runs whose id ends so, or the runs of an event."""
    given = visit.param("id").strip()
    if is_run_id(given.upper()):
        return see(url("runs", given.upper()))
    if len(given) >= TAIL_CHARACTERS and site.runs.list(tail=given.upper(), limit=1):
        return see(url("runs", query=[("tail", given.upper())]))
    return see(url("runs", query=[("event_id", given)]))


def _with(query: Query, **changed: str) -> str:
    return url("runs", query=[(name, changed.get(name, value)) for name, value in query])


def _filter_form(filters: dict[str, str]) -> h.Element:
    return h.form(".filters", action=url("runs"), aria_label="Filter the runs")[
        h.input(type="hidden", name="status", value=filters["status"]) if "status" in filters else None,
        [
            h.label[label, h.input(name=name, value=filters.get(name, ""), autocomplete="off", spellcheck="false")]
            for name, label in (("function", "Function"), ("event_id", "Event id"), ("tail", "End of run id"))
        ],
        h.button["Filter"],
        h.a(href=url("runs"))["Clear"],
    ]


def _table(runs: Sequence[RunSummary], now_ms: int) -> h.Element:
    names = ("Run", "Function", "Status", "Event", "Started", "Took", "Error")
    return h.div(".scroll", role="region", aria_label="Runs", tabindex="0")[
        h.table("#runs.rows")[
            h.thead[h.tr[[h.th(scope="col")[name] for name in names]]],
            h.tbody[[_row(run, now_ms) for run in runs]],
        ]
    ]


def _row(run: RunSummary, now_ms: int) -> h.Element:
    events = run.events if isinstance(run.events, list) else []
    first = events[0] if events and isinstance(events[0], dict) else {}
    error = run.error if isinstance(run.error, dict) else {}
    length = (run.ended_at or now_ms) - run.started_at
    return h.tr(f"#run-{run.run_id}", data_row=True)[
        h.td[run_link(run.run_id)],
        h.td[function_link(run.function)],
        h.td[state(run.status), h.span(".warn")[f" {counted(len(run.warnings), 'warning')}"] if run.warnings else None],
        h.td[text(first.get("name", "")), f" +{len(events) - 1}" if len(events) > 1 else None],
        h.td[at(run.started_at)],
        h.td(".number")[took(length) if length >= 0 else ""],
        h.td(".error")[text(f"{error.get('name')}: {error.get('message')}", _ERROR_CHARACTERS) if error else None],
    ]


def _nothing(filters: dict[str, str]) -> h.Element:
    if filters:
        return note(["No run matches these filters. ", h.a(href=url("runs"))["Show all runs"]])
    return note("No run yet: send an event whose name a function has as its trigger.")


def _pages(query: Query, found: Sequence[RunSummary], before: str) -> h.Element:
    older = url("runs", query=[*query, ("before", found[ROWS - 1].run_id)]) if len(found) > ROWS else ""
    return h.nav(".pages", aria_label="Pages of the list")[
        h.a("#earlier", href=url("runs", query=query))["Newest runs"] if before else None,
        h.a("#later", href=older)["Older runs"] if older else None,
    ]
