"""A worker and a cluster as far as the metrics and probes of a worker process read them."""

import asyncio
import time
from dataclasses import dataclass, field

from stepstream.host.monitoring.gauges import WorkerSlot
from stepstream.runtime.ports import LogError
from stepstream.runtime.worker.attempts import Load


@dataclass
class StandIn:
    """A worker and its log as far as a worker slot reads them."""

    serving: bool = True
    member: bool = True
    assignments: int = 1
    confirmed_at: float = field(default_factory=time.monotonic)
    load: Load = field(default_factory=lambda: Load(4, 3, 2, 5))
    partitions: tuple[tuple[str, int], ...] = (("commands.shop", 0), ("commands.shop", 1))
    drained: int = 0
    ends: int = 10

    async def lag(self, at: tuple[str, int], end: int) -> int:
        """Return a lag that differs by partition."""
        return end + at[1]

    async def drain(self, lease_ms: int) -> None:
        """Note for how long running steps would be leased."""
        self.drained = lease_ms


class Backbone:
    """A cluster that answers, or does not."""

    def __init__(self) -> None:
        self.up = True
        self.asked = asyncio.Event()

    async def ping(self) -> None:
        """Answer a new connection."""
        if not self.up:
            raise LogError("reaching the cluster: no broker answers")

    async def ends(self, places: tuple[tuple[str, int], ...]) -> dict[tuple[str, int], int]:
        """Return 10 for each place."""
        self.asked.set()
        if not self.up:
            raise LogError("no broker answers")
        return dict.fromkeys(places, 10)


def seated(stand_in: StandIn, backbone: Backbone | None = None) -> WorkerSlot:
    """Return the slot of a worker."""
    slot = WorkerSlot("shop", backbone or Backbone())  # type: ignore[arg-type]  # As far as it is used.
    slot.take(stand_in, stand_in)  # type: ignore[arg-type]  # The same.
    return slot
