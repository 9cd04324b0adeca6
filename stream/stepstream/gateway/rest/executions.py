"""The executions of a run in its trace, for clients that do not ask for a preview: the suites of the SDK for Go.

Below the span of the run these clients expect a span for the code that ended it, or that is retried now, beside those
of the steps. Attempts of the code that failed are children of what followed: of the next step, or of that span.
"""

from collections.abc import Callable, Mapping, Sequence

from stepstream.contract.kinds import RunStatus
from stepstream.gateway.rest.spans import CODE, Span, attempt_span, blank_span, run_state
from stepstream.runtime.readmodel.views import RunView, StepView

# The names that these clients look for.
_EXECUTING, _COMPLETED, _FAILED = "execute", "function success", "function error"


def with_executions(run: RunView, root: Span, steps: Sequence[tuple[StepView, Span]]) -> Span:
    """Return the span of a run with the spans of its steps, in order of execution, and of its code as children."""
    failed = _failed_by_step(run, [step for step, _ in steps])
    children = [_after_failures(run, span, failed.get(step.step, ())) for step, span in steps]
    return {**root, "childrenSpans": children + _code_spans(run, root, failed.get("", ()))}


def _failed_by_step(run: RunView, steps: Sequence[StepView]) -> Mapping[str, Sequence[int]]:
    """Return the places of the failed attempts of the code by the step that followed; "" if none did."""
    found: dict[str, list[int]] = {}
    for place, failure in enumerate(run.failures):
        following = (step.step for step in steps if (step.first_at or step.started_at) >= failure.at)
        found.setdefault(next(following, ""), []).append(place)
    return found


def _after_failures(run: RunView, span: Span, failed: Sequence[int]) -> Span:
    if not failed:
        return span
    op = {name: span[name] for name in ("stepID", "stepOp", "stepType")}
    own = span["childrenSpans"] or [attempt_span(run.run_id, span["spanID"], 0, span["status"], op, span["outputID"])]
    later = [{**each, "name": f"Attempt {number}"} for number, each in enumerate(own, len(failed))]
    return {**span, "childrenSpans": _failures(run, span["spanID"], failed) + later}


def _failures(run: RunView, parent: str, failed: Sequence[int]) -> list[Span]:
    return [
        attempt_span(run.run_id, parent, run.failures[place].attempt, "FAILED", {}, f"{run.run_id}.{CODE}.{place}")
        for place in failed
    ]


def _code_spans(run: RunView, root: Span, failed: Sequence[int]) -> list[Span]:
    """Return the span of the code that ended the run or is retried; none while it runs, or waits in a step."""
    spans: Mapping[str, Callable[[], Span]] = {
        RunStatus.COMPLETED: lambda: _ended(run, root, _COMPLETED, failed),
        # Code that was retried keeps the first name of its span.
        RunStatus.FAILED: lambda: _ended(run, root, _EXECUTING if failed else _FAILED, failed),
        RunStatus.RUNNING: lambda: _retried(run, root, failed),
    }
    is_shown = run.status in spans and (failed or run.status != RunStatus.RUNNING)
    return [spans[run.status]()] if is_shown else []


def _ended(run: RunView, root: Span, name: str, failed: Sequence[int]) -> Span:
    state = run_state(run.status)
    span = _code_span(root, name, state) | {"outputID": root["outputID"], "endedAt": root["endedAt"]}
    if run.status == RunStatus.COMPLETED and not failed:
        return span
    last = attempt_span(run.run_id, root["spanID"], len(failed), state, {}, root["outputID"])
    attempts = len(failed) + 1 if failed else 0
    return {**span, "attempts": attempts, "childrenSpans": [*_failures(run, root["spanID"], failed), last]}


def _retried(run: RunView, root: Span, failed: Sequence[int]) -> Span:
    span = _code_span(root, _EXECUTING, "RUNNING")
    queued = attempt_span(run.run_id, root["spanID"], len(failed), "QUEUED", {}, None)
    return {**span, "childrenSpans": [*_failures(run, root["spanID"], failed), queued]}


def _code_span(root: Span, name: str, state: str) -> Span:
    span = blank_span(root["runID"], f"{root['runID']}.{CODE}", name, state)
    times = {each: root[each] for each in ("queuedAt", "startedAt")}
    return {**span, **times, "parentSpanID": root["spanID"], "childrenSpans": []}
