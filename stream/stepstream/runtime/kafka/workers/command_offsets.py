"""How far a worker has come in the commands of each partition that it is assigned."""

from collections.abc import Callable, Collection, Iterable

from stepstream.runtime.ports import LogRecord, Offsets, TopicPartition

# An offset that no record reaches.
_NEVER = 2**63


class CommandOffsets:
    """The offsets of a worker in one topic, by assigned partition.

    `polled` follows the last command that was returned by a poll. All commands before `processed` are processed, and
    the group has committed `committed`. `assignments` counts how often partitions were assigned.
    """

    def __init__(self, topic: str) -> None:
        self._topic = topic
        self.assignments = 0
        # The end of the partition when it was assigned; _NEVER while it is not known.
        self._fresh_from: dict[int, int] = {}
        self._polled: dict[int, int] = {}
        self._processed: dict[int, int] = {}
        self._committed: dict[int, int] = {}

    @property
    def assigned(self) -> Collection[int]:
        """The assigned partitions, by number."""
        return self._fresh_from.keys()

    @property
    def partitions(self) -> list[TopicPartition]:
        """The assigned partitions, with their topic."""
        return [(self._topic, partition) for partition in self._fresh_from]

    def assign(self, partitions: Collection[int], kept: Collection[int]) -> None:
        """Have these partitions from now on; those that were `kept` continue where they are."""
        self._fresh_from = {at: self._fresh_from[at] if at in kept else _NEVER for at in partitions}
        for offsets in (self._polled, self._processed, self._committed):
            for partition in offsets.keys() - set(kept):
                del offsets[partition]
        self.assignments += 1

    def start_over(self) -> None:
        """Forget all offsets of the assigned partitions: they are read from their beginnings."""
        for offsets in (self._polled, self._processed, self._committed):
            offsets.clear()
        self._fresh_from = dict.fromkeys(self._fresh_from, _NEVER)

    # Reading.

    def polled(self) -> Offsets:
        """Return where to continue to read, for the partitions of which something was read."""
        return {(self._topic, partition): at for partition, at in self._polled.items()}

    def take(self, records: Iterable[LogRecord]) -> list[LogRecord]:
        """Return the records of assigned partitions that were not returned before."""
        found: list[LogRecord] = []
        for record in records:
            if record.partition in self._fresh_from and record.offset >= self._polled.get(record.partition, 0):
                self._polled[record.partition] = record.offset + 1
                found.append(record)
        return found

    def is_beyond(self, at: TopicPartition, end: int) -> bool:
        """Return whether a poll has returned records after the end of a partition: it is another topic's, or lost."""
        return self._polled.get(at[1], 0) > end

    # Which commands came after the assignment.

    def unknown_ends(self) -> list[TopicPartition]:
        """Return the partitions whose end at the assignment is not known."""
        return [at for at in self.partitions if self._fresh_from[at[1]] == _NEVER]

    def learn_end(self, at: TopicPartition, end: int) -> None:
        """Note the end of a partition: commands from there on are fresh."""
        self._fresh_from[at[1]] = end

    def is_fresh(self, record: LogRecord) -> bool:
        """Return whether a command came after its partition was assigned; False while that is not known."""
        return record.offset >= self._fresh_from.get(record.partition, record.offset + 1)

    # Committing.

    def process(self, offsets: Offsets) -> None:
        """Note that all commands before these offsets are processed."""
        self._processed.update({partition: offset for (_, partition), offset in offsets.items()})

    def uncommitted(self, allowed: Callable[[int], bool]) -> Offsets:
        """Return the offsets to commit, of the partitions for which that is allowed."""
        return {
            (self._topic, partition): at
            for partition, at in self._processed.items()
            if at > self._committed.get(partition, 0) and allowed(partition)
        }

    def commit(self, offsets: Offsets) -> None:
        """Note that the group has committed these offsets."""
        self._committed.update({partition: at for (_, partition), at in offsets.items()})

    def beyond_markers(self, positions: Offsets, allowed: Callable[[int], bool]) -> Offsets:
        """Return the positions of a reader that are after all processed commands, and so after transaction markers.

        Otherwise the lag of the group would never be 0, and an autoscaler would never remove the last worker.
        """
        return {
            at: position
            for at, position in positions.items()
            if self._polled.get(at[1]) == self._processed.get(at[1])
            and allowed(at[1])
            and position > max(self._processed.get(at[1], 0), self._committed.get(at[1], 0))
        }
