"""The worker: takes commands, runs code, reports each result and goes on when it is durable."""

import asyncio
import logging
import uuid
from collections import OrderedDict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import msgspec

from stepstream.contract.codec import encode
from stepstream.contract.commands import (
    Command,
    RunLoaded,
    RunResumed,
    RunStarted,
    RunStopped,
    decode_command,
)
from stepstream.contract.ids import run_routing
from stepstream.contract.inbox import (
    RunClaimed,
    RunFailed,
    RunReturned,
    RunWarned,
    StepFailed,
    StepPlan,
    StepReported,
    StepsPlanned,
    WorkerReport,
)
from stepstream.contract.limits import DEFAULT_LIMITS, RUNS_ACTIVE_MAX, RUNS_CACHED_MAX, Limits
from stepstream.contract.outcomes import Failure, Outcome
from stepstream.runtime.bell import Bell
from stepstream.runtime.ports import Clock, LogError, LogRecord, WorkerLog
from stepstream.runtime.positions import Positions
from stepstream.sdk.app import App
from stepstream.sdk.calls import Asking, Call, Finished
from stepstream.sdk.errors import error_info, stack_of
from stepstream.sdk.execution import Bodies, StepResult, failure_delay, start_code
from stepstream.sdk.replay import Replay
from stepstream.sdk.tasks import task_factory

logger = logging.getLogger(__name__)
_COMMANDS_PER_POLL_MAX = 64


@dataclass(slots=True, eq=False)
class _LiveRun:
    """A run in the worker's cache. `claim` is set while all of it is asked for; `commands` are not dealt with yet.

    `attempt` is that of the code between steps; a step that got on begins it anew, here as in the engine.
    """

    run_id: str
    partition: int
    function: str = ""
    claim: str = ""
    replay: Replay | None = None
    attempt: int = 0
    active: bool = False
    reports: int = 0
    at_rest: bool = False
    commands: list[LogRecord] = field(default_factory=list)


class Worker:
    """Serves one app: many runs at once, each with its code live in a bounded cache."""

    def __init__(
        self,
        log: WorkerLog,
        clock: Clock,
        app: App,
        *,
        bodies: Bodies | None = None,
        limits: Limits = DEFAULT_LIMITS,
        live_cache: bool = True,
        runs_cached_max: int = RUNS_CACHED_MAX,
        runs_active_max: int = RUNS_ACTIVE_MAX,
    ) -> None:
        self._log = log
        self._clock = clock
        self._app = app
        self._bodies = bodies or Bodies()
        self._limits = limits
        self._live_cache = live_cache
        self._cached_max = runs_cached_max
        self._active_max = runs_active_max
        self._name = uuid.uuid4().hex[:12]
        self._claims = 0
        self._runs: OrderedDict[str, _LiveRun] = OrderedDict()
        self._positions = Positions()
        self._active = 0
        self._room = Bell()
        self._tasks: set[asyncio.Task[None]] = set()
        self._failed: asyncio.Future[None] | None = None
        self._draining = False
        self.serving = False
        self.changed = Bell()

    @property
    def active(self) -> int:
        """How many runs have code at work or reports on their way."""
        return self._active + len(self._tasks)

    async def serve(self) -> None:
        """Serve until cancelled; raise when a report cannot be written, after which the caller begins anew."""
        loop = asyncio.get_running_loop()
        loop.set_task_factory(task_factory)
        self._failed = loop.create_future()
        polling = asyncio.ensure_future(self._poll())
        try:
            await asyncio.wait({polling, self._failed}, return_when=asyncio.FIRST_COMPLETED)
            if self._failed.done():
                self._failed.result()
            await polling
        finally:
            self.serving = False
            polling.cancel()
            self._failed.cancel()
            for run in self._runs.values():
                if run.replay:
                    run.replay.abort()
            for task in self._tasks:
                task.cancel()
            await self._log.close()

    async def drain(self) -> None:
        """Take no more commands, let the code at work come to rest, and commit."""
        self._draining = True
        while self.active:
            await self.changed.wait()
        await self._commit()

    async def _poll(self) -> None:
        await self._log.open(self._revoke)
        self.serving = True
        while not self._draining:
            while self._active >= self._active_max:
                await self._room.wait()
            for record in await self._log.poll(min(_COMMANDS_PER_POLL_MAX, self._active_max - self._active)):
                self._positions.begin(record.topic, record.partition, record.offset)
                self._dispatch(record)
            await self._commit()

    async def _revoke(self, partitions: Collection[int]) -> None:
        """Let go of the runs of partitions that another worker gets; it claims them."""
        await self._commit()
        for run in [run for run in self._runs.values() if run.partition in partitions]:
            self._drop(run)
        self._positions.forget(partitions)

    async def _commit(self) -> None:
        if offsets := self._positions.advance():
            await self._log.commit(offsets)

    # Commands.

    def _dispatch(self, record: LogRecord) -> None:
        try:
            command = decode_command(record.value)
        except (msgspec.MsgspecError, ValueError):
            logger.exception("command %s-%d-%d is passed over", record.topic, record.partition, record.offset)
            self._positions.end(record.topic, record.partition, record.offset)
            return
        run = self._runs.get(command.run_id)
        if run is None:
            run = _LiveRun(command.run_id, record.partition)
        run.commands.append(record)
        if not self._handle(run, command, fresh=self._log.is_fresh(record)):
            self._finish_commands(run)
        if run.run_id in self._runs:
            self._runs.move_to_end(run.run_id)

    def _handle(self, run: _LiveRun, command: Command, *, fresh: bool) -> bool:
        """Act on a command; return False when there is nothing to do for it."""
        known = run.run_id in self._runs
        match command:
            case RunStarted():
                if known:
                    return bool(run.claim)
                if fresh:
                    self._begin(run, command)
                else:
                    self._claim(run)
                return True
            case RunLoaded():
                if run.claim and run.claim == command.claim:
                    run.claim = ""
                    self._begin(run, command)
                elif not known:
                    self._claim(run)
                elif not run.claim and run.replay and command.epoch > run.replay.epoch:
                    self._claim_back(run)
                return True
            case RunResumed():
                return self._resume(run, command)
            case RunStopped():
                self._drop(run)
                return False

    def _resume(self, run: _LiveRun, command: RunResumed) -> bool:
        if run.claim:
            return True
        if run.replay is None:
            if command.wake:
                self._claim(run)
            return command.wake
        if command.epoch != run.replay.epoch:
            return False
        self._work(run)
        if command.memos:
            run.attempt = 0
        run.replay.resume(command.memos, command.retries, command.acknowledged)
        return True

    def _claim(self, run: _LiveRun) -> None:
        self._runs[run.run_id] = run
        self._claims += 1
        run.claim = f"{self._name}-{self._claims}"
        self._report(run, RunClaimed(run.run_id, run.claim, self._app.name))

    def _claim_back(self, run: _LiveRun) -> None:
        """A late claim of a worker that is gone took the run: nothing that this code reports would count any more."""
        again = _LiveRun(run.run_id, run.partition, commands=run.commands)
        run.commands = []
        self._drop(run)
        self._claim(again)

    def _begin(self, run: _LiveRun, command: RunStarted | RunLoaded) -> None:
        self._runs[run.run_id] = run
        self._work(run)
        function = self._app.get(command.function)
        run.function = command.function
        run.attempt = command.attempt if isinstance(command, RunLoaded) else 0
        memos, opened = (command.memos, command.open) if isinstance(command, RunLoaded) else ((), ())
        run.replay = Replay(
            command.run_id,
            command.epoch,
            self,
            self._limits,
            memos,
            opened,
            now_ms=self._clock.now_ms,
            threaded=function is not None and not function.is_async,
        )
        start_code(run.replay, function, command.function, command.events, run.attempt, self._limits)
        self._make_room()

    def _work(self, run: _LiveRun) -> None:
        run.at_rest = False
        if not run.active:
            run.active = True
            self._active += 1

    def _rest(self, run: _LiveRun) -> None:
        if run.active:
            run.active = False
            self._active -= 1
            self._room.ring()
        self.changed.ring()

    def _make_room(self) -> None:
        while len(self._runs) > self._cached_max:
            oldest = next((run for run in self._runs.values() if run.at_rest and not run.claim), None)
            if oldest is None:
                return
            self._drop(oldest)

    def _drop(self, run: _LiveRun) -> None:
        """Forget a run; its code stops where it is."""
        if self._runs.get(run.run_id) is run:
            del self._runs[run.run_id]
        run.claim = ""
        if run.replay:
            run.replay.abort()
        self._finish_commands(run)
        self._rest(run)

    def _finish_commands(self, run: _LiveRun) -> None:
        for record in run.commands:
            self._positions.end(record.topic, record.partition, record.offset)
        run.commands.clear()

    # Reports.

    async def _append(self, run: _LiveRun, report: WorkerReport | RunClaimed) -> None:
        run.reports += 1
        try:
            if self._failed and self._failed.done():
                raise LogError("this worker has lost a report and ends")
            await self._log.append(run_routing(run.run_id), encode(report))
        except Exception as error:
            if self._failed and not self._failed.done():
                self._failed.set_exception(error)
            raise LogError(f"a report of run {run.run_id} could not be written") from error
        finally:
            run.reports -= 1

    async def _append_or_end(self, run: _LiveRun, report: WorkerReport) -> None:
        """Append for the run's code; when that fails, the code never hears of it: the worker's end stops it here."""
        try:
            await self._append(run, report)
        except LogError:
            await asyncio.get_running_loop().create_future()

    def _report(self, run: _LiveRun, report: WorkerReport | RunClaimed, *, then_drop: bool = False) -> None:
        task = asyncio.ensure_future(self._append_later(run, report, then_drop))
        self._tasks.add(task)
        task.add_done_callback(self._report_ended)

    def _report_ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self.changed.ring()

    async def _append_later(self, run: _LiveRun, report: WorkerReport | RunClaimed, then_drop: bool) -> None:
        try:
            await self._append(run, report)
        except LogError:
            return  # It is kept in _failed, which ends serve().
        if then_drop:
            self._drop(run)
        else:
            self._settle(run)

    # What the code asks for: the Runner of its Replay.

    async def execute(self, asking: Asking, call: Call) -> Outcome | None:
        """Run a step's body and have its result kept; None when another attempt comes later."""
        run = self._runs[asking.run_id]
        started_at = self._clock.now_ms()
        result: StepResult = await self._bodies.run(run.function, call, self._limits, self._clock.now_ms)
        run.attempt = 0
        if result.retry_ms is not None and isinstance(result.outcome, Failure):
            error = result.outcome.error
            failed = StepFailed(
                run.run_id,
                asking.epoch,
                call.step,
                call.id,
                call.attempt,
                result.retry_ms,
                error,
                call.group,
                started_at,
            )
            await self._append_or_end(run, failed)
            return None
        seen = asking.report(call)
        report = StepReported(
            run.run_id, asking.epoch, call.step, call.id, result.outcome, call.attempt, seen, started_at
        )
        await self._append_or_end(run, report)
        return result.outcome

    def plan(self, asking: Asking, plans: Sequence[StepPlan], cancelled: Sequence[str], acknowledge: bool) -> None:
        """Ask the engine for steps."""
        run = self._runs[asking.run_id]
        self._report(run, StepsPlanned(run.run_id, asking.epoch, tuple(plans), tuple(cancelled), acknowledge))

    def warn(self, asking: Asking, warning: str) -> None:
        """Have a disagreement of code and history recorded."""
        run = self._runs[asking.run_id]
        self._report(run, RunWarned(run.run_id, asking.epoch, warning))

    def suspended(self, asking: Asking) -> None:
        """The code can do nothing more until something comes from the engine."""
        run = self._runs.get(asking.run_id)
        if run is not None and run.replay is asking:
            run.at_rest = True
            self._settle(run)

    def _settle(self, run: _LiveRun) -> None:
        """When the code rests and all is durable, the run's commands are dealt with."""
        if not run.at_rest or run.reports or run.claim or self._runs.get(run.run_id) is not run:
            return
        if run.replay is None or run.replay.over or not self._live_cache:
            self._drop(run)
            return
        self._finish_commands(run)
        self._rest(run)

    def finished(self, asking: Asking, end: Finished) -> None:
        """The code has ended."""
        run = self._runs[asking.run_id]
        if end.error is None and end.output is not None:
            report: WorkerReport = RunReturned(run.run_id, asking.epoch, end.output)
        else:
            error = end.error or RuntimeError("the function ended without a result")
            function = self._app.get(run.function)
            policy = function.policy if function else None
            retry_ms = failure_delay(error, run.attempt, policy, self._clock.now_ms())
            info = error_info(error, stack_of(error))
            report = RunFailed(run.run_id, asking.epoch, info, run.attempt, retry_ms)
        self._report(run, report, then_drop=True)
