"""Parts of a process that begin again when they fail."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from stepstream.runtime.ports import LogError

logger = logging.getLogger(__name__)
AGAIN_S = 0.5


async def keep_serving(name: str, serve: Callable[[], Awaitable[None]], again_s: float = AGAIN_S) -> None:
    """Serve until cancelled: what fails begins again after `again_s` seconds."""
    while not _cancelled():
        try:
            await serve()
        except asyncio.CancelledError:
            # A client of Kafka cancels what it has in its hands when a broker goes; nobody has cancelled us then.
            if _cancelled():
                raise
            logger.exception("the %s was given up by a client and begins again", name)
            await asyncio.sleep(again_s)
        except LogError as error:
            # It is Kafka's, and comes again for as long as that lasts: where it was raised says no more than its words.
            logger.error("the %s failed and begins again: %s", name, error)
            await asyncio.sleep(again_s)
        except Exception:
            # A group of tasks that fails just when it is cancelled ends in its failure alone.
            logger.exception("the %s failed and begins again", name)
            await asyncio.sleep(again_s)


def _cancelled() -> bool:
    return (task := asyncio.current_task()) is None or task.cancelling() > 0
