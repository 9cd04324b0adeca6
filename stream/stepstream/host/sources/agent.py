"""The agent of a topic: turns its records into events, by all sources that read it."""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

from stepstream.contract.errors import StepstreamError
from stepstream.host.sources.mapping import events_of
from stepstream.runtime.dead_letters import (
    DeadLetterKind,
    DeadLetterObserver,
    FailedSources,
    dead_letter_record,
    kind_of,
    unreadable_kind,
)
from stepstream.runtime.kafka.client.parsing import unreadable_of
from stepstream.runtime.ports import LogError, LogRecord, NewRecord
from stepstream.sdk.errors import error_info
from stepstream.sdk.source import Source

logger = logging.getLogger(__name__)
Append = Callable[[Sequence[NewRecord]], Awaitable[Any]]
_IN_FLIGHT_MAX = 1_000
_RETRY_S = 0.5


class Writing(NamedTuple):
    """What is written for a record of a source, and the kinds of the dead letters among it."""

    records: list[NewRecord]
    dead_letters: list[DeadLetterKind]


class SourceAgent:
    """Turns the records of one topic into events, by all sources of that topic.

    The agent acknowledges each record once its events are durable, because Faust's take() acknowledges a whole batch
    even if the code that processes it is stopped half-way. `written` counts durable events, `in_flight` counts
    the records by partition whose events are not durable yet.
    """

    def __init__(
        self, topic: str, sources: Sequence[Source], append: Append, observer: DeadLetterObserver, group: str
    ) -> None:
        self.topic = topic
        self._group = group
        self.written = 0
        self.in_flight: Counter[int] = Counter()
        self._sources = sources
        self._append = append
        self._observer = observer
        self._room = asyncio.Semaphore(_IN_FLIGHT_MAX)
        self._tasks: set[asyncio.Task[None]] = set()
        observer.reads(topic)

    async def read(self, stream: Any) -> None:
        """Read a Faust stream until cancelled, with many records on their way to the log at once."""
        try:
            async for event in stream.noack().events():
                await self._room.acquire()
                task = asyncio.ensure_future(self._write(event, self.writing_of(event.message)))
                self._tasks.add(task)
                task.add_done_callback(self._ended)
        finally:
            for task in self._tasks:
                task.cancel()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._room.release()

    async def _write(self, event: Any, writing: Writing) -> None:
        partition = event.message.partition
        self.in_flight[partition] += 1
        try:
            await self._append_with_retries(writing.records)
            event.ack()
        finally:
            self.in_flight[partition] -= 1
        self.written += len(writing.records) - len(writing.dead_letters)
        for kind in writing.dead_letters:
            self._observer.dead_letter(self.topic, kind)

    async def _append_with_retries(self, records: Sequence[NewRecord]) -> None:
        while records:
            try:
                await self._append(records)
            except LogError as error:
                logger.warning("events of topic %s cannot be written yet and will be retried: %s", self.topic, error)
                await asyncio.sleep(_RETRY_S)
            else:
                return

    def writing_of(self, message: Any) -> Writing:
        """Return what to write for a message: the event of each source, and a dead letter naming those that failed."""
        nulls = tuple(name for name in ("key", "value") if getattr(message, name) is None)
        headers, timestamp = tuple(message.headers or ()), round(message.timestamp * 1_000)
        place, unreadable = (self.topic, message.partition, message.offset), unreadable_of(headers)
        record = LogRecord(*place, message.key or b"", message.value or b"", headers, timestamp, nulls, unreadable)
        found = Writing([], [])
        if unreadable:
            logger.warning("unreadable batch of topic %s moved to dead-letters: %s", self.topic, unreadable.reason)
            every = FailedSources(self._group, tuple(source.name for source in self._sources))
            found.records.append(dead_letter_record(record, unreadable.reason, every))
            found.dead_letters.append(unreadable_kind(unreadable))
            return found
        failed: dict[str, Exception] = {}
        for source in self._sources:
            try:
                found.records.extend(events_of(source, record))
            except Exception as error:  # noqa: BLE001 - any error makes a dead letter, and other records continue
                failed[source.name] = error
        if failed:
            why = {name: error_info(error).message for name, error in failed.items()}
            reason = "; ".join(f"{name}: {each}" if len(self._sources) > 1 else each for name, each in why.items())
            logger.warning("a record of topic %s moved to dead-letters: %s", self.topic, reason)
            found.records.append(dead_letter_record(record, reason, FailedSources(self._group, tuple(failed))))
            first = next(iter(failed.values()))
            found.dead_letters.append(kind_of(first) if isinstance(first, StepstreamError) else "not-applicable")
        return found
