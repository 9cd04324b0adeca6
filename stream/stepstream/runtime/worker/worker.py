"""The worker: takes commands, runs code, reports each result and goes on when it is durable."""

import asyncio
from collections.abc import Collection, Sequence

import msgspec
from msgspec.structs import replace

from stepstream.contract.commands import (
    Command,
    RunLoaded,
    RunResumed,
    RunStarted,
    RunStopped,
    StepDispatched,
    decode_command,
)
from stepstream.contract.inbox import RunClaimed, RunLeased, StepsPlanned, WarningReported, WorkerReport
from stepstream.contract.limits import DEFAULT_LIMITS, RUNS_ACTIVE_MAX, RUNS_CACHED_MAX, RUNS_QUEUED_MAX, Limits
from stepstream.contract.outcomes import Outcome
from stepstream.contract.topics import commands_topic
from stepstream.runtime.notification import Notification
from stepstream.runtime.ports import Clock, LogError, LogRecord, WorkerLog
from stepstream.runtime.worker.attempts import Attempts, Load, WorkerObserver
from stepstream.runtime.worker.consumer import CommandConsumer
from stepstream.runtime.worker.live_run import LiveRun
from stepstream.runtime.worker.outbox import Outbox
from stepstream.runtime.worker.reports import encode_report, encode_reports, end_report, run_postponed, step_report
from stepstream.runtime.worker.slots import Slots
from stepstream.sdk.app import App
from stepstream.sdk.calls import Call, Finished, RunHandle
from stepstream.sdk.errors import RunInterrupted
from stepstream.sdk.execution import Bodies
from stepstream.sdk.tasks import task_factory


class Worker(CommandConsumer):
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
        observer: WorkerObserver | None = None,
    ) -> None:
        super().__init__(log, commands_topic(app.name), observer)
        self._clock = clock
        self._app = app
        self._bodies = bodies or Bodies()
        self._attempts = Attempts(self._bodies, app.name, limits, clock, observer)
        self._limits = limits
        self._live_cache = live_cache
        self._cached_max = runs_cached_max
        self._slots = Slots(runs_active_max, runs_active_max + runs_cached_max)
        self._runs: dict[str, LiveRun] = {}
        self._resting: dict[str, LiveRun] = {}
        self._room = Notification()
        self._outbox = Outbox(log, self.changed, self._dead_letters)

    @property
    def load(self) -> Load:
        """How full the worker is."""
        slots = self._slots
        return Load(slots.active_max, slots.active, len(slots.waiting), len(self._runs), self._attempts.at_work)

    @property
    def active(self) -> int:
        """How many runs have code at work or reports on their way."""
        return self._slots.active + len(self._outbox) + len(self._slots.waiting)

    async def serve(self) -> None:
        """Serve until cancelled; raise when a report cannot be written, after which the caller begins anew."""
        loop = asyncio.get_running_loop()
        loop.set_task_factory(task_factory)
        failed = self._outbox.failed = loop.create_future()
        polling = asyncio.ensure_future(self._poll())
        try:
            await asyncio.wait({polling, failed}, return_when=asyncio.FIRST_COMPLETED)
            if failed.done():
                failed.result()
            await polling
        finally:
            self.serving = False
            self.changed.notify()
            polling.cancel()
            failed.cancel()
            for run in self._runs.values():
                run.stop()
            self._stop_renewing()
            self._outbox.cancel()
            await self._log.close()

    def _hand_back_waiting(self) -> None:
        for run in list(self._slots.waiting):
            self._hand_back(run)

    def _leases(self, for_ms: int, *, anew: bool) -> Sequence[tuple[str, bytes]]:
        at_work = [run for run in self._runs.values() if run.bodies and (anew or run.leased)]
        return [(run.run_id, run.reserve(for_ms)) for run in at_work if run.replay]

    async def _until_room(self) -> None:
        while len(self._slots.waiting) >= RUNS_QUEUED_MAX:
            await self._room.wait()

    def _let_go(self, kept: Collection[int], *, lost: bool) -> None:
        for run in list(self._runs.values()):
            if run.partition not in kept and (lost or not run.leased):
                self._drop(run)
            elif run.partition not in kept:
                run.away = True
                run.commands.clear()
            elif run.leased and run.replay and not (run.away or run.leaving or self._draining):
                run.leased = False
                self._report(run, RunLeased(run.run_id, run.replay.epoch))
            self._settle(run)

    def _dispatch(self, record: LogRecord) -> None:
        try:
            command = decode_command(record.value)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            self._outbox.dead_letter(record, str(error), "invalid", self._positions)
            return
        if isinstance(command, StepDispatched):
            self._outbox.dead_letter(record, "it is for the workers of a queue", "not-applicable", self._positions)
            return
        run = self._runs.get(command.run_id) or LiveRun(command.run_id, record.partition)
        # Of a backlog each run is asked for at once, and the answers lie behind it: its bytes are not kept meanwhile.
        place = record._replace(key=b"", value=b"", headers=())
        run.commands.append(place)
        again, run.heard = record.offset <= run.heard, max(record.offset, run.heard)
        if run.away and (again or not isinstance(command, RunStopped)):
            return  # Its partition came back to us; the run is asked for anew once what is at work has ended.
        if not self._handle(run, command, fresh=self._log.is_fresh(record)) and place in run.commands:
            run.commands.remove(place)
            self._end(record)

    def _handle(self, run: LiveRun, command: Command, *, fresh: bool) -> bool:
        """Act on a command; return False when there is nothing to do for it."""
        known = run.run_id in self._runs
        match command:
            case RunStarted():
                if known:
                    return bool(run.claim or run.queued)
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
                elif run.queued:
                    run.outdated |= command.epoch > run.queued.epoch
                elif not run.claim and (run.replay is None or command.epoch > run.replay.epoch):
                    self._claim_back(run)
                return True
            case RunResumed():
                return self._resume(run, command)
            case _:
                self._drop(run)
                return False

    def _resume(self, run: LiveRun, command: RunResumed) -> bool:
        if run.claim:
            return True
        if run.queued:
            run.outdated = True
            return True
        if run.replay and command.epoch != run.replay.epoch:
            return False
        if run.replay is None or run.replay.over or (run.at_rest and not self._live_cache and not run.lingers):
            # Its code is not to go on: if it is here, then only until its last report is durable.
            if command.wake:
                self._claim_back(run)
            return command.wake
        run.news.append(command)
        if run.active or not self._slots.full:
            self._work(run)
        else:
            self._resting.pop(run.run_id, None)  # Nobody else knows of its news: it is not to be evicted.
            self._slots.wait(run)
        return True

    def _claim(self, run: LiveRun) -> None:
        self._runs[run.run_id] = run
        run.claim = self._attempts.name_claim()
        self._report(run, RunClaimed(run.run_id, run.claim, self._app.name))

    def _claim_back(self, run: LiveRun) -> None:
        """Ask for a run anew: a late claim of a worker that is gone took it, or its code is not to go on."""
        again = LiveRun(run.run_id, run.partition, commands=run.commands)
        run.commands = []
        self._drop(run)
        self._claim(again)

    def _begin(self, run: LiveRun, command: RunStarted | RunLoaded) -> None:
        """Begin a run's code, or have it wait: for its turn when too many are at work, or for its code to be there."""
        self._runs[run.run_id] = run
        function = self._app.get(command.function)
        if function is None:
            self._report(run, run_postponed(command, self._app.name, self._clock.now_ms()), then_drop=True)
            return
        if self._slots.crowded:
            run.queued = command
            self._slots.wait(run)
            return
        self._work(run)
        run.start(self, function, command, self._limits, self._clock, self._bodies.threads)
        while len(self._runs) > self._cached_max and self._resting:
            self._drop(next(iter(self._resting.values())))

    def _work(self, run: LiveRun) -> bool:
        """Note that a run is at work; return whether it goes on by itself and has no command left in the log."""
        alone, run.at_rest = run.at_rest and not run.commands, False
        self._resting.pop(run.run_id, None)
        self._slots.take(run)
        run.catch_up()
        return alone

    def _rest(self, run: LiveRun) -> None:
        self._slots.note(run, active=False, lingers=run.lingers)
        self._admit()
        self.changed.notify()

    def _admit(self) -> None:
        """Have those begin, or go on, whose turn has come."""
        while run := self._slots.next_turn():
            command, run.queued = run.queued, None
            if run.outdated:
                run.outdated = False
                self._claim(run)
            elif command:
                self._begin(run, command)
            else:
                self._work(run)
        self._room.notify()

    def _drop(self, run: LiveRun) -> None:
        """Forget a run; its code stops where it is."""
        if self._runs.get(run.run_id) is run:
            del self._runs[run.run_id]
            self._resting.pop(run.run_id, None)
        self._slots.forget(run)
        self._slots.note(run, active=run.active, lingers=False)
        run.claim = ""
        run.stop()
        self._finish_commands(run)
        self._rest(run)

    def _hand_back(self, run: LiveRun) -> None:
        """Leave a run to whoever reads its commands again: they are not dealt with."""
        if self._draining:
            run.commands.clear()
        if run.leased and run.replay:
            self._report(run, RunLeased(run.run_id, run.replay.epoch), then_drop=True)
        else:
            self._drop(run)

    def _finish_commands(self, run: LiveRun) -> None:
        for record in run.commands:
            self._end(record)
        run.commands.clear()

    async def _append_or_end(self, run: LiveRun, report: WorkerReport) -> None:
        """Append for the run's code; when that fails, the code never hears of it: the worker's end stops it here."""
        value, meant = encode_report(run, report)
        if not meant:
            run.abort()
        run.reports += 1
        try:
            await self._outbox.append(run.run_id, value)
        except LogError:
            meant = False
        finally:
            run.reports -= 1
        if not meant:
            await run.park()

    def _report(self, run: LiveRun, report: WorkerReport | RunClaimed, *, then_drop: bool = False) -> None:
        """Append a report by and by; until it is durable, the commands that led to it are not dealt with."""
        values, meant = encode_reports(run, report)
        if not meant:
            run.abort()
        run.reports += 1
        self._outbox.begin(self._append_later(run, values, then_drop or not meant))

    async def _append_later(self, run: LiveRun, values: Sequence[bytes], then_drop: bool) -> None:
        try:
            for value in values:
                await self._outbox.append(run.run_id, value)
        except LogError:
            return  # The outbox keeps it, and serve() ends by it.
        finally:
            run.reports -= 1
        if then_drop and run.leased and run.commands and not self._draining:
            self._claim_back(run)
        elif then_drop:
            self._drop(run)
        else:
            self._settle(run)

    # What the code asks for: the Runner of its Replay.

    async def execute(self, handle: RunHandle, call: Call) -> Outcome | None:
        """Run a step's body and have its result kept; None when another attempt comes later."""
        run = self._runs[handle.run_id]
        if self._work(run):
            await self._append_or_end(run, StepsPlanned(run.run_id, handle.epoch, wake=True))
        if not self._draining:
            await self._log.until_member()
        if handle.over or self._runs.get(run.run_id) is not run:
            raise RunInterrupted
        if self._draining or run.leased:
            run.leaving = True
            self._settle(run)
            await run.park()
        run.bodies += 1
        try:
            started_at = self._clock.now_ms()
            result = await self._attempts.run(run, call)
            run.attempt = 0
            seen = handle.begin_report(call) if result.is_final else 0
            await self._append_or_end(run, step_report(handle, call, result, started_at, seen=seen))
        finally:
            run.bodies -= 1
            self._settle(run)
        return None if result.retry_ms is not None else result.outcome

    def plan(self, handle: RunHandle, planned: StepsPlanned) -> None:
        """Ask the engine for steps."""
        run = self._runs[handle.run_id]
        self._report(run, replace(planned, wake=self._work(run)))

    def warn(self, handle: RunHandle, warning: str) -> None:
        """Have a disagreement of code and history recorded."""
        run = self._runs[handle.run_id]
        self._report(run, WarningReported(run.run_id, handle.epoch, warning))

    def suspended(self, handle: RunHandle) -> None:
        """The code can do nothing more until something comes from the engine."""
        self._stop(handle, detached=False)

    def detached(self, handle: RunHandle) -> None:
        """The code waits for something that is no step: it gives its slot up, and its commands are not dealt with."""
        self._stop(handle, detached=True)

    def _stop(self, handle: RunHandle, *, detached: bool) -> None:
        run = self._runs.get(handle.run_id)
        if run is not None and run.replay is handle:
            run.at_rest = True
            self._slots.note(run, active=run.active, lingers=detached)
            self._settle(run)

    def _settle(self, run: LiveRun) -> None:
        """When the code rests and all is durable, the run's commands are dealt with."""
        if run.reports or run.claim or run.news or self._runs.get(run.run_id) is not run:
            return
        if run.leaving or (run.leased and run.at_rest):
            if not run.bodies and (self._draining or not self._moving):
                self._hand_back(run)
            return
        if not run.at_rest:
            return
        if not run.lingers:
            if run.replay is None or run.replay.over or not self._live_cache:
                self._drop(run)
                return
            self._finish_commands(run)
            self._resting[run.run_id] = run
        self._rest(run)

    def finished(self, handle: RunHandle, end: Finished) -> None:
        """The code has ended."""
        run = self._runs[handle.run_id]
        function = self._app.get(run.function)
        policy = function.policy if function else None
        report = end_report(run, handle, end, policy, self._clock.now_ms())
        self._report(run, report, then_drop=True)
