"""The heartbeats of a body: what it says of its progress, how often that is reported, and how long it may be silent."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from stepstream.contract.codec import Json, Raw, dump_json, load_json
from stepstream.contract.errors import TooLarge
from stepstream.contract.limits import HEARTBEAT_INTERVAL_MS_MAX, HEARTBEAT_INTERVAL_MS_MIN, PROGRESS_BYTES_MAX
from stepstream.sdk.errors import HeartbeatTimeoutError, RunInterrupted
from stepstream.sdk.values import to_json

T = TypeVar("T")
_ENDED = (
    "this attempt of the step is over: it was cancelled, took too long, or sent no heartbeat in time; its result is "
    "ignored, so let the body end"
)


class Heartbeats:
    """The heartbeats of one attempt of a body, which calls `beat` in any thread; the rest belongs to the event loop.

    `report` is called with the newest progress: at the first heartbeat, and then at most once per interval.
    """

    def __init__(
        self, progress: Raw, timeout_ms: int, report: Callable[[Raw], object], loop: asyncio.AbstractEventLoop
    ) -> None:
        self.progress = progress
        self._timeout_ms = timeout_ms
        interval_ms = timeout_ms // 3 or HEARTBEAT_INTERVAL_MS_MAX
        self._interval_s = min(max(interval_ms, HEARTBEAT_INTERVAL_MS_MIN), HEARTBEAT_INTERVAL_MS_MAX) / 1_000
        self._report = report
        self._loop = loop
        self._beat_at = self._loop.time()
        self._unreported = False
        self._next: asyncio.TimerHandle | None = None
        self._watching: asyncio.TimerHandle | None = None
        self._is_over = False

    def beat(self, progress: Any) -> None:
        """Take a heartbeat; None as its progress leaves the one before. Raise InvalidInput for one that is not JSON."""
        if self._is_over:
            raise RunInterrupted(_ENDED)
        if progress is not None:
            self.progress = _progress_json(progress)
        self._beat_at = self._loop.time()
        if not self._unreported:
            self._unreported = True
            self._loop.call_soon_threadsafe(self._report_first)

    @property
    def latest(self) -> Json:
        """What the last heartbeat said, in this attempt or an earlier one; None without one."""
        return load_json(self.progress)

    def _report_first(self) -> None:
        if self._next is None:
            self._report_next()

    def _report_next(self) -> None:
        self._next = None
        if self._unreported and not self._is_over:
            self._unreported = False
            self._next = self._loop.call_later(self._interval_s, self._report_next)
            self._report(self.progress)

    async def watch(self, body: Awaitable[T]) -> T:
        """Await a body; cancel it and raise HeartbeatTimeoutError once it has sent no heartbeat for its timeout."""
        limit = asyncio.timeout(None)
        try:
            async with limit:
                self._watch(limit)
                return await body
        except TimeoutError as error:
            if not limit.expired():
                raise  # It is the body's own, or the time limit of the attempt.
            raise HeartbeatTimeoutError(self._timeout_ms) from error

    def _watch(self, limit: asyncio.Timeout) -> None:
        due = self._beat_at + self._timeout_ms / 1_000
        if due <= self._loop.time():
            limit.reschedule(due)
        else:
            self._watching = self._loop.call_at(due, self._watch, limit)

    def end(self) -> None:
        """The attempt has ended: report nothing more."""
        self._is_over = True
        for timer in (self._next, self._watching):
            if timer is not None:
                timer.cancel()


def _progress_json(progress: Any) -> Raw:
    found = dump_json(to_json(progress), "progress of a heartbeat")
    if (size := len(bytes(found))) > PROGRESS_BYTES_MAX:
        raise TooLarge(
            f"the progress of a heartbeat has {size:,} bytes, at most {PROGRESS_BYTES_MAX:,} are kept; "
            "say where the body is, and store its data elsewhere",
            "progress",
        )
    return found
