"""Watches the consumer by which Faust reads sources, and tells what keeps it from reading.

Faust never asks its consumer for the errors of its group, and the client waits with an error until somebody has: so a
group that may not be read would stay silent for ever, also when the right is granted. Whoever takes the error has the
client try again.
"""

import asyncio
import logging
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

logger = logging.getLogger(__name__)
LOOK_S = 10.0
_RIGHTS = {
    "GroupAuthorizationFailedError": "the right READ on this consumer group is missing",
    "TopicAuthorizationFailedError": "the right READ on a topic is missing",
}


@dataclass(frozen=True, slots=True)
class ConsumerState:
    """What a consumer has of its group: an error that nobody took, whether it is a member, how many partitions."""

    error: Exception | None
    joined: bool
    partitions: int


class ConsumerEndedError(Exception):
    """The client reads no more, and will not begin again by itself."""


async def consumer_state_of(consumer: Any) -> ConsumerState:
    """Take the error that a Faust consumer's client keeps, so that it tries again; raise ConsumerEndedError."""
    # Faust shows its client to nobody.
    thread = consumer._thread

    async def ask() -> ConsumerState:
        # In the thread of the client, whose futures are its own.
        client = thread._consumer
        if client is None or client._coordinator is None:
            return ConsumerState(None, joined=False, partitions=0)
        coordinator = client._coordinator
        ended = coordinator._coordination_task.done()
        error = None
        try:
            coordinator.check_errors()
        except Exception as found:  # noqa: BLE001 - it is told, and the client goes on
            error = found
        if ended:
            raise ConsumerEndedError(str(error or "it has stopped")) from error
        return ConsumerState(error, joined=coordinator.generation > 0, partitions=len(client.assignment()))

    found: ConsumerState = await thread.call_thread(ask)
    return found


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
                self.tell(await consumer_state_of(self._host.consumer))
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
