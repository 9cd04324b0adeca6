"""Replay: runs the code of a function between its memoized results and its next operations, without any I/O."""

import asyncio
import contextvars
import functools
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

from stepstream.contract.commands import Memo, Open
from stepstream.contract.inbox import StepsPlanned
from stepstream.contract.limits import BODIES_STARTED_PER_ITERATION_MAX, Limits
from stepstream.contract.outcomes import Outcome
from stepstream.contract.run_state import StateValues
from stepstream.sdk.errors import ContinuedAsNew, HistoryMismatchError, RunInterrupted, StepUsageError
from stepstream.sdk.replay.calls import Call, CallEvent, CallState, CallTable, Finished, Runner, StepFuture
from stepstream.sdk.replay.discovery import Discovery
from stepstream.sdk.replay.groups import Groups
from stepstream.sdk.replay.idle import DETACH_AFTER_S, SUSPEND_AFTER_S, Activity, Wait, retrieve_exception
from stepstream.sdk.replay.messages import Publisher
from stepstream.sdk.replay.operations import Operations
from stepstream.sdk.replay.pacing import PacedCalls
from stepstream.sdk.replay.pending_changes import PendingChanges
from stepstream.sdk.replay.results import Results
from stepstream.sdk.replay.run_permit import RunPermit
from stepstream.sdk.replay.tasks import RunTask, Scope, current_body, current_scope, run_task
from stepstream.sdk.values import dump_output


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the engine knows of a run when its code starts: the memos in the order of their keys, and the open steps.

    In a `dispatched` run the code serves one step of a queue: nothing is requested, and no body runs but that one.
    `chain` and `covers_body` are those of RunStarted, `state` that of RunLoaded.
    """

    run_id: str
    epoch: int
    memos: Sequence[Memo] = ()
    opened: Sequence[Open] = ()
    dispatched: bool = False
    chain: int = 0
    state: StateValues = field(default_factory=dict)
    covers_body: bool = False


class Replay:
    """One run of a function in a worker.

    The code runs as tasks of the event loop. A step without a result blocks its task. When all tasks are blocked, the
    run is idle, and it settles: the code gets its next result, one at a time and in the order in which the steps
    completed, so that races have the same winner in every replay. When there is none, the new operations are handed to
    the runner. When there are none either, the runner is notified that the code is suspended or detached.

    What a runner may use: `start` the code once, `resume` it with what the engine sends, `abort` it; `begin_report`
    before it reports a final result; `run_id`, `epoch`, `seen`, and `over`, which says that the code has ended or was
    aborted. The other methods are those of the steps. Without a `publisher`, what the code publishes is dropped.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        runner: Runner,
        limits: Limits,
        *,
        now_ms: Callable[[], int],
        threaded: bool = False,
        starts: PacedCalls | None = None,
    ) -> None:
        self.run_id, self.epoch = snapshot.run_id, snapshot.epoch
        self.seen = 0
        self.now_ms = now_ms
        self.groups = Groups(snapshot.epoch)
        self.threaded = threaded
        self.publisher: Publisher | None = None
        self._starts = starts or PacedCalls(BODIES_STARTED_PER_ITERATION_MAX)
        self._runner = runner
        self.limits = limits
        self.dispatched = snapshot.dispatched
        self._loop = asyncio.get_running_loop()
        self.activity = Activity(self._loop, self._settle)
        self._calls = CallTable()
        self._results = Results(snapshot.memos)
        self._opened = {step.step: step for step in snapshot.opened}
        permit = RunPermit(self._calls, exists=snapshot.covers_body)
        self._operations = Operations(self._calls, self.groups, permit, self._opened, snapshot.dispatched)
        self._scope = Scope(snapshot.run_id, self.activity, snapshot.chain)
        known = (self._scope, self._results, self._operations, limits.steps_per_run_max)
        self.steps = Discovery(*known, warn=self.warn, reject=self.reject)
        self._lines: deque[StepFuture] = deque()
        self._warnings: set[str] = set()
        self.changes = PendingChanges(self, runner, self.activity, lambda: not self._results, snapshot.state)
        if snapshot.dispatched:
            self.changes.close()
        self._main: asyncio.Task[Any] | None = None

    @property
    def over(self) -> bool:
        """Return whether the code has ended or was aborted."""
        return self.activity.closed

    @property
    def replaying(self) -> bool:
        """Return whether the code has not been given all its memoized results yet."""
        return bool(self._results)

    @property
    def repeating(self) -> bool:
        """Return whether an earlier execution of the code has been where it is now."""
        return self.dispatched or self.replaying or bool(self._opened)

    # The code and its end.

    def start(self, code: Callable[[], Any], handler: Callable[..., Any]) -> None:
        """Run the code of `handler`; the runner is notified of its end."""
        context = contextvars.copy_context()
        context.run(current_scope.set, self._scope)
        context.run(current_body.set, None)
        self._main = self._loop.create_task(self._guard(code, handler), context=context)
        if not isinstance(self._main, RunTask):
            raise RuntimeError("the event loop has another task factory; set stepstream.sdk.replay.tasks.task_factory")
        self._main.add_done_callback(retrieve_exception)

    async def _guard(self, code: Callable[[], Any], handler: Callable[..., Any]) -> None:
        try:
            value = await code()
            if names := ", ".join(map(repr, self.steps.unawaited)):
                raise StepUsageError(f"step {names} was called but never awaited; write `await` before it")
            if limit_error := self.steps.limit_error:
                raise limit_error
            end = Finished(dump_output(value, handler, self.limits.step_output_bytes_max))
        except BaseException as error:
            if self.over or isinstance(error, RunInterrupted):
                raise
            error = self.steps.limit_error or error
            end = Finished(continued=error.data) if isinstance(error, ContinuedAsNew) else Finished(error=error)
        self._finish(end)

    def _finish(self, end: Finished) -> None:
        self.changes.report()
        self.steps.warn_of_changes()
        self._close()
        for memo in self._results.left():
            if memo.step not in self._calls:
                self.warn(f"step {memo.id!r} has a result that the code no longer requests")
        self.activity.call_outside(self._runner.finished, self, end)
        if end.error is not None:
            self.activity.retrieve_exceptions()
        self._cancel_tasks(asyncio.current_task())

    def _close(self, *, aborted: bool = False) -> None:
        """Drop the references to and from this object that form cycles.

        So the memory of a run is freed at its end, and not by a later garbage collection.
        """
        self._main = None
        self.activity.close(aborted=aborted)
        self.steps.close()
        self.changes.close()

    # What steps use.

    def take_next(self, call: Call) -> Outcome:
        """Return the result of a step that Discovery.stored_next has found, to the thread that runs the code."""
        memo = self._results.take_first(call.step)
        if memo is None:
            raise RuntimeError(f"the stored result of step {call.id!r} is not the next one")
        outcome = self._give(call, memo)
        if not self._results:
            self._loop.call_soon_threadsafe(self.changes.report_attributes_if_live)
        return outcome

    async def result(self, call: Call) -> Outcome:
        """Return the result of a step: the memoized one when it is due, or a new one."""
        try:
            return await self._result(call)
        finally:
            self.groups.forget(call)
            if call.state not in (CallState.RESOLVED, CallState.ABANDONED) and not self.over:
                self._abandon(call)

    async def _result(self, call: Call) -> Outcome:
        sequential = self.activity.is_sequential
        if self.threaded:
            call.task = run_task()
        if sequential and (memo := self._results.take_first(call.step)):
            return self._resolve(call, memo)
        if not (sequential and self._may_begin_at_once(call) and self._operations.begin_at_once(call)):
            outcome = await self._wait(call, sequential)
            if outcome is not None:
                return outcome
        while (outcome := await self._run_body(call)) is None:
            self._calls.retry(call)
            outcome = await self._wait(call, sequential)
            if outcome is not None:
                return outcome
        if sequential:
            self._calls.move(call, CallEvent.GIVE, CallState.RESOLVED)
        else:
            call.outcome = outcome
            self._calls.move(call, CallEvent.APPENDED, CallState.DURABLE)
            await self._wait(call, sequential)
        return outcome

    def _may_begin_at_once(self, call: Call) -> bool:
        return not (self._results or call.group or self.dispatched)

    async def _run_body(self, call: Call) -> Outcome | None:
        self.changes.report_state_if_live()
        code = call.task.recorded if isinstance(call.task, RunTask) else None
        if code is not None:
            self.activity.leave(code)
        try:
            outcome = await self._runner.execute(self, call)
        finally:
            if code is not None:
                self.activity.enter(code)
        if self.over and self.threaded:
            raise RunInterrupted
        return outcome

    async def _wait(self, call: Call, sequential: bool) -> Outcome | None:
        """Wait for what settling gives: a result, or None when the body is to run."""
        call.waiting = StepFuture(loop=self._loop)
        if call.group:
            self.groups.watch(call)
        self._results.await_step(call.step)
        self.activity.look(at_once=sequential)
        try:
            return await call.waiting
        finally:
            call.waiting = None

    def _resolve(self, call: Call, memo: Memo) -> Outcome:
        outcome = self._give(call, memo)
        self.changes.report_attributes_if_live()
        return outcome

    def _give(self, call: Call, memo: Memo) -> Outcome:
        self._calls.move(call, CallEvent.GIVE, CallState.RESOLVED)
        self.seen = max(self.seen, memo.seen)
        return memo.outcome

    def _abandon(self, call: Call) -> None:
        self._operations.abandon(call)
        self._results.refuse(call.step)
        self.activity.look()

    def reject(self, reason: str) -> NoReturn:
        """End the code at a step that does not fit the history of its run; the code cannot catch that."""
        self._close(aborted=True)
        self.activity.call_outside(self._runner.finished, self, Finished(error=HistoryMismatchError(reason)))
        self._cancel_tasks(asyncio.current_task())
        raise RunInterrupted

    async def next_line(self) -> None:
        """Wait until another line of the code, a thread, may start: each starts when the ones before it wait."""
        line = StepFuture(loop=self._loop)
        self._lines.append(line)
        await line

    def warn(self, text: str) -> None:
        """Record a warning on the run, once."""
        if text not in self._warnings:
            self._warnings.add(text)
            self.activity.call_outside(self._runner.warn, self, text)

    # What the runner uses.

    def begin_report(self, call: Call) -> int:
        """Fix the place of the result of `call` among all results, and return the `seen` of its report.

        Until the code has this result, it gets none of the engine.
        """
        self._calls.move(call, CallEvent.REPORT, CallState.REPORTING)
        return self.seen

    def resume(self, memos: Sequence[Memo], retries: Sequence[Open], acknowledged: bool) -> None:
        """Take in results and due attempts, and the acknowledgement that the planned waits are registered."""
        for memo in memos:
            self._results.add(memo, awaited=self._awaits(memo.step))
        self._operations.call_for(retries)
        if acknowledged:
            self._begin(self._calls.of(CallState.HELD))
        self.activity.look()

    def abort(self) -> None:
        """Stop the code where it is; the runner gets no further call."""
        self._close(aborted=True)
        self.activity.retrieve_exceptions()
        if not self.threaded:
            self._cancel_tasks(None)
            return
        for call in self._calls:
            if call.waiting is not None and call.waits:
                call.waiting.set_exception(RunInterrupted())
        for line in self._lines:
            line.cancel()

    def _cancel_tasks(self, but: "asyncio.Task[Any] | None") -> None:
        for task in self.activity.tasks - {but}:
            task.cancel()

    # Settling: what happens when the code is idle.

    def _settle(self) -> None:
        self.steps.warn_of_changes()
        try:
            if self._give_next():
                return
            self.changes.report()
            if not self._operate():
                self._report_idle()
        except Exception as error:  # noqa: BLE001 - the run must not wait forever for a callback that failed
            self._finish(Finished(error=error))

    def _give_next(self) -> bool:
        """Start the next line, or give the code its next result: first one of its bodies, then one of the engine."""
        while self._lines:
            line = self._lines.popleft()
            if not line.done():
                line.set_result(None)
                return True
        own = self._calls.first(CallState.DURABLE)
        if own is not None and own.waiting is not None and own.waits:
            self._calls.move(own, CallEvent.GIVE, CallState.RESOLVED)
            own.waiting.set_result(own.outcome)
            own.outcome = None
            return True
        if self._calls.has(CallState.REPORTING):
            return False
        memo = self._results.take_awaited(self._awaits)
        call = self._calls.get(memo.step) if memo else None
        if memo is None or call is None or call.waiting is None:
            return False
        call.waiting.set_result(self._resolve(call, memo))
        return True

    def _awaits(self, step: str) -> bool:
        return (call := self._calls.get(step)) is not None and call.waits

    def _operate(self) -> bool:
        """Hand new operations to the runner: waits are registered before any body begins."""
        new = None if self.dispatched else self._calls.first(CallState.NEW)
        if self._results and new:
            self.warn(f"step {new.id!r} is new before steps that have results: the code has changed")
        request, begin = self._operations.collect()
        if request:
            planned = StepsPlanned(
                self.run_id,
                self.epoch,
                request.plans,
                request.cancelled,
                request.acknowledge,
                ungrouped=request.ungrouped,
            )
            self._runner.plan(self, planned)
        self._begin(begin)
        return bool(begin)

    def _begin(self, calls: Sequence[Call]) -> None:
        for call in calls:
            if call.waiting is not None and call.waits:
                self._calls.move(call, CallEvent.BEGIN, CallState.RUNNING)
                self._starts.call(functools.partial(_begin, call))

    def _report_idle(self) -> None:
        """Notify the runner that the code is suspended or detached, unless a body is running."""
        if self._calls.has(CallState.RUNNING, CallState.REPORTING):
            return
        waits = self.activity.waits()
        if Wait.ENDED in waits and self.activity.look_once_more():
            return
        external = Wait.EXTERNAL in waits
        idle_s = self.activity.idle_s()
        # The step of a dispatched run is open, whether the code has reached it or not.
        is_open = self.dispatched or self._calls.has(CallState.OPEN, CallState.DUE, CallState.HELD)
        is_suspended = is_open and (not external or idle_s >= SUSPEND_AFTER_S)
        if self.dispatched:
            # Its code can no longer reach the step, unless a lock or queue of another run lets it continue.
            misses = not external and Wait.SHARED not in waits
            is_suspended = misses or (not external and idle_s >= SUSPEND_AFTER_S)
        if is_suspended:
            self._runner.suspended(self)
            return
        if not external or (is_open and idle_s >= DETACH_AFTER_S):
            self._runner.detached(self)
        if external or self.dispatched:
            self.activity.look_later()


def _begin(call: Call) -> None:
    if call.waiting is not None and call.waits:
        call.waiting.set_result(None)
