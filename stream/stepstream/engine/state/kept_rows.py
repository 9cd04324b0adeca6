"""The rows of kept events and of the look-backs that read them."""

import msgspec

from stepstream.contract.events import EventRecord
from stepstream.contract.matching import WaitOpened

# The arrival time by which a kept event sorts, and its number in the shard.
KeptPlace = tuple[int, int]


class LookbackWindows(msgspec.Struct, frozen=True, omit_defaults=True):
    """How far back (ms) the waits of each function may look; events are kept for the longest of these times.

    `version` counts the changes: all events that are kept under one version are deleted in the order of their arrival.
    """

    by_function: dict[str, int]
    version: int = 0

    @property
    def longest(self) -> int:
        """The time (ms) for which events are kept; 0 if no function looks back."""
        return max(self.by_function.values(), default=0)


class KeptEvent(msgspec.Struct, frozen=True):
    """An event kept for waits that look back: when it arrived, and when it is deleted."""

    event: EventRecord
    arrived_at: int
    until: int


class KeptHead(msgspec.Struct, frozen=True):
    """How many events this shard has ever kept, and the arrival time of the last one, which never decreases."""

    count: int
    arrived_at: int

    @property
    def place(self) -> KeptPlace:
        """The place of the last event."""
        return self.arrived_at, self.count


class KeptPath(msgspec.Struct, frozen=True, omit_defaults=True):
    """A path by which the kept events of a name are indexed, for look-backs until `until` (Unix ms).

    All events up to the place `indexed_to` are indexed, and none after it; without it all are.
    """

    until: int
    indexed_to: KeptPlace | None = None


class KeptPaths(msgspec.Struct, frozen=True):
    """The paths by which the kept events of a name are indexed; "" is the index of all of them."""

    paths: dict[str, KeptPath]


class IndexedEvent(msgspec.Struct, frozen=True):
    """An entry of the index of kept events. Its key has all: the bucket, and the place of the event."""


class LookBack(msgspec.Struct, frozen=True, omit_defaults=True):
    """A look-back in progress, or one that waits for the index of its path.

    `opened` is the number of the last event that was kept before the wait was opened. The events up to the place
    `after` are evaluated. If the wait has `expired`, it ends with the look-back.
    """

    wait: WaitOpened
    opened: int
    after: KeptPlace | None = None
    expired: bool = False
