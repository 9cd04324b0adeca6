"""Tracks commands that are acknowledged out of order: a worker commits the offset of the first that is not."""

from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass, field

from stepstream.runtime.ports import Offsets


@dataclass(slots=True)
class _Partition:
    """The commands of a partition that are not acknowledged, in log order, and the offset after the last one read."""

    end: int = 0
    open: OrderedDict[int, None] = field(default_factory=OrderedDict)


class Positions:
    """The commands, by partition, that were read and not acknowledged; others take no memory."""

    def __init__(self) -> None:
        self._partitions: dict[tuple[str, int], _Partition] = {}
        self._changed: set[tuple[str, int]] = set()

    def begin(self, topic: str, partition: int, offset: int) -> None:
        """Add a command that was read; the offsets of a partition are added in order."""
        found = self._partitions.setdefault((topic, partition), _Partition())
        found.open[offset] = None
        found.end = offset + 1

    def end(self, topic: str, partition: int, offset: int) -> None:
        """Acknowledge a command; one that was not added is ignored."""
        at = (topic, partition)
        if at in self._partitions and offset in self._partitions[at].open:
            if offset == next(iter(self._partitions[at].open)):
                self._changed.add(at)
            del self._partitions[at].open[offset]

    def keep(self, partitions: Collection[int]) -> None:
        """Remove all partitions but these: other workers read them."""
        for at in [at for at in self._partitions if at[1] not in partitions]:
            del self._partitions[at]
            self._changed.discard(at)

    def advance(self) -> Offsets:
        """Return, for partitions that changed since the last call, the offset from which to read after a restart."""
        moved = {at: next(iter(self._partitions[at].open), self._partitions[at].end) for at in self._changed}
        self._changed.clear()
        return moved
