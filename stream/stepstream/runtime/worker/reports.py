"""What a worker reports of the code it ran: each result and each end as the record that says so."""

import logging

from msgspec.structs import replace

from stepstream.contract.codec import encode
from stepstream.contract.commands import RunLoaded, RunStarted, StepDispatched
from stepstream.contract.inbox import (
    RunClaimed,
    RunFailed,
    RunPostponed,
    RunReturned,
    SignalPlan,
    StepFailed,
    StepPlan,
    StepPostponed,
    StepReported,
    StepsPlanned,
    WaitPlan,
    WorkerReport,
)
from stepstream.contract.limits import PLANS_BYTES_MAX, POSTPONE_MS_MAX, POSTPONE_MS_MIN
from stepstream.contract.outcomes import Failure
from stepstream.runtime.worker.live_run import LiveRun
from stepstream.sdk.calls import Call, Finished, RunHandle
from stepstream.sdk.errors import error_info, format_error, stack_of
from stepstream.sdk.execution import StepResult, failure_delay
from stepstream.sdk.function import RetryPolicy

logger = logging.getLogger(__name__)
_code_logger = logging.getLogger("stepstream.code")


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
        )
    return StepReported(
        handle.run_id, handle.epoch, call.step, call.id, result.outcome, call.attempt, seen, started_at, queue, claim
    )


def end_report(run: LiveRun, handle: RunHandle, end: Finished, policy: RetryPolicy | None, now_ms: int) -> WorkerReport:
    """Return the report of how a run's code ended; an error is a line of the log, too."""
    if end.error is None and end.output is not None:
        return RunReturned(handle.run_id, handle.epoch, end.output)
    error = end.error or RuntimeError("the function ended without a result")
    retry_ms = failure_delay(error, run.attempt, policy, now_ms)
    info = error_info(error, stack_of(error))
    extra = {"run_id": run.run_id, "function": run.function, "attempt": run.attempt}
    if retry_ms < 0:
        _code_logger.error("run failed for good: %s", format_error(info), extra=extra)
    else:
        words = "code between steps failed and is tried again in %g s: %s"
        _code_logger.warning(words, retry_ms / 1_000, format_error(info), extra=extra)
    return RunFailed(handle.run_id, handle.epoch, info, run.attempt, retry_ms)


def run_postponed(command: RunStarted | RunLoaded, app: str, now_ms: int) -> RunPostponed:
    """Return the report of a run whose code this worker has not."""
    return RunPostponed(command.run_id, command.epoch, *_later(command, app, now_ms))


def step_postponed(command: StepDispatched, app: str, queue: str, now_ms: int) -> StepPostponed:
    """Return the report of a step that was lent to a worker without its code."""
    place = (command.run_id, command.step, command.attempt, queue, command.claim)
    return StepPostponed(*place, *_later(command, app, now_ms))


def _later(command: RunStarted | RunLoaded | StepDispatched, app: str, now_ms: int) -> tuple[str, int]:
    """Return why a run or a step waits for its code, and for how long (ms): the older the run, the longer."""
    remedy = "deploy its code, or wait for the roll-out to end"
    reason = f"a worker of app {app!r} had it that has no function {command.function!r}; {remedy}"
    wait_ms = min(max((now_ms - command.started_at) // 10, POSTPONE_MS_MIN), POSTPONE_MS_MAX)
    step = {"step": command.id} if isinstance(command, StepDispatched) else {}
    extra = {"run_id": command.run_id, "function": command.function, **step}
    words = "this worker of app %s has no function %s: the %s is postponed for %g s; %s"
    what = "step" if step else "run"
    logger.warning(words, app, command.function, what, wait_ms / 1_000, remedy, extra=extra)
    return reason, wait_ms


def split_plan(planned: StepsPlanned) -> list[StepsPlanned]:
    """Return a plan as records that the inbox takes, to be written in this order: its waits are the first of all.

    What the code asks for at once may be large in sum: sixty functions invoked with half a megabyte each.
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


def encode_report(run: LiveRun, report: WorkerReport | RunClaimed) -> tuple[bytes, bool]:
    """Return the report as bytes and True, or if it cannot be encoded, the failure of its run and False."""
    try:
        return encode(report), True
    except (UnicodeEncodeError, TypeError, ValueError, RecursionError) as error:
        if run.replay is None:
            raise
        logger.exception("cannot encode a report of run %s", run.run_id)
        info = error_info(ValueError(f"a step of the function cannot be encoded as JSON: {error}"))
        return encode(RunFailed(run.run_id, run.replay.epoch, info, run.attempt)), False


def encode_reports(run: LiveRun, report: WorkerReport | RunClaimed) -> tuple[list[bytes], bool]:
    """Return the report as inbox records and True, or if it cannot be encoded, the failure of its run and False."""
    value, meant = encode_report(run, report)
    if meant and isinstance(report, StepsPlanned) and len(value) > PLANS_BYTES_MAX:
        return [encode(part) for part in split_plan(report)], True
    return [value], meant
