"""What a worker writes to its log; after the first failure it writes nothing more."""

import asyncio
import contextvars
from collections.abc import Coroutine
from typing import Any

from stepstream.contract.ids import run_routing
from stepstream.runtime.dead_letters import CommandDeadLetters, DeadLetterKind
from stepstream.runtime.notification import Notification
from stepstream.runtime.ports import LogError, LogRecord, WorkerLog
from stepstream.runtime.worker.commands.positions import Positions
from stepstream.runtime.worker.memory import MemoryBudget


class Outbox:
    """The writing side of one worker; `changed` is notified when a background write has ended.

    `failed` is a future that gets the first error.
    """

    def __init__(
        self, log: WorkerLog, changed: Notification, dead_letters: CommandDeadLetters, memory: MemoryBudget
    ) -> None:
        self._log = log
        self._memory = memory
        self._dead_letters = dead_letters
        self._changed = changed
        self._tasks: set[asyncio.Task[None]] = set()
        # A write that is started by the code of a run is not part of it, and must not be cancelled with it.
        self._context = contextvars.copy_context()
        self.failed: asyncio.Future[None] | None = None

    def __len__(self) -> int:
        return len(self._tasks)

    async def append(self, run_id: str, value: bytes) -> None:
        """Append a report; raise LogError when it, or one before it, could not be written."""
        self._memory.add(len(value))
        try:
            if self.failed and self.failed.done():
                raise LogError("an earlier report of this worker was lost; the worker stops")
            await self._log.append(run_routing(run_id), value)
        except Exception as error:
            self.fail(error)
            raise LogError(f"cannot write a report of run {run_id}") from error
        finally:
            self._memory.remove(len(value))

    def fail(self, error: Exception) -> None:
        """Have the worker end with an error; only the first one counts."""
        if self.failed and not self.failed.done():
            self.failed.set_exception(error)

    def start(self, write: Coroutine[Any, Any, None]) -> None:
        """Write in the background."""
        task = asyncio.get_running_loop().create_task(write, context=self._context)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._changed.notify()

    def cancel(self) -> None:
        """Cancel the background writes."""
        for task in self._tasks:
            task.cancel()

    def dead_letter(self, record: LogRecord, reason: str, kind: DeadLetterKind, positions: Positions) -> None:
        """Write a dead letter for a command, and acknowledge the command once that is durable."""
        self.start(self._dead_letter(record, reason, kind, positions))

    async def _dead_letter(self, record: LogRecord, reason: str, kind: DeadLetterKind, positions: Positions) -> None:
        try:
            await self._dead_letters.dead_letter(record, reason, kind)
        except Exception as error:  # noqa: BLE001 - the worker stops because of it, and the command is read again
            self.fail(error)
        else:
            positions.end(record.topic, record.partition, record.offset)
