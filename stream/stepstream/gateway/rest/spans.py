"""The trace of a run as the test suites of SDKs read it: a span for the run, and below it one for each step."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from stepstream.contract.codec import Json, dump_json
from stepstream.contract.kinds import OPEN_RUN_STATUSES, OPEN_STEP_STATUSES, RunStatus, StepKind, StepStatus
from stepstream.gateway.rest.replies import iso
from stepstream.gateway.rest.sdk_shapes import error_object, result_of
from stepstream.gateway.runs.metadata_log import METADATA_LOGGER
from stepstream.gateway.wire.metadata import merged
from stepstream.runtime.readmodel.tables.logged_lines import LoggedLine
from stepstream.runtime.readmodel.views import RunView, StepView

_SCHEDULED = {RunStatus.SCHEDULED: "QUEUED"}
_OPS: Mapping[str, str] = {
    StepKind.RUN: "RUN",
    StepKind.SEND: "RUN",
    StepKind.SLEEP: "SLEEP",
    StepKind.WAIT: "WAIT_FOR_EVENT",
    StepKind.SIGNAL: "WAIT_FOR_SIGNAL",
    StepKind.INVOKE: "INVOKE",
}
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


def trace_of(
    run: RunView, lines: Sequence[LoggedLine], info: Callable[[StepView], dict[str, Any] | None]
) -> dict[str, Any]:
    """Return the span of a run, with its steps in the order of their execution as children.

    The metadata of both is among the `lines` that the run has logged. `info` returns what a step is about.
    """
    steps = sorted(enumerate(run.steps), key=lambda each: (each[1].first_at or each[1].started_at, each[0]))
    noted = _metadata_in(lines)
    children = [
        _step_span(run, step) | {"metadata": noted.get(step.step, []), "stepInfo": info(step)} for _, step in steps
    ]
    ended = run.status not in OPEN_RUN_STATUSES
    span = _span(run.run_id, run.run_id, run.function, run_state(run.status))
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
    return {**span, **times, **more, "childrenSpans": children}


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


def _step_span(run: RunView, step: StepView) -> dict[str, Any]:
    ended = step.status not in OPEN_STEP_STATUSES
    id = f"{run.run_id}.{step.step}"
    state = _STEP_STATES.get(step.status) or ("RUNNING" if step.kind == StepKind.RUN else "WAITING")
    span = _span(run.run_id, id, step.id, state)
    # A step without a body lasts from its plan on.
    started = step.started_at if step.kind == StepKind.RUN else 0
    times = _times(step.first_at, started or step.first_at, step.ended_at)
    # Attempts count from 0.
    op = {**_op(step), "attempts": max(step.attempts - 1, 0)}
    children = _attempts(run, step, state)
    # A sleep has nothing to show.
    output = id if ended and step.kind != StepKind.SLEEP else None
    return {**span, **times, **op, "parentSpanID": run.run_id, "outputID": output, "childrenSpans": children}


def _attempts(run: RunView, step: StepView, state: str) -> list[dict[str, Any]]:
    """Return a span for each attempt of a step that was retried; only of the last one the result is known."""
    if step.attempts < 2 and step.status != StepStatus.RETRYING:
        return []
    last = "FAILED" if step.status == StepStatus.RETRYING else state
    states = ["FAILED"] * (step.attempts - 1) + [last]
    op = {**_op(step), "childrenSpans": []}
    id = f"{run.run_id}.{step.step}"
    return [
        {
            **_span(run.run_id, f"{id}.{number}", f"Attempt {number}", each),
            **op,
            "parentSpanID": id,
            "attempts": number,
            "outputID": id if number == len(states) - 1 else None,
        }
        for number, each in enumerate(states)
    ]


def _op(step: StepView) -> dict[str, Any]:
    return {"stepID": step.step, "stepOp": _OPS[step.kind], "stepType": _OPS[step.kind]}


def _span(run_id: str, id: str, name: str, state: str) -> dict[str, Any]:
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
    """Return the output or the error of a step, by its hash, or of the run itself."""
    found = next((each for each in run.steps if each.step == step), None)
    if step and found is None:
        return {"input": None, "data": None, "error": None}
    output, error = (found.output, found.error) if found else (run.output, run.error)
    return {"input": None, "data": None if error else json_text(output), "error": span_error(error)}


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
