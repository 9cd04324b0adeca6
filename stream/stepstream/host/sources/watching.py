"""Watches the consumer with which Faust reads sources, and logs what keeps it from reading."""

import asyncio
import logging
from collections.abc import Collection
from typing import Any

from stepstream.runtime.kafka.patches import ConsumerEndedError, ConsumerState, read_consumer_state

logger = logging.getLogger(__name__)
LOOK_S = 10.0
_RIGHTS = {
    "GroupAuthorizationFailedError": "the right READ on this consumer group is missing",
    "TopicAuthorizationFailedError": "the right READ on a topic is missing",
}


def not_read(topics: Collection[str], group: str, error: BaseException | None) -> str:
    """Say why sources are not read, with the right that is missing where that is known."""
    why = "it has no coordinator, or is not joined yet"
    if error is not None:
        name = type(error).__name__
        why = _RIGHTS.get(name, "it failed") + f" ({name}: {error})"
    return f"sources of {', '.join(sorted(topics))} are not read, group {group}: {why}"


class GroupWatch:
    """Tells when the consumer of a group is kept from reading, each time it looks, and once when it reads again."""

    def __init__(self, host: Any, group: str, topics: Collection[str], look_s: float = LOOK_S) -> None:
        self._host = host
        self._group = group
        self._topics = topics
        self._look_s = look_s
        self._kept = False

    async def serve(self) -> None:
        """Look again and again, for ever; a client that has ended ends the host."""
        while True:
            await asyncio.sleep(self._look_s)
            try:
                self.tell(await read_consumer_state(self._host.consumer))
            except ConsumerEndedError as error:
                await self._host.crash(error)
                return

    def tell(self, seat: ConsumerState) -> None:
        """Say what is wrong with a seat, or that it is right again."""
        if seat.error is None and seat.joined:
            if self._kept:
                logger.info("group %s is joined, and has %d partitions", self._group, seat.partitions)
            self._kept = False
            return
        self._kept = True
        logger.error("%s; it is tried again every %g s", not_read(self._topics, self._group, seat.error), self._look_s)
