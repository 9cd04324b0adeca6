"""The attempts of steps' bodies in a worker, each told to the log and to whoever watches."""

import logging
import time
from typing import NamedTuple, Protocol

from stepstream.contract.limits import Limits
from stepstream.contract.outcomes import Failure
from stepstream.runtime.live import LiveRun
from stepstream.runtime.ports import Clock
from stepstream.sdk.calls import Call
from stepstream.sdk.execution import Bodies, StepResult

logger = logging.getLogger("stepstream.step")


class Load(NamedTuple):
    """How full a worker is: slots for runs with code at work, those in use, runs that wait for one, runs held."""

    slots: int
    in_use: int
    queued: int
    cached: int


class WorkerObserver(Protocol):
    """Who watches a worker."""

    def attempted(self, function: str, outcome: str, seconds: float) -> None:
        """A body of a step ended in a value or an error, or in an error after which it is tried again (retry)."""

    def loading(self, app: str) -> None:
        """A run is asked for with all its memos."""


class Attempts:
    """Runs the bodies of steps for one worker."""

    def __init__(self, bodies: Bodies, limits: Limits, clock: Clock, observer: WorkerObserver | None) -> None:
        self.bodies = bodies
        self._limits = limits
        self._clock = clock
        self._observer = observer

    async def run(self, run: LiveRun, call: Call) -> StepResult:
        """Run one attempt of a body and judge its end."""
        begun = time.perf_counter()
        result = await self.bodies.run(run.function, call, self._limits, self._clock.now_ms)
        seconds = time.perf_counter() - begun
        if self._observer:
            failed = "retry" if result.retry_ms is not None else "error"
            outcome = failed if isinstance(result.outcome, Failure) else "value"
            self._observer.attempted(run.function, outcome, seconds)
        if logger.isEnabledFor(logging.INFO):
            _tell(run, call, result, seconds)
        return result

    def loading(self, app: str) -> None:
        """Note that a run is asked for."""
        if self._observer:
            self._observer.loading(app)


def _tell(run: LiveRun, call: Call, result: StepResult, seconds: float) -> None:
    extra = {"run_id": run.run_id, "function": run.function, "step": call.id, "attempt": call.attempt}
    if not isinstance(result.outcome, Failure):
        logger.info("step %s ran in %.1f ms", call.id, seconds * 1_000, extra=extra)
        return
    error = result.outcome.error
    after = "for good" if result.retry_ms is None else f"and is tried again in {result.retry_ms / 1_000:g} s"
    logger.info("step %s failed %s: %s: %s", call.id, after, error.name, error.message, extra=extra)
