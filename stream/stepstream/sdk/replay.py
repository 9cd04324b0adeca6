"""Replay: a run's code between its kept results and its next operations; no I/O of its own.

The code runs as a task of the event loop, so that gather, TaskGroup and bare awaits work as they are. A step without
a result suspends. When all tasks of the run are suspended, the turn is settled: the next kept result is given to the
code, or else the new operations are handed to the runner. Results are given one at a time, in the order in which the
steps completed, so that races go the same way each time.
"""

import asyncio
import contextvars
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from stepstream.contract.commands import Memo, Open
from stepstream.contract.ids import StepHash
from stepstream.contract.inbox import StepsPlanned
from stepstream.contract.limits import Limits
from stepstream.contract.outcomes import Outcome
from stepstream.sdk.calls import RUN, SIGNAL, WAIT, Call, Finished, Runner
from stepstream.sdk.errors import RunInterrupted, StepUsageError
from stepstream.sdk.groups import Groups
from stepstream.sdk.identities import Identities
from stepstream.sdk.quiet import LOOK_LATER_S, Patience, StepFuture, is_blocked
from stepstream.sdk.values import dump_output

current_replay: contextvars.ContextVar["Replay | None"] = contextvars.ContextVar("stepstream_replay", default=None)
current_body: contextvars.ContextVar[str] = contextvars.ContextVar("stepstream_body", default="")

_QUIET_PASSES = 2
BEGIN = object()


class Replay:
    """One run of a function in a worker: discovers steps, resolves them in order, and knows when all is still.

    With `dispatched`, nothing starts or is requested but the bodies that `opened` says are ready.
    """

    def __init__(
        self,
        run_id: str,
        epoch: int,
        runner: Runner,
        limits: Limits,
        memos: Sequence[Memo] = (),
        opened: Sequence[Open] = (),
        *,
        now_ms: Callable[[], int],
        threaded: bool = False,
        dispatched: bool = False,
    ) -> None:
        self.run_id = run_id
        self.epoch = epoch
        self.seen = 0
        self.over = False
        self.now_ms = now_ms
        self._runner = runner
        self._limits = limits
        self._threaded = threaded
        self._dispatched = dispatched
        self._loop = asyncio.get_running_loop()
        self._outside = contextvars.copy_context()  # What is done for the run is no part of its code.
        self._memos = {memo.step: memo for memo in memos}
        self._order = deque(memos)
        self._opened = {step.step: step for step in opened}
        self._calls: dict[str, Call] = {}
        self._fresh: list[Call] = []
        self._held: list[Call] = []
        self._cancelled: list[str] = []
        self._unwanted: set[str] = set()
        self._identities = Identities(limits.steps_per_run_max)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._main: asyncio.Task[Any] | None = None
        self._bodies = 0
        self._reporting: set[Call] = set()
        self._made: deque[tuple[Call, Outcome]] = deque()
        self.groups = Groups(epoch)
        self._unstarted: dict[int, str] = {}
        self._warnings: set[str] = set()
        self._looking = self._looks_later = False
        self._quiet_passes = 0
        self._patience = Patience()

    def start(self, code: Callable[[], Any], handler: Callable[..., Any]) -> None:
        """Run the code; its end is told to the runner."""
        context = contextvars.copy_context()
        context.run(current_replay.set, self)
        context.run(current_body.set, "")
        self._main = self._loop.create_task(self._guard(code, handler), context=context)
        if self._main not in self._tasks:
            raise RuntimeError("the event loop must make tasks by stepstream's task_factory")
        self._look_later()

    async def _guard(self, code: Callable[[], Any], handler: Callable[..., Any]) -> None:
        try:
            value = await code()
            if self._unstarted:
                names = ", ".join(repr(name) for name in self._unstarted.values())
                raise StepUsageError(f"step {names} was called but never awaited; write `await` before it")
            if too_many := self._identities.too_many:
                raise too_many
            end = Finished(dump_output(value, handler, self._limits.step_output_bytes_max))
        except BaseException as error:
            if self.over or isinstance(error, RunInterrupted):
                raise
            end = Finished(error=self._identities.too_many or error)
        self.over = True
        for memo in [memo for memo in self._order if memo.step not in self._calls]:
            self._warn(f"step {memo.id!r} has a result that the code does not ask for any more")
        self._outside.copy().run(self._runner.finished, self, end)
        self._cancel_tasks(asyncio.current_task())

    def adopt(self, task: asyncio.Task[Any]) -> None:
        """Count a task as part of the run's code."""
        self._tasks.add(task)
        task.add_done_callback(self._task_ended)

    def _task_ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if task is self._main and not task.cancelled():
            task.exception()
        self.touch()

    @property
    def replaying(self) -> bool:
        """Tell whether kept results are still to be given to the code."""
        return bool(self._order)

    def created(self, token: int, step_id: str) -> None:
        """Note a step that was called and waits to be awaited."""
        self._unstarted[token] = step_id

    def dismissed(self, token: int) -> None:
        """Note that a step that was called is not wanted."""
        self._unstarted.pop(token, None)

    def discover(self, token: int, call_of: Callable[[StepHash], Call], step_id: str, group: str) -> Call:
        """Give a step its identity; raise StepUsageError or StepLimitError when it cannot be."""
        self._unstarted.pop(token, None)
        if outer := current_body.get():
            raise StepUsageError(
                f"step {step_id!r} is inside the body of step {outer!r}; a step cannot contain another: "
                "return from the first, then call the second"
            )
        if self.over and self._threaded:
            raise RunInterrupted
        if self.over:
            raise StepUsageError(f"step {step_id!r} comes after the end of its run; await all steps in the function")
        call, changed = self._identities.name(call_of, step_id, self._memos, self._opened)
        if changed:
            self._disown(changed.step)
            self._warn(changed.warning)
        opened = self._opened.get(call.step)
        call.group = opened.group if opened else group
        self._calls[call.step] = call
        return call

    def _disown(self, step: str) -> None:
        """Give the code no result of a step, neither one that is here nor one that comes later."""
        self._unwanted.add(step)
        self._order = deque(memo for memo in self._order if memo.step not in self._unwanted)

    async def result(self, call: Call) -> Outcome:
        """Return the result of a step: a kept one in its turn, or a new one."""
        try:
            return await self._result(call)
        finally:
            self._reporting.discard(call)
            if self._calls.pop(call.step, None) and not self.over:
                self._abandon(call)

    async def _result(self, call: Call) -> Outcome:
        alone = self._threaded or len(self._tasks) == 1
        if alone and self._order and self._order[0].step == call.step:
            memo = self._order.popleft()
            return self._resolved(call, memo)
        opened = self._opened.get(call.step)
        begin_now = alone and call.is_own and not (self._order or call.group or opened or self._dispatched)
        if not begin_now:
            self._fresh.append(call)
        while True:
            given = None if begin_now else await self._wait(call, alone)
            if isinstance(given, Memo):
                return self._resolved(call, given)
            begin_now = False
            self._bodies += 1
            try:
                outcome = await self._runner.execute(self, call)
            finally:
                self._bodies -= 1
                self._look_later() if alone else self.touch()
            if self.over and self._threaded:
                raise RunInterrupted  # A thread cannot be stopped in a body, but goes no further.
            if outcome is not None:
                if not alone:
                    await self._in_turn(call, outcome)
                self._calls.pop(call.step, None)
                return outcome
            self._await_attempt(call)

    async def _in_turn(self, call: Call, outcome: Outcome) -> None:
        """Give the code one result at a time, when it has come to rest after the one before, as a replay does."""
        self._made.append((call, outcome))
        await self._wait(call, alone=False)

    def begin_report(self, call: Call) -> int:
        """Fix the place of the result of `call` among all results, and return the `seen` of its report.

        Until the code has this result, it gets none of the engine.
        """
        self._reporting.add(call)
        return self.seen

    def _await_attempt(self, call: Call) -> None:
        """Note that the step is tried again later, unless the word that it is due came first."""
        call.planned = True
        opened = self._opened.get(call.step)
        if opened is None or opened.attempt <= call.attempt:
            self._opened[call.step] = Open(call.step, call.attempt + 1)

    async def _wait(self, call: Call, alone: bool) -> Any:
        call.waiting = StepFuture(loop=self._loop)
        if alone:
            self._quiet_passes = _QUIET_PASSES
        self.touch(fresh=not alone)
        try:
            return await call.waiting
        finally:
            call.waiting = None

    def _resolved(self, call: Call, memo: Memo) -> Outcome:
        self._calls.pop(call.step, None)
        self._opened.pop(call.step, None)
        self.seen = max(self.seen, memo.seen)
        return memo.outcome

    def _abandon(self, call: Call) -> None:
        """The code wants a step no more: it lost a race, or its task was cancelled."""
        for calls in (self._fresh, self._held):
            if call in calls:
                calls.remove(call)
        if call.planned or call.step in self._opened:
            self._cancelled.append(call.step)
        self._disown(call.step)
        self.touch()

    def resume(self, memos: Sequence[Memo], retries: Sequence[Open], acknowledged: bool) -> None:
        """Take in what is new: results, attempts that are due, the word that the waits stand."""
        for memo in memos:
            if memo.step not in self._memos:
                self._memos[memo.step] = memo
                if memo.step not in self._unwanted:
                    self._order.append(memo)
        for retry in retries:
            self._opened[retry.step] = retry
        if acknowledged:
            self._begin(self._held)
            self._held = []
        self.touch()

    def abort(self) -> None:
        """Stop the code where it is; nothing more is told to the runner."""
        self.over = True
        self._interrupt() if self._threaded else self._cancel_tasks(None)

    def _cancel_tasks(self, but: "asyncio.Task[Any] | None") -> None:
        for task in self._tasks - {but}:
            task.cancel()

    def _interrupt(self) -> None:
        for call in list(self._calls.values()):
            if call.waiting and not call.waiting.done():
                call.waiting.set_exception(RunInterrupted())

    def touch(self, fresh: bool = True) -> None:
        """Look again soon whether all is still."""
        if fresh:
            self._quiet_passes = 0
            self._patience.renew()
        if not self._looking and not self.over:
            self._looking = True
            self._loop.call_soon(self._look, context=self._outside)

    def _look_later(self) -> None:
        """Look before long, once for all who ask: the code goes on by itself, and may come to rest unnoticed."""
        if not self._looks_later:
            self._looks_later = True
            self._loop.call_later(LOOK_LATER_S, self._look_now, context=self._outside)

    def _look_now(self) -> None:
        self._looks_later = False
        self.touch()

    def _look(self) -> None:
        self._looking = False
        if self.over:
            return
        if not self._all_blocked(bare=True):
            self.touch()
        elif self._quiet_passes < _QUIET_PASSES:
            self._quiet_passes += 1
            self.touch(fresh=False)
        elif not self._give_next() and not self._operate():
            self._rest()

    def _all_blocked(self, *, bare: bool = False, shared: bool = True) -> bool:
        return self._threaded or all(is_blocked(task, self._tasks, bare=bare, shared=shared) for task in self._tasks)

    def _give_next(self) -> bool:
        """Give the code the next result that it waits for: one of its own, then one that the engine made."""
        while self._made:
            own, outcome = self._made.popleft()
            if own.waiting and not own.waiting.done():
                own.waiting.set_result(outcome)
                self.touch()
                return True
        if self._reporting:
            return False
        for memo in self._order:
            call = self._calls.get(memo.step)
            if call and call.waiting and not call.waiting.done():
                self._order.remove(memo)
                if call in self._fresh:
                    self._fresh.remove(call)
                call.waiting.set_result(memo)
                self.touch()
                return True
        return False

    def _operate(self) -> bool:
        """Hand new operations to the runner: waits stand before any body begins."""
        begin = [call for call in self._calls.values() if self._is_due(call)]
        fresh, self._fresh = self._fresh, []
        new = [call for call in fresh if call.step not in self._opened and not self._dispatched]
        if self._order and new:
            self._warn(f"step {new[0].id!r} is new before steps that have results: the code has changed")
        self.groups.name(new, self._tasks)
        plans = [call for call in new if call.plan and not call.planned]
        begin += [call for call in new if call.is_own and call not in begin]
        acknowledge = bool(begin) and any(call.kind in (WAIT, SIGNAL) for call in plans)
        known = [call for call in self._calls.values() if call.planned or call.step in self._opened]
        ungrouped = tuple(self.groups.leave(known, self._tasks))
        if (plans or self._cancelled or ungrouped) and not self._dispatched:
            for call in plans:
                call.planned = True
            cancelled, self._cancelled = tuple(self._cancelled), []
            asked = tuple(call.plan(call) for call in plans if call.plan)
            planned = StepsPlanned(self.run_id, self.epoch, asked, cancelled, acknowledge, ungrouped=ungrouped)
            self._runner.plan(self, planned)
        if acknowledge:
            self._held = begin
        else:
            self._begin(begin)
        return bool(begin) and not acknowledge

    def _is_due(self, call: Call) -> bool:
        opened = self._opened.get(call.step)
        return bool(opened and opened.ready and call.kind == RUN and call.waiting and call not in self._held)

    def _begin(self, calls: Sequence[Call]) -> None:
        for call in calls:
            opened = self._opened.pop(call.step, None)
            call.attempt = opened.attempt if opened else call.attempt
            if call.waiting and not call.waiting.done():
                call.waiting.set_result(BEGIN)
                self.touch()

    def _rest(self) -> None:
        if self._bodies:
            return
        if self._threaded:
            if self._calls and all(call.waiting for call in self._calls.values()):
                self.over = True
                self._interrupt()
                self._runner.suspended(self)
            return
        now_s = self._loop.time()
        idle, awaited = self._all_blocked(), self._is_awaited()
        over, spent = self._patience.is_over(now_s), self._patience.is_spent(now_s)
        missed = self._dispatched and (self._all_blocked(shared=False) or (idle and spent))
        if missed or (awaited and (idle or spent)):
            self._runner.suspended(self)
            return
        if idle or (awaited and over):
            self._runner.detached(self)
        if self._dispatched or not idle:
            self._loop.call_later(self._patience.next_look_s(), self.touch, False, context=self._outside)

    def _is_awaited(self) -> bool:
        """Tell whether the code waits for a step that will wake it in any case, in whatever worker it then is."""
        return any(call.waiting and (call.planned or call.step in self._opened) for call in self._calls.values())

    def _warn(self, text: str) -> None:
        if text not in self._warnings:
            self._warnings.add(text)
            self._outside.copy().run(self._runner.warn, self, text)
