"""The page of what waits: approvals with their forms, and steps that wait for a request, a signal, an event, a time."""

import hashlib
from collections.abc import Mapping, Sequence
from enum import StrEnum

import htpy as h
from starlette.responses import Response

from stepstream.api.pages.parts.components import (
    Column,
    at,
    function_link,
    known_params,
    listing,
    note,
    row,
    run_link,
    text,
    url,
)
from stepstream.api.pages.parts.context import PageError, Site, Visit, html
from stepstream.api.pages.parts.layout import document, navigation
from stepstream.api.pages.parts.live import AFTER, live_part, partial, stream
from stepstream.api.pages.waiting.approval_page import approval_facts, approval_url, decision_form
from stepstream.api.streams import Update
from stepstream.contract.ids import is_run_id
from stepstream.contract.kinds import RunStatus, StepKind
from stepstream.contract.text.printable import printable
from stepstream.runtime.readmodel.queries import OPEN_APPROVALS, WAITING_MAX
from stepstream.runtime.readmodel.search.filters import Filter
from stepstream.runtime.readmodel.tables.approvals import ApprovalView
from stepstream.runtime.readmodel.tables.waiting import REQUEST, WaitingStep, WaitKind
from stepstream.runtime.readmodel.why import awaited

ROWS = 50
APPROVALS = 20
_DETAIL_CHARACTERS = 500


class _Kind(StrEnum):
    """What is waited for: a parameter of the URL."""

    APPROVALS = "approvals"
    REQUESTS = "requests"
    SIGNALS = "signals"
    EVENTS = "events"
    SLEEPING = "sleeping"
    QUEUED = "queued"
    SCHEDULED = "scheduled"


_STEPS: Mapping[_Kind, WaitKind] = {
    _Kind.REQUESTS: REQUEST,
    _Kind.SIGNALS: StepKind.SIGNAL,
    _Kind.EVENTS: StepKind.WAIT,
    _Kind.SLEEPING: StepKind.SLEEP,
}
_NOTHING: Mapping[_Kind, str] = {
    _Kind.APPROVALS: "No approval waits for a decision.",
    _Kind.REQUESTS: "No run waits for a request.",
    _Kind.SIGNALS: "No run waits for a signal.",
    _Kind.EVENTS: "No run waits for an event.",
    _Kind.SLEEPING: "No run sleeps.",
    _Kind.QUEUED: "No run waits for a limit.",
    _Kind.SCHEDULED: "No run is scheduled.",
}
# Runs whose code may not start or continue yet.
_RUNS: Mapping[_Kind, RunStatus] = {_Kind.QUEUED: RunStatus.QUEUED, _Kind.SCHEDULED: RunStatus.SCHEDULED}
# Their steps say by their ids what they wait for.
_NAMED_BY_STEP = (_Kind.REQUESTS, _Kind.SLEEPING)
_STEP_COLUMNS = (
    Column("Waits for", "wide"),
    Column("Run"),
    Column("Function"),
    Column("Step"),
    Column("Since", label="since"),
    Column("Until", label="until"),
)
_RUN_COLUMNS = (Column("Run"), Column("Function"), Column("Since", label="since"), Column("Starts", label="starts"))
# The step after which a page begins, and the approvals that it shows, in the URL of its stream.
_CURSOR, _SHOWN = "cursor", "shown"
Cursor = tuple[str, str]


async def show_waiting(site: Site, visit: Visit) -> Response:
    """Answer with a page of what waits for something of a kind: of the first one that something waits for."""
    asked, mark = known_params(visit, "kind", "after", "done"), site.streams.changes.mark()
    counts = await site.runs.queries.counts()
    waiting = await _counts(site, counts)
    first = next((kind for kind, count in waiting.items() if count), _Kind.APPROVALS)
    decided = visit.done(url("waiting"))
    # A person that has just decided sees the other approvals.
    kind, cursor = _place(asked["kind"] or (_Kind.APPROVALS if decided or asked["after"] else first), asked["after"])
    content, shown = await _content(site, visit, kind, cursor, decided)
    query = [("kind", kind), (_CURSOR, asked["after"]), ("done", asked["done"]), (_SHOWN, shown)]
    return html(
        document(
            visit,
            "Waiting",
            "Waiting",
            counts,
            h.h1["Waiting"],
            _tabs(kind, waiting),
            _stored(decided) if decided else None,
            live_part(mark, ("live", "waiting"), query),
            _changed(kind, is_changed=False),
            content,
        )
    )


def _stored(decided: str) -> h.Element:
    """Return what follows a decision on an approval, RUN/STEP."""
    run_id = decided.partition("/")[0]
    of = [" for run ", run_link(run_id)] if is_run_id(run_id) else None
    return note(["Your decision", of, " is stored."], "good")


async def _counts(site: Site, counts: Mapping[str, int]) -> Mapping[_Kind, int]:
    """Return how many steps or runs wait for each kind of thing, in the order of the tabs."""
    steps = await site.runs.queries.count_waiting()
    approvals = {_Kind.APPROVALS: counts.get(OPEN_APPROVALS, 0)}
    runs = {kind: counts.get(status, 0) for kind, status in _RUNS.items()}
    return {**approvals, **{kind: steps[step] for kind, step in _STEPS.items()}, **runs}


def _tabs(selected: _Kind, waiting: Mapping[_Kind, int]) -> h.Element:
    def number(kind: _Kind, count: int) -> str:
        return f"{count:,}{'+' if count == WAITING_MAX and kind not in _RUNS else ''}"

    return h.ul("#kinds.tabs", aria_label="What runs wait for")[
        [
            h.li[
                h.a(href=_list_url(kind), aria_current="true" if kind == selected else None)[
                    kind.value, " ", h.span(".count")[number(kind, count)]
                ]
            ]
            for kind, count in waiting.items()
        ]
    ]


async def stream_waiting(site: Site, visit: Visit) -> Response:
    """Answer with the changes of a page of what waits: its rows, or that there are other approvals than those shown."""
    given = known_params(visit, "kind", "done", AFTER, _CURSOR, _SHOWN)
    kind, cursor = _place(given["kind"], given[_CURSOR])
    decided = visit.done(url("waiting"))

    async def compose(_since: int) -> Update:
        content, shown = await _content(site, visit, kind, cursor, decided)
        counts = await site.runs.queries.counts()
        parts = [partial("pages", navigation("Waiting", counts))]
        parts.append(partial("kinds", _tabs(kind, await _counts(site, counts))))
        if kind == _Kind.APPROVALS:
            # A person may be filling in one of the forms.
            parts.append(partial("changed", _changed(kind, is_changed=shown != given[_SHOWN])))
        else:
            parts.append(partial("waiting", content))
        return Update("".join(parts))

    return stream(site, visit, compose)


def _place(kind: str, after: str) -> tuple[_Kind, Cursor]:
    """Return the kind of a URL and the step after which its page begins; raise PageError for an unknown kind."""
    if (given := kind or _Kind.APPROVALS) not in list(_Kind):
        raise PageError(400, f"kind {given!r} is not one of {', '.join(_Kind)}")
    run_id, _, step = after.partition("/")
    return _Kind(given), (run_id, step)


async def _content(site: Site, visit: Visit, kind: _Kind, after: Cursor, decided: str) -> tuple[h.Element, str]:
    """Return the list of a kind, and a digest of the approvals in it."""
    if kind in _RUNS:
        return h.div("#waiting")[await _runs(site, kind, after)], ""
    if kind != _Kind.APPROVALS:
        return h.div("#waiting")[await _steps(site, kind, after)], ""
    found = await site.runs.queries.open_approvals(APPROVALS + 1, after)
    # The read model may not have a decision yet that was just stored.
    shown = [each for each in found[:APPROVALS] if f"{each.run_id}/{each.step}" != decided]
    last = (found[APPROVALS - 1].run_id, found[APPROVALS - 1].step) if len(found) > APPROVALS else None
    listed = hashlib.sha256(" ".join(f"{each.run_id}/{each.step}" for each in shown).encode()).hexdigest()
    return h.div("#waiting")[
        [_approval(visit, asked) for asked in shown] if shown else note(_NOTHING[_Kind.APPROVALS]),
        _pages(_Kind.APPROVALS, after, last),
    ], listed


def _changed(kind: _Kind, *, is_changed: bool) -> h.Element:
    """Return the line that leads to a list that is not the one shown any longer."""
    line = h.a(href=_list_url(kind))["The list has changed: show it"]
    return h.p("#changed", aria_live="polite")[line if is_changed else None]


def _list_url(kind: _Kind, after: Cursor | None = None) -> str:
    return url("waiting", query=[("kind", kind), ("after", "/".join(after) if after else "")])


def _pages(kind: _Kind, after: Cursor, last: Cursor | None) -> h.Element:
    return h.nav(".pages", aria_label="Pages of the list")[
        h.a("#earlier", href=_list_url(kind))["First page"] if any(after) else None,
        h.a("#later", href=_list_url(kind, last))["Next page"] if last else None,
    ]


def _approval(visit: Visit, asked: ApprovalView) -> h.Element:
    return h.article(".approval", data_row=True, aria_label=f"{printable(asked.title)} of run {asked.run_id}")[
        h.h2[h.a(href=approval_url(asked))[text(asked.title)]],
        approval_facts(asked),
        h.details[h.summary["Decide"], decision_form(visit, asked)] if visit.may_operate else None,
    ]


async def _steps(site: Site, kind: _Kind, after: Cursor) -> h.Node:
    found = await site.runs.queries.waiting(_STEPS[kind], ROWS + 1, after)
    last = (found[ROWS - 1].run_id, found[ROWS - 1].step) if len(found) > ROWS else None
    if not found:
        return [note(_NOTHING[kind]), _pages(kind, after, last)]
    columns = _STEP_COLUMNS[1 if kind in _NAMED_BY_STEP else 0 :]
    return [
        listing("Table of waiting steps", columns, [_row(kind, columns, step) for step in found[:ROWS]]),
        _pages(kind, after, last),
    ]


def _row(kind: _Kind, columns: Sequence[Column], step: WaitingStep) -> h.Element:
    detail = () if kind in _NAMED_BY_STEP else (text(_awaited(kind, step), _DETAIL_CHARACTERS),)
    return row(
        columns,
        *detail,
        run_link(step.run_id),
        function_link(step.function),
        h.a(href=url("requests", step.run_id, step.step))[text(step.id)] if kind == _Kind.REQUESTS else text(step.id),
        at(step.since),
        at(step.until),
    )


def _awaited(kind: _Kind, step: WaitingStep) -> str:
    """Return what a step waits for: an event with the values that it must have, as the page of its run says it."""
    return awaited(step.detail, step.event).removeprefix("the event ") if kind == _Kind.EVENTS else step.detail


async def _runs(site: Site, kind: _Kind, after: Cursor) -> h.Node:
    """Return a page of the runs whose code has not started, the newest first."""
    filter = Filter().having("status", _RUNS[kind])
    page = await site.runs.queries.search(filter, before=after[0], limit=ROWS)
    if not page.runs:
        return [note(_NOTHING[kind]), _pages(kind, after, None)]
    is_due = kind == _Kind.SCHEDULED
    columns = _RUN_COLUMNS if is_due else _RUN_COLUMNS[:-1]
    rows = [
        row(
            columns,
            run_link(run.run_id),
            function_link(run.function),
            at(run.accepted_at),
            *((at(run.started_at),) if is_due else ()),
        )
        for run in page.runs
    ]
    return [
        listing("Table of runs", columns, rows),
        _pages(kind, after, (page.next, "") if page.next else None),
    ]
