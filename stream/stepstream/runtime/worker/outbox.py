"""What a worker writes: reports in the background, and the first failure, after which nothing more is written."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from stepstream.contract.ids import run_routing
from stepstream.runtime.dead_letters import CommandDeadLetters, DeadLetterKind
from stepstream.runtime.notification import Notification
from stepstream.runtime.ports import LogError, LogRecord, WorkerLog
from stepstream.runtime.worker.positions import Positions


class Outbox:
    """The writing side of one worker; `changed` rings when a write in the background has ended."""

    def __init__(self, log: WorkerLog, changed: Notification, letters: CommandDeadLetters) -> None:
        self._log = log
        self._dead_letters = letters
        self._changed = changed
        self._tasks: set[asyncio.Task[None]] = set()
        self.failed: asyncio.Future[None] | None = None

    def __len__(self) -> int:
        return len(self._tasks)

    async def append(self, run_id: str, value: bytes) -> None:
        """Append a report; raise LogError when it, or one before it, could not be written."""
        try:
            if self.failed and self.failed.done():
                raise LogError("this worker has lost a report and ends")
            await self._log.append(run_routing(run_id), value)
        except Exception as error:
            self._fail(error)
            raise LogError(f"a report of run {run_id} could not be written") from error

    def _fail(self, error: Exception) -> None:
        if self.failed and not self.failed.done():
            self.failed.set_exception(error)

    def begin(self, code: Coroutine[Any, Any, None]) -> None:
        """Do something in the background."""
        task = asyncio.ensure_future(code)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._changed.notify()

    def cancel(self) -> None:
        """Stop what is done in the background."""
        for task in self._tasks:
            task.cancel()

    def dead_letter(self, record: LogRecord, reason: str, kind: DeadLetterKind, positions: Positions) -> None:
        """Keep a command that cannot be read; once that is durable it is dealt with."""
        self.begin(self._dead_letter(record, reason, kind, positions))

    async def _dead_letter(self, record: LogRecord, reason: str, kind: DeadLetterKind, positions: Positions) -> None:
        try:
            await self._dead_letters.dead_letter(record, reason, kind)
        except Exception as error:  # noqa: BLE001 - it ends the worker, and the command is read again
            self._fail(error)
        else:
            positions.end(record.topic, record.partition, record.offset)
