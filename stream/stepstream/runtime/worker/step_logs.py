"""Collects what the runs of a process log, and writes it in records a few times a second: at most once."""

import asyncio
import contextvars
import itertools
import logging
import secrets
import threading
from collections.abc import Awaitable, Callable, Sequence

from stepstream.contract.codec import encode
from stepstream.contract.limits import MIB
from stepstream.contract.logs import (
    LOG_BYTES_PER_ATTEMPT_MAX,
    LOG_LINES_PER_ATTEMPT_MAX,
    LogKey,
    LogLine,
    StepLogged,
)
from stepstream.contract.topics import LOGS
from stepstream.runtime.ports import LogError, NewRecord, StoreError
from stepstream.sdk.replay.replay import Replay

logger = logging.getLogger(__name__)
_BUFFERED_BYTES_MAX = 8 * MIB
_LINE_BYTES_MORE = 64
_SOURCE_BYTES = 6
Write = Callable[[Sequence[StepLogged]], Awaitable[None]]


class AttemptLog:
    """The lines of one attempt. After LOG_LINES_PER_ATTEMPT_MAX lines, or as many bytes, a last one counts the rest."""

    __slots__ = ("_bytes", "_dropped", "_dropped_as", "_lines", "_logs", "_replay", "_taken", "key")

    def __init__(self, logs: "StepLogs", key: LogKey, replay: Replay | None = None) -> None:
        self.key = key
        self._logs = logs
        # Of code between steps, which runs again in a replay.
        self._replay = replay
        self._lines: list[LogLine] = []
        self._taken = self._bytes = self._dropped = 0
        # The time and the number of the line that counts the others.
        self._dropped_as = (0, 0)

    def add(self, level: str, logger: str, text: str) -> None:
        """Take a line, unless an earlier execution of the same code has logged it."""
        if self._replay is None or not self._replay.repeating:
            self._logs.take(self, level, logger, text)

    def append(self, line: LogLine, *, has_room: bool) -> int:
        """Append a line; return its size, 0 if it was only counted."""
        size = len(line.text.encode()) + len(line.logger) + _LINE_BYTES_MORE
        is_full = self._taken >= LOG_LINES_PER_ATTEMPT_MAX or self._bytes + size > LOG_BYTES_PER_ATTEMPT_MAX
        if self._dropped or is_full or not has_room:
            if not self._dropped:
                self._dropped_as = (line.at, line.number)
            self._dropped += 1
            return 0
        self._lines.append(line)
        self._taken += 1
        self._bytes += size
        return size

    def taken(self, source: str) -> StepLogged:
        """Return the lines since the last call. The line that counts dropped ones replaces an earlier one."""
        lines, self._lines = self._lines, []
        if self._dropped:
            text = f"{self._dropped:,} more lines were dropped: an attempt has its limit of lines and bytes"
            lines.append(LogLine(*self._dropped_as, "WARNING", "stepstream", text))
        return StepLogged(*self.key, source, tuple(lines))


class StepLogs:
    """The logs of the runs of one process, written `delay_s` after a line was logged.

    What cannot be written is lost: logs never hold up a run.
    """

    def __init__(self, write: Write, now_ms: Callable[[], int], delay_s: float = 0.3) -> None:
        self._write = write
        self._now_ms = now_ms
        self._delay_s = delay_s
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._source = secrets.token_hex(_SOURCE_BYTES)
        self._numbers = itertools.count()
        self._dirty: dict[AttemptLog, None] = {}
        self._bytes = 0
        self._writing: asyncio.Task[None] | None = None

    @property
    def pending(self) -> bool:
        """Whether lines are not written yet."""
        return bool(self._dirty) or self._writing is not None

    def attempt(self, key: LogKey, replay: Replay | None = None) -> AttemptLog:
        """Return what takes the lines of an attempt; with a `replay`, of the code between steps."""
        return AttemptLog(self, key, replay)

    def take(self, attempt: AttemptLog, level: str, logger: str, text: str) -> None:
        """Take a line of an attempt, from any thread."""
        with self._lock:
            line = LogLine(self._now_ms(), next(self._numbers), level, logger, text)
            has_room = self._bytes < _BUFFERED_BYTES_MAX
            self._bytes += attempt.append(line, has_room=has_room)
            is_first = not self._dirty
            self._dirty[attempt] = None
        if is_first and not self._loop.is_closed():
            # In an empty context: what is logged while logs are written is of no run.
            self._loop.call_soon_threadsafe(self._write_soon, context=contextvars.Context())

    def _write_soon(self) -> None:
        if self._writing is None:
            self._writing = self._loop.create_task(self._write_all())

    async def _write_all(self) -> None:
        try:
            while self._dirty:
                await asyncio.sleep(self._delay_s)
                await self.flush()
        finally:
            self._writing = None

    async def flush(self) -> None:
        """Write what was logged since the last time, if anything was."""
        with self._lock:
            records = [attempt.taken(self._source) for attempt in self._dirty]
            self._dirty.clear()
            self._bytes = 0
        if not records:
            return
        try:
            await self._write(records)
        except Exception as error:
            # An error of any kind must not end the task: what is logged later would never be written.
            trace = None if isinstance(error, LogError | StoreError) else error
            logger.warning("the logs of %d attempts are lost: %s", len(records), error, exc_info=trace)


async def append_logs(
    append: Callable[[Sequence[NewRecord]], Awaitable[object]], entries: Sequence[StepLogged]
) -> None:
    """Append entries to the topic `logs`, but those whose text is not UTF-8, such as half of a surrogate pair."""
    records: list[NewRecord] = []
    for entry in entries:
        try:
            records.append(NewRecord(LOGS, -1, entry.run_id.encode(), encode(entry)))
        except UnicodeError as error:
            logger.warning("the logs of an attempt of run %s are lost: %s", entry.run_id, error)
    await append(records)
