"""The page of errors: failures in groups of the same function, step and message, with links to their runs."""

from collections.abc import Mapping, Sequence

import htpy as h
from starlette.responses import Response

from stepstream.api.pages.parts.components import (
    Column,
    at,
    filter_url,
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
from stepstream.api.pages.parts.context import Site, Visit, html
from stepstream.api.pages.parts.layout import document
from stepstream.contract.errors import InvalidInput
from stepstream.contract.text.wording import counted
from stepstream.runtime.readmodel.search.filters import filter_time_ms
from stepstream.runtime.readmodel.tables.error_groups import GROUPS_MAX, LATEST_CHARACTERS_MAX, ErrorGroup

ROWS = 50
_RANGES = (("-1h", "last hour"), ("-1d", "last day"), ("-7d", "last week"), ("", "all"))
_ERROR_CHARACTERS = 500
_COLUMNS = (
    Column("Error", "error"),
    Column("Function"),
    Column("Step"),
    *numbers("Failures", "Failed runs"),
    Column("First seen", label="first"),
    Column("Last seen", label="last"),
    Column("Latest runs", label="latest runs"),
)


async def show_errors(site: Site, visit: Visit) -> Response:
    """Answer with a page of groups of errors."""
    asked = known_params(visit, "function", "since", "page")
    page = page_number(asked["page"], GROUPS_MAX // ROWS + 1)
    if asked["since"] == "all":
        asked["since"] = ""
    since_ms, error = 0, ""
    try:
        since_ms = filter_time_ms(asked["since"], site.now_ms()) if asked["since"] else 0
    except InvalidInput as invalid:
        error = f"{invalid.reason}, -1h, or all"
    groups: Sequence[ErrorGroup] = ()
    if not error:
        queries, first = site.runs.queries, (page - 1) * ROWS
        groups = await queries.error_groups(asked["function"], since=since_ms, limit=ROWS + 1, offset=first)
    return html(
        document(
            visit,
            "Errors",
            "Errors",
            await site.runs.queries.counts(),
            h.h1["Errors"],
            _ranges(asked),
            _form(asked, error),
            None if error else _table(groups[:ROWS]) if groups else _nothing(asked),
            h.nav(".pages", aria_label="Pages of the list")[
                h.a("#earlier", href=_list_url(asked, page - 1))["Errors of more runs"] if page > 1 else None,
                h.a("#later", href=_list_url(asked, page + 1))["Errors of fewer runs"] if len(groups) > ROWS else None,
            ],
        ),
        400 if error else 200,
    )


def _list_url(asked: Mapping[str, str], page: int = 1, **changed: str) -> str:
    values = {**asked, "page": str(page) if page > 1 else "", **changed}
    return url("errors", query=values.items())


def _ranges(asked: Mapping[str, str]) -> h.Element:
    return h.ul(".tabs", aria_label="When the errors were seen")[
        [
            h.li[
                h.a(href=_list_url(asked, since=since), aria_current="true" if since == asked["since"] else None)[name]
            ]
            for since, name in _RANGES
        ]
    ]


def _form(asked: Mapping[str, str], error: str) -> h.Element:
    return h.form(".filters", action=url("errors"), aria_label="Filter the errors")[
        text_field("function", "Function", asked["function"]),
        text_field("since", "Seen since", asked["since"], error=error, hint="-1h, or 2026-11-28T10:00 (UTC)"),
        h.button["Filter"],
        h.a(href=url("errors"))["Clear"],
    ]


def _table(groups: Sequence[ErrorGroup]) -> h.Node:
    return [
        listing("Groups of errors", _COLUMNS, [_row(group) for group in groups]),
        h.p(".hint")[
            "Those of the most failed runs are first. In messages, # stands for any number and … for any quoted text "
            "or id. Counts are those since the first failure of a group; attempts that were retried count too."
        ],
    ]


def _row(group: ErrorGroup) -> h.Element:
    said = text(f"{group.name}: {group.message}", _ERROR_CHARACTERS)
    return row(
        _COLUMNS,
        # Without a failed run, later attempts succeeded, or will be made.
        [h.a(href=filter_url("error_group", group.id))[said] if group.runs else said, _latest(group)],
        function_link(group.function),
        text(group.step) if group.step else "code between steps",
        f"{group.failures:,}",
        f"{group.runs:,}",
        at(group.first_at),
        at(group.last_at),
        [(run_link(run_id), " ") for run_id in group.samples],
        id=f"group-{group.id}",
    )


def _latest(group: ErrorGroup) -> h.Element:
    """Return the run of the latest failure, and its message unless it is that of the group."""
    is_other = group.latest_message != group.message
    message = [": ", text(group.latest_message, LATEST_CHARACTERS_MAX)] if is_other else None
    return h.div(".latest")["Latest in run ", run_link(group.latest_run), message]


def _nothing(asked: Mapping[str, str]) -> h.Element:
    if any(asked.values()):
        return note(["No error matches. ", h.a(href=url("errors"))["Show all errors"]])
    return note(f"No error yet. Failures are grouped here; the {counted(GROUPS_MAX, 'group')} seen last are kept.")
