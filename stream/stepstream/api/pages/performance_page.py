"""The page of performance: the slowest steps and functions of the last hours, and those that fail most."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import htpy as h
from starlette.responses import Response

from stepstream.api.pages.parts.components import (
    Column,
    function_link,
    known_params,
    listing,
    note,
    numbers,
    page_number,
    row,
    run_link,
    text,
    text_field,
    url,
)
from stepstream.api.pages.parts.context import PageError, Site, Visit, html
from stepstream.api.pages.parts.layout import document
from stepstream.api.routes.timings import OFFSET_MAX, SINCE_ALL, TimingsAsked, TimingsOf, find_timings
from stepstream.contract.errors import InvalidInput
from stepstream.contract.text.wording import length_text
from stepstream.runtime.readmodel.search.filters import Filter
from stepstream.runtime.readmodel.tables.timings import Timing, TimingOrder

ROWS = 50
# All that is kept is the default: a single run that has just ended must not hide a recorded day.
_RANGES = (("-1h", "last hour"), ("-1d", "last day"), (SINCE_ALL, "last week"))
_ORDERS: Mapping[TimingOrder, str] = {
    TimingOrder.P95: "slowest by p95",
    TimingOrder.SLOWEST: "slowest one",
    TimingOrder.FAILED: "most failures",
    TimingOrder.ENDED: "most often",
}
_COLUMNS = (*numbers("Ended", "Failed", "p50", "p95", "Slowest"), Column("Slowest run", label="slowest run"))
PERCENTILES = "Half of them take at most p50, and 95 % at most p95. A time after ≤ is rounded up, by at most 9 %."
STEPS_COUNTED = (
    "How long the last attempt of a step took, without waiting. Steps that completed or failed count, those of open, "
    "failed and cancelled runs too."
)
_HINTS: Mapping[TimingsOf, str] = {
    TimingsOf.STEPS: f"{STEPS_COUNTED} {PERCENTILES} The waits of a run are on its timeline, and those of open runs "
    "under Waiting.",
    TimingsOf.FUNCTIONS: "How long runs took from start to end, with their waits. Runs that completed or failed in "
    f"this time count, cancelled ones do not. {PERCENTILES} The page of a function has the exact percentiles of its "
    "latest completed runs.",
}


async def show_performance(site: Site, visit: Visit) -> Response:
    """Answer with a page of the list."""
    given = known_params(visit, "of", "since", "function", "sort", "page")
    page, asked = page_number(given["page"], OFFSET_MAX // ROWS), _asked(given)
    error = ""
    found: Sequence[Timing] = ()
    try:
        found = await find_timings(site.runs, asked, site.now_ms(), limit=ROWS + 1, offset=(page - 1) * ROWS)
    except InvalidInput as invalid:
        error = f"{invalid.reason}, -1h, or all"
    content = [
        h.h1["Performance", _window(asked)],
        _tabs(asked),
        h.form(".filters", action=url("performance"), aria_label="Filter the timings")[
            h.input(type="hidden", name="of", value=asked.of),
            h.input(type="hidden", name="sort", value=asked.sort),
            text_field("function", "Function", asked.function),
            text_field("since", "Since", asked.since, error=error, hint="-1h, or 2026-11-28T10:00 (UTC)"),
            h.button["Filter"],
            h.a(href=_url(TimingsAsked(asked.of, SINCE_ALL)))["Clear"],
        ],
        [
            h.p(".hint")[_HINTS[asked.of]],
            folded_hint(found[:ROWS]),
            timings_table(asked.of, found[:ROWS]),
        ]
        if found
        else None
        if error
        else _nothing(asked),
        h.nav(".pages", aria_label="Pages of the list")[
            h.a("#earlier", href=_url(asked, page - 1))["Previous page"] if page > 1 else None,
            h.a("#later", href=_url(asked, page + 1))["Next page"] if len(found) > ROWS else None,
        ],
    ]
    counts = await site.runs.queries.counts()
    return html(document(visit, "Performance", "Performance", counts, *content), 400 if error else 200)


def _window(asked: TimingsAsked) -> h.Node:
    """Return the time that a page is about, as part of its title."""
    name = next((name for since, name in _RANGES if since == asked.since), "")
    return f" of the {name}" if name else [" since ", text(asked.since)]


def _asked(given: Mapping[str, str]) -> TimingsAsked:
    """Return what a URL asks for; raise PageError for a word that is unknown."""
    for name, words in (("of", TimingsOf), ("sort", TimingOrder)):
        if given[name] and given[name] not in list(words):
            raise PageError(400, f"{name} {given[name]!r} is not one of {', '.join(words)}")
    of, sort = TimingsOf(given["of"] or TimingsOf.STEPS), TimingOrder(given["sort"] or TimingOrder.P95)
    return TimingsAsked(of, given["since"] or SINCE_ALL, given["function"], sort)


def _url(asked: TimingsAsked, page: int = 1) -> str:
    default = TimingsAsked(since=SINCE_ALL)
    pairs = [(name, getattr(asked, name)) for name in ("of", "since", "function", "sort")]
    query = [(name, value) for name, value in pairs if value != getattr(default, name)]
    return url("performance", query=[*query, ("page", str(page) if page > 1 else "")])


def _tabs(asked: TimingsAsked) -> h.Node:
    def tab(label: str, other: TimingsAsked) -> h.Element:
        return h.li[h.a(href=_url(other), aria_current="true" if other == asked else None)[label]]

    choices = (
        ("Show", [tab(of.value, replace(asked, of=of)) for of in TimingsOf]),
        ("Since", [tab(name, replace(asked, since=since)) for since, name in _RANGES]),
        ("Sort", [tab(name, replace(asked, sort=sort)) for sort, name in _ORDERS.items()]),
    )
    return [
        h.div(".choice")[h.span(aria_hidden="true")[name], h.ul(".tabs", aria_label=name)[tabs]]
        for name, tabs in choices
    ]


def folded_hint(found: Sequence[Timing]) -> h.Node:
    """Return what # and … mean in the ids of steps, if one of them has either."""
    folded = (
        "Steps whose ids differ only in a number, such as those of a loop, share one row, in which # replaces the "
        "number: “page 1” and “page 2” are “page #”. An … replaces a long id."
    )
    return h.p(".hint")[folded] if any("#" in each.step or "…" in each.step for each in found) else None


def timings_table(of: TimingsOf, found: Sequence[Timing]) -> h.Element:
    """Return timings as a table."""
    has_step = of == TimingsOf.STEPS
    names = ("Step", "Function") if has_step else ("Function",)
    columns = (*map(Column, names), *_COLUMNS)
    return listing("Table of timings", columns, [_row(each, columns, has_step=has_step) for each in found])


def _row(timing: Timing, columns: Sequence[Column], *, has_step: bool) -> h.Element:
    function = function_link(timing.function)
    share = f" ({timing.failed / timing.ended:.0%})" if timing.failed else ""
    failed = f"{timing.failed:,}{share}"
    failures = url("errors", query=[("function", timing.function)])
    if not has_step:
        runs = Filter().having("function", timing.function).having("status", "failed")
        failures = url("runs", query=[("filter", str(runs))])
    return row(
        columns,
        *((text(timing.step), function) if has_step else (function,)),
        f"{timing.ended:,}",
        h.a(href=failures)[failed] if timing.failed else failed,
        _percentile(timing.p50_ms, timing),
        _percentile(timing.p95_ms, timing),
        length_text(timing.slowest_ms),
        run_link(timing.run_id),
    )


def _percentile(length_ms: int, timing: Timing) -> str:
    """Return a percentile, which is exact if it is that of the slowest one."""
    return f"{'≤ ' if length_ms < timing.slowest_ms else ''}{length_text(length_ms)}"


def _nothing(asked: TimingsAsked) -> h.Element:
    whole = TimingsAsked(asked.of, SINCE_ALL, sort=asked.sort)
    if asked == whole:
        return note("Nothing has ended yet.")
    return note(["Nothing that matches ended in this time. ", h.a(href=_url(whole))["Show all"]])
