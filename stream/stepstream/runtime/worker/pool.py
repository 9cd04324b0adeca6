"""The worker of a queue: it runs the bodies of dispatched steps, each in a replay of the code up to its step."""

import asyncio
import functools
from collections.abc import Hashable
from dataclasses import dataclass

from msgspec.structs import replace

from stepstream.contract.attributes import AttributeChanges
from stepstream.contract.codec import NULL, Raw, encode
from stepstream.contract.commands import Command, Open, RunStopped, StepDispatched
from stepstream.contract.ids import StepHash
from stepstream.contract.inbox import StepClaimed, StepLeased, StepsPlanned
from stepstream.contract.outcomes import Failure, Outcome
from stepstream.contract.run_state import StateValues
from stepstream.contract.topics import commands_topic
from stepstream.runtime.ports import LogRecord, WorkerLog
from stepstream.runtime.worker.claims import Claims
from stepstream.runtime.worker.consumer import CommandConsumer
from stepstream.runtime.worker.observer import Load
from stepstream.runtime.worker.options import WorkerOptions
from stepstream.runtime.worker.reports import (
    UnencodableReport,
    encode_report,
    heartbeat_report,
    mismatched_step,
    step_postponed,
    step_report,
)
from stepstream.runtime.worker.runs.lifecycle import Life
from stepstream.runtime.worker.runs.states import Event
from stepstream.runtime.worker.runs.work_item import WorkItem
from stepstream.sdk.errors import HistoryMismatchError, error_info
from stepstream.sdk.execution import StepResult, judge
from stepstream.sdk.function import RetryPolicy
from stepstream.sdk.replay.calls import RUN, Call, Finished, RunHandle
from stepstream.sdk.replay.replay import Snapshot
from stepstream.sdk.served import ServedApp


@dataclass(slots=True, eq=False, kw_only=True)
class LiveStep(WorkItem):
    """One attempt of a dispatched step: the code is replayed up to the step, and is stopped after its body.

    It is the Runner of its Replay. `dispatched_at` is the offset of the command that dispatched it.
    """

    pool: "PoolWorker"
    command: StepDispatched
    dispatched_at: int = -1

    @property
    def key(self) -> Hashable:
        """What identifies it in its worker."""
        return self.command.run_id, self.command.step

    @property
    def code(self) -> str:
        """The id of its function."""
        return self.command.function

    def lease(self, for_ms: int) -> bytes:
        """Return the report of a lease; with 0 it is released."""
        command = self.command
        queue, claim = self.pool.queue, command.claim
        return encode(StepLeased(command.run_id, command.step, command.attempt, queue, claim, for_ms))

    def start(self, app: ServedApp, options: WorkerOptions) -> None:
        """Replay the code up to the step."""
        command = self.command
        self.function = command.function
        opened = Open(
            command.step, command.attempt, ready=True, fingerprint=command.fingerprint, progress=command.progress
        )
        snapshot = Snapshot(command.run_id, 0, command.memos, (opened,), dispatched=True, chain=command.chain)
        self._start_code(snapshot, self, app, command.events, options)

    async def execute(self, handle: RunHandle, call: Call) -> Outcome | None:
        """Run the body and stop the code; the worker that has the run continues it with the result."""
        return await self.pool.run_body(self, handle, call)

    async def report(self, handle: RunHandle, call: Call, outcome: Outcome) -> None:
        """Do nothing: the worker that has the run does this."""

    def plan(self, handle: RunHandle, planned: StepsPlanned) -> None:
        """Do nothing: the worker that has the run does this."""

    def warn(self, handle: RunHandle, warning: str) -> None:
        """Do nothing: the worker that has the run does this."""

    def set_attributes(self, handle: RunHandle, changes: AttributeChanges) -> None:
        """Do nothing: the worker that has the run does this."""

    def set_state(self, handle: RunHandle, values: StateValues) -> None:
        """Do nothing: the worker that has the run does this."""

    def suspended(self, handle: RunHandle) -> None:
        """The code waits for another step, so it is not the code that requested this one."""
        self.pool.miss(self, handle, None)

    def detached(self, handle: RunHandle) -> None:
        """Do nothing: what the code waits for may still lead to the step."""

    def finished(self, handle: RunHandle, end: Finished) -> None:
        """The code ended before it reached the step."""
        if isinstance(end.error, HistoryMismatchError):
            self.pool.mismatch(self, end.error)
        else:
            self.pool.miss(self, handle, end.error)


class PoolWorker(CommandConsumer[LiveStep]):
    """Serves one queue of an app: performs the life cycle of each step that was dispatched to it."""

    def __init__(self, log: WorkerLog, app: ServedApp, queue: str, options: WorkerOptions) -> None:
        super().__init__(log, commands_topic(app.name, queue), options)
        self.queue = queue
        self._app = app
        self._claims = Claims(app.name, options.observer)

    @property
    def load(self) -> Load:
        """How full the worker is."""
        in_use = len(self._slots.active)
        threads = self._options.bodies.threads.bodies
        queued = len(self._items) - in_use
        return Load(
            self._options.runs_active_max, in_use, queued, 0, threads=threads.most, threads_in_use=threads.in_use
        )

    # Commands.

    def _refuse(self, command: Command) -> str:
        return "" if isinstance(command, StepDispatched | RunStopped) else "it is for the workers that have runs"

    def _process(self, record: LogRecord, command: Command) -> None:
        if not isinstance(command, StepDispatched | RunStopped):
            return
        key = (command.run_id, command.step)
        step = self._items.get(key)
        if step is not None and record.offset <= step.last_offset:
            self._redelivered(step, record, command)
            return
        match command:
            case RunStopped():
                self._commands.end(record)
                if step is not None:
                    self._on(step, Event.STOP)
            case StepDispatched() if step is None:
                self._add(record, command, fresh=not (command.claim or command.partial))
            case StepDispatched(claim="") if step.claim or step.command.attempt < command.attempt:
                self._replace(step, record, command)
            case StepDispatched(claim="") if _sent_again(step, command):
                step.add_command(record)
            case StepDispatched(claim=""):
                self._commands.end(record)
            case _:
                self._commands.end(record)
                self._on(step, self._granted(step, record, command))
        if (step := self._items.get(key)) is not None:
            step.last_offset = record.offset

    def _redelivered(self, step: LiveStep, record: LogRecord, command: StepDispatched | RunStopped) -> None:
        """Process a command of a step that was read before its partition was revoked and assigned again.

        The one that dispatched the step is acknowledged when the step has ended.
        """
        if record.offset == step.dispatched_at:
            step.commands.clear()
            step.add_command(record)
        elif _sent_again(step, command):
            step.add_command(record)
        else:
            self._commands.end(record)

    def _add(self, record: LogRecord, command: StepDispatched, *, fresh: bool) -> None:
        event = self._event(command) if fresh and self._log.is_fresh(record) else Event.DELIVERED
        step = self._new(record.partition, command if event is not Event.DELIVERED else _without_state(command))
        step.add_command(record)
        step.dispatched_at = record.offset
        self._items[step.key] = step
        if event is not Event.DELIVERED:
            self._hold(step, len(record.value))
        self._on(step, event)

    def _replace(self, step: LiveStep, record: LogRecord, command: StepDispatched) -> None:
        """Take a later attempt in place of an earlier one.

        The engine may still grant a claim of the earlier one, and then accepts reports of that claim only: the later
        one is claimed as well.
        """
        fresh = not (step.claim or command.partial)
        self._on(step, Event.STOP)
        self._add(record, command, fresh=fresh)

    def _granted(self, step: LiveStep, record: LogRecord, command: StepDispatched) -> Event:
        """Return what a command that grants a claim is for its step, which takes what the command brings."""
        if step.claim == command.claim:
            step.command, step.claim = command, ""
            self._hold(step, len(record.value))
            return self._event(command, Event.GRANTED)
        return Event.STALE if step.command.claim == command.claim else Event.TAKEN

    def _event(self, command: StepDispatched, event: Event = Event.FRESH) -> Event:
        return event if self._app.get(command.function) else Event.UNRUNNABLE

    def _new(self, partition: int, command: StepDispatched) -> LiveStep:
        life = Life(f"{command.run_id}, step {command.id!r}")
        return LiveStep(command.run_id, partition, life, pool=self, command=command)

    # Effects.

    def _claim(self, step: LiveStep) -> None:
        step.claim = self._claims.next()
        claim = StepClaimed(step.run_id, step.command.step, step.claim, self._app.name, self.queue)
        self._report(step, encode(claim))

    def _again(self, step: LiveStep) -> LiveStep:
        again = self._new(step.partition, _without_state(step.command))
        again.dispatched_at = step.dispatched_at
        return again

    def _postpone(self, step: LiveStep) -> None:
        now_ms = self._options.clock.now_ms()
        self._report(step, encode(step_postponed(step.command, self._app.name, self.queue, now_ms)))

    def _start(self, step: LiveStep) -> None:
        step.start(self._app, self._options)

    def _begin_drain(self) -> None:
        super()._begin_drain()
        # The replay of a step only leads to its body, which another worker then runs.
        for step in list(self._slots.active):
            self._on(step, Event.REFUSED)

    # What the code of a step asks for.

    async def run_body(self, step: LiveStep, handle: RunHandle, call: Call) -> Outcome | None:
        """Run the body of a step, report its result in the background, and stop the code."""
        self._admission.note_tasks(step)
        async with self._memory.body(step.function):
            await self._until_allowed(step)
            try:
                started_at = self._options.clock.now_ms()
                beat = functools.partial(self._heartbeat, step, handle, call, started_at)
                result = await self._attempts.run(step.function, step.run_id, call, beat)
                self._memory.learn(step.function, result.size)
                self._end_step(step, handle, call, result, started_at)
            finally:
                self._end_body(step)
        step.stop()
        # The code is cancelled here.
        await asyncio.sleep(0)
        return result.outcome

    def _heartbeat(self, step: LiveStep, handle: RunHandle, call: Call, started_at: int, progress: Raw) -> None:
        times, claim = (started_at, self._options.clock.now_ms()), step.command.claim
        self._report(step, encode(heartbeat_report(handle, call, progress, times, queue=self.queue, claim=claim)))

    def miss(self, step: LiveStep, handle: RunHandle, error: BaseException | None) -> None:
        """Report that the code does not reach a step; this counts as an attempt of its body."""
        command, function = step.command, self._app.get(step.function)
        policy = self._options.bodies.policy(function.policy if function else RetryPolicy())
        call = Call(StepHash(command.step), command.id, RUN, policy=policy, attempt=command.attempt)
        cause = error or LookupError(f"the code of this worker does not reach step {command.id!r}: it has changed")
        now_ms = self._options.clock.now_ms()
        self._end_step(step, handle, call, judge(cause, call, now_ms), now_ms)
        step.stop()

    def mismatch(self, step: LiveStep, error: HistoryMismatchError) -> None:
        """Report that the code does not fit the history of the run; this is not an attempt."""
        now_ms = self._options.clock.now_ms()
        self._end_code(step, encode(mismatched_step(step.command, self.queue, error, now_ms)))
        step.stop()

    def _end_step(self, step: LiveStep, handle: RunHandle, call: Call, result: StepResult, started_at: int) -> None:
        claim = step.command.claim
        report = step_report(handle, call, result, started_at, seen=handle.seen, queue=self.queue, claim=claim)
        try:
            value = encode_report(report)
        except UnencodableReport as error:
            failed = StepResult(Failure(error_info(error)))
            value = encode(step_report(handle, call, failed, started_at, queue=self.queue, claim=claim))
        self._end_code(step, value)


def _without_state(command: StepDispatched) -> StepDispatched:
    """Return a command without the data that the answer to a claim repeats: many steps may wait for answers."""
    return replace(command, events=(), memos=(), progress=NULL)


def _sent_again(step: LiveStep, command: StepDispatched | RunStopped) -> bool:
    """Return whether a command dispatches again an attempt that this worker has: its topic had lost the first command.

    Until the step has ended, it is the only command that another worker would find.
    """
    return (
        isinstance(command, StepDispatched)
        and command.partial
        and not command.claim
        and command.attempt == step.command.attempt
    )
