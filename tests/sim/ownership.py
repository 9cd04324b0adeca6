"""Checks, while workers of a group run, that a run belongs to one of them at a time, and that leases are returned."""

import functools
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Protocol

from stepstream.contract.codec import Raw
from stepstream.contract.inbox import RunLeased, StepLeased
from stepstream.engine.state.tables import LEASES
from stepstream.runtime.ports import Offsets
from stepstream.runtime.storage.journal import MemoryStore
from stepstream.runtime.worker.consumer import CommandConsumer
from stepstream.runtime.worker.runs.states import Effect
from stepstream.sdk.execution import StepResult
from stepstream.sdk.replay.calls import Call
from tests.sim.faults import Faults


class Member(Protocol):
    """A member of a group: which partitions it has, and whether it is certain of them."""

    assigned: set[int]

    @property
    def worker(self) -> str:
        """The name of the worker."""

    @property
    def confirmed(self) -> bool:
        """Whether the group has confirmed the membership since the last rebalance began."""


class OwnershipCheck:
    """What must hold for the workers of all groups. `bodies` are running, and `complaints` are the broken invariants.

    Some laws hold only while nothing fails: a worker that crashes or is expelled from its group leaves its leases to
    expire, and its bodies run again.
    """

    def __init__(self, faults: Faults) -> None:
        self.complaints: list[str] = []
        self.expirations = 0
        self.bodies = 0
        self._faults = faults
        self._started = set[tuple[str, str, int]]()
        self._leased = set[tuple[object, ...]]()

    @property
    def undisturbed(self) -> bool:
        """Whether no call has failed and no membership has expired so far."""
        return not self._faults.struck and not self.expirations

    def attach(self, member: Member, worker: CommandConsumer[Any]) -> None:
        """Check each body that a worker starts, and each of its claims."""
        attempts, claim = worker._attempts, worker._effects[Effect.CLAIM]
        run = functools.partial(self._run_body, member, worker, attempts.run)
        attempts.run = run  # type: ignore[method-assign]
        worker._effects[Effect.CLAIM] = functools.partial(self._claim, member, claim)
        worker._effects[Effect.RECLAIM] = functools.partial(self._reclaim, worker._effects[Effect.RECLAIM])

    async def _run_body(
        self,
        member: Member,
        worker: CommandConsumer[Any],
        run: Callable[[str, str, Call, Callable[[Raw], object]], Awaitable[StepResult]],
        function: str,
        run_id: str,
        call: Call,
        report: Callable[[Raw], object],
    ) -> StepResult:
        body = (run_id, call.step, call.attempt)
        partition = next(item.partition for item in worker._items.values() if item.run_id == run_id)
        if not member.confirmed or partition not in member.assigned:
            self.complaints.append(f"{run_id}: {member.worker} started step {call.id!r} of a partition it may not own")
        if self.undisturbed and body in self._started:
            self.complaints.append(f"{run_id}: attempt {call.attempt} of step {call.id!r} ran twice")
        self._started.add(body)
        self.bodies += 1
        try:
            return await run(function, run_id, call, report)
        finally:
            self.bodies -= 1

    def _claim(self, member: Member, claim: Callable[[Any], None], item: Any) -> None:
        if item.partition not in member.assigned:
            self.complaints.append(f"{item.run_id}: {member.worker} claimed a run of a partition that it does not own")
        claim(item)

    def _reclaim(self, reclaim: Callable[[Any], None], item: Any) -> None:
        # A late claim may take a run from its owner: a worker that had the partition for a moment made it during a
        # lease. The owner stops the bodies of the run, claims the run again, and runs them again.
        self._started = {body for body in self._started if body[0] != item.run_id}
        reclaim(item)

    def lease(self, member: Member, report: RunLeased | StepLeased) -> None:
        """Check a lease, or its release: a lease is released once, by the worker that has it."""
        claim = (report.step, report.claim) if isinstance(report, StepLeased) else (report.epoch,)
        lease = (member, report.run_id, *claim)
        if report.for_ms:
            self._leased.add(lease)
        elif lease in self._leased:
            self._leased.remove(lease)
        else:
            self.complaints.append(f"{report.run_id}: {member.worker} released a lease that it did not have")

    def commit(self, member: Member, offsets: Offsets) -> None:
        """Check that a worker commits only offsets of its partitions."""
        if foreign := {partition for _, partition in offsets} - member.assigned:
            self.complaints.append(f"{member.worker} committed offsets of partitions {foreign}, which it does not own")

    def idle(self, stores: Iterable[MemoryStore]) -> None:
        """Check that no lease is left when nothing is running."""
        if self.undisturbed and any(store.scan(LEASES.prefix, 1) for store in stores):
            self.complaints.append("a lease was not released, although its worker is alive")
