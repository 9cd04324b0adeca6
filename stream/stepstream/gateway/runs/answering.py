"""What follows from the answers of an app: plans of its run, results that are kept, and its end."""

import asyncio
import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from msgspec.structs import replace

from stepstream.contract.codec import Raw
from stepstream.contract.errors import InvalidInput, TooLarge
from stepstream.contract.ids import StepHash
from stepstream.contract.inbox import StepsPlanned
from stepstream.contract.kinds import StepKind
from stepstream.contract.outcomes import ErrorInfo, Failure, Outcome, Value
from stepstream.gateway.runs.asked import Asked
from stepstream.gateway.runs.call_permit import CallPermit
from stepstream.gateway.runs.calling import Caller, known_version
from stepstream.gateway.runs.function import RemoteFunction
from stepstream.gateway.runs.metadata_log import MetadataLog
from stepstream.gateway.runs.phases import Need, OpenCalls
from stepstream.gateway.runs.results import Results
from stepstream.gateway.runs.transport import Transport
from stepstream.gateway.wire.answers import Answer, Failed, Ops, Returned
from stepstream.gateway.wire.ops import AiOp, CompleteOp, DiscoveryOp, ErrorOp, GatewayOp, Op, RunOp, active_ops
from stepstream.sdk.errors import FinalForeignError
from stepstream.sdk.execution import CodeStart, output_too_large
from stepstream.sdk.replay.calls import RUN, Call, CallEvent, CallState, Finished

# Code of an app cannot catch these errors of waits.
_FATAL = {(StepKind.SIGNAL, "signal-conflict"), (StepKind.WAIT, "invalid-expression")}


class Answering(ABC):
    """The state of a run that an app executes, and how answers change it."""

    def __init__(
        self,
        function_of: Callable[[], RemoteFunction],
        transport: Transport,
        start: CodeStart,
        calls: OpenCalls,
        metadata: MetadataLog | None,
    ) -> None:
        snapshot = start.snapshot
        self.run_id, self.epoch, self.seen = snapshot.run_id, snapshot.epoch, 0
        version = known_version(snapshot)
        self.caller = Caller(self.run_id, self.epoch, start.events, function_of, transport, start.now_ms, version)
        self.results = Results(snapshot.memos)
        self._runner, self._limits, self._starts = start.runner, start.limits, start.bodies.starts
        self._attempt = start.attempt
        self._asked = Asked(self.epoch, snapshot.opened)
        self._open = calls
        self._metadata = metadata
        self._fetches: dict[str, GatewayOp | AiOp] = {}
        self._discovery: Call | None = None
        self._failure: Finished | None = None
        self._fruitless = 0
        self._checkpointing, self._encoding = asyncio.Lock(), asyncio.Lock()
        self._permit = CallPermit(exists=snapshot.covers_body)

    @property
    def over(self) -> bool:
        """Whether the run has ended here."""
        return self._open.over

    def begin_report(self, call: Call) -> int:
        """Fix the position of the result of a call among all results, and return the `seen` of its report."""
        self._asked.calls.move(call, CallEvent.REPORT, CallState.REPORTING)
        return self.results.begin_report(call)

    @abstractmethod
    def _start(self, call: Call) -> None:
        """Run the body of a step."""

    @abstractmethod
    def _finish(self, end: Finished) -> None:
        """End the run; what is open is cancelled, and answers that still come are dropped."""

    def _fail(self, error: Exception) -> None:
        """Fail the attempt of the code: for good at once, and otherwise when the steps that are running have ended."""
        end = Finished(error=error)
        if isinstance(error, FinalForeignError):
            self._finish(end)
        else:
            self._failure = self._failure or end

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
                    self._return(output)
            case Failed():
                if not answer.stale:
                    self._fail(self.caller.failure(answer, is_last=is_targeted))
            case Ops():
                await self._process(answer)
                if is_targeted and not self.over:
                    self._open.need(Need.CALL)

    async def _process(self, answer: Ops) -> None:
        """Plan what the code asks for, keep the results that it reports, and end the run if it is complete."""
        self.caller.defers.note(answer.ops)
        try:
            self._plan(answer.ops)
        except InvalidInput as error:
            name = "InngestErrStateOverflowed" if isinstance(error, TooLarge) else "InngestErrTimeoutTooLong"
            self._fail(FinalForeignError(ErrorInfo(name, str(error), code=error.code)))
            return
        for op in answer.ops:
            if isinstance(op, RunOp | ErrorOp):
                await self._keep(op, answer)
            if self.over:
                return
        for op in answer.ops:
            if isinstance(op, CompleteOp):
                self._return(op.output)
                return
            if isinstance(op, DiscoveryOp):
                self._open.need(Need.CALL)

    def _plan(self, ops: Sequence[Op]) -> None:
        function, now_ms = self.caller.function_of(), self.caller.now_ms()
        fresh = [op for op in active_ops(ops) if op.step not in self.results]
        self._fetches |= {op.step: op for op in fresh if isinstance(op, GatewayOp | AiOp)}
        permit = self._permit if function.is_limited else None
        request = self._asked.plan(fresh, now_ms, merges=self.caller.merges, permit=permit)
        if request.begin or request.plans:
            self._fruitless = 0
        if request.plans:
            plans = tuple(replace(plan, fingerprint=self.caller.fingerprint) for plan in request.plans)
            planned = StepsPlanned(self.run_id, self.epoch, plans, acknowledge=request.acknowledge)
            self._runner.plan(self, planned)
        for call in request.begin:
            if request.acknowledge:
                self._asked.calls.move(call, CallEvent.HOLD, CallState.HELD)
            else:
                self._start(call)

    async def checkpoint(self, ops: Sequence[Op], generation: int | None) -> bool:
        """Keep the results that an app reports while its call is open; return False unless that call is open.

        The code has them already, so no call follows. The attempt of the call is then that of its next step.
        """
        async with self._checkpointing:
            for op in ops:
                if self.over or not self.caller.is_open(generation):
                    return False
                if isinstance(op, RunOp) or (isinstance(op, ErrorOp) and op.final):
                    await self._keep(op, Ops(()), seen=True)
            self.caller.defers.note(ops)
            if self._discovery:
                self._discovery.attempt = 0
            return True

    async def _keep(self, op: RunOp | ErrorOp, answer: Ops, *, seen: bool = False) -> None:
        """Keep a result that came with other ops; the first result of a step counts.

        What the code has `seen` is followed by no call.
        """
        if op.step in self.results or self._asked.calls.get(op.step) is not None:
            return
        if seen:
            self._asked.seen.add(op.step)
        policy, fingerprint = self.caller.function_of().policy, self.caller.fingerprint
        call = Call(StepHash(op.step), "", RUN, policy=policy, fingerprint=fingerprint)
        self._asked.begin(call, op)
        if isinstance(op, ErrorOp):
            error = self.caller.error(op.error, answer.retry_after, final=op.final or answer.final)
            call.body = functools.partial(_raise, error)
            outcome = await self._runner.execute(self, call)
        else:
            outcome = self._bounded(op.output)
            await self._note(op, call.attempt)
            await self._runner.report(self, call, outcome)
        if self.over:
            return
        if outcome is not None:
            self._kept(call, outcome)
        elif self._asked.retry(call, repeats=False):
            self._start(call)

    async def _note(self, op: RunOp, attempt: int) -> None:
        if self._metadata and op.metadata:
            await self._metadata.note(self.run_id, op.step, attempt, op.metadata)

    def _return(self, output: Raw) -> None:
        match self._bounded(output):
            case Failure(error):
                self._fail(FinalForeignError(error))
            case _:
                self._finish(Finished(output))

    def _bounded(self, output: Raw) -> Outcome:
        size, most = len(bytes(output)), self._limits.step_output_bytes_max
        return Value(output) if size <= most else Failure(output_too_large(size, most))

    def _kept(self, call: Call, outcome: Outcome) -> None:
        self._asked.calls.move(call, CallEvent.APPENDED, CallState.DURABLE)
        self.results.end_report(call, outcome)
        self._absorb()

    def _absorb(self) -> None:
        """Take in the results that are next in order, and call the app again when it must see them."""
        must_see = False
        for step, memo in self.results.take():
            self._attempt = self._fruitless = 0
            self._fetches.pop(step, None)
            must_see |= self._asked.end(step, merges=self.caller.merges)
            outcome = memo.outcome if memo else None
            if memo and isinstance(outcome, Failure) and (memo.kind, outcome.error.code) in _FATAL:
                self._fail(FinalForeignError(outcome.error))
                return
        self.seen = self.results.seen
        if must_see and not self._failure:
            self._open.need(Need.CALL)


async def _raise(error: Exception) -> Raw:
    raise error
