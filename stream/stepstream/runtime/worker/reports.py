"""The reports of a worker: what it sends to the engine about the code that it ran."""

import logging
from collections.abc import Mapping

from msgspec.structs import replace

from stepstream.contract.codec import Raw, encode
from stepstream.contract.commands import RunLoaded, RunStarted, StepDispatched
from stepstream.contract.inbox import (
    RunContinued,
    RunFailed,
    RunPostponed,
    RunReturned,
    StepFailed,
    StepPostponed,
    StepReported,
    StepsPlanned,
    WorkerReport,
)
from stepstream.contract.limits import PLANS_BYTES_MAX, POSTPONE_MS_MAX, POSTPONE_MS_MIN
from stepstream.contract.outcomes import Failure
from stepstream.contract.plans import SignalPlan, StepPlan, WaitPlan
from stepstream.contract.progress import HeartbeatReported
from stepstream.contract.text.wording import CODE_REMEDY, missing_code, unfit_code
from stepstream.runtime.worker.runs.live_run import LiveRun
from stepstream.sdk.errors import HistoryMismatchError, error_info, format_error, is_non_retriable, raw_error, stack_of
from stepstream.sdk.execution import StepResult, failure_delay
from stepstream.sdk.function import RetryPolicy
from stepstream.sdk.replay.calls import Call, Finished, RunHandle

logger = logging.getLogger(__name__)
_code_logger = logging.getLogger("stepstream.code")


class UnencodableReport(Exception):
    """A report cannot be encoded as JSON: a step has a parameter, or an error a text, that JSON does not allow."""


def step_report(
    handle: RunHandle,
    call: Call,
    result: StepResult,
    started_at: int,
    *,
    seen: int = 0,
    queue: str = "",
    claim: str = "",
) -> WorkerReport:
    """Return the report of an attempt: its result, or that another attempt follows.

    `seen` is that of RunHandle.begin_report; a dispatched step also names its `queue` and `claim`.
    """
    if result.retry_ms is not None and isinstance(result.outcome, Failure):
        return StepFailed(
            handle.run_id,
            handle.epoch,
            call.step,
            call.id,
            call.attempt,
            result.retry_ms,
            result.outcome.error,
            call.group,
            started_at,
            queue,
            claim,
            call.fingerprint,
            result.used,
            call.progress,
            result.usage,
        )
    return StepReported(
        handle.run_id,
        handle.epoch,
        call.step,
        call.id,
        result.outcome,
        call.attempt,
        seen,
        started_at,
        queue,
        claim,
        call.fingerprint,
        result.used,
        result.usage,
    )


def heartbeat_report(
    handle: RunHandle, call: Call, progress: Raw, times: tuple[int, int], *, queue: str = "", claim: str = ""
) -> HeartbeatReported:
    """Return the report of a heartbeat: of an attempt with its `times`, its start and now (Unix ms).

    `queue` and `claim` are those of `step_report`.
    """
    started_at, sent_at = times
    return HeartbeatReported(
        handle.run_id,
        handle.epoch,
        call.step,
        call.id,
        call.attempt,
        sent_at,
        progress,
        call.group,
        started_at,
        queue,
        claim,
        call.fingerprint,
    )


def end_report(run: LiveRun, handle: RunHandle, end: Finished, policy: RetryPolicy | None, now_ms: int) -> WorkerReport:
    """Return the report of how the code of a run ended; log an error."""
    if end.error is None and end.output is not None:
        return RunReturned(handle.run_id, handle.epoch, end.output)
    if end.continued is not None:
        return RunContinued(handle.run_id, handle.epoch, end.continued)
    if isinstance(end.error, HistoryMismatchError):
        return _mismatched_run(run, handle, end.error, now_ms)
    error = end.error or RuntimeError("the function ended without a result")
    retry_ms = failure_delay(error, run.attempt, policy, now_ms)
    info = error_info(error, stack_of(error))
    extra = {"run_id": run.run_id, "function": run.function, "attempt": run.attempt}
    if retry_ms < 0:
        _code_logger.error("run failed permanently: %s", format_error(info), extra=extra)
    else:
        words = "code between steps failed, retrying in %g s: %s"
        _code_logger.warning(words, retry_ms / 1_000, format_error(info), extra=extra)
    details = (raw_error(error), is_non_retriable(error))
    return RunFailed(handle.run_id, handle.epoch, info, run.attempt, retry_ms, *details)


def run_postponed(command: RunStarted | RunLoaded, app: str, now_ms: int) -> RunPostponed:
    """Return the report of a run whose function this worker does not have."""
    return RunPostponed(command.run_id, command.epoch, *_missing(command, app, now_ms))


def step_postponed(command: StepDispatched, app: str, queue: str, now_ms: int) -> StepPostponed:
    """Return the report of a dispatched step whose function this worker does not have."""
    return _postponed_step(command, queue, *_missing(command, app, now_ms))


def mismatched_step(command: StepDispatched, queue: str, error: HistoryMismatchError, now_ms: int) -> StepPostponed:
    """Return the report of a dispatched step that the code cannot reach, because it does not fit the history."""
    wait_ms = _postpone_ms(command.started_at, now_ms)
    extra = {"run_id": command.run_id, "function": command.function, "step": command.id}
    return _postponed_step(command, queue, _mismatch(command.function, "step", error, wait_ms, extra), wait_ms)


def _mismatched_run(run: LiveRun, handle: RunHandle, error: HistoryMismatchError, now_ms: int) -> RunPostponed:
    wait_ms = _postpone_ms(run.started_at, now_ms)
    extra = {"run_id": run.run_id, "function": run.function}
    return RunPostponed(handle.run_id, handle.epoch, _mismatch(run.function, "run", error, wait_ms, extra), wait_ms)


def _mismatch(function: str, what: str, error: HistoryMismatchError, wait_ms: int, extra: Mapping[str, str]) -> str:
    """Log that code does not fit the history of its run, and return the warning that the run gets."""
    remedy = "deploy code that fits, or cancel the run"
    words = "the code of function %s does not fit the history of the run: %s; the %s is postponed for %g s; %s"
    _code_logger.error(words, function, error, what, wait_ms / 1_000, remedy, extra=extra)
    return f"{unfit_code(function)}{error}; {remedy}"


def _postponed_step(command: StepDispatched, queue: str, reason: str, wait_ms: int) -> StepPostponed:
    return StepPostponed(command.run_id, command.step, command.attempt, queue, command.claim, reason, wait_ms)


def _postpone_ms(started_at: int, now_ms: int) -> int:
    """Return for how long a run is postponed (ms): a tenth of its age, within bounds."""
    return min(max((now_ms - started_at) // 10, POSTPONE_MS_MIN), POSTPONE_MS_MAX)


def _missing(command: RunStarted | RunLoaded | StepDispatched, app: str, now_ms: int) -> tuple[str, int]:
    """Return why a run or a step without its function is postponed, and for how long (ms)."""
    wait_ms = _postpone_ms(command.started_at, now_ms)
    step = {"step": command.id} if isinstance(command, StepDispatched) else {}
    extra = {"run_id": command.run_id, "function": command.function, **step}
    words = "this worker of app %s has no function %s: the %s is postponed for %g s; %s"
    what = "step" if step else "run"
    logger.warning(words, app, command.function, what, wait_ms / 1_000, CODE_REMEDY, extra=extra)
    return missing_code(app, command.function), wait_ms


def split_plan(planned: StepsPlanned) -> list[StepsPlanned]:
    """Return a plan as records that fit the inbox, in the order in which to write them: waits come first.

    Code may request much at once, for example invoke sixty functions with half a megabyte each.
    """
    parts: list[list[StepPlan]] = [[]]
    size = 0
    for plan in sorted(planned.plans, key=lambda plan: not isinstance(plan, WaitPlan | SignalPlan)):
        more = len(encode(plan))
        if parts[-1] and size + more > PLANS_BYTES_MAX:
            parts.append([])
            size = 0
        parts[-1].append(plan)
        size += more
    run_id, epoch = planned.run_id, planned.epoch
    reports = [StepsPlanned(run_id, epoch, tuple(part)) for part in parts]
    reports[0] = replace(reports[0], cancelled=planned.cancelled, wake=planned.wake, ungrouped=planned.ungrouped)
    return [*reports[:-1], replace(reports[-1], acknowledge=planned.acknowledge)]


def encode_report(report: WorkerReport) -> bytes:
    """Return a report as bytes; raise UnencodableReport when JSON does not allow its content."""
    try:
        return encode(report)
    except (UnicodeEncodeError, TypeError, ValueError, RecursionError) as error:
        raise UnencodableReport(f"a step of the function cannot be encoded as JSON: {error}") from error


def encode_reports(report: WorkerReport) -> list[bytes]:
    """Return a report as inbox records; raise UnencodableReport when JSON does not allow its content."""
    value = encode_report(report)
    if isinstance(report, StepsPlanned) and len(value) > PLANS_BYTES_MAX:
        return [encode(part) for part in split_plan(report)]
    return [value]


def unencodable(run: LiveRun, error: UnencodableReport) -> RunFailed:
    """Return the report that takes the place of one that cannot be encoded: it fails the run."""
    logger.error("cannot encode a report of run %s", run.run_id, exc_info=error)
    return RunFailed(run.run_id, run.epoch, error_info(ValueError(str(error))), run.attempt)
