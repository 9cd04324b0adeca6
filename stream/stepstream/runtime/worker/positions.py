"""Positions of records that are finished out of order: what may be committed is what lies before the first open one."""

from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass, field

from stepstream.runtime.ports import Offsets


@dataclass(slots=True)
class _Place:
    """What is open of a partition, in the order of the log, and the offset after the last record that was begun."""

    end: int = 0
    open: OrderedDict[int, None] = field(default_factory=OrderedDict)


class Positions:
    """Tracks, per partition, which records are begun and have not ended: others take no memory."""

    def __init__(self) -> None:
        self._places: dict[tuple[str, int], _Place] = {}
        self._changed: set[tuple[str, int]] = set()

    def begin(self, topic: str, partition: int, offset: int) -> None:
        """Note a record as begun; offsets of a partition come in order."""
        place = self._places.setdefault((topic, partition), _Place())
        place.open[offset] = None
        place.end = offset + 1

    def end(self, topic: str, partition: int, offset: int) -> None:
        """Note a record as ended; one that is not begun is passed over."""
        at = (topic, partition)
        if at in self._places and offset in self._places[at].open:
            if offset == next(iter(self._places[at].open)):
                self._changed.add(at)
            del self._places[at].open[offset]

    def keep(self, partitions: Collection[int]) -> None:
        """Forget all partitions but these: somebody else reads them from now on."""
        for at in [at for at in self._places if at[1] not in partitions]:
            del self._places[at]
            self._changed.discard(at)

    def advance(self) -> Offsets:
        """Return the offsets that moved since the last call: the next one to read after a restart."""
        moved = {at: next(iter(self._places[at].open), self._places[at].end) for at in self._changed}
        self._changed.clear()
        return moved
