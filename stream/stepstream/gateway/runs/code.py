"""The running code of a run that an app executes: which calls it needs, and what follows from their answers."""

import asyncio
import functools
import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext, suppress
from typing import Any

from stepstream.contract.codec import Raw
from stepstream.contract.commands import Memo, Open
from stepstream.contract.ids import StepHash
from stepstream.contract.inbox import StepsPlanned
from stepstream.contract.limits import BODIES_STARTED_PER_ITERATION_MAX, MIB
from stepstream.contract.outcomes import ErrorInfo
from stepstream.gateway.runs.answering import Answering
from stepstream.gateway.runs.fetches import fetch
from stepstream.gateway.runs.function import RemoteFunction
from stepstream.gateway.runs.metadata_log import MetadataLog
from stepstream.gateway.runs.phases import Need, OpenCalls, Phase
from stepstream.gateway.runs.transport import NotCalled, Transport
from stepstream.gateway.wire.answers import Answer, Failed, Ops
from stepstream.gateway.wire.calls import DISCOVERY
from stepstream.gateway.wire.failures import made_error
from stepstream.gateway.wire.ops import CompleteOp, DiscoveryOp, ErrorOp, Op, RunOp, active_ops
from stepstream.sdk.errors import FinalForeignError, RunInterrupted
from stepstream.sdk.execution import CodeStart
from stepstream.sdk.replay.calls import RUN, Call, CallEvent, CallState, Finished

logger = logging.getLogger(__name__)
# So many discovery calls without a new step or result are a fault of the app: it would be called without end.
_FRUITLESS_CALLS_MAX = 10
# A call counts as one more start for each so many bytes of it: one iteration of the event loop builds calls of at most
# 2 MiB together, or a single larger one.
_BYTES_PER_START = 2 * MIB // BODIES_STARTED_PER_ITERATION_MAX


class NotAResult(BaseException):
    """The answer of a call is not the result of one step: no attempt of a body is to be reported."""

    def __init__(self, answer: Answer) -> None:
        super().__init__()
        self.answer = answer


class RemoteCode(Answering):
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
        metadata: MetadataLog | None,
    ) -> None:
        calls = OpenCalls(self._discover, self._break, self._proceed)
        super().__init__(function_of, transport, start, calls, metadata)
        self._forget = forget
        self._loop = asyncio.get_running_loop()
        # The worker knows this object when the constructor has returned.
        self._loop.call_soon(self._safely, self._begin)

    # What the worker uses.

    @property
    def is_busy(self) -> bool:
        """Whether a task can continue by itself: its calls may be answered at any time."""
        return True

    @property
    def activity(self) -> "RemoteCode":
        """What counts its tasks."""
        return self

    def take_created(self) -> int:
        """Return how many tasks a run creates at most: as good as none."""
        return 1

    def resume(self, memos: Sequence[Memo], retries: Sequence[Open], acknowledged: bool) -> None:
        """Take in results and due attempts, and the acknowledgement that the planned waits are registered."""
        self.results.add(memos)
        # Not now: the worker is in the middle of a transition of the run.
        self._loop.call_soon(self._safely, self._resume, retries, acknowledged)

    def abort(self) -> None:
        """Stop the calls; the runner gets no further one."""
        if not self.over:
            self._end()

    # Phases and tasks.

    def _safely(self, work: Callable[..., None], *arguments: Any) -> None:
        """Do something in a callback of the event loop, unless the run is over; an error ends the run."""
        if self.over:
            return
        try:
            work(*arguments)
        except Exception as error:  # noqa: BLE001 - the run must not wait forever for a callback that failed
            self._break(error)

    def _begin(self) -> None:
        for _ in self.results.take():
            pass
        self.seen = self.results.seen
        self._open.need(Need.CALL)

    def _proceed(self) -> None:
        """Do what follows when nothing is running: end a run that failed, call once more, or wait for the engine."""
        if self.over:
            return
        if self._is_permit_unused() and (call := self._asked.waiting()):
            self._start(call)
            return
        if self._open:
            return
        if self._failure:
            self._finish(self._failure)
        elif self._asked.is_empty:
            self._open.need(Need.CALL)
        else:
            self._runner.suspended(self)

    def _is_permit_unused(self) -> bool:
        """Return whether the run has a permit by which neither its code is executing nor one of its bodies."""
        return self._permit.is_free and self._open.phase is Phase.IDLE and not self._failure

    def _resume(self, retries: Iterable[Open], acknowledged: bool) -> None:
        for call in self._asked.due(retries):
            self._start(call)
        self._permit.review()
        if acknowledged:
            for call in self._asked.calls.of(CallState.HELD):
                self._start(call)
        self._absorb()
        self._proceed()

    def _end(self) -> None:
        self._open.end()
        self._forget(self)

    def _break(self, error: Exception) -> None:
        self._finish(Finished(error=error))

    def _finish(self, end: Finished) -> None:
        """End the run; what is open is cancelled, and answers that still come are dropped."""
        if self.over:
            return
        with suppress(RunInterrupted):
            if end.error is None:
                self._send_deferred()
            self._end()
            self._runner.finished(self, end)

    def _send_deferred(self) -> None:
        function = self.caller.function_of().registered
        if plans := self.caller.defers.plans(self.run_id, function.id, function.app):
            self._runner.plan(self, StepsPlanned(self.run_id, self.epoch, plans))

    # Calls.

    async def _discover(self) -> None:
        if not self._failure:
            await self._call_from_start()
        self._discovery = None
        if not self.over:
            self._open.need(Need.ANSWER)

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
            self._open.need(Need.CALL)
            return
        self._asked.calls.move(call, CallEvent.BEGIN, CallState.RUNNING)
        if call.covered:
            self._permit.claim(call)
        self._open.start(self._perform, call, call.step)

    async def _perform(self, call: Call, target: str) -> None:
        """Make a call, and process its answer."""
        call.policy, call.fingerprint = self.caller.function_of().policy, self.caller.fingerprint
        op = self._fetches.get(call.step)
        call.size = 0 if op else self.caller.size(self.results.size)
        call.body = (
            functools.partial(fetch, op, self.caller.transport) if op else functools.partial(self._ask, call, target)
        )
        is_covered = self._permit.exists and (target == DISCOVERY or call.covered or not call.open)
        try:
            async with self._permit.covering(call) if is_covered else nullcontext():
                outcome = await self._runner.execute(self, call)
        except NotAResult as other:
            if not self.over:
                await self._take(call, other.answer)
            return
        except NotCalled:
            # Its worker drains, and starts no other call: the run goes to another process.
            self._fruitless = 0
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
        try:
            async with self._encoding:
                await self.caller.encode_events()
                await self.results.encode()
            await self._starts.wait(1 + call.size // _BYTES_PER_START)
            is_planned = self.caller.function_of().is_limited and not self._permit.exists
            parallel = target != DISCOVERY or is_planned or self._asked.others(call)
            answer = await self.caller.call(target, call.attempt, self.results.memos, parallel=parallel)
        except Exception as error:
            logger.exception("a call of run %s failed in the gateway", self.run_id)
            answer = Failed(made_error(f"{type(error).__name__}: {error}", "gateway-error"))
        call.fingerprint = self.caller.fingerprint
        if isinstance(answer, Ops):
            op = self._sole_result(call, answer)
            if isinstance(op, RunOp):
                await self._note(op, call.attempt)
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
        self.caller.defers.note(answer.ops)
        self._asked.begin(call, op)
        return op


def _is_last(call: Call) -> bool:
    return call.attempt >= call.policy.retries
