"""Runs the bodies of steps, one attempt at a time, and logs how each ended."""

import logging
import time
from collections.abc import Callable

from stepstream.contract.codec import Raw
from stepstream.contract.logs import LogKey
from stepstream.contract.outcomes import Failure
from stepstream.runtime.worker.options import WorkerOptions
from stepstream.sdk.errors import format_error
from stepstream.sdk.execution import StepResult
from stepstream.sdk.replay.calls import Call
from stepstream.sdk.step_logs import current_catch

logger = logging.getLogger("stepstream.step")


class Attempts:
    """The attempts of step bodies in one worker."""

    def __init__(self, options: WorkerOptions) -> None:
        self._options = options
        self.running = 0

    async def run(self, function: str, run_id: str, call: Call, report: Callable[[Raw], object]) -> StepResult:
        """Run one attempt of a body and return how it ended; `report` reports its progress meanwhile."""
        started = time.perf_counter()
        self.running += 1
        options = self._options
        logs = options.logs
        token = current_catch.set(logs.attempt(LogKey(run_id, call.step, call.attempt)) if logs else None)
        try:
            result = await options.bodies.run(function, call, options.limits, options.clock.now_ms, report)
        finally:
            self.running -= 1
            current_catch.reset(token)
        seconds = time.perf_counter() - started
        if self._options.observer:
            self._options.observer.attempted(function, _outcome(result), seconds)
        _log(function, run_id, call, result, seconds)
        return result


def _outcome(result: StepResult) -> str:
    if not isinstance(result.outcome, Failure):
        return "value"
    return "error" if result.is_final else "retry"


def _log(function: str, run_id: str, call: Call, result: StepResult, seconds: float) -> None:
    failed = isinstance(result.outcome, Failure)
    if not failed and not logger.isEnabledFor(logging.INFO):
        return
    extra = {"run_id": run_id, "function": function, "step": call.id, "attempt": call.attempt}
    if not isinstance(result.outcome, Failure):
        logger.info("step %s ran in %.1f ms", call.id, seconds * 1_000, extra=extra)
        return
    after = " permanently" if result.retry_ms is None else f", retrying in {result.retry_ms / 1_000:g} s"
    logger.warning("step %s failed%s: %s", call.id, after, format_error(result.outcome.error), extra=extra)
