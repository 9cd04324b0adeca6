"""Restarts the components of a process when they fail."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from stepstream.runtime.ports import LogError

logger = logging.getLogger(__name__)
RESTART_S = 0.5


async def keep_serving(name: str, serve: Callable[[], Awaitable[None]], restart_s: float = RESTART_S) -> None:
    """Call `serve` until cancelled; after a failure, again in `restart_s` seconds."""
    while not _cancelled():
        try:
            await serve()
        except asyncio.CancelledError:
            # A Kafka client cancels its own futures when a broker goes away; then this task itself is not cancelled.
            if _cancelled():
                raise
            logger.exception("%s was cancelled by its Kafka client; restarting in %g s", name, restart_s)
            await asyncio.sleep(restart_s)
        except LogError as error:
            # The cluster is the cause, and the error repeats as long as that lasts: a traceback would add nothing.
            logger.error("%s failed; restarting in %g s: %s", name, restart_s, error)
            await asyncio.sleep(restart_s)
        except Exception:
            # A task group that fails while it is cancelled raises its failure instead of CancelledError.
            logger.exception("%s failed; restarting in %g s", name, restart_s)
            await asyncio.sleep(restart_s)


def _cancelled() -> bool:
    return (task := asyncio.current_task()) is None or task.cancelling() > 0
