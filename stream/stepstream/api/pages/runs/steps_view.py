"""The steps of a run as a table with a timeline; steps and loops that the URL names are open."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import htpy as h
from markupsafe import Markup
from starlette.datastructures import QueryParams

from stepstream.api.pages.parts.components import (
    Column,
    at,
    cells,
    event_link,
    facts,
    heading,
    labelled,
    listing,
    numbers,
    run_link,
    run_state,
    state,
    text,
    url,
)
from stepstream.api.pages.parts.json_tree import json_tree, snippet
from stepstream.api.pages.runs.errors_view import error_view, raised_at, traceback_view
from stepstream.api.pages.runs.limits_view import limits_view
from stepstream.api.pages.runs.origin import taken_over
from stepstream.api.pages.runs.run_forms import rerun_url
from stepstream.api.pages.runs.timeline import (
    Fold,
    Phase,
    Segment,
    Window,
    bar_of,
    began_at,
    queue_label,
    rows_of,
    window_of,
)
from stepstream.contract.kinds import OPEN_STEP_STATUSES, RunStatus, StepKind, StepStatus
from stepstream.contract.text.printable import printable
from stepstream.contract.text.wording import counted, length_text
from stepstream.runtime.readmodel.failed_attempts import MESSAGE_CHARACTERS_MAX, FailedAttempt, place_of
from stepstream.runtime.readmodel.usage import tokens_text, usage_text
from stepstream.runtime.readmodel.views import RunSummary, RunView, StepView, asked_of

_WIDTH, _HEIGHT = 1_000, 14
_NARROWEST = 3
_TICK = 6
_HATCH = 6
_HATCHED = (Phase.RETRY, Phase.WAIT, Phase.CHILD)
_COLUMNS = 6
_SHORT = 80
_TOOK = Column("Took", "number", "took", "From its first attempt or wait to its end, with the waits for retries")
_ATTEMPTS = (
    Column("Attempt", "number", "attempt"),
    *labelled("Started"),
    *numbers("Took"),
    Column("Result", "wide"),
    *labelled("Next attempt"),
)
# What the colours of bars mean.
_MEANINGS: Mapping[Phase, str] = {
    Phase.QUEUE: "in a queue",
    Phase.RUN: "last attempt",
    Phase.FAILED: "failed attempt",
    Phase.RETRY: "wait for the next attempt",
    Phase.WAIT: "wait",
    Phase.CHILD: "invoked run",
}
_EVENTS_LINKED_MAX = 20
State = Sequence[tuple[str, str]]
Invoked = Mapping[str, Sequence[RunSummary]]


@dataclass(frozen=True, slots=True)
class _Shown:
    """What the table shows: a run, the runs that it invoked, a part of its time, and the state that a URL names."""

    run: RunView
    invoked: Invoked
    now_ms: int
    window: Window
    kept: State
    opened: Collection[str]
    may_rerun: bool


def steps_view(run: RunView, invoked: Invoked, now_ms: int, query: QueryParams, *, may_rerun: bool) -> h.Element | None:
    """Return the table of the steps in the state that a URL names; `may_rerun` adds links to rerun from a step."""
    if not run.steps:
        return None
    kept = [(name, value) for name, value in query.multi_items() if name in ("step", "fold", "from", "to")]
    window, opened = window_of(run, now_ms, query), set(query.getlist("step"))
    shown = _Shown(run, invoked, now_ms, window, kept, opened, may_rerun)
    rows = [(row, bar_of(row, now_ms)) for row in rows_of(run.steps, query.getlist("fold"))]
    before = [heading(Column(name)) for name in ("Step", "Kind", "Status")]
    after = [heading(_TOOK), heading(Column("Result"))]
    return h.section(aria_labelledby="steps")[
        h.h2("#steps")["Steps"],
        _zoom(run, window, kept),
        _patterns(),
        _legend(rows),
        h.div(".scroll", role="region", aria_label="Table of steps", tabindex="0")[
            h.table(".rows.timeline")[
                h.thead[h.tr[before, _timeline_heading(window), after]],
                h.tbody[
                    [
                        # As a string: each element above a part of a page costs it time again.
                        str(_folded(row, bar, shown)) if isinstance(row, Fold) else _step(row, bar, shown)
                        for row, bar in rows
                    ]
                ],
            ]
        ],
    ]


def _toggled(run: RunView, kept: State, name: str, value: str, anchor: str) -> str:
    """Return the URL of the same page with one step or loop opened or closed."""
    entry = (name, value)
    changed = [each for each in kept if each != entry] if entry in kept else [*kept, entry]
    return f"{url('runs', run.run_id, query=changed)}#{anchor}"


def _zoom(run: RunView, window: Window, kept: State) -> h.Element:
    rest = [each for each in kept if each[0] not in ("from", "to")]

    def link(name: str, label: str, share: float, zoom: float, id: str | None = None) -> h.Element:
        start, end = window.moved(share, zoom)
        target = url("runs", run.run_id, query=[*rest, ("from", str(start)), ("to", str(end))])
        return h.a(href=f"{target}#steps", id=id, title=label, aria_label=label)[name]

    return h.nav(".zoom", aria_label="Part of the time that the timeline shows")[
        link("←", "Earlier", -0.5, 1, "earlier"),
        link("→", "Later", 0.5, 1, "later"),
        link("+", "Zoom in", 0, 2),
        link("-", "Zoom out", 0, 0.5),
        h.a(href=f"{url('runs', run.run_id, query=rest)}#steps")["All"],
        h.span[at(window.start), " to ", at(window.end), f", {length_text(window.end - window.start)}"],
    ]


def _timeline_heading(window: Window) -> h.Element:
    """Return the heading of the bars, with the times since the run began at both ends and in the middle."""
    first, last = window.start - window.first, window.end - window.first
    marks = [h.span[length_text(mark)] for mark in (first, (first + last) // 2, last)]
    return h.th(".bar", scope="col")["Timeline", h.span(".axis", aria_hidden="true")[marks]]


def _legend(rows: Sequence[tuple[StepView | Fold, Sequence[Segment]]]) -> h.Element:
    """Return the meanings of the colours that occur in the bars."""
    found = {segment.phase for _, bar in rows for segment in bar}
    if any(isinstance(row, StepView) and row.failures for row, _ in rows):
        found.add(Phase.FAILED)
    return h.ul(".tabs.legend", aria_label="Colours of the timeline")[
        [h.li[_swatch(phase), " ", meaning] for phase, meaning in _MEANINGS.items() if phase in found]
    ]


def _swatch(phase: Phase) -> h.Element:
    fill = f"url(#hatch-{phase})" if phase in _HATCHED else None
    shape = h.rect(class_=f"bar-{phase}", width=_HEIGHT, height=_HEIGHT, fill=fill)
    return h.svg(width=_HEIGHT, height=_HEIGHT, aria_hidden="true")[shape]


def _patterns() -> h.Element:
    """Return the hatches of bars that show waiting, which the bars refer to by id."""
    return h.svg(".patterns", aria_hidden="true")[
        h.defs[
            [
                h.pattern(
                    id=f"hatch-{phase}",
                    width=_HATCH,
                    height=_HATCH,
                    patternUnits="userSpaceOnUse",
                    patternTransform="rotate(45)",
                )[h.line(f".hatch-{phase}", y2=_HATCH, stroke_width=_HATCH)]
                for phase in _HATCHED
            ]
        ]
    ]


def _bar(segments: Sequence[Segment], window: Window, failures: Sequence[int] = ()) -> Markup:
    """Return a bar, with a tick where an attempt failed that was retried."""
    drawn: list[str] = []
    said: list[str] = []
    for each in segments:
        said.append(f"{each.phase} {length_text(each.end - each.start)}")
        if each.end < window.start or each.start > window.end:
            continue
        left = min(window.position(each.start, _WIDTH), _WIDTH - _NARROWEST)
        width = max(window.position(each.end, _WIDTH) - left, _NARROWEST)
        fill = f' fill="url(#hatch-{each.phase})"' if each.phase in _HATCHED else ""
        drawn.append(f'<rect class="bar-{each.phase}" x="{left:g}" width="{width:g}" height="{_HEIGHT}"{fill}></rect>')
    if failures:
        said.append(counted(len(failures), "failed attempt"))
    for at_ms in failures:
        if window.start <= at_ms <= window.end:
            left = min(window.position(at_ms, _WIDTH), _WIDTH - _TICK)
            drawn.append(f'<rect class="bar-failed" x="{left:g}" width="{_TICK}" height="{_HEIGHT}"></rect>')
    # As a string, because a run may have a thousand bars; all parts are numbers and names of phases.
    return Markup(  # noqa: S704
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" preserveAspectRatio="none" width="100%" height="{_HEIGHT}" role="img" '
        f'aria-label="{", ".join(said)}"><title>{", ".join(said)}</title>{"".join(drawn)}</svg>'
    )


def _folded(fold: Fold, segments: Sequence[Segment], shown: _Shown) -> h.Element:
    anchor = f"fold-{fold.steps[0].step}"
    copied = sum(step.copied for step in fold.steps)
    counts = ", ".join(f"{count:,} {status}" for status, count in fold.statuses.most_common())
    counts += f"; {copied:,} taken over" if copied else ""
    spent = sum((step.ended_at or shown.now_ms) - began_at(step) for step in fold.steps)
    is_opened = ("fold", fold.pattern) in shown.kept
    return h.tr(f"#{anchor}.fold", data_row=True)[
        h.td[
            h.a(
                ".open",
                href=_toggled(shown.run, shown.kept, "fold", fold.pattern, anchor),
                aria_expanded="true" if is_opened else "false",
            )[text(fold.label)]
        ],
        h.td[fold.steps[0].kind],
        h.td[counts],
        h.td(".bar")[_bar(segments, shown.window)],
        h.td(".number", data_label=_TOOK.label)[length_text(spent)],
        h.td[counted(len(fold.steps), "step")],
    ]


def _step(step: StepView, segments: Sequence[Segment], shown: _Shown) -> h.Node:
    anchor = f"step-{step.step}"
    is_opened = step.step in shown.opened
    invoked = shown.invoked.get(step.step, ())
    attempts = [" ", h.span(".attempts")[f"{step.attempts} attempts"]] if step.attempts > 1 else None
    copied = taken_over(step, shown.run)
    took = None if step.copied else length_text(segments[-1].end - segments[0].start)
    row = h.tr(f"#{anchor}", data_row=True)[
        h.td[
            h.a(
                ".open",
                href=_toggled(shown.run, shown.kept, "step", step.step, anchor),
                aria_expanded="true" if is_opened else "false",
            )[text(step.id)]
        ],
        h.td[_kind(step, shown.run)],
        h.td[_step_state(step, shown.run), attempts, h.div(".copied")[copied] if copied else None],
        h.td(".bar")[_bar(segments, shown.window, [each.at for each in step.failures])],
        h.td(".number", data_label=_TOOK.label)[took],
        h.td(".result")[[_result(step), [(" ", run_link(each.run_id)) for each in invoked]]],
    ]
    return [str(row), _details(step, shown)] if is_opened else str(row)


def _kind(step: StepView, run: RunView) -> h.Node:
    if step.usage is None:
        return asked_of(run.run_id, step.step, step.detail) or step.kind
    return ["ai", " ", h.span(".tokens", title=usage_text(step.usage))[tokens_text(step.usage)]]


def _step_state(step: StepView, run: RunView) -> h.Node:
    """Return the state of a step; one that its code cancelled, and no operator, looks like nothing that went wrong."""
    if step.status != StepStatus.CANCELLED or run.status == RunStatus.CANCELLED:
        return state(step.status)
    return h.span(".state", title="The code continued without it, as with a wait that lost a race")[step.status]


def _result(step: StepView) -> h.Node:
    if step.status == StepStatus.RUNNING:
        said = "heartbeat" if step.progress is None else f"progress {snippet(step.progress, _SHORT)}"
        return [text(said, _SHORT), " at ", at(step.heartbeat_at)]
    if isinstance(step.error, dict):
        return h.span(".error")[text(f"{step.error.get('name')}: {step.error.get('message')}", _SHORT)]
    if step.status in OPEN_STEP_STATUSES:
        # Sentences above the steps say what the other kinds of steps wait for.
        label = text(queue_label(step), _SHORT) if step.kind == StepKind.RUN else None
        return [label, [" until ", at(step.until)] if step.until else None]
    return h.code[text(snippet(step.output, _SHORT), _SHORT + 1)]


def _details(step: StepView, shown: _Shown) -> h.Element:
    run_id, invoked = shown.run.run_id, shown.invoked.get(step.step, ())
    raw = url("runs", run_id, "raw", query=[("part", f"step-{step.step}")])
    return h.tr(".details")[
        h.td(colspan=_COLUMNS)[
            facts(
                [
                    ("Result", taken_over(step, shown.run)),
                    ("Scheduled", at(step.first_at)),
                    ("Last attempt started", at(step.started_at)),
                    ("Ended", at(step.ended_at)),
                    ("Signal sent by", text(step.ended_by) if step.ended_by else None),
                    ("Until", at(step.until) if step.status in OPEN_STEP_STATUSES else None),
                    ("Attempts", f"{step.attempts}" if step.attempts else None),
                    ("Last heartbeat", at(step.heartbeat_at)),
                    ("Model", text(step.usage.model) if step.usage and step.usage.model else None),
                    ("Tokens", usage_text(step.usage) if step.usage else None),
                    ("Waits for" if step.status in OPEN_STEP_STATUSES else "Waited for", _awaited(step, run_id))
                    if step.detail
                    else ("", None),
                    ("Limits", limits_view(step.limits, of_step=True)),
                    ("Sent events", _sent_events(step)),
                    (
                        "Started run",
                        [(run_link(child.run_id), " ", run_state(child, shown.now_ms)) for child in invoked] or None,
                    ),
                ]
            ),
            _attempts(step) if step.failures else None,
            _progress(step, run_id),
            error_view(step.error, f"Error of {step.id}") if step.error else None,
            json_tree(step.output, "Result of the step", raw) if step.ended_at and not step.error else None,
            h.a(href=rerun_url(run_id, step.step))["Rerun from step ", text(step.id)] if shown.may_rerun else None,
        ]
    ]


def _awaited(step: StepView, run_id: str) -> h.Node:
    """Return what a step waits for, with a link to the page of an approval or a request."""
    match asked_of(run_id, step.step, step.detail):
        case "approval":
            return h.a(href=url("approvals", run_id, step.step))["the decision of ", text(step.id)]
        case "request":
            return h.a(href=url("requests", run_id, step.step))["the request ", text(step.id)]
        case _:
            return text(queue_label(step), 2_000)


def _sent_events(step: StepView) -> h.Node:
    """Return links to the events that a step sent, of many to the first ones."""
    if step.kind != StepKind.SEND or not isinstance(step.output, list):
        return None
    ids = [id for id in step.output if isinstance(id, str)]
    more = len(ids) - _EVENTS_LINKED_MAX
    return h.ul(".plain")[
        [h.li[event_link(id)] for id in ids[:_EVENTS_LINKED_MAX]], h.li[f"{more:,} more"] if more > 0 else None
    ]


def _attempts(step: StepView) -> h.Element:
    """Return the attempts of a step that was retried: those that failed, and the last one if it has begun."""
    rows = [
        _attempt(each.attempt + 1, each.started_at, each.at, _failure(each), each.retry_at) for each in step.failures
    ]
    if step.started_at:
        error = step.error if step.ended_at and isinstance(step.error, dict) else {}
        # Its traceback follows the list.
        ended = [state(step.status), raised_at(place_of(str(error.get("stack", ""))))]
        rows.append(_attempt(step.attempts, step.started_at, step.ended_at, ended))
    return listing(f"Attempts of {printable(step.id)}", _ATTEMPTS, rows)


def _attempt(number: int, started_at: int, ended_at: int, result: h.Node, retry_at: int = 0) -> h.Element:
    took = length_text(ended_at - started_at) if started_at and ended_at else None
    return h.tr[cells(_ATTEMPTS, f"{number}", at(started_at), took, result, at(retry_at))]


def _failure(failed: FailedAttempt) -> h.Node:
    return [
        h.span(".error")[text(f"{failed.name}: {failed.message}", MESSAGE_CHARACTERS_MAX * 2)],
        raised_at(failed.place),
        traceback_view(failed.stack, is_open=False),
    ]


def _progress(step: StepView, run_id: str) -> h.Node:
    if step.progress is None:
        return None
    raw = url("runs", run_id, "raw", query=[("part", f"progress-{step.step}")])
    return [h.h3["Progress"], json_tree(step.progress, "Progress of the step", raw)]
