"""A worker that serves an app whose functions are not Python code: it only needs to start and to resume their code."""

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any

from stepstream.contract.codec import Raw
from stepstream.contract.commands import Memo, Open, RunResumed
from stepstream.contract.functions import FunctionRegistered
from stepstream.contract.ids import step_hash
from stepstream.contract.inbox import RunReturned, StepReported, StepsPlanned
from stepstream.contract.outcomes import Value
from stepstream.contract.plans import SleepPlan
from stepstream.runtime.worker.worker import Worker
from stepstream.sdk.execution import CodeStart
from stepstream.sdk.function import RetryPolicy
from stepstream.sdk.replay.calls import RUN, SLEEP, Call, Finished
from tests.fakes.waiting import iterate, until
from tests.fakes.worker_log import FakeWorkerLog
from tests.runtime.worker.harness import options, serving, started

NAP = step_hash("nap", 0)


class _Function:
    id = "function"
    policy = RetryPolicy()

    def registration(self) -> FunctionRegistered:
        return FunctionRegistered(self.id, "elsewhere")


class _Tasks:
    is_busy = True

    def take_created(self) -> int:
        return 1


class _Code:
    """Sleeps, reports the result of a step that ran elsewhere, and returns."""

    threaded = False
    activity = _Tasks()
    over = False
    seen = 0

    def __init__(self, start: CodeStart) -> None:
        self.run_id, self.epoch = start.snapshot.run_id, start.snapshot.epoch
        self._runner = start.runner
        # The worker does not know its code before the constructor returns.
        asyncio.get_running_loop().call_soon(self._begin)

    def _begin(self) -> None:
        self._runner.plan(self, StepsPlanned(self.run_id, self.epoch, (SleepPlan(NAP, "nap", 1),)))
        self._runner.suspended(self)

    def begin_report(self, _call: Call) -> int:
        return self.seen

    def resume(self, memos: Sequence[Memo], _retries: Sequence[Open], _acknowledged: bool) -> None:
        self.seen = max(memo.seen for memo in memos)
        self._work = self._return()

    async def return_now(self) -> None:
        await self._work

    async def _return(self) -> None:
        await self._runner.report(self, Call(step_hash("work", 0), "work", RUN), Value(Raw(b"7")))
        self._runner.finished(self, Finished(Raw(b"8")))

    def abort(self) -> None:
        self.over = True


class _App:
    name = "elsewhere"
    queues = ()

    def __init__(self) -> None:
        self.codes: list[_Code] = []

    def __iter__(self) -> Iterator[_Function]:
        yield _Function()

    def get(self, _function_id: str) -> _Function | None:
        return _Function()

    def start_code(self, _function_id: str, start: CodeStart) -> _Code:
        self.codes.append(_Code(start))
        return self.codes[-1]

    def connect(self, sender: Any) -> None:
        """Do nothing."""


async def test_a_worker_runs_code_elsewhere() -> None:
    """It plans, is resumed, reports the result of a step that ran elsewhere, and ends, as a replay does."""
    app, log = _App(), FakeWorkerLog(started())
    async with serving(Worker(log, app, options())):
        await until(lambda: log.kinds == [StepsPlanned])
        await iterate()
        log.give(RunResumed("run", 1, (Memo(NAP, "nap", SLEEP, Value(), 1),)))
        await until(lambda: app.codes[0].seen == 1)
        await app.codes[0].return_now()
        await until(lambda: len(log.kinds) == 3)
    assert log.kinds == [StepsPlanned, StepReported, RunReturned]
    (report,) = log.reports_of(StepReported)
    assert (report.id, report.seen, report.outcome) == ("work", 1, Value(Raw(b"7")))
