"""The worker of an app: it runs the code of many runs at once, and reports each result before the code continues."""

import functools

from msgspec.structs import replace

from stepstream.contract.attributes import AttributeChanges
from stepstream.contract.codec import Raw, encode
from stepstream.contract.commands import (
    Command,
    ReloadRequested,
    RunLoaded,
    RunResumed,
    RunStarted,
    RunStopped,
    StepDispatched,
)
from stepstream.contract.gates import RunParked
from stepstream.contract.inbox import (
    AttributesSet,
    ExecutionStarted,
    RunClaimed,
    StepsPlanned,
    WarningReported,
    WorkerReport,
)
from stepstream.contract.outcomes import Outcome
from stepstream.contract.progress import StateSet
from stepstream.contract.run_state import StateValues
from stepstream.contract.topics import commands_topic
from stepstream.runtime.ports import LogError, LogRecord, WorkerLog
from stepstream.runtime.worker.claims import Claims
from stepstream.runtime.worker.consumer import CommandConsumer
from stepstream.runtime.worker.observer import Load
from stepstream.runtime.worker.options import WorkerOptions
from stepstream.runtime.worker.reports import (
    UnencodableReport,
    encode_report,
    encode_reports,
    end_report,
    heartbeat_report,
    run_postponed,
    step_report,
    unencodable,
)
from stepstream.runtime.worker.runs.lifecycle import Life
from stepstream.runtime.worker.runs.live_run import LiveRun
from stepstream.runtime.worker.runs.states import Effect, Event
from stepstream.sdk.errors import RunInterrupted
from stepstream.sdk.execution import StepResult
from stepstream.sdk.function import RetryPolicy
from stepstream.sdk.replay.calls import Call, Finished, RunHandle
from stepstream.sdk.served import ServedApp


class Worker(CommandConsumer[LiveRun]):
    """Serves one app: performs the life cycle of each of its runs, and is the Runner of their code."""

    def __init__(self, log: WorkerLog, app: ServedApp, options: WorkerOptions) -> None:
        super().__init__(log, commands_topic(app.name), options)
        self._app = app
        self._claims = Claims(app.name, options.observer)
        # The runs that may be evicted; the one that has been parked the longest comes first.
        self._parked: dict[str, LiveRun] = {}
        self._effects |= {
            Effect.KEEP_RESULTS: LiveRun.keep_results,
            Effect.RESUME_CODE: LiveRun.resume,
            Effect.QUEUE_RESUME: functools.partial(self._admission.queue, resumes=True),
            Effect.WITHDRAW: self._slots.withdraw,
            Effect.DETACH: self._admission.detach,
            Effect.PARK: self._park,
            Effect.UNPARK: self._unpark,
        }

    @property
    def load(self) -> Load:
        """How full the worker is."""
        slots, options = self._slots, self._options
        cached, bodies = len(self._items), self._attempts.running
        threads = options.bodies.threads.bodies
        return Load(
            options.runs_active_max,
            len(slots.active),
            len(slots.waiting),
            cached,
            bodies,
            threads.most,
            threads.in_use,
        )

    # Commands.

    def _refuse(self, command: Command) -> str:
        return "it is for the workers of a queue" if isinstance(command, StepDispatched) else ""

    def _process(self, record: LogRecord, command: Command) -> None:
        run = self._items.get(command.run_id)
        if run is None:
            run = self._items[command.run_id] = LiveRun(command.run_id, record.partition, Life(command.run_id))
        run.add_command(record)
        event = self._event(run, record, command)
        run.last_offset = max(record.offset, run.last_offset)
        self._on(run, event)
        run.incoming = None
        self._evict_to_budget()

    def _event(self, run: LiveRun, record: LogRecord, command: Command) -> Event:
        """Return what a command is for its run, which keeps the state or the results that it brings."""
        match command:
            case RunStarted() if run.last_offset < 0:
                fresh = self._log.is_fresh(record)
                return self._given(run, record, command, Event.FRESH) if fresh else Event.DELIVERED
            case RunLoaded() if run.claim and run.claim == command.claim:
                return self._given(run, record, command, Event.GRANTED)
            case RunLoaded() if command.epoch > run.epoch:
                return Event.TAKEN
            case RunResumed() if command.epoch == run.epoch or not run.epoch:
                run.incoming, run.news = command, command.number
                self._hold(run, len(record.value))
                return Event.RESUMED if command.wake else Event.UPDATED
            case ReloadRequested() if record.offset > run.last_offset:
                return Event.EXPIRED if command.expired else Event.RELOAD
            case RunStopped() if record.offset > run.last_offset:
                return Event.STOP
        return Event.STALE

    def _given(self, run: LiveRun, record: LogRecord, command: RunStarted | RunLoaded, event: Event) -> Event:
        run.accept(command)
        self._hold(run, len(record.value))
        return event if self._app.get(command.function) else Event.UNRUNNABLE

    # Effects.

    def _claim(self, run: LiveRun) -> None:
        run.forget_state(self._claims.next())
        self._release(run)
        self._report(run, encode(RunClaimed(run.run_id, run.claim, self._app.name)))

    def _again(self, run: LiveRun) -> LiveRun:
        return LiveRun(run.run_id, run.partition, Life(run.run_id))

    def _postpone(self, run: LiveRun) -> None:
        if run.given:
            postponed = run_postponed(run.given, self._app.name, self._options.clock.now_ms())
            self._report(run, encode(postponed))

    def _start(self, run: LiveRun) -> None:
        if run.given and run.given.announce:
            self._report(run, encode(ExecutionStarted(run.run_id, run.epoch)))
        run.start(self, self._app, self._options)
        while len(self._items) > self._options.runs_cached_max and self._parked:
            self._on(next(iter(self._parked.values())), Event.EVICTED)

    def _park(self, run: LiveRun) -> None:
        self._parked[run.run_id] = run
        self._admission.release(run)
        if run.running and run.running.threaded:
            self._options.bodies.threads.park(run, lambda: self._on(run, Event.EVICTED))
        self._evict_to_budget()

    def _evict_to_budget(self) -> None:
        while self._memory.is_full and self._parked:
            self._on(next(iter(self._parked.values())), Event.EVICTED)

    def _unpark(self, run: LiveRun) -> None:
        self._parked.pop(run.run_id, None)
        self._options.bodies.threads.unpark(run)

    def _drop(self, run: LiveRun) -> None:
        if self._parked.get(run.run_id) is run:
            self._unpark(run)
        super()._drop(run)

    # What the code asks for: the Runner of its code.

    def _live(self, handle: RunHandle) -> LiveRun | None:
        """Return the run of some code, None for code that was stopped."""
        run = self._items.get(handle.run_id)
        return run if run is not None and run.running is handle else None

    def _run_of(self, handle: RunHandle) -> LiveRun:
        """Return the run of some code; raise RunInterrupted for code that was stopped."""
        run = self._live(handle)
        if run is None:
            raise RunInterrupted
        return run

    async def execute(self, handle: RunHandle, call: Call) -> Outcome | None:
        """Run the body of a step and make its result durable; return None when another attempt follows."""
        run = self._run_of(handle)
        if Effect.ASK_WAKE in self._on(run, Event.CONTINUED):
            await self._write(run, StepsPlanned(run.run_id, handle.epoch, wake=True))
        async with self._memory.body(run.function, call.size):
            await self._until_allowed(run)
            try:
                started_at = self._options.clock.now_ms()
                beat = functools.partial(self._heartbeat, run, handle, call, started_at)
                result = await self._attempts.run(run.function, run.run_id, call, beat)
                run.attempt = 0
                size = result.size
                self._hold(run, size)
                self._memory.learn(run.function, size)
                async with self._memory.report():
                    seen = handle.begin_report(call) if result.is_final else 0
                    await self._write(run, step_report(handle, call, result, started_at, seen=seen))
            finally:
                self._end_body(run)
        return result.outcome if result.is_final else None

    def _heartbeat(self, run: LiveRun, handle: RunHandle, call: Call, started_at: int, progress: Raw) -> None:
        if not handle.over:
            call.open = True  # The engine has a row of it from now on.
            times = (started_at, self._options.clock.now_ms())
            self._send(run, heartbeat_report(handle, call, progress, times))

    async def report(self, handle: RunHandle, call: Call, outcome: Outcome) -> None:
        """Make the result of a step durable whose body has run already."""
        run = self._run_of(handle)
        run.attempt = 0
        result = StepResult(outcome)
        self._hold(run, result.size)
        seen = handle.begin_report(call)
        await self._write(run, step_report(handle, call, result, self._options.clock.now_ms(), seen=seen))

    async def _write(self, run: LiveRun, report: WorkerReport) -> None:
        """Write a report for which the code waits; where that fails, block the code until it is stopped."""
        try:
            await self._outbox.append(run.run_id, encode_report(report))
        except UnencodableReport as error:
            self._fail(run, error)
            await run.halt()
        except LogError:
            await run.halt()

    def plan(self, handle: RunHandle, planned: StepsPlanned) -> None:
        """Ask the engine for steps."""
        run = self._run_of(handle)
        wake = Effect.ASK_WAKE in self._on(run, Event.CONTINUED)
        self._send(run, replace(planned, wake=wake))

    def warn(self, handle: RunHandle, warning: str) -> None:
        """Report to the engine that the code and its history disagree."""
        run = self._run_of(handle)
        self._send(run, WarningReported(run.run_id, handle.epoch, warning))

    def set_attributes(self, handle: RunHandle, changes: AttributeChanges) -> None:
        """Ask the engine to change the attributes of the run."""
        run = self._run_of(handle)
        self._send(run, AttributesSet(run.run_id, handle.epoch, changes))

    def set_state(self, handle: RunHandle, values: StateValues) -> None:
        """Ask the engine to replace the state of the run."""
        run = self._run_of(handle)
        self._send(run, StateSet(run.run_id, handle.epoch, values))

    def _send(self, run: LiveRun, report: WorkerReport) -> None:
        try:
            self._report(run, *encode_reports(report))
        except UnencodableReport as error:
            self._fail(run, error)

    def _fail(self, run: LiveRun, error: UnencodableReport) -> None:
        run.stop()
        self._end_code(run, encode(unencodable(run, error)))

    def suspended(self, handle: RunHandle) -> None:
        """The code waits for the engine."""
        run = self._live(handle)
        if run is not None and run.reports_parked:
            run.last_report = encode(RunParked(run.run_id, run.epoch, run.news))
            self._wait(run, Event.YIELDED)
            return
        resumable = self._options.live_cache and not handle.over
        self._wait(run, Event.SUSPENDED if resumable else Event.UNLOADED)

    def detached(self, handle: RunHandle) -> None:
        """The code waits on external work."""
        self._wait(self._live(handle), Event.DETACHED)

    def _wait(self, run: LiveRun | None, event: Event) -> None:
        if run is not None:
            self._admission.note_tasks(run)
            self._on(run, event)

    def finished(self, handle: RunHandle, end: Finished) -> None:
        """The code has ended."""
        run = self._run_of(handle)
        self._admission.note_tasks(run)
        function = self._app.get(run.function)
        policy = self._options.bodies.policy(function.policy if function else RetryPolicy())
        report = end_report(run, handle, end, policy, self._options.clock.now_ms())
        try:
            self._end_code(run, encode_report(report))
        except UnencodableReport as error:
            self._fail(run, error)
