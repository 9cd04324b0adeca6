"""The pages of bulk operations: a preview that is confirmed, the progress of one, and the list of all."""

import secrets
from collections.abc import Mapping
from datetime import UTC, datetime

import htpy as h
from starlette.responses import Response

from stepstream.api.pages.parts.components import (
    Column,
    at,
    facts,
    filter_url,
    known_params,
    labelled,
    listing,
    note,
    numbers,
    row,
    run_link,
    run_state,
    state,
    text,
    url,
)
from stepstream.api.pages.parts.context import PageError, Site, Visit, html, see
from stepstream.api.pages.parts.fields import ACCEPTED, Refusal, entered_reason, line, other_reason
from stepstream.api.pages.parts.forms import post_form
from stepstream.api.pages.parts.layout import document
from stepstream.api.pages.runs.run_forms import FROM_FAILURE, UNTIL
from stepstream.contract.errors import InvalidInput
from stepstream.contract.kinds import RunStatus
from stepstream.contract.limits import BULK_RATE_DEFAULT, BULK_RATE_MAX, BULK_RUNS_DEFAULT, REASON_CHARACTERS_MAX
from stepstream.contract.operators.bulk import (
    OPEN_BULK_STATES,
    BulkAction,
    BulkCancelRequested,
    BulkChanged,
    is_operation_id,
)
from stepstream.contract.text.wording import counted
from stepstream.runtime.bulk import BulkOptions, BulkSelection, count_rerun, select, select_and_start
from stepstream.runtime.pauses import end_of_pause
from stepstream.runtime.readmodel.search.filters import Filter

ROWS = 100
_REFRESH_S = "2"
_FIELDS = ("why", "rate", "until")
_VERBS = {
    BulkAction.CANCEL: "Cancel",
    BulkAction.RERUN: "Rerun",
    BulkAction.PAUSE: "Pause",
    BulkAction.RESUME: "Resume",
}
# From where a preview reruns runs: a parameter of its URL.
_FROM_START = "start"
_ORIGINS = {
    FROM_FAILURE: (
        "From what failed",
        "The results before the step that failed are taken over; that step and all that follows run again. Only failed "
        "and cancelled runs are rerun.",
    ),
    _FROM_START: (
        "From their start",
        "All steps run again, also those that completed; all runs that ended are rerun.",
    ),
}
_REASON = Column("Reason", "wide", "reason")
_COLUMNS = (
    Column("Operation"),
    Column("Action"),
    Column("State"),
    *numbers("Runs"),
    *labelled("Outcomes", "Started", "By"),
    _REASON,
)
_FAILURES = (Column("Run"), _REASON)
_SAMPLE = (Column("Run"), Column("Function"), Column("Status", "status"), *labelled("Started"))


async def show_preview(site: Site, visit: Visit) -> Response:
    """Answer with how many runs a filter finds, ten of them, and the form that starts an operation on them."""
    asked = known_params(visit, "action", "filter", "from")
    origin = asked["from"] or (_origin_of(asked["filter"]) if asked["action"] == BulkAction.RERUN else "")
    return await _preview(site, visit, {**asked, "from": origin, "request": secrets.token_hex(8)}, ACCEPTED)


def _origin_of(filter: str) -> str:
    """Return from where the runs of a filter are rerun unless a reader chooses: what failed, if all of them did."""
    try:
        terms = Filter.parse(filter).terms
    except InvalidInput:
        return _FROM_START
    failed = any(term.key == "status" and not term.excluded and term.texts == (RunStatus.FAILED,) for term in terms)
    return FROM_FAILURE if failed else _FROM_START


async def start_bulk(site: Site, visit: Visit, form: Mapping[str, str]) -> Response:
    """Start an operation; lead to its progress, or show the preview again with what is wrong."""
    try:
        options = _options(site, visit, form)
        await select_and_start(site.engine.operator.bulk, site.runs.queries, options, site.limits)
    except InvalidInput as error:
        return await _preview(site, visit, form, Refusal("", form, error.field, error.reason))
    return see(url("bulk", options.operation))


async def cancel_bulk(site: Site, visit: Visit, _form: Mapping[str, str]) -> Response:
    """Stop an operation; runs on which it did not act yet stay as they are."""
    operation = visit.request.path_params["operation"]
    if is_operation_id(operation):
        await site.engine.operator.bulk(BulkCancelRequested(operation, visit.user))
    return see(url("bulk", operation))


async def show_bulk(site: Site, visit: Visit) -> Response:
    """Answer with the progress of an operation."""
    found = await site.runs.queries.bulk(visit.request.path_params["operation"])
    if found is None:
        raise PageError(404, "There is no such bulk operation.")
    title = f"{_VERBS[found.action]} {counted(found.total, 'run')}"
    is_open = found.state in OPEN_BULK_STATES
    content = [
        h.h1[title],
        facts(
            [
                ("State", state(found.state)),
                (
                    "Filter",
                    h.a(href=_runs_url(found.filter))[h.code[text(found.filter, 4_096)]] if found.filter else "",
                ),
                ("Requests sent", f"{found.sent:,} of {found.total:,}"),
                ("Outcomes", _outcomes(found)),
                ("Runs per second, at most", f"{found.rate:,}"),
                ("Started", at(found.started_at)),
                ("By", text(found.by) if found.by else ""),
                ("Reason", text(found.why, REASON_CHARACTERS_MAX) if found.why else ""),
                ("Paused until", at(found.until)),
                ("Stopped by", text(found.ended_by) if found.ended_by else ""),
            ]
        ),
        _results(found) if found.sent else None,
        _failures(found),
        post_form(visit, url("bulk", found.operation, "cancel"), "Stop", h.button(".danger")["Stop"])
        if is_open
        else None,
        h.p[
            [h.a(href=_runs_url(found.filter))["Back to the runs"], " "] if found.filter else None,
            h.a(href=url("bulk"))["All bulk operations"],
        ],
    ]
    answer = html(document(visit, title, "Runs", await site.runs.queries.counts(), *content))
    if is_open:
        answer.headers["Refresh"] = _REFRESH_S
    return answer


async def list_bulks(site: Site, visit: Visit) -> Response:
    """Answer with the bulk operations, the newest first."""
    known_params(visit)
    found = await site.runs.queries.bulks(ROWS)
    rows = [
        row(
            _COLUMNS,
            h.a(href=url("bulk", each.operation))[text(each.operation)],
            _VERBS[each.action],
            state(each.state),
            f"{each.sent:,} of {each.total:,}",
            _outcomes(each),
            at(each.started_at),
            text(each.by) if each.by else None,
            text(each.why) if each.why else None,
        )
        for each in found
    ]
    content = [
        h.h1["Bulk operations"],
        listing("Bulk operations", _COLUMNS, rows) if rows else note("None yet: filter the runs, and act on all."),
    ]
    return html(document(visit, "Bulk operations", "Runs", await site.runs.queries.counts(), *content))


def bulk_links(visit: Visit, filter: Filter, *, may_be_open: bool) -> h.Node:
    """Return the links from a list of runs to the operations on all of them; runs that ended are only rerun."""
    if not visit.may_operate or not filter.terms:
        return None
    query = [("filter", str(filter))]
    return h.p(".actions")[
        [
            [h.a(href=url("bulk-preview", query=[("action", action.value), *query]))[f"{verb} all of these runs"], " "]
            for action, verb in _VERBS.items()
            if may_be_open or action == BulkAction.RERUN
        ]
    ]


def _results(found: BulkChanged) -> h.Element | None:
    """Return the link to the runs that an operation changed, which its own filter may not find any longer.

    The runs that it started have its id. Of the others, the list of runs has only what changed and when.
    """
    if found.action == BulkAction.RERUN:
        return h.p[h.a(href=filter_url("bulk", found.operation))["The runs that it started"]]
    if not found.filter:
        return None
    changed = Filter.parse(found.filter)
    match found.action:
        case BulkAction.CANCEL:
            since = datetime.fromtimestamp(found.started_at // 1_000, tz=UTC).isoformat()
            changed = changed.having("status", RunStatus.CANCELLED).having("ended_after", since)
            label = "The runs of its filter that were cancelled since its start"
        case BulkAction.PAUSE:
            changed, label = changed.having("paused", "true"), "The runs of its filter that are paused"
        case BulkAction.RESUME:
            changed, label = changed.without("paused"), "The runs of its filter, whether they are paused or not"
    return h.p[h.a(href=_runs_url(str(changed)))[label]]


def _runs_url(filter: str) -> str:
    return url("runs", query=[("filter", filter)])


def _failures(found: BulkChanged) -> h.Node:
    if not found.failures:
        return None
    rows = [row(_FAILURES, run_link(each.run_id), text(each.reason, REASON_CHARACTERS_MAX)) for each in found.failures]
    return listing("The first runs on which it could not act", _FAILURES, rows)


def _outcomes(found: BulkChanged) -> str:
    return ", ".join(f"{runs:,} {outcome.replace('_', ' ')}" for outcome, runs in found.outcomes)


def _action(form: Mapping[str, str]) -> BulkAction:
    if (action := form.get("action", "")) not in list(BulkAction):
        raise PageError(400, f"action {action!r} is not one of {', '.join(BulkAction)}")
    return BulkAction(action)


def _options(site: Site, visit: Visit, form: Mapping[str, str]) -> BulkOptions:
    """Return what a form asks for; raise InvalidInput that names the field."""
    why = entered_reason(form)
    rate = form.get("rate", "").strip() or str(BULK_RATE_DEFAULT)
    return BulkOptions(
        _action(form),
        Filter.parse(form.get("filter", "")).at(site.now_ms()),
        by=visit.user,
        why=why,
        rate=int(rate) if rate.isascii() and rate.isdecimal() and len(rate) <= len(str(BULK_RATE_MAX)) else 0,
        from_failure=form.get("from") == FROM_FAILURE,
        until=end_of_pause(form.get("until", "").strip(), site.now_ms()),
        operation=form.get("request", ""),
    )


async def _preview(site: Site, visit: Visit, form: Mapping[str, str], refusal: Refusal) -> Response:
    if not visit.may_operate:
        raise PageError(403, "You may read this page only; log in with the API key to act.")
    action, title = _action(form), f"{_VERBS[_action(form)]} many runs"
    selection, options = BulkSelection([], []), None
    try:
        # What is wrong with other fields is shown beside them, not here.
        options = _options(site, visit, {**form, **dict.fromkeys(_FIELDS, "")})
        selection = await select(site.runs.queries, options)
    except InvalidInput as error:
        refusal = Refusal("", form, "filter", error.reason)
    content = [
        h.h1[title],
        facts([("Filter", h.code[text(form.get("filter", ""), 4_096)])]),
        _sample(selection, site.now_ms()),
        await _rerun_before(site, form, options) if options else None,
        _from_links(form) if action == BulkAction.RERUN else None,
        _confirm_form(visit, form, refusal, str(options.filter), len(selection.run_ids))
        if options and selection.run_ids
        else other_reason(refusal) or note(f"There is no run to {_VERBS[action].lower()}."),
        h.p[h.a(href=_runs_url(form.get("filter", "")))["Back to the runs"]],
    ]
    counts = await site.runs.queries.counts()
    return html(document(visit, title, "Runs", counts, *content), 400 if refusal.reason else 200)


def _sample(selection: BulkSelection, now_ms: int) -> h.Node:
    rows = [
        row(
            _SAMPLE,
            run_link(run.run_id),
            text(run.function),
            run_state(run, now_ms),
            at(run.started_at) if run.has_started else None,
        )
        for run in selection.sample
    ]
    more = len(selection.run_ids) - len(rows)
    return [
        listing("The newest of the runs", _SAMPLE, rows) if rows else None,
        note(f"{more:,} more") if more > 0 else None,
    ]


async def _rerun_before(site: Site, form: Mapping[str, str], options: BulkOptions) -> h.Node:
    """Return how many of the runs were rerun before, with a link that leaves them out."""
    found = await count_rerun(site.runs.queries, options)
    if found is None or not found.runs:
        return None
    others = str(Filter.parse(form.get("filter", "")).having("rerun", "false"))
    query = [("action", BulkAction.RERUN.value), ("filter", others), ("from", form.get("from", ""))]
    number = f"{'' if found.exact else 'at least '}{counted(found.runs, 'run')}"
    return note([f"Rerun before: {number}. ", h.a(href=url("bulk-preview", query=query))["Leave them out"]], "warn")


def _from_links(form: Mapping[str, str]) -> h.Node:
    """Return links between rerunning runs from what failed and from their start, and what the chosen one does."""
    chosen, query = form.get("from", ""), [("action", BulkAction.RERUN.value), ("filter", form.get("filter", ""))]
    return [
        h.ul(".tabs", aria_label="From where")[
            [
                h.li[
                    h.a(
                        href=url("bulk-preview", query=[*query, ("from", origin)]),
                        aria_current="true" if origin == chosen else None,
                    )[name]
                ]
                for origin, (name, _) in _ORIGINS.items()
            ]
        ],
        [h.p(".hint")[h.strong[name], ": ", said] for name, said in _ORIGINS.values()],
    ]


def _confirm_form(visit: Visit, form: Mapping[str, str], refusal: Refusal, filter: str, count: int) -> h.Node:
    action = _action(form)
    label = f"{_VERBS[action]} {counted(count, 'run')}"
    hidden = {"action": action.value, "filter": filter, "from": form.get("from", ""), "request": form["request"]}
    return post_form(
        visit,
        url("bulk"),
        label,
        [h.input(type="hidden", name=name, value=value) for name, value in hidden.items()],
        other_reason(refusal, *_FIELDS),
        line(refusal, "until", "until", UNTIL) if action == BulkAction.PAUSE else None,
        line(refusal, "why", "why", "Reason", maxlength=str(REASON_CHARACTERS_MAX)),
        line(refusal, "rate", "rate", f"Runs per second, up to {BULK_RATE_MAX:,}", str(BULK_RATE_DEFAULT)),
        h.p(".hint")[
            f"At most {BULK_RUNS_DEFAULT:,} runs; for more, use ", h.code[f"stepstream runs {action} --filter"], "."
        ],
        h.button(class_="danger" if action == BulkAction.CANCEL else None)[label],
    )
