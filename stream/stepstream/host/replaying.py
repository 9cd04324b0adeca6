"""Replays recorded events through the functions, under a clock that follows the events."""

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from stepstream.contract.codec import encode
from stepstream.contract.errors import InvalidInput, StepstreamError
from stepstream.contract.events import EventRecord, decode_event
from stepstream.contract.limits import DAY_MS
from stepstream.contract.topics import EVENTS
from stepstream.host.folder import locked_folder
from stepstream.runtime.clocks import SystemClock, VirtualClock
from stepstream.runtime.embedded.log import EmbeddedBackbone
from stepstream.runtime.embedded.process import EmbeddedEngine, EngineOptions
from stepstream.runtime.ports import LogError, NewRecord
from stepstream.runtime.readmodel.index import RUNS_FILE, RunIndex
from stepstream.runtime.readmodel.stats import RunStats
from stepstream.runtime.storage.failures import UnusableState
from stepstream.runtime.storage.journal import JournalWrite, MemoryJournal
from stepstream.runtime.storage.rocks import RocksJournal
from stepstream.sdk.app import App

_GROUP, _LINES, _NOW, _DIGEST = "replay", ("lines", 0), ("now", 0), ("digest", 0)
# The time that was reached after the last event, and how far a process that serves the state is behind the wall clock.
_REACHED, _BEHIND = ("reached", 0), ("behind", 0)
_CONTINUE_MS = 400 * DAY_MS
BATCH_EVENTS_MAX = 5_000
_DIGEST_BYTES = 6
_NS_PER_MS = 1_000_000
# As milliseconds this is the year 1973, as seconds the year 5138.
_TS_MIN = 100_000_000_000


class ReplayError(StepstreamError):
    """The recorded events cannot be replayed."""

    code = "replay"


@dataclass(slots=True)
class Progress:
    """How far a replay is; `bad_lines` has the first lines that are not events, with the reason.

    `events` and `bad_count` count what this process has read.
    """

    lines: int = 0
    lines_total: int = 0
    now_ms: int = 0
    events: int = 0
    bad_count: int = 0
    bad_lines: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Moment:
    ts: int
    lines_after: int
    digest: int


class Replaying:
    """One replay. With a data directory it is durable: after a kill, the next start resumes where the last one was.

    After the last event time passes until no run is open, or for `continue_ms`.
    """

    def __init__(
        self,
        app: App,
        events: Path,
        data_dir: Path | None,
        report: Callable[[Progress], None],
        continue_ms: int | None = None,
    ) -> None:
        self._events = events
        self._data_dir = data_dir
        self._report = report
        self._continue_ms = continue_ms
        self._stack = ExitStack()
        self.progress = Progress(lines_total=_count_lines(events))
        self.journal: RocksJournal | MemoryJournal = MemoryJournal()
        self.index: RunIndex | None = None
        if data_dir is not None:
            self._stack.enter_context(locked_folder(data_dir))
            self.journal = RocksJournal(data_dir / "db")
            self.index = RunIndex(data_dir / RUNS_FILE)
            self._stack.callback(self.index.close)
        self._stack.callback(self.journal.close)
        self._stats = RunStats()
        self.progress.lines = self._lines_before = self.journal.committed(_GROUP, *_LINES)
        self.clock = VirtualClock(_reached(self.journal))
        options = EngineOptions(unready=lambda: self.journal.failure)
        self.engine = EmbeddedEngine(
            [app], EmbeddedBackbone(self.journal, self.clock), self.clock, self.index or self._stats, options
        )

    async def run(self) -> RunStats:
        """Feed all events, let time pass after them, and return the statistics.

        Raise UnusableState if the data directory cannot be written; a new replay resumes there.
        """
        with self._stack:
            batches = self._batches()
            first = next(batches, None)
            if first:
                self.clock.advance_to(first[0].ts)
            await self.engine.start()
            try:
                await self.engine.until_idle()
                while first:
                    await self._feed(*first)
                    first = next(batches, None)
                await self._finish()
            except LogError as error:
                raise UnusableState(str(error)) from error
            finally:
                await self.engine.stop(drain_s=0)
            self._report(self.progress)
            return self.stats()

    @property
    def found_nothing(self) -> bool:
        """Whether the file has lines, but not one of them is an event."""
        return bool(self.progress.bad_count) and not self.progress.events and not self._lines_before

    def stats(self) -> RunStats:
        """Return the statistics so far."""
        return self.index.stats() if self.index else self._stats

    async def _feed(self, at: _Moment, events: list[EventRecord]) -> None:
        await self._advance(at.ts)
        self.clock.advance_to(at.ts)
        records = [NewRecord(EVENTS, -1, event.id.encode(), encode(event)) for event in events]
        offsets = {_LINES: at.lines_after, _NOW: self.clock.now_ms(), _DIGEST: at.digest, _BEHIND: 0}
        self.journal.write(JournalWrite(records, {_GROUP: offsets}), self.clock.now_ms())
        await self.engine.until_idle()
        self.progress.lines, self.progress.now_ms = at.lines_after, self.clock.now_ms()
        self._report(self.progress)

    async def _advance(self, before_ms: int) -> None:
        """Fire every timer that is due before a time, each when it is due."""
        while (due := self.engine.next_due()) is not None and due < before_ms:
            self.clock.advance_to(due)
            await self.engine.until_idle()

    async def _finish(self) -> None:
        end = self.journal.committed(_GROUP, *_NOW) + (_CONTINUE_MS if self._continue_ms is None else self._continue_ms)
        read_model = self.index or self._stats
        while read_model.has_open_runs() and (due := self.engine.next_due()) is not None and due < end:
            await self._reach(due)
        if self._continue_ms is not None and read_model.has_open_runs():
            await self._reach(end)

    async def _reach(self, now_ms: int) -> None:
        """Advance time after the last event."""
        self.clock.advance_to(now_ms)
        self.journal.write(JournalWrite(offsets={_GROUP: {_REACHED: self.clock.now_ms(), _BEHIND: 0}}), now_ms)
        await self.engine.until_idle()
        self.progress.now_ms = self.clock.now_ms()
        self._report(self.progress)

    def _batches(self) -> Iterator[tuple[_Moment, list[EventRecord]]]:
        """Yield the events that were not fed yet, those of one time together."""
        batch: list[EventRecord] = []
        moment = _Moment(0, 0, 0)
        for number, line, digest in self._lines_to_read():
            event = self._decode(number, line)
            if event is None:
                continue
            if batch and (event.ts != moment.ts or len(batch) == BATCH_EVENTS_MAX):
                yield moment, batch
                batch = []
            if event.ts < moment.ts:
                raise ReplayError(
                    f"line {number}: ts {event.ts} is earlier than that of the line above; sort the lines by ts"
                )
            moment = _Moment(event.ts, number, digest)
            batch.append(event)
        if batch:
            yield moment, batch

    def _lines_to_read(self) -> Iterator[tuple[int, bytes, int]]:
        """Yield each line that was not fed yet, with its number and a digest of all lines up to it.

        Raise ReplayError if the lines that were fed are not those of the file.
        """
        before, known = self._lines_before, self.journal.committed(_GROUP, *_DIGEST)
        sums = hashlib.sha256()
        number = digest = 0
        with self._events.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                # Lines may have been appended since, after a last line without a line feed too.
                sums.update(line.rstrip(b"\r\n") + b"\n")
                digest = int.from_bytes(sums.digest()[:_DIGEST_BYTES])
                if number > before:
                    yield number, line, digest
                elif number == before and digest != (known or digest):
                    raise self._another_file()
        if number < before:
            raise self._another_file()

    def _another_file(self) -> ReplayError:
        return ReplayError(
            f"{self._data_dir} has replayed {self._lines_before:,} lines that are not those of {self._events}: "
            "give the original file, or another --data-dir"
        )

    def _decode(self, number: int, line: bytes) -> EventRecord | None:
        if not line.strip():
            return None
        try:
            event = decode_event(line)
            if not event.ts:
                raise InvalidInput("a recorded event needs the time at which it happened", "ts")
            if event.ts < _TS_MIN:
                raise InvalidInput(f"{event.ts} looks like seconds; give milliseconds: {event.ts * 1_000}", "ts")
        except InvalidInput as error:
            self.progress.bad_count += 1
            if len(self.progress.bad_lines) < 10:
                self.progress.bad_lines.append(f"line {number}: {error}")
            return None
        self.progress.events += 1
        return event


def _reached(journal: RocksJournal | MemoryJournal) -> int:
    """Return the time that a replay has reached (Unix ms), 0 if there was none."""
    return max(journal.committed(_GROUP, *_NOW), journal.committed(_GROUP, *_REACHED))


def clock_of(journal: RocksJournal) -> SystemClock:
    """Return the clock by which to serve a journal: the wall clock, or after a replay one that continues from its end.

    With the wall clock, whatever waits since a recorded day would time out at once.
    """
    if not was_replayed(journal):
        return SystemClock()
    behind_ms = journal.committed(_GROUP, *_BEHIND)
    if not behind_ms:
        now_ms, reached_ms = SystemClock().now_ms(), _reached(journal)
        behind_ms = max(now_ms - reached_ms, 0)
        journal.write(JournalWrite(offsets={_GROUP: {_BEHIND: behind_ms}}), reached_ms)
    return SystemClock(lambda: time.time_ns() - behind_ms * _NS_PER_MS)


def was_replayed(journal: RocksJournal) -> bool:
    """Return whether a replay wrote to this journal, so that its runs ended at the times of recorded events."""
    return journal.committed(_GROUP, *_LINES) > 0


def _count_lines(path: Path) -> int:
    if not path.is_file():
        raise ReplayError(f"there is no file {str(path)!r}; give a file with one event as JSON per line, ordered by ts")
    with path.open("rb") as lines:
        return sum(1 for _ in lines)
