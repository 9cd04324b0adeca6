"""The forms of the page of a run: cancel, pause or rerun it, and send the signals that it waits for."""

import secrets
from collections.abc import Iterator, Mapping

import htpy as h

from stepstream.api.pages.parts.components import is_open, text, url
from stepstream.api.pages.parts.context import Visit
from stepstream.api.pages.parts.fields import Refusal, area, choice, line
from stepstream.api.pages.parts.forms import post_form
from stepstream.contract.kinds import OPEN_STEP_STATUSES, RunStatus, StepKind, StepStatus
from stepstream.contract.text.printable import printable
from stepstream.runtime.readmodel.views import RunView, StepView, asked_of

FROM_FAILURE = "failure"
CANCEL, PAUSE = "cancel", "pause"
_STOPPED: Mapping[str, str] = {
    RunStatus.FAILED: "Rerun from the failure",
    RunStatus.CANCELLED: "Rerun from where it was cancelled",
}
_WITH_RESULT = (StepStatus.COMPLETED, StepStatus.FAILED, StepStatus.TIMED_OUT)
_CHILDREN = (("", "continue"), ("cancel", "are cancelled too"))
# The label of the field with the end of a pause.
UNTIL = "Until (2h, or 2026-01-31T12:00:00Z; empty: until resumed)"


def may_rerun(visit: Visit, run: RunView) -> bool:
    """Return whether a visitor may rerun a run."""
    return visit.may_operate and not is_open(run.status)


def run_forms(visit: Visit, run: RunView, refusal: Refusal) -> h.Node:
    """Return the forms that act on a run."""
    if not visit.may_operate:
        return None
    if is_open(run.status):
        signals = [_signal_form(visit, run, step, refusal.of(step.step)) for step in awaited_signals(run)]
        return [
            signals,
            _cancel_form(visit, run, refusal.of(CANCEL)),
            _pause_form(visit, run, refusal.of(PAUSE)),
        ]
    stopped = _stopped_label(run)
    return h.div(".actions")[
        _rerun_form(visit, run, stopped, FROM_FAILURE) if stopped else None,
        _rerun_form(visit, run, "Rerun the run", ""),
        h.a(href=rerun_url(run.run_id, ""))["Edit the data and rerun from the start"],
        h.a(href=rerun_url(run.run_id, FROM_FAILURE))[f"Edit data or results and {stopped[:1].lower()}{stopped[1:]}"]
        if stopped
        else None,
    ]


def rerun_url(run_id: str, origin: str) -> str:
    """Return the URL of the form that reruns a run from a step, or FROM_FAILURE."""
    return url("runs", run_id, "rerun", query=[("from", origin)])


def stopped_label(status: str) -> str:
    """Return what a rerun of a run that did not complete is called, which takes over all it did; "" for others."""
    return _STOPPED.get(status, "")


def _stopped_label(run: RunView) -> str:
    """Return the same, "" for a run that was cancelled before it had a result: its rerun would take over nothing."""
    has_results = any(step.status in _WITH_RESULT for step in run.steps)
    return stopped_label(run.status) if run.status != RunStatus.CANCELLED or has_results else ""


def awaited_signals(run: RunView) -> Iterator[StepView]:
    """Yield the open steps of a run that wait for a signal that neither answers an approval nor is a request."""
    for step in run.steps:
        is_waiting = step.kind == StepKind.SIGNAL and step.status == StepStatus.WAITING
        if is_waiting and not asked_of(run.run_id, step.step, step.detail):
            yield step


def request_fields(from_step: str) -> h.Node:
    """Return the hidden fields of a form that reruns a run; sent twice, it starts one run."""
    return [
        h.input(type="hidden", name="from", value=from_step),
        h.input(type="hidden", name="request", value=secrets.token_hex(8)),
    ]


def _rerun_form(visit: Visit, run: RunView, label: str, from_step: str) -> h.Element | None:
    return post_form(visit, url("runs", run.run_id, "rerun"), label, request_fields(from_step), h.button[label])


def _invokes(run: RunView) -> bool:
    return any(step.kind == StepKind.INVOKE and step.status in OPEN_STEP_STATUSES for step in run.steps)


def _cancel_form(visit: Visit, run: RunView, refusal: Refusal) -> h.Element | None:
    return post_form(
        visit,
        url("runs", run.run_id, "cancel"),
        "Cancel the run",
        line(refusal, "cancel-why", "why", "Reason (optional)"),
        choice(refusal, "cancel-children", "children", "Runs that it invoked", _CHILDREN) if _invokes(run) else None,
        h.button(".danger")["Cancel the run"],
    )


def _pause_form(visit: Visit, run: RunView, refusal: Refusal) -> h.Element | None:
    if run.paused:
        why = line(refusal, "resume-why", "why", "Reason (optional)")
        return post_form(visit, url("runs", run.run_id, "resume"), "Resume the run", why, h.button["Resume the run"])
    return h.details(".signal", open=bool(refusal.reason))[
        h.summary["Pause the run"],
        post_form(
            visit,
            url("runs", run.run_id, "pause"),
            "Pause the run",
            line(refusal, "pause-until", "until", UNTIL),
            line(refusal, "pause-why", "why", "Reason (optional)"),
            h.button["Pause"],
        ),
    ]


def _signal_form(visit: Visit, run: RunView, step: StepView, refusal: Refusal) -> h.Element:
    label = f"Send the signal {printable(step.detail)}"
    return h.details(".signal", open=bool(refusal.reason))[
        h.summary["Send the signal ", text(step.detail)],
        post_form(
            visit,
            url("runs", run.run_id, "signal"),
            label,
            h.input(type="hidden", name="step", value=step.step),
            area(refusal, f"signal-{step.step}", "data", "Data (JSON)", "null"),
            h.button["Send"],
        ),
    ]
