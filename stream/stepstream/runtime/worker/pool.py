"""The worker of a queue: each command is one step of some run, whose body is run beside others."""

import asyncio
import functools
import logging
from collections.abc import Callable, Collection, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec.structs import replace

from stepstream.contract.codec import encode
from stepstream.contract.commands import Open, RunStopped, StepDispatched, decode_command
from stepstream.contract.ids import StepHash, run_routing
from stepstream.contract.inbox import StepClaimed, StepLeased, StepsPlanned, WorkerReport
from stepstream.contract.limits import DEFAULT_LIMITS, RUNS_ACTIVE_MAX, RUNS_QUEUED_MAX, Limits
from stepstream.contract.outcomes import Outcome
from stepstream.contract.topics import commands_topic
from stepstream.runtime.dead_letters import DeadLetterKind
from stepstream.runtime.ports import Clock, LogRecord, WorkerLog
from stepstream.runtime.worker.attempts import Attempts, Load, WorkerObserver
from stepstream.runtime.worker.consumer import CommandConsumer
from stepstream.runtime.worker.live_run import LiveRun
from stepstream.runtime.worker.reports import encode_report, step_postponed, step_report
from stepstream.sdk.app import App
from stepstream.sdk.calls import RUN, Call, Finished, RunHandle
from stepstream.sdk.execution import Bodies, StepResult, judge, start_code
from stepstream.sdk.function import RetryPolicy
from stepstream.sdk.replay import Replay
from stepstream.sdk.tasks import task_factory

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Means:
    app: App
    queue: str
    log: WorkerLog
    clock: Clock
    attempts: Attempts
    bodies: Bodies
    limits: Limits


class DispatchedStep:
    """One attempt of a step: the code is replayed up to it, its body is run, and there the code is stopped.

    It is the Runner of its own Replay.
    """

    def __init__(self, means: _Means, command: StepDispatched, begin: Callable[[], bool]) -> None:
        self._means = means
        self._command = command
        self._begin = begin
        self._run = LiveRun(command.run_id, -1, command.function)
        self._reported: asyncio.Future[WorkerReport] = asyncio.get_running_loop().create_future()

    async def attempt(self) -> bytes:
        """Return the report of the attempt as bytes; without the code it is postponed."""
        means, command = self._means, self._command
        function = means.app.get(command.function)
        if function is None:
            return encode(step_postponed(command, means.app.name, means.queue, means.clock.now_ms()))
        self._run.replay = replay = Replay(
            command.run_id,
            0,
            self,
            means.limits,
            command.memos,
            (Open(command.step, command.attempt, ready=True),),
            now_ms=means.clock.now_ms,
            threaded=not function.is_async,
            lent=True,
        )
        try:
            start_code(replay, function, command.events, 0, means.limits, means.bodies.threads)
            value, _ = encode_report(self._run, await self._reported)
            return value
        finally:
            self._run.stop()

    async def execute(self, handle: RunHandle, call: Call) -> Outcome | None:
        """Run the body, if it may still begin; the code does not go on from here."""
        await self._means.log.until_member()
        if not self._begin():
            await self._run.park()
        started_at = self._means.clock.now_ms()
        result = await self._means.attempts.run(self._run, call)
        self._report(self._step_report(handle, call, result, started_at))
        if self._run.replay:
            self._run.replay.abort()
        await asyncio.sleep(0)
        return result.outcome

    def _step_report(self, handle: RunHandle, call: Call, result: StepResult, started_at: int) -> WorkerReport:
        queue, claim = self._means.queue, self._command.claim
        return step_report(handle, call, result, started_at, seen=handle.seen, queue=queue, claim=claim)

    def _report(self, report: WorkerReport) -> None:
        if not self._reported.done():
            self._reported.set_result(report)

    def plan(self, handle: RunHandle, planned: StepsPlanned) -> None:
        """Ask for nothing: the worker that holds the run does."""

    def warn(self, handle: RunHandle, warning: str) -> None:
        """Leave it to the worker that holds the run."""

    def suspended(self, handle: RunHandle) -> None:
        """The code waits for something else: it is not the code that asked for this step."""
        self._miss(handle, None)

    def detached(self, handle: RunHandle) -> None:
        """Let it: what the code waits for may come."""

    def finished(self, handle: RunHandle, end: Finished) -> None:
        """The code has ended before it came to the step."""
        self._miss(handle, end.error)

    def _miss(self, handle: RunHandle, error: BaseException | None) -> None:
        command, function = self._command, self._means.app.get(self._command.function)
        policy = function.policy if function else RetryPolicy()
        call = Call(StepHash(command.step), command.id, RUN, policy=policy, attempt=command.attempt)
        cause = error or LookupError(f"the code of this worker does not come to step {command.id!r}: it has changed")
        now = self._means.clock.now_ms()
        self._report(self._step_report(handle, call, judge(cause, call, now), now))


@dataclass(slots=True, eq=False)
class _Taken:
    """A step that was lent; with a `claim` it is asked first whether it is still to be run.

    `begun` says that it has a slot, `at_work` that its body runs. One that is `reserved` is nobody else's until then;
    where its partition has gone it is `away`, and stays reserved to its end, although that comes back. `heard` is the
    offset of the newest command for it: those up to there are old when they are read again.
    """

    record: LogRecord
    command: StepDispatched
    task: "asyncio.Task[None] | None" = None
    claim: str = ""
    answer: "asyncio.Future[StepDispatched] | None" = None
    begun: bool = False
    at_work: bool = False
    leased: bool = False
    away: bool = False
    heard: int = -1

    @property
    def asking(self) -> bool:
        """Tell whether the answer to its claim is still to come."""
        return self.answer is not None and not self.answer.done()


class PoolWorker(CommandConsumer):
    """Serves one queue of an app; it holds no runs, and as many steps as it has slots."""

    def __init__(
        self,
        log: WorkerLog,
        clock: Clock,
        app: App,
        queue: str,
        *,
        bodies: Bodies | None = None,
        limits: Limits = DEFAULT_LIMITS,
        active_max: int = RUNS_ACTIVE_MAX,
        observer: WorkerObserver | None = None,
    ) -> None:
        super().__init__(log, commands_topic(app.name, queue), observer)
        bodies = bodies or Bodies()
        attempts = Attempts(bodies, app.name, limits, clock, observer)
        self._means = _Means(app, queue, log, clock, attempts, bodies, limits)
        self._active_max = active_max
        self._slots = asyncio.Semaphore(active_max)
        self._steps: dict[tuple[str, str], _Taken] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._asking = 0
        self._group: asyncio.TaskGroup | None = None

    @property
    def active(self) -> int:
        """How many steps are at work or wait for a slot, or have a claim on its way."""
        return len(self._tasks) - self._asking

    @property
    def load(self) -> Load:
        """How full the worker is."""
        begun = sum(taken.begun for taken in self._steps.values())
        return Load(self._active_max, begun, len(self._steps) - begun, 0)

    async def serve(self) -> None:
        """Serve until cancelled; raise when a report cannot be written, after which the caller begins anew."""
        asyncio.get_running_loop().set_task_factory(task_factory)
        try:
            async with asyncio.TaskGroup() as self._group:
                await self._poll()
        finally:
            self.serving = False
            self.changed.notify()
            self._stop_renewing()
            await self._log.close()

    def _hand_back_waiting(self) -> None:
        for taken in self._steps.values():
            if taken.task and not taken.at_work:
                taken.task.cancel()

    def _leases(self, for_ms: int, *, anew: bool) -> Sequence[tuple[str, bytes]]:
        found: list[tuple[str, bytes]] = []
        for taken in self._steps.values():
            if taken.at_work and (anew or taken.leased):
                taken.leased = True
                found.append((taken.command.run_id, encode(self._lease(taken.command, for_ms))))
        return found

    def _lease(self, at: StepDispatched, for_ms: int) -> StepLeased:
        return StepLeased(at.run_id, at.step, at.attempt, self._means.queue, at.claim, for_ms)

    async def _until_room(self) -> None:
        # Those that wait for an answer hold nothing up: it is among the commands that are still to be read.
        while self.active >= RUNS_QUEUED_MAX:
            await self.changed.wait()

    def _let_go(self, kept: Collection[int], *, lost: bool) -> None:
        for taken in list(self._steps.values()):
            if taken.record.partition not in kept and (lost or not taken.leased):
                self._drop(taken)
            elif taken.record.partition not in kept:
                taken.away = True
            elif taken.leased and not (taken.away or self._draining):
                taken.leased = False
                self._begin(self._release(taken.command))

    async def _release(self, command: StepDispatched) -> None:
        await self._log.append(run_routing(command.run_id), encode(self._lease(command, 0)))

    def _dispatch(self, record: LogRecord) -> None:
        try:
            command = decode_command(record.value)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            self._begin(self._dead_letter(record, str(error), "invalid"))
            return
        if not isinstance(command, StepDispatched | RunStopped):
            self._begin(self._dead_letter(record, "it is for the workers that hold runs", "not-applicable"))
            return
        known = self._steps.get((command.run_id, command.step))
        if known and record.offset <= known.heard:
            if record.offset != known.record.offset:
                self._end(record)
            return
        match command:
            case StepDispatched(claim=""):
                self._take(record, command, known)
            case StepDispatched():
                self._hear(record, command, known)
            case RunStopped():
                if known:
                    self._end(known.record)
                    self._drop(known)
                self._end(record)
        if taken := self._steps.get((command.run_id, command.step)):
            taken.heard = record.offset

    def _take(self, record: LogRecord, command: StepDispatched, known: _Taken | None) -> None:
        if known and not known.asking and known.command.attempt >= command.attempt:
            self._end(record)
            return
        fresh = self._log.is_fresh(record) and not command.partial
        if known and known.asking:
            # This later word takes the place of the earlier, whose claim may yet be granted: it is asked for as well.
            fresh = False
            self._end(known.record)
            self._drop(known)
        self._serve_or_ask(record, command, fresh=fresh)

    def _hear(self, record: LogRecord, command: StepDispatched, taken: _Taken | None) -> None:
        """The engine has given a step to whoever made a claim, and hears of nobody else any more.

        Where that is none of ours, it is the late claim of a worker that is gone, and the step is asked for anew.
        """
        if taken is None:
            self._serve_or_ask(record, command, fresh=False)
            return
        self._end(record)
        if taken.asking and taken.answer:
            if taken.claim == command.claim:
                taken.answer.set_result(command)
        elif taken.claim != command.claim:
            self._drop(taken)
            self._serve_or_ask(taken.record, command, fresh=False)

    def _serve_or_ask(self, record: LogRecord, command: StepDispatched, *, fresh: bool) -> None:
        place = record._replace(key=b"", value=b"", headers=())
        taken = _Taken(place, command)
        if not fresh:
            # The answer brings all of it once more; there may be any number of those that wait for theirs.
            taken.command = replace(command, events=(), memos=())
            taken.claim = self._means.attempts.name_claim()
            taken.answer = asyncio.get_running_loop().create_future()
        self._steps[command.run_id, command.step] = taken
        taken.task = self._begin(self._serve_step(taken))

    def _begin(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        if self._group is None:
            raise RuntimeError("commands come only while the worker serves")
        task = self._group.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._task_ended)
        return task

    async def _dead_letter(self, record: LogRecord, reason: str, kind: DeadLetterKind) -> None:
        await self._dead_letters.dead_letter(record, reason, kind)
        self._end(record)

    def _task_ended(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        self.changed.notify()

    def _drop(self, taken: _Taken) -> None:
        if self._steps.get((taken.command.run_id, taken.command.step)) is taken:
            del self._steps[taken.command.run_id, taken.command.step]
        if taken.task:
            taken.task.cancel()
        if taken.answer:
            taken.answer.cancel()

    def _begin_body(self, taken: _Taken) -> bool:
        """Note that a body begins, and return whether it may: not when the worker ends, or the step went to another."""
        taken.at_work = not self._draining and self._steps.get((taken.command.run_id, taken.command.step)) is taken
        if self._draining and taken.task:
            taken.task.cancel()
        return taken.at_work

    async def _answer(self, answer: "asyncio.Future[StepDispatched]") -> StepDispatched:
        self._asking += 1
        self.changed.notify()
        try:
            return await answer
        finally:
            self._asking -= 1

    async def _serve_step(self, taken: _Taken) -> None:
        command = taken.command
        routing_key = run_routing(command.run_id)
        if taken.answer:
            claim = StepClaimed(command.run_id, command.step, taken.claim, self._means.app.name, self._means.queue)
            await self._log.append(routing_key, encode(claim))
            command = taken.command = await self._answer(taken.answer)
        async with self._slots:
            taken.begun = True
            value = await DispatchedStep(self._means, command, functools.partial(self._begin_body, taken)).attempt()
            await self._log.append(routing_key, value)
        self._end(taken.record)
        if self._steps.get((command.run_id, command.step)) is taken:
            del self._steps[command.run_id, command.step]
