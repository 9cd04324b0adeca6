"""Watches the consumer with which Faust reads sources, and logs what keeps it from reading."""

import asyncio
import logging
from collections.abc import Collection
from typing import Any

from stepstream.contract.text.wording import counted
from stepstream.runtime.kafka.client.patches import ConsumerEndedError, ConsumerState, read_consumer_state

logger = logging.getLogger(__name__)
WATCH_S = 10.0
_RIGHTS = {
    "GroupAuthorizationFailedError": "the ACL operation READ on this consumer group is missing",
    "TopicAuthorizationFailedError": "the ACL operation READ on a topic is missing",
}


def describe_failure(topics: Collection[str], group: str, error: BaseException | None) -> str:
    """Return why sources are not read; if a permission is missing, name it."""
    why = "the group has no coordinator, or the consumer has not joined it yet"
    if error is not None:
        name = type(error).__name__
        why = _RIGHTS.get(name, "the consumer failed") + f" ({name}: {error})"
    return f"sources of {', '.join(sorted(topics))} are not read, group {group}: {why}"


class GroupWatch:
    """Reports at each interval what keeps the consumer of a group from reading, and once when it reads again."""

    def __init__(self, host: Any, group: str, topics: Collection[str], interval_s: float = WATCH_S) -> None:
        self._host = host
        self._group = group
        self._topics = topics
        self._interval_s = interval_s
        self._failed = False

    async def serve(self) -> None:
        """Watch until cancelled; crash the host when the client has ended."""
        while True:
            await asyncio.sleep(self._interval_s)
            try:
                self.report(await read_consumer_state(self._host.consumer))
            except ConsumerEndedError as error:
                await self._host.crash(error)
                return

    def report(self, state: ConsumerState) -> None:
        """Log what is wrong with a consumer, or that it works again."""
        if state.error is None and state.joined:
            if self._failed:
                partitions = counted(state.partitions, "partition")
                logger.info("consumer joined group %s and was assigned %s", self._group, partitions)
            self._failed = False
            return
        self._failed = True
        reason = describe_failure(self._topics, self._group, state.error)
        logger.error("%s; the next check is in %g s", reason, self._interval_s)
