"""The workers of a gateway on Kafka: one for each app, started when the app first appears, and all drained together."""

import asyncio
import contextlib
import functools
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from stepstream.gateway.runs.app import RemoteApp
from stepstream.host.broker_contact import BrokerContact
from stepstream.host.monitoring.gauges import WorkerGauges
from stepstream.host.worker_slot import WorkerSlot
from stepstream.runtime.kafka.backbone import KafkaBackbone
from stepstream.runtime.kafka.client.answers import Extent
from stepstream.runtime.kafka.client.cluster import Cluster
from stepstream.runtime.kafka.workers.group_lease import MemberOptions
from stepstream.runtime.kafka.workers.worker_log import KafkaWorkerLog
from stepstream.runtime.metrics import Reading
from stepstream.runtime.supervision import keep_serving
from stepstream.runtime.worker.options import WorkerOptions
from stepstream.runtime.worker.worker import Worker

# Gauges of the process, which has them once for all of its workers.
_OF_PROCESS = {"ready", "rebalances"}


@dataclass(frozen=True, slots=True)
class Fleet:
    """What the workers share: the cluster, its shards, how they are members of their groups, and their options."""

    cluster: Cluster
    backbone: KafkaBackbone
    shards: int
    member: MemberOptions
    options: WorkerOptions


class GatewayWorkers:
    """The workers by app; the process is ready once it knows all apps and each has a worker that is a member.

    An app whose topic cannot be used is left out.
    """

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._contact = BrokerContact()
        self._slots: dict[str, WorkerSlot] = {}
        self._gauges: dict[str, WorkerGauges] = {}
        self._tasks: dict[str, Sequence[asyncio.Task[None]]] = {}
        self._followed: list[asyncio.Task[None]] = []
        self._earlier_assignments = 0
        # The apps whose topics cannot be used: they do not keep the process from serving the others.
        self.unusable: Collection[str] = ()
        # Whether the topic of functions has been read up to its end.
        self.known = asyncio.Event()

    def start(self, app: RemoteApp) -> None:
        """Serve one more app."""
        slot = self._slots[app.name] = WorkerSlot(app.name, self._contact)
        gauges = self._gauges[app.name] = WorkerGauges(slot, self._fleet.backbone)
        serving = keep_serving(f"worker of {app.name}", functools.partial(self._serve, app, slot))
        measuring = keep_serving(f"lags of {app.name}", gauges.measure)
        self._tasks[app.name] = [asyncio.ensure_future(each) for each in (serving, measuring)]

    async def leave(self, name: str, seconds: float) -> None:
        """Serve an app no longer; its running calls get so many seconds to finish."""
        del self._gauges[name]
        slot, tasks = self._slots.pop(name), self._tasks.pop(name)
        self._earlier_assignments += slot.assignments
        try:
            with contextlib.suppress(TimeoutError):
                await slot.drain(seconds)
        finally:
            await _cancel(tasks)

    def follow(self, name: str, serve: Callable[[], Awaitable[None]]) -> None:
        """Run what decides when an app is served."""
        self._followed.append(asyncio.ensure_future(keep_serving(f"serving of {name}", serve)))

    async def _serve(self, app: RemoteApp, slot: WorkerSlot) -> None:
        if slot.draining:
            await asyncio.get_running_loop().create_future()
        fleet = self._fleet
        log = KafkaWorkerLog(fleet.cluster, app.name, fleet.shards, fleet.member)
        slot.take(worker := Worker(log, app, fleet.options), log)
        await worker.serve()

    def check(self, topics: Mapping[str, Extent]) -> None:
        """Let workers start over whose topics were created again."""
        for slot in self._slots.values():
            slot.check(topics)

    @property
    def unready(self) -> str:
        """Why the process is not ready; empty if it is."""
        if not self.known.is_set():
            return "starting: the registered apps are not read yet"
        reasons = {app: slot.unready for app, slot in self._slots.items()}
        counted = ((app, reason) for app, reason in reasons.items() if reason and app not in self.unusable)
        return "; ".join(f"app {app}: {reason}" for app, reason in counted)

    @property
    def alive(self) -> bool:
        """Whether the groups have confirmed the memberships recently."""
        return all(slot.alive for slot in self._slots.values())

    @property
    def bodies(self) -> int:
        """How many calls are in progress."""
        return sum(slot.load.bodies for slot in self._slots.values() if slot.load)

    def read(self) -> Iterator[Reading]:
        """Return the current gauges."""
        yield Reading("ready", (), not self.unready)
        assignments = self._earlier_assignments + sum(slot.assignments for slot in self._slots.values())
        yield Reading("rebalances", ("worker",), assignments)
        for gauges in self._gauges.values():
            yield from (reading for reading in gauges.read() if reading.name not in _OF_PROCESS)

    async def drain(self, seconds: float) -> bool:
        """Let running calls finish for so long; return whether all of them did."""
        draining = (slot.drain(seconds) for slot in self._slots.values())
        ends = await asyncio.gather(*draining, return_exceptions=True)
        for end in ends:
            if isinstance(end, BaseException) and not isinstance(end, TimeoutError):
                raise end
        return not any(ends)

    async def stop(self) -> None:
        """Leave the groups."""
        await _cancel(self._followed)
        await _cancel([task for tasks in self._tasks.values() for task in tasks])


async def _cancel(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
