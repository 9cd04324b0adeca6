"""What the workers of runs and of queues have in common: commands, the life cycle, rebalances and drains."""

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Hashable, Iterable
from typing import Generic, TypeVar

from stepstream.contract.commands import Command
from stepstream.contract.text.wording import counted
from stepstream.runtime.dead_letters import CommandDeadLetters
from stepstream.runtime.notification import Notification
from stepstream.runtime.ports import LogError, LogRecord, WorkerLog
from stepstream.runtime.worker.admission import Admission
from stepstream.runtime.worker.attempts import Attempts
from stepstream.runtime.worker.commands.command_reader import CommandReader
from stepstream.runtime.worker.commands.outbox import Outbox
from stepstream.runtime.worker.options import WorkerOptions
from stepstream.runtime.worker.runs.leases import Leases
from stepstream.runtime.worker.runs.slots import Slots
from stepstream.runtime.worker.runs.states import Effect, Event, Phase
from stepstream.runtime.worker.runs.work_item import WorkItem
from stepstream.sdk.replay.tasks import task_factory

logger = logging.getLogger(__name__)
Item = TypeVar("Item", bound=WorkItem)
# A draining worker stays in its group for this long: most bodies end in that time, and moving a run costs a replay.
LEAVE_AFTER_S = 2.0


class CommandConsumer(ABC, Generic[Item]):
    """Reads the commands of a topic, and performs the life cycle of each work item: of each run, or each step.

    `changed` is notified when a slot is free, or a report is durable.
    """

    def __init__(self, log: WorkerLog, topic: str, options: WorkerOptions) -> None:
        self._log = log
        self._options = options
        self._items: dict[Hashable, Item] = {}
        self._slots = Slots[Item](options.runs_active_max, options.runs_active_max + options.runs_cached_max)
        self._attempts = Attempts(options)
        self.changed = Notification()
        self._memory = options.memory
        self._outbox = Outbox(log, self.changed, CommandDeadLetters(log, topic, options.observer), options.memory)
        self._admission = Admission[Item](
            self._slots, options.memory, self.changed, lambda item: self._on(item, Event.SLOT), self._outbox.fail
        )
        self._commands = CommandReader(log, self._outbox, self.changed, self._may_read, self._refuse, self._process)
        self._leases = Leases(log, self._items, options.lease_ms, options.lease_renew_s)
        self.serving = False
        self._effects: dict[Effect, Callable[[Item], None]] = {
            Effect.CLAIM: self._claim,
            Effect.RECLAIM: self._reclaim,
            Effect.POSTPONE: self._postpone,
            Effect.REPORT_END: self._report_end,
            Effect.RELEASE_LEASE: self._release_lease,
            Effect.QUEUE_START: self._queue_start,
            Effect.TAKE_SLOT: self._slots.take,
            Effect.START_CODE: self._start,
            Effect.STOP_CODE: self._stop,
            Effect.ACKNOWLEDGE: self._acknowledge,
            Effect.FORGET: self._forget,
            Effect.DROP: self._drop,
            # These are for the method that applies the event.
            Effect.CONFIRM: _by_caller,
            Effect.START_BODY: _by_caller,
            Effect.ASK_WAKE: _by_caller,
        }

    @property
    def active(self) -> int:
        """How many items have a slot or wait for one, and how many reports are being written."""
        return len(self._slots.active) + len(self._slots.waiting) + len(self._outbox)

    @property
    def only_bodies(self) -> int | None:
        """How many bodies run if nothing else does, not even code between steps; None if something else does."""
        if not self.active:
            return 0
        slots, running = self._slots, self._attempts.running
        may_start = bool(slots.waiting) and len(slots.active) < slots.active_max
        if may_start or len(self._outbox) or self._options.bodies.starts.is_starting:
            return None
        started = sum(item.life.bodies for item in slots.active)
        return None if running != started or any(map(_is_in_code, slots.active)) else running

    async def serve(self) -> None:
        """Serve until cancelled. Raise the error of a report that cannot be written; then a new consumer must serve."""
        loop = asyncio.get_running_loop()
        loop.set_task_factory(task_factory)
        failed = self._outbox.failed = loop.create_future()
        self._memory.on_room(self._admission.admit_later)
        polling = asyncio.ensure_future(self._read_commands())
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
            for item in self._items.values():
                # Its effects are not performed: the worker has ended.
                item.life.on(Event.LOST)
                item.stop()
                self._release(item)
                # The threads belong to the process; its next worker uses them too.
                self._options.bodies.threads.unpark(item)
            self._memory.ignore(self._admission.admit_later)
            self._leases.cancel()
            self._outbox.cancel()
            await self._log.close()

    # Commands.

    async def _read_commands(self) -> None:
        await self._log.open(self)
        self.serving = True
        await self._commands.read()
        # The caller of drain() ends the worker: a worker that returned would be restarted.
        await asyncio.get_running_loop().create_future()

    def _may_read(self) -> bool:
        """Return whether to read commands: with a full memory only if nothing else can free some."""
        busy = self._slots.active or len(self._outbox)
        return len(self._slots.waiting) < self._options.runs_queued_max and not (self._memory.is_full and busy)

    # The life cycle.

    def _on(self, item: Item, event: Event) -> tuple[Effect, ...]:
        """Apply an event, perform its effects and what follows from them, and return its effects."""
        effects = item.life.on(event)
        for effect in effects:
            self._effects[effect](item)
        if not item.life.reports:
            self._settle(item)
        return effects

    def _settle(self, item: Item) -> None:
        for effect in item.life.settle():
            self._effects[effect](item)

    def _reclaim(self, item: Item) -> None:
        self._drop(item)
        again = self._again(item)
        again.commands, again.last_offset = item.commands, item.last_offset
        self._items[again.key] = again
        self._on(again, Event.DELIVERED)

    def _queue_start(self, item: Item) -> None:
        self._admission.queue(item, resumes=False)

    def _stop(self, item: Item) -> None:
        item.stop()

    def _acknowledge(self, item: Item) -> None:
        for record in item.commands:
            self._commands.end(record)
        item.commands.clear()

    def _forget(self, item: Item) -> None:
        item.commands.clear()

    def _drop(self, item: Item) -> None:
        if self._items.get(item.key) is item:
            del self._items[item.key]
        item.stop()
        self._release(item)
        self._admission.release(item)

    # Memory.

    def _hold(self, item: Item, size: int) -> None:
        """Count the bytes of results that an item has from now on, unless it was dropped.

        A body that runs in a thread may end after that.
        """
        if item.life.phase is not Phase.STOPPED:
            item.held += size
            self._memory.add(size)

    def _release(self, item: Item) -> None:
        held, item.held = item.held, 0
        self._memory.remove(held)

    # Reports.

    def _report(self, item: Item, *values: bytes) -> None:
        """Append a report in the background; until it is durable, the commands that led to it are not acknowledged."""
        item.life.reports += 1
        self._outbox.start(self._append(item, values))

    async def _append(self, item: Item, values: Iterable[bytes]) -> None:
        try:
            for value in values:
                await self._outbox.append(item.run_id, value)
        except LogError:
            return  # It never becomes durable. The outbox has the error, and serve() raises it.
        item.life.reports -= 1
        self._settle(item)

    def _end_code(self, item: Item, report: bytes) -> None:
        """Report how the code ended, unless the run was dropped or the end is reported already."""
        item.last_report = report
        self._on(item, Event.ENDED)

    def _report_end(self, item: Item) -> None:
        self._report(item, item.last_report)

    def _release_lease(self, item: Item) -> None:
        self._report(item, item.lease(0))

    # Bodies.

    async def _until_allowed(self, item: Item) -> None:
        """Return when a body may start, which is counted from then on; raise RunInterrupted once the code is stopped.

        A body that may not start blocks the code until it is stopped.
        """
        effects = self._on(item, Event.BODY_REQUESTED)
        if Effect.CONFIRM in effects:
            await self._log.until_member()
            effects = self._on(item, Event.CONFIRMED)
        if Effect.START_BODY not in effects:
            await item.halt()

    def _end_body(self, item: Item) -> None:
        item.life.bodies -= 1
        self._settle(item)

    # Partitions.

    async def moving(self) -> None:
        """Lease what has running bodies, as its partition may be revoked; and commit."""
        await self._leases.report(Event.LEASE)
        await self._commands.commit()

    async def moved(self, kept: Collection[int], *, lost: bool) -> None:
        """Drop items that now belong to other workers; one with running bodies stays until they end, unless `lost`."""
        # Items that wait for a slot are dropped first. Dropping another item first would give its slot to one of them,
        # and the claim of that run would take it from its new owner.
        for item in sorted(self._items.values(), key=lambda item: item not in self._slots.waiting):
            gone = Event.LOST if lost else Event.REVOKED
            self._on(item, Event.KEPT if item.partition in kept else gone)
        self._commands.keep(kept)
        if stay := self._leases.keep_renewed():
            words = "partitions of %s were revoked while step bodies run; the bodies finish in this worker"
            logger.info(words, counted(stay, "run"))

    # The end.

    async def drain(self, lease_ms: int = 0, leave_after_s: float = LEAVE_AFTER_S) -> None:
        """Read no more commands, let running bodies end, start no others, and commit.

        With `lease_ms` the worker leaves its group when this takes longer than `leave_after_s`. Other workers get its
        commands then, but for `lease_ms` they get no run whose body is running here.
        """
        self._commands.stopped = True
        self._leases.for_ms = lease_ms or self._options.lease_ms
        self._begin_drain()
        if lease_ms and not await self.changed.until(self._idle, leave_after_s):
            await self._leases.report(Event.LEASE)
            await self._commands.commit()
            await self._log.leave()
        await self.changed.until(self._idle)
        await self._commands.commit()

    def _begin_drain(self) -> None:
        for item in list(self._items.values()):
            self._on(item, Event.DRAIN)
        for item in list(self._slots.waiting):
            self._on(item, Event.DISPLACED)

    def _idle(self) -> bool:
        return not self.active or not self.serving

    @abstractmethod
    def _refuse(self, command: Command) -> str:
        """Return why this worker cannot process a command; empty if it can."""

    @abstractmethod
    def _process(self, record: LogRecord, command: Command) -> None:
        """Process a command."""

    @abstractmethod
    def _again(self, item: Item) -> Item:
        """Return an item for the same run or step, to be claimed again."""

    @abstractmethod
    def _claim(self, item: Item) -> None:
        """Claim a run or a step."""

    @abstractmethod
    def _postpone(self, item: Item) -> None:
        """Report that this worker does not have the function."""

    @abstractmethod
    def _start(self, item: Item) -> None:
        """Start the code."""


def _is_in_code(item: WorkItem) -> bool:
    """Return whether anything of an item with a slot runs apart from its bodies."""
    return not item.life.bodies or item.running is None or item.running.activity.is_busy


def _by_caller(_live: WorkItem) -> None:
    """Do nothing."""
