"""Restarts the components of a process when they fail."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from stepstream.runtime.ports import LogError, StoreError
from stepstream.runtime.recurrence import Recurrence

logger = logging.getLogger(__name__)
RESTART_S, RESTART_S_MAX = 0.5, 8.0


class _Pauses:
    """For how many seconds a component that failed is not restarted."""

    def __init__(self, shortest_s: float) -> None:
        self._shortest_s = self._next_s = shortest_s

    def after(self, error: LogError | StoreError, served_s: float) -> float:
        """Return the pause after a failure; `served_s` is for how long the component served before it."""
        if isinstance(error, LogError):
            return self._shortest_s
        pause_s = self._shortest_s if served_s > RESTART_S_MAX else self._next_s
        self._next_s = min(2 * pause_s, RESTART_S_MAX)
        return pause_s


async def keep_serving(name: str, serve: Callable[[], Awaitable[None]], restart_s: float = RESTART_S) -> None:
    """Call `serve` until cancelled; after a failure, again in `restart_s` seconds.

    A failure that repeats is logged again only at growing intervals. While tables or files cannot be used, the time
    until the next restart grows too: until an operator acts, a restart changes nothing, and it reads and writes a lot.
    """
    recurrence, pauses = Recurrence(), _Pauses(restart_s)
    while not _cancelled():
        pause_s, started = restart_s, time.monotonic()
        try:
            await serve()
        except asyncio.CancelledError:
            # A Kafka client cancels its own futures when a broker goes away; then this task itself is not cancelled.
            if _cancelled():
                raise
            if (more := recurrence.occurs("cancelled")) is not None:
                logger.exception("%s was cancelled by its Kafka client; restarting in %g s%s", name, restart_s, more)
        except (LogError, StoreError) as error:
            pause_s = pauses.after(error, time.monotonic() - started)
            # The cluster or the disk is the cause, so a traceback would add nothing.
            if (more := recurrence.occurs(str(error))) is not None:
                logger.error("%s failed; restarting in %g s: %s%s", name, pause_s, error, more)
        except Exception as error:
            # A task group that fails while it is cancelled raises its failure instead of CancelledError.
            if (more := recurrence.occurs(repr(error))) is not None:
                logger.exception("%s failed; restarting in %g s%s", name, restart_s, more)
        else:
            continue
        await asyncio.sleep(pause_s)


def _cancelled() -> bool:
    return (task := asyncio.current_task()) is None or task.cancelling() > 0
