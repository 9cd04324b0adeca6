"""The trace of a run as the test suites of SDKs read it: a span for the run, and below it one for each step."""

from collections.abc import Callable, Mapping, Sequence, Set
from typing import Any

from stepstream.contract.codec import Json, dump_json
from stepstream.contract.kinds import OPEN_RUN_STATUSES, OPEN_STEP_STATUSES, RunStatus, StepKind, StepStatus
from stepstream.gateway.rest.replies import iso
from stepstream.gateway.rest.sdk_shapes import error_object, result_of
from stepstream.gateway.runs.metadata_log import METADATA_LOGGER
from stepstream.gateway.wire.metadata import merged
from stepstream.runtime.readmodel.failed_attempts import FailedAttempt
from stepstream.runtime.readmodel.tables.logged_lines import LoggedLine
from stepstream.runtime.readmodel.views import RunView, StepView

Span = dict[str, Any]
# The outputs of attempts of the code are found by this word and their place among those that failed.
CODE = "code"
_SCHEDULED = {RunStatus.SCHEDULED: "QUEUED"}
_OPS: Mapping[str, str] = {
    StepKind.RUN: "RUN",
    StepKind.SEND: "RUN",
    StepKind.SLEEP: "SLEEP",
    StepKind.WAIT: "WAIT_FOR_EVENT",
    StepKind.SIGNAL: "WAIT_FOR_SIGNAL",
    StepKind.INVOKE: "INVOKE",
}
# Code of a step that is open runs, or that of the run that it invoked.
_WORKING = (StepKind.RUN, StepKind.INVOKE)
_STEP_STATES: Mapping[str, str] = {
    StepStatus.RETRYING: "RUNNING",
    StepStatus.COMPLETED: "COMPLETED",
    StepStatus.FAILED: "FAILED",
    # A wait that times out ends with null, which its code handles.
    StepStatus.TIMED_OUT: "COMPLETED",
    StepStatus.CANCELLED: "CANCELLED",
}


def run_state(run_status: str) -> str:
    """Return the status of a run in GraphQL."""
    return _SCHEDULED.get(RunStatus(run_status), run_status.upper())


def spans_of(
    run: RunView, lines: Sequence[LoggedLine], info: Callable[[StepView], dict[str, Any] | None]
) -> tuple[Span, list[tuple[StepView, Span]]]:
    """Return the span of a run, and its steps with their spans in the order of their execution.

    The metadata of both is among the `lines` that the run has logged. `info` returns what a step is about.
    """
    steps = sorted(enumerate(run.steps), key=lambda each: (each[1].first_at or each[1].started_at, each[0]))
    noted = _metadata_in(lines)
    children = [
        (step, _step_span(run, step) | {"metadata": noted.get(step.step, []), "stepInfo": info(step)})
        for _, step in steps
    ]
    ended = run.status not in OPEN_RUN_STATUSES
    span = blank_span(run.run_id, run.run_id, run.function, run_state(run.status))
    times = _times(run.accepted_at, run.started_at, run.ended_at)
    more = {
        "isRoot": True,
        "attempts": run.attempt,
        "outputID": run.run_id if ended else None,
        "metadata": noted.get("", []),
    }
    if ended:
        # Suites look for the end of the code among all spans, and expect no child but the steps.
        more["stepType"] = "FINALIZATION"
    return {**span, **times, **more, "childrenSpans": [span for _, span in children]}, children


def _metadata_in(lines: Sequence[LoggedLine]) -> dict[str, list[dict[str, Any]]]:
    """Return the metadata of each step by its hash, and of the run by "": the latest values of each scope and kind."""
    found: dict[tuple[str, str, str], dict[str, Any]] = {}
    for line in lines:
        if line.logger.startswith(METADATA_LOGGER):
            scope, kind = line.logger.removeprefix(METADATA_LOGGER), line.text.partition(" ")[0]
            before = found.get((line.step, scope, kind), {"values": {}})
            values = merged(before["values"], line.text)
            found[line.step, scope, kind] = {"scope": scope, "kind": kind, "values": values, "updatedAt": iso(line.at)}
    noted: dict[str, list[dict[str, Any]]] = {}
    for (step, _, _), each in found.items():
        noted.setdefault(step, []).append(each)
    return noted


def _step_span(run: RunView, step: StepView) -> Span:
    ended = step.status not in OPEN_STEP_STATUSES
    id = f"{run.run_id}.{step.step}"
    state = _STEP_STATES.get(step.status) or ("RUNNING" if step.kind in _WORKING else "WAITING")
    span = blank_span(run.run_id, id, step.id, state)
    # A step without a body lasts from its plan on.
    started = step.started_at if step.kind == StepKind.RUN else 0
    times = _times(step.first_at, started or step.first_at, step.ended_at)
    # Attempts count from 0.
    op = {**_op(step), "attempts": max(step.attempts - 1, 0)}
    children = _attempts(run, step, state)
    # A sleep has nothing to show.
    output = id if ended and step.kind != StepKind.SLEEP else None
    return {**span, **times, **op, "parentSpanID": run.run_id, "outputID": output, "childrenSpans": children}


def _attempts(run: RunView, step: StepView, state: str) -> list[Span]:
    """Return a span for each attempt of a step that was retried."""
    if step.attempts < 2 and step.status != StepStatus.RETRYING:
        return []
    last = "FAILED" if step.status == StepStatus.RETRYING else state
    states = ["FAILED"] * (step.attempts - 1) + [last]
    id = f"{run.run_id}.{step.step}"
    kept = {failure.attempt for failure in step.failures}
    return [
        attempt_span(run.run_id, id, number, each, _op(step), _output_id(id, number, len(states), kept))
        for number, each in enumerate(states)
    ]


def _output_id(id: str, number: int, attempts: int, kept: Set[int]) -> str | None:
    """Return the id of the output of an attempt; None if it is not known."""
    if number == attempts - 1:
        return id
    return f"{id}.{number}" if number in kept else None


def attempt_span(run_id: str, parent: str, number: int, state: str, op: Mapping[str, Any], output: str | None) -> Span:
    """Return the span of an attempt, which counts from 0."""
    span = blank_span(run_id, f"{parent}.{number}", f"Attempt {number}", state)
    return {**span, **op, "parentSpanID": parent, "attempts": number, "outputID": output, "childrenSpans": []}


def _op(step: StepView) -> dict[str, Any]:
    return {"stepID": step.step, "stepOp": _OPS[step.kind], "stepType": _OPS[step.kind]}


def blank_span(run_id: str, id: str, name: str, state: str) -> Span:
    """Return a span without times, children and output."""
    known = {"spanID": id, "traceID": run_id, "runID": run_id, "name": name, "status": state}
    empty = dict.fromkeys(("stepID", "stepOp", "stepType", "queuedAt", "startedAt", "endedAt", "duration"))
    return {**empty, "attempts": 0, "isRoot": False, "metadata": [], **known}


def _times(queued_at: int, started_at: int, ended_at: int) -> dict[str, Any]:
    duration = ended_at - started_at if ended_at and started_at else None
    return {
        "queuedAt": iso(queued_at),
        "startedAt": iso(started_at),
        "endedAt": iso(ended_at),
        "duration": duration,
    }


def output_of(run: RunView, step: str) -> dict[str, Any]:
    """Return the output or the error of a step, by its hash, of one of its attempts, or of the run itself."""
    step, _, attempt = step.partition(".")
    found = next((each for each in run.steps if each.step == step), None)
    if attempt:
        failures = {str(place): each for place, each in enumerate(run.failures)} if step == CODE else {}
        failures |= {str(each.attempt): each for each in found.failures} if found else {}
        return {"input": None, "data": None, "error": _failure(failures.get(attempt))}
    if step and found is None:
        return {"input": None, "data": None, "error": None}
    output, error = (found.output, found.error) if found else (run.output, run.error)
    return {"input": None, "data": None if error else json_text(output), "error": span_error(error)}


def _failure(failure: FailedAttempt | None) -> dict[str, Any] | None:
    return span_error({name: getattr(failure, name) for name in ("name", "message", "stack")}) if failure else None


def span_error(error: Json) -> dict[str, Any] | None:
    """Return an error with the fields that GraphQL has."""
    found = error_object(error)
    if not isinstance(found, dict):
        return None
    return {
        "name": found.get("name") or "Error",
        "message": found.get("message") or "",
        "stack": found.get("stack"),
        "cause": found.get("cause"),
    }


def json_text(value: Json) -> str:
    """Return a value as JSON text, which it is in GraphQL."""
    return bytes(dump_json(value)).decode()


def run_output(run: RunView) -> str | None:
    """Return the output of a run, or the error with which it ended, as JSON text; None while it is open."""
    if run.status in OPEN_RUN_STATUSES:
        return None
    return json_text(result_of(run.status, run.output, run.error))
