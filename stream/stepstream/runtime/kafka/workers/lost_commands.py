"""Has shards send commands again when a worker has lost its position in them, for example with a deleted topic."""

import logging
from collections.abc import Awaitable, Callable, Collection

from stepstream.contract.codec import encode
from stepstream.contract.inbox import CommandsLost
from stepstream.contract.topics import INBOX, commands_topic
from stepstream.runtime.kafka.client.reader import Reader
from stepstream.runtime.ports import NewRecord, TopicPartition

logger = logging.getLogger(__name__)


class LostCommands:
    """The partitions of a worker for which it is not known whether commands are lost; no offset is committed for them.

    A group without a position in a partition may have lost it with the topic, or by its retention. One whose position
    is not among the retained records has. Then the shard sends all that its runs need again; that is always correct.
    """

    def __init__(self, workers: str, shards: int, write: Callable[[NewRecord], Awaitable[None]]) -> None:
        self._workers = workers
        self._topic = commands_topic(workers)
        self._shards = shards
        self._write = write
        self._lost = set[int]()
        self._unknown = set[int]()

    @property
    def unknown(self) -> list[TopicPartition]:
        """The partitions to ask for."""
        return [(self._topic, partition) for partition in sorted(self._unknown)]

    def assigned(self, partitions: Collection[int], kept: Collection[int]) -> None:
        """Ask for the partitions that this worker did not have before."""
        self._unknown = (self._unknown & set(partitions)) | set(partitions).difference(kept)
        self._lost &= self._unknown

    def lose(self, assigned: Collection[int]) -> None:
        """Note that all commands are lost: those of the assigned partitions, and of those that are assigned next.

        While a topic does not exist the group assigns none of its partitions.
        """
        self._lost = set(range(self._shards))
        self._unknown.update(assigned)

    def known(self, partition: int) -> bool:
        """Return whether nothing is lost, or what was lost was requested."""
        return partition not in self._unknown

    async def ask(self, reader: Reader, at: TopicPartition) -> None:
        """Compare the position of the group with the retained records, and request commands that may be lost."""
        partition = at[1]
        position = (await reader.committed([at])).get(at)
        beginning, end = (await reader.beginnings([at]))[at], (await reader.ends([at]))[at]
        if partition in self._lost or position is None or not beginning <= position <= end:
            found = "none" if position is None else position
            reason = "group of %s has no valid position in partition %d (%s; records %d to %d): shard %d sends again"
            logger.info(reason, self._topic, partition, found, beginning, end, partition)
            await self._write(NewRecord(INBOX, partition, self._workers.encode(), encode(CommandsLost(self._workers))))
            # Without a position, each rebalance would request the commands again.
            await reader.commit({at: beginning})
        self._unknown.discard(partition)
        self._lost.discard(partition)
