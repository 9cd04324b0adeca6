"""The running code of a run that an app executes: which calls it needs, and what follows from their answers."""

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from enum import StrEnum
from typing import Any

from stepstream.contract.codec import Raw
from stepstream.contract.commands import Memo, Open
from stepstream.contract.errors import InvalidInput
from stepstream.contract.ids import StepHash
from stepstream.contract.inbox import StepsPlanned
from stepstream.contract.outcomes import ErrorInfo, Failure, Outcome, Value
from stepstream.gateway.runs.asked import Asked
from stepstream.gateway.runs.calling import Caller
from stepstream.gateway.runs.function import RemoteFunction
from stepstream.gateway.runs.results import Results
from stepstream.gateway.runs.transport import Transport
from stepstream.gateway.wire.answers import Answer, Failed, Ops, Returned
from stepstream.gateway.wire.calls import DISCOVERY
from stepstream.gateway.wire.failures import made_error
from stepstream.gateway.wire.ops import CompleteOp, DiscoveryOp, ErrorOp, Op, RunOp, active_ops
from stepstream.sdk.errors import FinalForeignError, RunInterrupted
from stepstream.sdk.execution import CodeStart, output_too_large
from stepstream.sdk.replay.calls import RUN, Call, CallEvent, CallState, Finished

logger = logging.getLogger(__name__)


class Phase(StrEnum):
    """Whether the app executes the code of the function from its first line, by a discovery call."""

    IDLE = "idle"  # No discovery call is open.
    CALLING = "calling"  # One is open.
    STALE = "stale"  # One is open, and results have come that it does not have: another one follows.
    OVER = "over"  # The run has ended here.


class Need(StrEnum):
    """What changes the phase."""

    CALL = "call"  # The code must see new results.
    ANSWER = "answer"  # The open discovery call has ended.
    END = "end"  # The run ends, or leaves this worker.


# Phase, need, phase after it. A discovery call begins whenever `calling` is entered. The steps beside it have the life
# of CALL_LIFE (sdk/replay/calls.py): `open` in the engine, `due`, `held` back by a wait, and `running` by a call.
PHASES: Mapping[Phase, Mapping[Need, Phase]] = {
    Phase.IDLE: {Need.CALL: Phase.CALLING, Need.END: Phase.OVER},
    Phase.CALLING: {Need.CALL: Phase.STALE, Need.ANSWER: Phase.IDLE, Need.END: Phase.OVER},
    Phase.STALE: {Need.CALL: Phase.STALE, Need.ANSWER: Phase.CALLING, Need.END: Phase.OVER},
    Phase.OVER: {},
}
# So many discovery calls without a new step or result are a fault of the app: it would be called without end.
_FRUITLESS_CALLS_MAX = 10
_SIGNAL_CONFLICT = "signal-conflict"


class NotAResult(BaseException):
    """The answer of a call is not the result of one step: no attempt of a body is to be reported."""

    def __init__(self, answer: Answer) -> None:
        super().__init__()
        self.answer = answer


class RemoteCode:
    """One run of a function that an app executes.

    A call is the body of a step, for its worker: while it is open the run stays, and its result is durable before the
    next call begins. What must survive this object is in the memos and the open steps of the engine.
    """

    threaded = False

    def __init__(
        self,
        function_of: Callable[[], RemoteFunction],
        transport: Transport,
        start: CodeStart,
        forget: Callable[["RemoteCode"], None],
    ) -> None:
        snapshot = start.snapshot
        self.run_id, self.epoch, self.seen = snapshot.run_id, snapshot.epoch, 0
        self.caller = Caller(self.run_id, self.epoch, start.events, function_of, transport, start.now_ms)
        self.results = Results(snapshot.memos)
        self.phase = Phase.IDLE
        self._runner, self._limits, self._forget = start.runner, start.limits, forget
        self._attempt = start.attempt
        self._asked = Asked(self.epoch, snapshot.opened)
        self._discovery: Call | None = None
        self._failure: Finished | None = None
        self._fruitless = 0
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        # The worker knows this object when the constructor has returned.
        self._loop.call_soon(self._begin)

    # What the worker uses.

    @property
    def over(self) -> bool:
        """Whether the run has ended here."""
        return self.phase is Phase.OVER

    @property
    def activity(self) -> "RemoteCode":
        """What counts its tasks."""
        return self

    def take_created(self) -> int:
        """Return how many tasks a run creates at most: as good as none."""
        return 1

    def begin_report(self, call: Call) -> int:
        """Fix the place of the result of a call among all results, and return the `seen` of its report."""
        self._asked.calls.move(call, CallEvent.REPORT, CallState.REPORTING)
        return self.results.begin_report(call)

    def resume(self, memos: Sequence[Memo], retries: Sequence[Open], acknowledged: bool) -> None:
        """Take in results and due attempts, and the acknowledgement that the planned waits are registered."""
        self.results.add(memos)
        # Not now: the worker is in the middle of a transition of the run.
        self._loop.call_soon(self._resume, retries, acknowledged)

    def abort(self) -> None:
        """Stop the calls; the runner gets no further one."""
        if not self.over:
            self._end()

    # Phases and tasks.

    def _begin(self) -> None:
        if self.over:
            return
        for _ in self.results.take():
            pass
        self.seen = self.results.seen
        self._need(Need.CALL)

    def _need(self, need: Need) -> None:
        before, self.phase = self.phase, PHASES[self.phase][need]
        if self.phase is Phase.CALLING and before is not Phase.CALLING:
            self._spawn(self._discover)

    def _spawn(self, work: Callable[..., Awaitable[None]], *arguments: Any) -> None:
        self._tasks.add(self._loop.create_task(self._guard(work, *arguments)))

    async def _guard(self, work: Callable[..., Awaitable[None]], *arguments: Any) -> None:
        task = asyncio.current_task()
        try:
            await work(*arguments)
        except RunInterrupted:
            return
        except Exception as error:  # noqa: BLE001 - the run must not wait forever for a task that failed
            self._finish(Finished(error=error))
        finally:
            self._tasks.discard(task)
        self._proceed()

    def _proceed(self) -> None:
        """Do what follows when nothing is running: end a run that failed, call once more, or wait for the engine."""
        if self.over or self._tasks:
            return
        if self._failure:
            self._finish(self._failure)
        elif self._asked.is_empty:
            self._need(Need.CALL)
        else:
            self._runner.suspended(self)

    def _resume(self, retries: Iterable[Open], acknowledged: bool) -> None:
        if self.over:
            return
        for call in self._asked.due(retries):
            self._start(call)
        if acknowledged:
            for call in self._asked.calls.of(CallState.HELD):
                self._start(call)
        self._absorb()
        self._proceed()

    def _end(self) -> None:
        self._need(Need.END)
        self._forget(self)
        for task in self._tasks - {asyncio.current_task()}:
            task.cancel()

    def _finish(self, end: Finished) -> None:
        """End the run; what is open is cancelled, and answers that still come are dropped."""
        if not self.over:
            self._end()
            with suppress(RunInterrupted):
                self._runner.finished(self, end)

    def _fail(self, error: Exception) -> None:
        """Fail the attempt of the code: for good at once, and otherwise when the steps that are running have ended."""
        end = Finished(error=error)
        if isinstance(error, FinalForeignError):
            self._finish(end)
        else:
            self._failure = self._failure or end

    # Calls.

    async def _discover(self) -> None:
        if not self._failure:
            await self._call_from_start()
        self._discovery = None
        if not self.over:
            self._need(Need.ANSWER)

    async def _call_from_start(self) -> None:
        self._fruitless += 1
        if self._fruitless > _FRUITLESS_CALLS_MAX:
            message = f"{_FRUITLESS_CALLS_MAX} calls in a row led to no new step"
            raise FinalForeignError(ErrorInfo("Error", message, code="no-progress"))
        call = self._discovery = self._asked.take_repeated() or Call(StepHash(""), "", RUN, attempt=self._attempt)
        if call.step:
            self._asked.calls.move(call, CallEvent.BEGIN, CallState.RUNNING)
        await self._perform(call, DISCOVERY)

    def _start(self, call: Call) -> None:
        """Run the body of a step, by a call for it or by a discovery call that repeats an earlier one."""
        if self._failure:
            return
        if self._asked.is_repeated(call):
            self._need(Need.CALL)
            return
        self._asked.calls.move(call, CallEvent.BEGIN, CallState.RUNNING)
        self._spawn(self._perform, call, call.step)

    async def _perform(self, call: Call, target: str) -> None:
        """Make a call, and process its answer."""
        call.policy = self.caller.function_of().policy
        call.body = functools.partial(self._ask, call, target)
        try:
            outcome = await self._runner.execute(self, call)
        except NotAResult as other:
            if not self.over:
                await self._take(call, other.answer)
            return
        if self.over:
            return
        if outcome is not None:
            self._kept(call, outcome)
            return
        self._attempt = self._fruitless = 0
        if self._asked.retry(call, repeats=target == DISCOVERY):
            self._start(call)

    async def _ask(self, call: Call, target: str) -> Raw:
        """Make a call, as the body of a step: return or raise its result, and NotAResult for any other answer."""
        parallel = target != DISCOVERY or self._asked.others(call) or self.caller.function_of().is_limited
        try:
            answer = await self.caller.call(target, call.attempt, self.results.memos, parallel=parallel)
        except Exception as error:
            logger.exception("a call of run %s failed in the gateway", self.run_id)
            answer = Failed(made_error(f"{type(error).__name__}: {error}", "gateway-error"))
        if isinstance(answer, Ops):
            op = self._sole_result(call, answer)
            if isinstance(op, RunOp):
                return op.output
            if isinstance(op, ErrorOp):
                raise self.caller.error(op.error, answer.retry_after, final=op.final or answer.final)
        elif isinstance(answer, Failed) and target != DISCOVERY and not answer.final and not _is_last(call):
            raise self.caller.error(answer.error, answer.retry_after, final=False)
        raise NotAResult(answer)

    def _sole_result(self, call: Call, answer: Ops) -> Op | None:
        """Return the one op of an answer that is the result of the step of the call, None for any other answer."""
        active = active_ops(answer.ops)
        if len(active) != 1 or any(isinstance(op, CompleteOp | DiscoveryOp) for op in answer.ops):
            return None
        op = active[0]
        if not isinstance(op, RunOp | ErrorOp) or op.step in self.results:
            return None
        if self._asked.calls.get(op.step) is not (call if call.step else None) or op.step != (call.step or op.step):
            return None
        self._asked.begin(call, op)
        return op

    # Answers.

    async def _take(self, call: Call, answer: Answer) -> None:
        """Process an answer that is not the result of the step of the call."""
        is_targeted = call is not self._discovery
        if call.step:
            self._asked.release(call)
        match answer:
            case Returned(output):
                if is_targeted and self.caller.is_go and bytes(output) == b"null" and not self._asked.is_empty:
                    message = f"the code of the function no longer reaches step {call.id!r}"
                    self._fail(FinalForeignError(ErrorInfo("Error", message, code="step-not-found")))
                else:
                    self._finish(Finished(output))
            case Failed():
                if not answer.stale:
                    self._fail(self.caller.error(answer.error, answer.retry_after, final=answer.final or is_targeted))
            case Ops():
                await self._process(answer)
                if is_targeted and not self.over:
                    self._need(Need.CALL)

    async def _process(self, answer: Ops) -> None:
        """Plan what the code asks for, keep the results that it reports, and end the run if it is complete."""
        try:
            self._plan(answer.ops)
        except InvalidInput as error:
            self._fail(FinalForeignError(ErrorInfo("InngestErrTimeoutTooLong", str(error), code="timeout-too-long")))
            return
        for op in answer.ops:
            if isinstance(op, RunOp | ErrorOp):
                await self._keep(op, answer)
            if self.over:
                return
        for op in answer.ops:
            if isinstance(op, CompleteOp):
                self._finish(Finished(op.output))
                return
            if isinstance(op, DiscoveryOp):
                self._need(Need.CALL)
        if not active_ops(answer.ops) and self._asked.is_empty and self.phase is Phase.IDLE:
            self._need(Need.CALL)

    def _plan(self, ops: Sequence[Op]) -> None:
        function, now_ms = self.caller.function_of(), self.caller.now_ms()
        fresh = [op for op in active_ops(ops) if op.step not in self.results]
        request = self._asked.plan(fresh, now_ms, merges=self.caller.merges, limited=function.is_limited)
        if request.begin or request.plans:
            self._fruitless = 0
        if request.plans:
            planned = StepsPlanned(self.run_id, self.epoch, request.plans, acknowledge=request.acknowledge)
            self._runner.plan(self, planned)
        for call in request.begin:
            if request.acknowledge:
                self._asked.calls.move(call, CallEvent.HOLD, CallState.HELD)
            else:
                self._start(call)

    async def _keep(self, op: RunOp | ErrorOp, answer: Ops) -> None:
        """Keep a result that came with other ops; the first result of a step counts."""
        if op.step in self.results or self._asked.calls.get(op.step) is not None:
            return
        call = Call(StepHash(op.step), "", RUN, policy=self.caller.function_of().policy)
        self._asked.begin(call, op)
        if isinstance(op, ErrorOp):
            error = self.caller.error(op.error, answer.retry_after, final=op.final or answer.final)
            call.body = functools.partial(_raise, error)
            outcome = await self._runner.execute(self, call)
        else:
            outcome = self._bounded(op.output)
            await self._runner.report(self, call, outcome)
        if self.over:
            return
        if outcome is not None:
            self._kept(call, outcome)
        elif self._asked.retry(call, repeats=False):
            self._start(call)

    def _bounded(self, output: Raw) -> Outcome:
        size, most = len(bytes(output)), self._limits.step_output_bytes_max
        return Value(output) if size <= most else Failure(output_too_large(size, most))

    def _kept(self, call: Call, outcome: Outcome) -> None:
        self._asked.calls.move(call, CallEvent.APPENDED, CallState.DURABLE)
        self.results.end_report(call, outcome)
        self._absorb()

    def _absorb(self) -> None:
        """Take in the results that are in their place, and call the app again when it must see them."""
        must_see = False
        for step, memo in self.results.take():
            self._attempt = self._fruitless = 0
            must_see |= self._asked.end(step, merges=self.caller.merges)
            if memo and isinstance(memo.outcome, Failure) and memo.outcome.error.code == _SIGNAL_CONFLICT:
                self._fail(FinalForeignError(memo.outcome.error))
                return
        self.seen = self.results.seen
        if must_see and not self._failure:
            self._need(Need.CALL)


def _is_last(call: Call) -> bool:
    return call.attempt >= call.policy.retries


async def _raise(error: Exception) -> Raw:
    raise error
