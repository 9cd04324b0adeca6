"""The latest dead letters for the page and the API, of the log of a laptop or of a cluster."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Protocol

from stepstream.api.facade import DeadLetterView
from stepstream.contract.errors import Conflict
from stepstream.contract.topics import DEAD_LETTERS
from stepstream.host.deadletters.dead_letter import (
    DeadLetter,
    DeadLetterError,
    dead_letter_of,
    marked_by,
    marked_place,
)
from stepstream.host.deadletters.redrive import Redrive, RedrivePlanner, redrive
from stepstream.host.deadletters.topic import dead_letter_records
from stepstream.runtime.callers import UnavailableError
from stepstream.runtime.embedded.log import EmbeddedBackbone
from stepstream.runtime.kafka.client.cluster import Cluster
from stepstream.runtime.ports import Fenced, LogError, LogRecord
from stepstream.sdk.source import Source

# How many of the latest records of each partition are read; one may have megabytes.
EXAMINED_MAX = 200
_ANSWER_S_MAX = 8.0
_SENT_BEFORE = "dead letter {} was redriven before"
# Records may have megabytes: few are in memory at once, and the event loop serves others between them.
_RECORDS_PER_READ = 4


class DeadLetterLog(Protocol):
    """A log with dead letters."""

    def latest(self) -> AsyncIterator[LogRecord]:
        """Yield the latest EXAMINED_MAX records of each partition of `dead-letters`, those of a partition in order."""

    async def redrive(self, dead_letter: DeadLetter, by: str) -> None:
        """Send a dead letter again, and mark it; raise DeadLetterError if that cannot be done."""


class LatestDeadLetters:
    """The latest dead letters of a log, and redriving them; it is the `dead_letters` of an EngineFacade."""

    def __init__(self, log: DeadLetterLog) -> None:
        self._log = log

    async def latest(self, limit: int) -> Sequence[DeadLetterView]:
        """Return the latest dead letters without their content, the newest first."""
        found: dict[str, DeadLetterView] = {}
        marks: dict[str, str] = {}
        async for record in self._log.latest():
            if (place := marked_place(record)) is not None:
                marks[place] = marked_by(record)
            else:
                view = _view(dead_letter_of(record))
                found[view.place] = view
        ordered = sorted(found.values(), key=lambda view: (view.at, *map(int, view.place.split("-"))), reverse=True)
        return [view.sent_by(marks[view.place]) if view.place in marks else view for view in ordered[:limit]]

    async def show(self, place: str) -> DeadLetterView | None:
        """Return one of the latest dead letters with its content, None if it is not among them."""
        dead_letter, by = await self._find(place)
        if dead_letter is None:
            return None
        view = _view(dead_letter, with_content=True)
        return view if by is None else view.sent_by(by)

    async def redrive(self, place: str, by: str) -> None:
        """Send one of the latest dead letters again; raise Conflict if that cannot be done, or was done before."""
        dead_letter, before = await self._find(place)
        if dead_letter is None:
            raise Conflict(f"dead letter {place!r} is not among the latest; use `stepstream dead-letters redrive`")
        if before is not None:
            raise Conflict(_SENT_BEFORE.format(place))
        try:
            await self._log.redrive(dead_letter, by)
        except DeadLetterError as error:
            raise Conflict(str(error)) from error

    async def _find(self, place: str) -> tuple[DeadLetter | None, str | None]:
        """Return the dead letter at a place, and who redrove it, None if it was not redriven."""
        found: DeadLetter | None = None
        by: str | None = None
        async for record in self._log.latest():
            if (marked := marked_place(record)) is None:
                if place == f"{record.partition}-{record.offset}":
                    found = dead_letter_of(record)
            elif marked == place:
                by = marked_by(record)
        return found, by


def _view(dead_letter: DeadLetter, *, with_content: bool = False) -> DeadLetterView:
    record = dead_letter.record
    return DeadLetterView(
        dead_letter.place,
        record.timestamp,
        dead_letter.topic,
        dead_letter.partition,
        dead_letter.offset,
        dead_letter.reason,
        dead_letter.cut_from or len(record.value),
        dead_letter.redriven,
        dead_letter.sources,
        is_cut=bool(dead_letter.cut_from),
        key=record.key if with_content and "key" not in dead_letter.nulls else None,
        value=record.value if with_content and "value" not in dead_letter.nulls else None,
        headers=dead_letter.headers if with_content else (),
    )


class LocalDeadLetterLog:
    """The log of a laptop, or of a test."""

    def __init__(self, backbone: EmbeddedBackbone) -> None:
        self._backbone = backbone

    async def latest(self) -> AsyncIterator[LogRecord]:
        """Yield the latest records of each partition."""
        journal = self._backbone.journal
        for partition in range(journal.partitions):
            end = journal.end(DEAD_LETTERS, partition)
            for offset in range(max(end - EXAMINED_MAX, 0), end, _RECORDS_PER_READ):
                for record in journal.read(DEAD_LETTERS, partition, offset, min(_RECORDS_PER_READ, end - offset)):
                    yield record
                await asyncio.sleep(0)

    async def redrive(self, dead_letter: DeadLetter, by: str) -> None:
        """Send a dead letter again; all topics have as many partitions as there are shards."""
        _, records = RedrivePlanner({dead_letter.topic: self._backbone.journal.partitions}).plan(dead_letter)
        await self._backbone.append([*records, dead_letter.mark(by)])


class ClusterDeadLetterLog:
    """The log of a cluster; `sources` are those that engines read."""

    def __init__(self, cluster: Cluster, sources: Sequence[Source]) -> None:
        self._cluster = cluster
        self._sources = {cluster.settings.name("sources"): sources}
        self._sending = asyncio.Lock()

    async def latest(self) -> AsyncIterator[LogRecord]:
        """Yield the latest records of each partition."""
        async with _answered():
            async for record in dead_letter_records(self._cluster, last=EXAMINED_MAX):
                yield record

    async def redrive(self, dead_letter: DeadLetter, by: str) -> None:
        """Send a dead letter again in a transaction with its mark; of several requests at a time, one does so."""

        async def planned() -> AsyncIterator[Redrive]:
            # The producer is open: those of other engines have ended, or will fence it. So no mark can be missed.
            if await self._is_marked(dead_letter):
                raise DeadLetterError(_SENT_BEFORE.format(dead_letter.place))
            yield RedrivePlanner(await self._cluster.topics(), self._sources).plan(dead_letter)

        async with _answered(), self._sending:
            try:
                await redrive(self._cluster, planned(), lambda _: None, by)
            except Fenced as error:
                reason = (
                    f"dead letter {dead_letter.place} was not sent: another request sends one; reload, and try again"
                )
                raise DeadLetterError(reason) from error

    async def _is_marked(self, dead_letter: DeadLetter) -> bool:
        """Return whether a dead letter was redriven; its mark is in its partition."""
        since = {(DEAD_LETTERS, dead_letter.record.partition): dead_letter.record.offset}
        async for record in dead_letter_records(self._cluster, since):
            if marked_place(record) == dead_letter.place:
                return True
        return False


@asynccontextmanager
async def _answered() -> AsyncIterator[None]:
    """Raise UnavailableError if brokers do not answer in time."""
    try:
        async with asyncio.timeout(_ANSWER_S_MAX):
            yield
    except (LogError, TimeoutError) as error:
        raise UnavailableError(f"the topic of dead letters cannot be used: {error or 'no broker answers'}") from error
