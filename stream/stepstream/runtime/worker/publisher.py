"""Writes what the runs of a process publish to the topic `live`: in order, and many messages at once."""

import asyncio
import contextvars
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

from stepstream.contract.codec import encode
from stepstream.contract.errors import NotPublished
from stepstream.contract.ids import shard_of
from stepstream.contract.limits import MIB
from stepstream.contract.live import Published
from stepstream.contract.topics import LIVE
from stepstream.runtime.ports import LogError, NewRecord

logger = logging.getLogger(__name__)
QUEUED_BYTES_MAX = 4 * MIB
_RECORD_BYTES_MORE = 200
_ATTEMPTS_MAX = 3
Append = Callable[[Sequence[NewRecord]], Awaitable[object]]


@dataclass(slots=True, eq=False)
class _Batch:
    """Messages that are written together."""

    written: "asyncio.Future[None]"
    records: list[NewRecord] = field(default_factory=list)
    bytes: int = 0


class LivePublisher:
    """The queue of one process. While a batch is written, the next one fills; a full one holds up who publishes."""

    def __init__(self, append: Append, partitions: int, bytes_max: int = QUEUED_BYTES_MAX) -> None:
        self._append = append
        self._partitions = partitions
        self._bytes_max = bytes_max
        self._loop = asyncio.get_running_loop()
        self._batch = self._new_batch()
        self._writing: asyncio.Task[None] | None = None
        # How many messages are in the log, and how many could not be written.
        self.published = self.failed = 0

    @property
    def pending(self) -> bool:
        """Whether messages are not written yet."""
        return self._writing is not None

    async def room(self) -> None:
        """Return when the queue has room for a message."""
        while self._batch.bytes >= self._bytes_max:
            await asyncio.wait([self._batch.written])

    def add(self, stream: str, message: Published) -> "asyncio.Future[None]":
        """Queue a message of a stream; return what is done when it is durable, or could not be written."""
        batch, value = self._batch, encode(message)
        batch.records.append(NewRecord(LIVE, shard_of(stream, self._partitions), stream.encode(), value))
        batch.bytes += len(value) + _RECORD_BYTES_MORE
        if self._writing is None:
            # In an empty context: the task is of no run.
            self._writing = self._loop.create_task(self._write_all(), context=contextvars.Context())
        return batch.written

    def wait_for(self, code: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine in the event loop, and block the thread that calls this until it has ended."""
        contextvars.Context().run(asyncio.run_coroutine_threadsafe, code, self._loop).result()

    async def flush(self) -> None:
        """Return when everything was written that is queued."""
        if self._writing is not None:
            await asyncio.wait([self._writing])

    def _new_batch(self) -> _Batch:
        return _Batch(self._loop.create_future())

    async def _write_all(self) -> None:
        try:
            while self._batch.records:
                batch, self._batch = self._batch, self._new_batch()
                await self._write(batch)
        finally:
            self._writing = None

    async def _write(self, batch: _Batch) -> None:
        for attempt in range(1, _ATTEMPTS_MAX + 1):
            try:
                await self._append(batch.records)
            except Exception as error:
                # Whatever the error is, code that waits for the batch must continue.
                trace, count = None if isinstance(error, LogError) else error, len(batch.records)
                logger.warning("attempt %d to write %d live messages failed: %s", attempt, count, error, exc_info=trace)
                failure = NotPublished(f"{len(batch.records):,} live messages could not be written: {error}")
            else:
                self.published += len(batch.records)
                batch.written.set_result(None)
                return
        self.failed += len(batch.records)
        batch.written.set_exception(failure)
        # Code that was stopped does not ask for it.
        batch.written.exception()
