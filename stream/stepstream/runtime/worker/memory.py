"""The memory budget of a process: how many bytes of results and reports its workers hold, and what waits meanwhile."""

import asyncio
import contextvars
import logging
import time
from collections import deque
from collections.abc import Callable

from stepstream.contract.limits import MEMORY_BYTES_MAX, MIB

logger = logging.getLogger(__name__)
# A body may take hours, so bodies that wait for memory do not wait for all others to end.
_BODY_WAIT_S_MAX = 1.0
_WARN_S = 60.0
# The share of the budget that the result of a body is expected to need if nothing is known of its function.
_UNKNOWN_SHARE = 512


class _Gate:
    """Lets tasks enter in their order while `is_open`, and at least one; `expected` sums what they need.

    It calls `on_wait` before a task waits.
    """

    def __init__(self, is_open: Callable[[], bool], on_wait: Callable[[], None] = lambda: None) -> None:
        self._is_open = is_open
        self._on_wait = on_wait
        self._inside = 0
        self.expected = 0
        self.waiting: deque[tuple[asyncio.Future[None], int]] = deque()

    def enter_now(self, size: int) -> bool:
        """Let the task enter if it may at once; leave() must follow."""
        if self.waiting or not self._may_enter():
            return False
        self._enter(size)
        return True

    def _may_enter(self) -> bool:
        return not self._inside or self._is_open()

    def _enter(self, size: int) -> None:
        self._inside += 1
        self.expected += size

    async def wait(self, size: int) -> None:
        """Return when the task may enter; leave() must follow."""
        self._on_wait()
        permit: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waiting.append((permit, size))
        try:
            await permit
        except asyncio.CancelledError:
            if not permit.cancelled():
                self.leave(size)  # It was let in, and cancelled in the same iteration.
            raise

    def leave(self, size: int) -> None:
        """Note that a task has left."""
        self._inside -= 1
        self.expected -= size
        if self.waiting:
            self.let_in()

    def let_in(self) -> None:
        """Let in those that wait, as many as may enter."""
        while self.waiting and self._may_enter():
            self.let_in_next()

    def let_in_next(self) -> None:
        """Let in the next one, unless it waits no longer."""
        permit, size = self.waiting.popleft()
        if not permit.done():
            self._enter(size)
            permit.set_result(None)


class _Stay:
    """The stay of a task inside a gate: a class, because a generator costs more and each step needs two of these."""

    __slots__ = ("_gate", "_size")

    def __init__(self, gate: _Gate, size: int) -> None:
        self._gate = gate
        self._size = size

    async def __aenter__(self) -> None:
        if not self._gate.enter_now(self._size):
            await self._gate.wait(self._size)

    async def __aexit__(self, *_: object) -> None:
        self._gate.leave(self._size)


class MemoryBudget:
    """Counts the bytes of results and reports that the workers of a process hold, as JSON.

    While it `is_full`, workers take no commands and start no code unless nothing else is running, evict runs that wait,
    start one body and write one result at a time. So the process continues, however small the budget is.
    """

    def __init__(self, bytes_max: int = MEMORY_BYTES_MAX) -> None:
        self.bytes_max = bytes_max
        self.used = 0
        # How large the results of each function's steps were; larger ones count for longer.
        self._expected: dict[str, int] = {}
        self._bodies = _Gate(lambda: self.used + self._bodies.expected < self.bytes_max, self._start_timer)
        self._reports = _Gate(lambda: not self.is_full)
        self._timer: asyncio.TimerHandle | None = None
        self._listeners: dict[Callable[[], object], contextvars.Context] = {}
        self._warned_at = 0.0

    @property
    def is_full(self) -> bool:
        """Return whether the process holds as much as it may."""
        return self.used >= self.bytes_max

    def on_room(self, listener: Callable[[], object]) -> None:
        """Call a function whenever the budget is no longer full, in the current context instead of that of a run."""
        self._listeners[listener] = contextvars.copy_context()

    def ignore(self, listener: Callable[[], object]) -> None:
        """Call a function no longer."""
        self._listeners.pop(listener, None)

    def add(self, size: int) -> None:
        """Count bytes that are held from now on."""
        before = self.used
        self.used += size
        if before < self.bytes_max <= self.used:
            self._warn()

    def _warn(self) -> None:
        now = time.monotonic()
        if not self._warned_at or now - self._warned_at >= _WARN_S:
            self._warned_at = now
            full = (
                "results and reports in memory reach %.0f MiB, the limit of this process: until some are released, it "
                "takes no commands and starts one body at a time; raise STEPSTREAM_MEMORY_MIB if there is more memory"
            )
            logger.warning(full, self.bytes_max / MIB)

    def remove(self, size: int) -> None:
        """Count bytes that are no longer held."""
        before = self.used
        self.used -= size
        if self._bodies.waiting:
            self._bodies.let_in()
        if self.used < self.bytes_max <= before:
            self._reports.let_in()
            for listener, context in list(self._listeners.items()):
                context.copy().run(listener)

    def learn(self, function: str, size: int) -> None:
        """Note the size of the result of a step."""
        before = self._expected.get(function, 0)
        self._expected[function] = max(size, before - before // 8)

    def body(self, function: str, held: int = 0) -> _Stay:
        """Wait until a body may start; until its report is durable or lost, expect that it holds so many bytes.

        Besides these, expect a result of the size of others of its function.
        """
        return _Stay(self._bodies, held + self._expected.get(function, self.bytes_max // _UNKNOWN_SHARE))

    def report(self) -> _Stay:
        """Wait until the report of a result may be encoded and written."""
        return _Stay(self._reports, 0)

    def _start_timer(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_BODY_WAIT_S_MAX, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        if self._bodies.waiting:
            self._bodies.let_in_next()
        if self._bodies.waiting:
            self._start_timer()
