"""A worker and a cluster as far as the probes and gauges of a worker process read them."""

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any

from stepstream.host.broker_contact import BrokerContact
from stepstream.host.monitoring.gauges import WorkerGauges
from stepstream.host.worker_slot import WorkerSlot
from stepstream.runtime.ports import LogError
from stepstream.runtime.worker.observer import Load


@dataclass
class StandIn:
    """A worker and its log in one object."""

    serving: bool = True
    member: bool = True
    assignments: int = 1
    confirmed_at: float = field(default_factory=time.monotonic)
    load: Load = field(default_factory=lambda: Load(4, 3, 2, 5, threads=8, threads_in_use=7))
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
        self.asked.set()
        if not self.up:
            raise LogError("reaching the cluster: no broker answers")

    async def ends(self, places: tuple[tuple[str, int], ...]) -> dict[tuple[str, int], int]:
        """Return 10 for each place."""
        self.asked.set()
        if not self.up:
            raise LogError("no broker answers")
        return dict.fromkeys(places, 10)

    async def answered(self) -> None:
        """Return when the cluster was asked once more and its answer was processed; a ping may have come before."""
        for _ in range(3):
            self.asked.clear()
            await asyncio.wait_for(self.asked.wait(), 10)


def slot_of(worker: Any = None) -> WorkerSlot:
    """Return the slot of a worker, or an empty slot."""
    slot = WorkerSlot("shop", BrokerContact())
    if worker is not None:
        slot.take(worker, worker)
    return slot


def gauges_of(slot: WorkerSlot, backbone: Any = None) -> WorkerGauges:
    """Return the gauges of a worker's process."""
    given: Any = backbone or Backbone()
    return WorkerGauges(slot, given)
