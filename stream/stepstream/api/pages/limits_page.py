"""The pages of limits: how much of each is in use and by which runs, which runs wait, and who changed it."""

from collections.abc import Mapping, Sequence

import htpy as h
from fastapi import HTTPException
from starlette.responses import Response

from stepstream.api.pages.limit_forms import change_by_form, change_forms, done_message
from stepstream.api.pages.parts.components import (
    Column,
    at,
    cells,
    known_params,
    labelled,
    listing,
    note,
    numbers,
    row,
    run_link,
    text,
    text_field,
    url,
)
from stepstream.api.pages.parts.context import PageError, Site, Visit, html, see_done
from stepstream.api.pages.parts.fields import ACCEPTED, Refusal
from stepstream.api.pages.parts.layout import document
from stepstream.api.routes.limits import known_limit, limit_to_change, limits_page
from stepstream.contract.errors import InvalidInput
from stepstream.contract.limits import REASON_CHARACTERS_MAX
from stepstream.contract.operators.limit_settings import LimitChange, LimitSetting, Override
from stepstream.contract.operators.limit_views import ChangedLimit, LimitsPage, LimitView
from stepstream.contract.text.wording import duration_text
from stepstream.runtime.limit_changes import LimitTarget

ROWS = 50
_WHY = Column("Why", "wide", "why")
_COLUMNS = (
    Column("Limit"),
    *labelled("Key", "In use", "Held by"),
    *numbers("Waiting"),
    *labelled("First in the queue", "Waits since", "Next start"),
)
_CHANGED = (Column("Limit"), *labelled("Key", "Numbers", "Pause", "Last change", "By"), _WHY)
_CHANGES = (Column("At"), *labelled("Change", "Until", "By"), _WHY)


_EMPTY = (
    "No run holds a limit or waits for one. A limit of a function or an app, such as concurrency= or throttle=, is "
    "listed while runs hold it or wait for it: how much is in use, by which runs, and which wait. All limits are "
    "described in "
)


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
        listing("Table of limits", _COLUMNS, [_row(each) for each in page.limits])
        if page.limits
        else note([_EMPTY, h.code["docs/flow-control.md"], "."]),
        [
            h.h2["Changed by operators"],
            listing("Table of changes", _CHANGED, [_changed_row(each) for each in page.changed]),
        ]
        if page.changed
        else None,
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
    return row(
        _COLUMNS,
        _link(limit.name, limit.key),
        text(limit.key) if limit.key else None,
        _in_use(limit),
        _runs(limit.holders, limit.in_use),
        f"{limit.waiting:,}",
        _runs(limit.waiters, limit.waiting),
        at(limit.since),
        at(limit.next_start),
    )


def _link(name: str, key: str) -> h.Element:
    return h.a(href=url("limit", query=[("name", name), ("key", key)]))[text(name)]


def _in_use(limit: LimitView) -> h.Node:
    used = f"{limit.in_use:,} of {limit.limit:,}"
    if limit.period_ms:
        burst = f", burst {limit.burst:,}" if limit.burst else ""
        used = f"{limit.limit:,} in {duration_text(limit.period_ms)}{burst}"
    return [used, h.span(".warn")[" paused"] if limit.paused else None]


def _runs(run_ids: Sequence[str], count: int) -> h.Node:
    more = count - len(run_ids)
    return [[(run_link(each), " ") for each in run_ids], f"and {more:,} more" if run_ids and more > 0 else None]


def _changed_row(changed: ChangedLimit) -> h.Element:
    setting, last = changed.setting, changed.setting.changes[0]
    return row(
        _CHANGED,
        _link(changed.name, changed.key),
        text(changed.key) if changed.key else "all",
        _numbers(setting.override) if setting.override else "as in code",
        h.span(".warn")["paused", _until(setting.pause.until)] if setting.pause else None,
        [last.action, " ", at(last.at)],
        _named(last.by),
        _reason(last.why),
    )


def _numbers(override: Override) -> h.Node:
    period = f" in {duration_text(override.period_ms)}" if override.period_ms else ""
    burst = f", burst {override.burst:,}" if override.burst is not None else ""
    return [f"{override.limit:,}{period}{burst}", _until(override.until)]


def _until(until: int) -> h.Node:
    return [" until ", at(until)] if until else None


async def show_limit(site: Site, visit: Visit) -> Response:
    """Answer with the page of a limit, for a value of its key."""
    known_params(visit, "name", "key", "done")
    return await _limit_page(site, visit, ACCEPTED)


async def act_on_limit(site: Site, visit: Visit, form: Mapping[str, str]) -> Response:
    """Change a limit; or show the form again with what is wrong."""
    try:
        target = await limit_to_change(site.engine, visit.param("name"), visit.param("key"))
    except HTTPException as error:
        raise PageError(error.status_code, error.detail) from None
    try:
        done = await change_by_form(site, visit, target, form)
    except InvalidInput as error:
        return await _limit_page(site, visit, Refusal(form.get("action", ""), form, error.field, error.reason))
    return see_done(visit, _url(target), done)


def _target(site: Site, visit: Visit, *, is_used: bool) -> LimitTarget:
    try:
        return known_limit(site.engine, visit.param("name"), visit.param("key"), is_used=is_used)
    except HTTPException as error:
        raise PageError(error.status_code, error.detail) from None


def _url(target: LimitTarget) -> str:
    return url("limit", query=[("name", target.name), ("key", target.key)])


async def _limit_page(site: Site, visit: Visit, refusal: Refusal) -> Response:
    answer = await site.engine.operator.limit(visit.param("name"), visit.param("key"))
    # A limit that was removed from the code may still be in use.
    target = _target(site, visit, is_used=bool(answer.limit or answer.changed))
    limit, settings = answer.limit, {each.key: each.setting for each in answer.changed}
    own = settings.get(target.key)
    content = [
        done_message(visit.done(_url(target))),
        h.div(".heading")[h.h1[text(target.name)], h.span["key ", text(target.key)] if target.key else None],
        _used(limit) if limit else note("No run holds it or waits for it."),
        note("Operators also changed it for all values of its key.", "warn") if target.key and "" in settings else None,
        _setting(own) if own else None,
        change_forms(visit, target, own, refusal),
    ]
    page = document(visit, f"Limit {target.name}", "Limits", await site.runs.queries.counts(), *content)
    return html(page, 400 if refusal.reason else 200)


def _used(limit: LimitView) -> h.Node:
    return [
        h.p[_in_use(limit), [", next start at ", at(limit.next_start)] if limit.next_start else None],
        h.h2["Held by"] if limit.holders else None,
        h.p[_runs(limit.holders, limit.in_use)] if limit.holders else None,
        h.h2[f"{limit.waiting:,} waiting"],
        h.p[_runs(limit.waiters, limit.waiting)] if limit.waiters else None,
        h.p["The first waits since ", at(limit.since), "."] if limit.since else None,
    ]


def _setting(setting: LimitSetting) -> h.Node:
    return [
        h.h2["Changes"],
        h.p["The limit is ", _numbers(setting.override), "."] if setting.override else None,
        h.p["It is paused", _until(setting.pause.until), "."] if setting.pause else None,
        listing("Table of changes", _CHANGES, [_change(each) for each in setting.changes]),
    ]


def _change(change: LimitChange) -> h.Element:
    limits = [" ", _numbers(change.override)] if change.override else None
    shown = (at(change.at), [change.action, limits], at(change.until), _named(change.by), _reason(change.why))
    return h.tr[cells(_CHANGES, *shown)]


def _named(by: str) -> h.Node:
    return text(by) if by else None


def _reason(why: str) -> h.Node:
    return text(why, REASON_CHARACTERS_MAX) if why else None
