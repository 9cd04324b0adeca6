"""The page of a run: why it does not continue, its steps on a timeline, its values, errors and relations."""

from collections.abc import Sequence

import htpy as h
from starlette.responses import Response

from stepstream.api.pages.parts.components import (
    at,
    event_link,
    facts,
    filter_url,
    function_link,
    is_open,
    note,
    prose,
    run_link,
    run_state,
    text,
    url,
)
from stepstream.api.pages.parts.context import PageError, Site, Visit, html
from stepstream.api.pages.parts.fields import ACCEPTED, Refusal
from stepstream.api.pages.parts.json_tree import json_tree
from stepstream.api.pages.parts.layout import document
from stepstream.api.pages.parts.live import live_part, partial, stream
from stepstream.api.pages.runs.errors_view import error_view
from stepstream.api.pages.runs.limits_view import limits_view
from stepstream.api.pages.runs.logs_view import logs_view
from stepstream.api.pages.runs.origin import edited_event, edited_values, former_run
from stepstream.api.pages.runs.related import related_runs
from stepstream.api.pages.runs.run_forms import may_rerun, run_forms
from stepstream.api.pages.runs.steps_view import steps_view
from stepstream.api.pages.waiting.questions_view import questions_view
from stepstream.api.streams import NOTHING, Update
from stepstream.contract.codec import Json
from stepstream.contract.ids import sender_of_event
from stepstream.contract.kinds import RunStatus
from stepstream.contract.limits import REASON_CHARACTERS_MAX
from stepstream.contract.text.wording import length_text
from stepstream.runtime.readmodel.search.filters import ATTRIBUTE
from stepstream.runtime.readmodel.tables.schema import attribute_text
from stepstream.runtime.readmodel.usage import usage_text
from stepstream.runtime.readmodel.views import RunSummary, RunView
from stepstream.runtime.readmodel.why import Why, at_once_text, why_open

# The parameter of the page of a new run, which the read model may not have yet.
RERUN = "rerun"
_MESSAGES = {
    "cancelled": "The run is cancelled.",
    RERUN: "This is the new run.",
    "ended": "The run had ended already; nothing was changed.",
    "paused": "The run is paused.",
    "resumed": "The run is resumed.",
    "not-paused": "The run was not paused.",
    "delivered": "The signal was delivered.",
    "requested": "The run has taken the request.",
    "not-delivered": "No run waits for that signal; signals are not stored.",
}
_EVENTS_MAX = 50
_LATE_LOGS_MS = 2_000
_RERUNS_MAX = 50
NO_RUN = "There is no run with this id. It may have been dropped after its retention."


async def found(site: Site, visit: Visit) -> RunView:
    """Return the run of a URL; raise PageError if there is none."""
    run_id = visit.request.path_params["run_id"]
    if (run := await site.runs.queries.show(run_id)) is None:
        raise PageError(404, NO_RUN, run_id)
    return run


async def show_run(site: Site, visit: Visit, refusal: Refusal = ACCEPTED) -> Response:
    """Answer with the page of a run; with what was wrong in one of its forms, if it was refused."""
    run_id = visit.request.path_params["run_id"]
    done = visit.done(url("runs", run_id))
    if done == RERUN and await site.runs.queries.show(run_id) is None:
        return await _coming(site, visit)
    mark = site.streams.changes.mark()
    run = await found(site, visit)
    message = _MESSAGES.get(done)
    query = visit.request.query_params.multi_items()
    counts = await site.runs.queries.counts()
    return html(
        document(
            visit,
            f"{run.function} {run.run_id[-6:]}",
            "Runs",
            counts,
            note(message, "good") if message else None,
            live_part(mark, ("live", "runs", run.run_id), query) if is_open(run.status) else None,
            await _run_part(site, visit, run, refusal),
        ),
        400 if refusal.reason else 200,
    )


async def stream_run(site: Site, visit: Visit) -> Response:
    """Answer with the changes of the page of a run, until the run ends."""
    run_id = (await found(site, visit)).run_id

    async def compose(since: int) -> Update:
        if since != NOTHING and not site.streams.changes.among([run_id], since):
            return Update()
        run = await site.runs.queries.show(run_id)
        if run is None:
            return Update(is_last=True)
        part = partial("run", await _run_part(site, visit, run, ACCEPTED))
        # The last lines of its logs come after its end.
        return Update(part, is_last=0 < run.ended_at < site.now_ms() - _LATE_LOGS_MS)

    return stream(site, visit, compose)


async def _run_part(site: Site, visit: Visit, run: RunView, refusal: Refusal) -> h.Element:
    now_ms, related = site.now_ms(), await related_runs(site, run)
    logs = await logs_view(site, run)
    known = await site.engine.surroundings(run)
    query = visit.request.query_params
    return h.div("#run")[
        _heading(run, now_ms),
        _whys(why_open(run, now_ms, known)),
        [note(text(warning, 2_000), "warn") for warning in run.warnings],
        _facts(run, now_ms, edited_values(run, await former_run(site, run))),
        _attributes(run),
        _state(run),
        await questions_view(site, visit, run),
        run_forms(visit, run, refusal),
        error_view(run.error, "Error"),
        steps_view(run, related.invoked, now_ms, query, may_rerun=may_rerun(visit, run)),
        logs,
        _values(run),
        _relations(related.others, now_ms),
    ]


async def _coming(site: Site, visit: Visit) -> Response:
    """Return a page that loads itself again until the read model has the run that was just started."""
    content = note("The new run is not listed yet; this page loads again by itself.")
    counts = await site.runs.queries.counts()
    response = html(document(visit, "New run", "Runs", counts, h.h1["New run"], content), 202)
    response.headers["Refresh"] = f"1; url={visit.done_url(url('runs', visit.request.path_params['run_id']), RERUN)}"
    return response


def _heading(run: RunView, now_ms: int) -> h.Element:
    doing = h.span[run_state(run, now_ms)]
    return h.div(".heading")[h.h1[text(run.function)], doing, h.code(".whole-id")[run.run_id]]


def _whys(found: Sequence[Why]) -> h.Node:
    heading = at_once_text(each.step for each in found)
    return [h.p[heading] if heading else None, [_why(each) for each in found]]


def _why(why: Why) -> h.Element:
    return h.p(".why", role="status", data_code=why.code)[
        h.strong[text(why.text, 2_000)],
        h.span(".remedy")[" ", prose(why.remedy, 1_000)] if why.remedy else None,
    ]


def _facts(run: RunView, now_ms: int, edited: h.Node) -> h.Element:
    length = (run.ended_at or now_ms) - run.started_at
    waited = run.started_at - run.accepted_at
    return facts(
        [
            ("App", text(run.app)),
            ("Accepted" if run.has_started else "Waits since", at(run.accepted_at)),
            ("Started" if run.has_started else "Due", at(run.started_at)),
            ("Ended", at(run.ended_at)),
            ("Took" if run.ended_at else "Open for", length_text(length) if length >= 0 and run.has_started else None),
            ("Start delayed by", length_text(waited) if waited > 0 and run.has_started else None),
            ("Limits", limits_view(run.limits)),
            ("Steps", f"{len(run.steps):,}"),
            ("Tokens", usage_text(run.usage) if run.usage else None),
            ("Attempts of the code", f"{run.attempt + 1}" if run.attempt else None),
            ("Invoked by", run_link(run.caller, whole=True) if run.caller else None),
            ("Rerun of", _origin(run)),
            ("Edited for this rerun", edited),
            ("Reruns", [(run_link(each), " ") for each in run.reruns[:_RERUNS_MAX]] or None),
            *_continuation(run),
            ("Function", function_link(run.function)),
        ]
    )


def _continuation(run: RunView) -> list[tuple[str, h.Node]]:
    """Return the run that a run continues, how many go before it, and its successor."""
    found = run.continuation if isinstance(run.continuation, dict) else {}
    origin, successor = str(found.get("from") or ""), str(found.get("to") or "")
    return [
        (
            "Continues",
            [run_link(origin, whole=True), f", as number {found.get('number')} of the series"] if origin else None,
        ),
        ("Continued by", run_link(successor, whole=True) if successor else None),
    ]


def _origin(run: RunView) -> h.Node:
    """Return the run that a run reruns, from which step, who asked for it, and why."""
    if not run.origin:
        return None
    rerun = run.rerun if isinstance(run.rerun, dict) else {}
    step, by, why = (str(rerun.get(name) or "") for name in ("step", "by", "why"))
    return [
        run_link(run.origin, whole=True),
        [" from step ", text(step)] if step else None,
        [", by ", text(by)] if by else None,
        [": ", text(why, REASON_CHARACTERS_MAX)] if why else None,
    ]


def _attributes(run: RunView) -> h.Element | None:
    """Return the attributes, each a link to the runs that have the same value."""
    if not isinstance(run.attributes, dict) or not run.attributes:
        return None
    return h.section(aria_labelledby="attributes")[
        h.h2("#attributes")["Attributes"],
        facts((text(name), _attribute(name, attribute_text(value))) for name, value in run.attributes.items()),
    ]


def _attribute(name: str, value: str) -> h.Node:
    return h.a(href=filter_url(f"{ATTRIBUTE}{name}", value))[text(value)]


def _state(run: RunView) -> h.Element | None:
    if not run.state:
        return None
    raw = f"{url('runs', run.run_id, 'raw')}?part=state"
    return h.section(aria_labelledby="state")[h.h2("#state")["State"], json_tree(run.state, "State", raw)]


def _values(run: RunView) -> h.Node:
    events = run.events if isinstance(run.events, list) else []
    raw = url("runs", run.run_id, "raw")
    heading = "Event" if len(events) == 1 else f"Events ({len(events):,})"
    return [
        h.section(aria_labelledby="input")[
            h.h2("#input")[heading],
            edited_event(run),
            [_event(event, f"{raw}?part=event-{index}") for index, event in enumerate(events[:_EVENTS_MAX])],
            h.p[f"{len(events) - _EVENTS_MAX:,} more events"] if len(events) > _EVENTS_MAX else None,
        ],
        h.section(aria_labelledby="output")[
            h.h2("#output")["Output"], json_tree(run.output, "Output", f"{raw}?part=output")
        ]
        if run.status == RunStatus.COMPLETED
        else None,
    ]


def _event(event: Json, raw_url: str) -> h.Element | None:
    if not isinstance(event, dict):
        return None
    id = str(event.get("id", ""))
    sent = event.get("ts")
    return h.article[
        facts(
            [
                ("Name", text(event.get("name", ""))),
                ("Id", event_link(id) if id else None),
                ("Sent", at(sent) if isinstance(sent, int) else None),
                ("Sent by run", run_link(run_id) if (run_id := sender_of_event(id)) else None),
            ]
        ),
        json_tree(event.get("data"), "Data of the event", raw_url),
    ]


def _relations(others: Sequence[RunSummary], now_ms: int) -> h.Node:
    if not others:
        return None
    return h.section(aria_labelledby="others")[
        h.h2("#others")["Other runs of the event"],
        h.ul[[h.li[run_link(each.run_id), " ", text(each.function), " ", run_state(each, now_ms)] for each in others]],
    ]


def values_of(run: RunView, part: str) -> Sequence[Json]:
    """Return the value that a part of a URL names, as a sequence of one; empty if there is no such value."""
    kind, _, rest = part.partition("-")
    events = run.events if isinstance(run.events, list) else []
    match kind:
        case "output" if not rest:
            return [run.output]
        case "error" if not rest:
            return [run.error]
        case "state" if not rest:
            return [run.state]
        case "event" if rest.isascii() and rest.isdecimal():
            return events[int(rest) : int(rest) + 1]
        case "step":
            return [step.error or step.output for step in run.steps if step.step == rest]
        case "progress":
            return [step.progress for step in run.steps if step.step == rest]
    return []
