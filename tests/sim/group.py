"""The consumer group of simulated workers: it rebalances, expires memberships, and has members leave, at random."""

import asyncio
import random
from collections.abc import Callable, Collection, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from msgspec.structs import replace

from stepstream.contract.codec import encode
from stepstream.contract.inbox import RunLeased, StepLeased, decode_inbox
from stepstream.runtime.embedded.embedded_worker_log import EmbeddedWorkerLog
from stepstream.runtime.ports import LogError, LogRecord, Offsets, RebalanceListener
from stepstream.runtime.worker.consumer import CommandConsumer
from tests.sim.faults import Faults, Rebalances
from tests.sim.ownership import OwnershipCheck
from tests.sim.ports import FaultyWorkerLog

T = TypeVar("T")
_PASSES_MOVING_MAX = 20
_PASSES_EXPIRED_MAX = 30
_PASSES_WITHOUT_RECORDS_MAX = 60
_EXPIRY_PROBABILITY = 0.3
_DRAIN_PROBABILITY = 0.2
# Rebalances matter while bodies are running. Without bodies there are fewer, so that schedules become idle.
_IDLE_FACTOR = 0.05


class Group:
    """The consumer group of the workers of one app, or of one of its queues."""

    def __init__(
        self,
        faults: Faults,
        rebalances: Rebalances,
        check: OwnershipCheck,
        drain: Callable[[str, bool], Coroutine[Any, Any, None]],
    ) -> None:
        self.check = check
        self.draw = random.Random(rebalances.seed)
        self._options = rebalances
        self._faults = faults
        self._drain = drain
        self._members: list[MemberLog] = []
        self._rebalancing = self._again = self._draining = False

    def join(self, member: "MemberLog") -> None:
        """Add a member, which gets partitions in the next rebalance."""
        self._members.append(member)
        self.rebalance()

    def remove(self, member: "MemberLog") -> None:
        """Remove a member; the others get its partitions."""
        if member in self._members:
            self._members.remove(member)
            self.rebalance()

    def disturb(self) -> None:
        """Start a rebalance or the drain of a worker, at random; called before each call of a member's log."""
        factor = 1 if self.check.bodies else _IDLE_FACTOR
        if self.draw.random() >= self._options.frequency * factor:
            return
        if self.draw.random() < _DRAIN_PROBABILITY:
            self._drain_one()
        elif not self._rebalancing:
            self.rebalance()

    def _drain_one(self) -> None:
        if self._draining or not self._members or asyncio.get_running_loop().is_closed():
            return
        self._draining = True
        member, leaves = self.draw.choice(self._members), self.draw.random() < 0.7

        async def drain() -> None:
            try:
                await self._drain(member.worker, leaves)
            finally:
                self._draining = False

        self._faults.detach(drain)

    def rebalance(self) -> None:
        """Rebalance, once more if a rebalance is in progress."""
        self._again = True
        if not self._rebalancing and not asyncio.get_running_loop().is_closed():
            self._rebalancing = True
            self._faults.detach(self._rebalance)

    async def _rebalance(self) -> None:
        try:
            while self._again:
                self._again = False
                await self._assign_once()
        finally:
            self._rebalancing = False

    async def _assign_once(self) -> None:
        members = list(self._members)
        expired = self._choose_expired(members)
        for member in members:
            await (member.expire() if member is expired else member.revoke())
        await wait_passes(self.draw.randrange(_PASSES_MOVING_MAX))
        receivers = [member for member in members if member in self._members and member is not expired]
        if not receivers:
            return
        owners = {partition: self.draw.choice(receivers) for partition in receivers[0].partitions}
        for member in receivers:
            await member.assign({partition for partition, owner in owners.items() if owner is member})
        if expired and expired in self._members:
            await wait_passes(self.draw.randrange(_PASSES_EXPIRED_MAX))
            await expired.lose()
            self._again = True

    def _choose_expired(self, members: "list[MemberLog]") -> "MemberLog | None":
        if not self._options.expires or len(members) < 2 or self.draw.random() >= _EXPIRY_PROBABILITY:
            return None
        self.check.expirations += 1
        return self.draw.choice(members)


class MemberLog(FaultyWorkerLog):
    """The log of a member of the group; like the one on Kafka, it returns no records from time to time."""

    def __init__(self, log: EmbeddedWorkerLog, faults: Faults, worker: str, group: Group) -> None:
        super().__init__(log, faults, worker)
        self.embedded = log
        self.assigned: set[int] = set()
        self.expired = False
        self._group = group
        self._listener: RebalanceListener | None = None
        self._confirmed = asyncio.Event()
        self._generation = 0
        self._in_order = asyncio.Lock()

    @property
    def worker(self) -> str:
        """The name of the worker."""
        return self._worker

    @property
    def confirmed(self) -> bool:
        """Whether the group has confirmed the membership since the last rebalance began."""
        return self._confirmed.is_set()

    @property
    def partitions(self) -> range:
        """The partitions of the topic."""
        return range(self.embedded._journal.partitions)

    async def _delay(self, name: str) -> None:
        """Start a rebalance, at random, and delay the call. A producer keeps the order of its records."""
        self._group.disturb()
        if name != "append":
            await super()._delay(name)
            return
        async with self._in_order:
            await super()._delay(name)

    async def open(self, listener: RebalanceListener) -> None:
        """Open, or fail, and join the group."""
        assert isinstance(listener, CommandConsumer)
        self._group.check.attach(self, listener)
        self._listener = listener
        await super().open(listener)
        self.embedded._positions.clear()
        self._group.join(self)

    async def until_member(self) -> None:
        """Return when the group has confirmed the membership."""
        while not self.confirmed and not self._left:
            await self._confirmed.wait()

    def is_fresh(self, record: LogRecord) -> bool:
        """Return whether no other worker can have started this command."""
        return self.confirmed and super().is_fresh(record)

    async def poll(self, limit: int) -> list[LogRecord]:
        """Poll, or fail; records that were read when a rebalance began are read again."""
        generation = self._generation
        polling = asyncio.ensure_future(super().poll(limit))
        for _ in range(self._group.draw.randrange(5, _PASSES_WITHOUT_RECORDS_MAX)):
            if polling.done() or not self.confirmed:
                break
            await asyncio.sleep(0)
        polling.cancel()
        (read,) = await asyncio.gather(polling, return_exceptions=True)
        if isinstance(read, asyncio.CancelledError):
            return []
        if isinstance(read, BaseException):
            raise read
        if self._left or (self.confirmed and self._generation == generation):
            return read
        positions = self.embedded._positions
        for record in read:
            if record.partition in positions:
                positions[record.partition] = min(positions[record.partition], record.offset)
        return []

    async def append(self, routing_key: str, value: bytes) -> None:
        """Append, or fail. A lease is shortened, so that a schedule need not wait long for that of a dead worker."""
        report = decode_inbox(value)
        if isinstance(report, RunLeased | StepLeased):
            self._group.check.lease(self, report)
            value = encode(replace(report, for_ms=1)) if report.for_ms else value
        await super().append(routing_key, value)

    async def commit(self, offsets: Offsets) -> None:
        """Commit, or fail; the group ignores a member that has left, or whose membership has expired."""
        if not self._left and not self.expired:
            self._group.check.commit(self, offsets)
            await super().commit(offsets)

    async def revoke(self) -> None:
        """Begin a rebalance. The partitions are revoked even when the worker cannot write its leases."""
        self._confirmed.clear()
        assert self._listener
        with suppress(LogError):
            await self._listener.moving()

    async def expire(self) -> None:
        """Begin a rebalance of which the worker learns only later; until then its membership is not confirmed."""
        self._confirmed.clear()
        self.expired = True

    async def assign(self, partitions: Collection[int]) -> None:
        """End a rebalance."""
        if self._left:
            return
        assert self._listener
        kept = self.assigned & set(partitions)
        log = self.embedded
        for partition in log._positions.keys() - kept:
            del log._positions[partition]
        for partition in sorted(set(partitions) - kept):
            log._positions[partition] = log._journal.committed(log._group, log._topic, partition)
            log._fresh_from[partition] = log._journal.end(log._topic, partition)
        self.assigned = set(partitions)
        self._generation += 1
        await self._listener.moved(kept, lost=False)
        self._confirmed.set()
        log.notification.notify()

    async def lose(self) -> None:
        """Learn that the membership has expired; the worker joins again."""
        assert self._listener
        self.embedded._positions.clear()
        self.assigned = set()
        await self._listener.moved((), lost=True)
        self.expired = False

    async def leave(self) -> None:
        """Leave the group, or fail; the others get the partitions."""
        await super().leave()
        self.assigned = set()
        self._confirmed.set()
        self._group.remove(self)

    async def close(self) -> None:
        """Leave the group without a last commit, as a process that dies does."""
        self._group.remove(self)
        await super().close()


async def wait_passes(count: int) -> None:
    """Return after so many passes of the loop."""
    for _ in range(count):
        await asyncio.sleep(0)
