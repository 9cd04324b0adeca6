"""Positions of records that are finished out of order: what may be committed is what lies before the first open one."""

from collections import deque
from collections.abc import Collection

from stepstream.runtime.ports import Offsets


class Positions:
    """Tracks, per partition, which records are begun and which have ended."""

    def __init__(self) -> None:
        self._begun: dict[tuple[str, int], deque[int]] = {}
        self._ended: dict[tuple[str, int], set[int]] = {}
        self._changed: set[tuple[str, int]] = set()

    def begin(self, topic: str, partition: int, offset: int) -> None:
        """Note a record as begun; offsets of a partition come in order."""
        at = (topic, partition)
        self._begun.setdefault(at, deque()).append(offset)
        self._ended.setdefault(at, set())

    def end(self, topic: str, partition: int, offset: int) -> None:
        """Note a record as ended."""
        at = (topic, partition)
        if at in self._ended:
            self._ended[at].add(offset)
            self._changed.add(at)

    def keep(self, partitions: Collection[int]) -> None:
        """Forget all partitions but these: somebody else reads them from now on."""
        for at in [at for at in self._begun if at[1] not in partitions]:
            del self._begun[at], self._ended[at]
            self._changed.discard(at)

    def advance(self) -> Offsets:
        """Return the offsets that moved since the last call: the next one to read after a restart."""
        moved: Offsets = {}
        for at in self._changed:
            begun, ended = self._begun[at], self._ended[at]
            while begun and begun[0] in ended:
                offset = begun.popleft()
                ended.discard(offset)
                moved[at] = offset + 1
        self._changed.clear()
        return moved
