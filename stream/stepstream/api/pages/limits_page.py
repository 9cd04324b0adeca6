"""The page of limits: how much of each is in use, which runs hold it, and which wait for it."""

from collections.abc import Sequence

import htpy as h
from starlette.responses import Response

from stepstream.api.pages.parts.components import at, known_params, listing, note, run_link, text, text_field, url
from stepstream.api.pages.parts.context import Site, Visit, html
from stepstream.api.pages.parts.layout import document
from stepstream.api.routes.limits import limits_page
from stepstream.contract.operators.limit_views import LimitsPage, LimitView
from stepstream.contract.text.wording import duration_text

ROWS = 50
_COLUMNS = ("Limit", "Key", "In use", "Held by", "Waiting", "First in the queue", "Waits since", "Next start")


async def show_limits(site: Site, visit: Visit) -> Response:
    """Answer with a part of the list."""
    asked = known_params(visit, "name", "after")
    page, after = await limits_page(site.engine.operator, asked["name"], asked["after"], ROWS)
    later = url("limits", query=[("name", asked["name"]), ("after", after)]) if after else ""
    content = [
        h.h1["Limits"],
        h.form(".filters", action=url("limits"), role="search", aria_label="Find a limit")[
            text_field("name", "Name", asked["name"]), h.button["Find"], h.a(href=url("limits"))["Clear"]
        ],
        _missing(page),
        listing("Table of limits", _COLUMNS, [_row(each) for each in page.limits], is_stacked=False)
        if page.limits
        else note("No run holds a limit or waits for one."),
        h.nav(".pages", aria_label="Pages of the list")[
            h.a("#earlier", href=url("limits", query=[("name", asked["name"])]))["First limits"]
            if asked["after"]
            else None,
            h.a("#later", href=later)["Further limits"] if later else None,
        ],
    ]
    return html(document(visit, "Limits", "Limits", await site.runs.queries.counts(), *content))


def _missing(page: LimitsPage) -> h.Node:
    if not page.missing:
        return None
    shards = ", ".join(map(str, page.missing))
    return note(f"The limits of these shards are missing, because they did not answer: {shards}.", "warn")


def _row(limit: LimitView) -> h.Element:
    return h.tr(data_row=True)[
        h.td[h.a(href=url("limits", query=[("name", limit.name)]))[text(limit.name)]],
        h.td[text(limit.key) if limit.key else None],
        h.td[_in_use(limit)],
        h.td[_runs(limit.holders, limit.in_use)],
        h.td(".number")[f"{limit.waiting:,}"],
        h.td[_runs(limit.waiters, limit.waiting)],
        h.td[at(limit.since)],
        h.td[at(limit.next_start)],
    ]


def _in_use(limit: LimitView) -> str:
    if limit.period_ms:
        burst = f", burst {limit.burst:,}" if limit.burst else ""
        return f"{limit.limit:,} in {duration_text(limit.period_ms)}{burst}"
    return f"{limit.in_use:,} of {limit.limit:,}"


def _runs(run_ids: Sequence[str], count: int) -> h.Node:
    more = count - len(run_ids)
    return [[(run_link(each), " ") for each in run_ids], f"and {more:,} more" if run_ids and more > 0 else None]
