"""What a worker does that others watch: the attempts of steps' bodies, and claims of runs."""

import logging
import time
import uuid
from typing import NamedTuple, Protocol

from stepstream.contract.limits import Limits
from stepstream.contract.outcomes import Failure
from stepstream.runtime.dead_letters import DeadLetterObserver
from stepstream.runtime.ports import Clock
from stepstream.runtime.worker.live_run import LiveRun
from stepstream.sdk.calls import Call
from stepstream.sdk.errors import format_error
from stepstream.sdk.execution import Bodies, StepResult

logger = logging.getLogger("stepstream.step")


class Load(NamedTuple):
    """How full a worker is: slots for runs with code at work, those in use, runs that wait for one, runs held.

    `bodies` are the steps that run now.
    """

    slots: int
    in_use: int
    queued: int
    cached: int
    bodies: int = 0


class WorkerObserver(DeadLetterObserver, Protocol):
    """Who watches a worker."""

    def attempted(self, function: str, outcome: str, seconds: float) -> None:
        """A body of a step ended in a value or an error, or in an error after which it is tried again (retry)."""

    def loading(self, app: str) -> None:
        """A run is asked for with all its memos."""


class Attempts:
    """Runs the bodies of steps and names the claims of one worker; tells the log, and whoever watches."""

    def __init__(self, bodies: Bodies, app: str, limits: Limits, clock: Clock, observer: WorkerObserver | None) -> None:
        self._bodies = bodies
        self._app = app
        self._worker = uuid.uuid4().hex[:12]
        self._claims = 0
        self._limits = limits
        self._clock = clock
        self._observer = observer
        self.at_work = 0

    async def run(self, run: LiveRun, call: Call) -> StepResult:
        """Run one attempt of a body and judge its end."""
        begun = time.perf_counter()
        self.at_work += 1
        try:
            result = await self._bodies.run(run.function, call, self._limits, self._clock.now_ms)
        finally:
            self.at_work -= 1
        seconds = time.perf_counter() - begun
        if self._observer:
            failed = "retry" if result.retry_ms is not None else "error"
            outcome = failed if isinstance(result.outcome, Failure) else "value"
            self._observer.attempted(run.function, outcome, seconds)
        _tell(run, call, result, seconds)
        return result

    def name_claim(self) -> str:
        """Return a name for a claim, by which a run is asked for with all its memos."""
        self._claims += 1
        if self._observer:
            self._observer.loading(self._app)
        return f"{self._worker}-{self._claims}"


def _tell(run: LiveRun, call: Call, result: StepResult, seconds: float) -> None:
    if not isinstance(result.outcome, Failure) and not logger.isEnabledFor(logging.INFO):
        return
    extra = {"run_id": run.run_id, "function": run.function, "step": call.id, "attempt": call.attempt}
    if not isinstance(result.outcome, Failure):
        logger.info("step %s ran in %.1f ms", call.id, seconds * 1_000, extra=extra)
        return
    after = "for good" if result.retry_ms is None else f"and is tried again in {result.retry_ms / 1_000:g} s"
    logger.warning("step %s failed %s: %s", call.id, after, format_error(result.outcome.error), extra=extra)
