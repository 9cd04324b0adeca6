"""The leases of one worker: while a body is running, no other worker gets its run, although its partition may move."""

import asyncio
import logging
from collections.abc import Hashable, Mapping

from stepstream.contract.ids import run_routing
from stepstream.runtime.ports import WorkerLog
from stepstream.runtime.worker.runs.states import Event
from stepstream.runtime.worker.runs.work_item import WorkItem

logger = logging.getLogger(__name__)


class Leases:
    """Reports the leases that the life cycles of the `items` require, and renews them.

    Each lease lasts for `for_ms`, and is renewed every `renew_s` seconds.
    """

    def __init__(self, log: WorkerLog, items: Mapping[Hashable, WorkItem], for_ms: int, renew_s: float) -> None:
        self._log = log
        self._items = items
        self.for_ms = for_ms
        self._renew_s = renew_s
        self._renewing: asyncio.Task[None] | None = None

    def _required(self, event: Event) -> list[tuple[str, bytes]]:
        """Apply LEASE or RENEW to all items; return the leases that this requires, as run ids and reports."""
        return [(item.run_id, item.lease(self.for_ms)) for item in self._items.values() if item.life.lease(event)]

    async def report(self, event: Event) -> None:
        """Report leases. If that fails, other workers may start the bodies again, and this worker continues."""
        writes = (self._log.append(run_routing(run_id), value) for run_id, value in self._required(event))
        for error in await asyncio.gather(*writes, return_exceptions=True):
            if error is not None:
                logger.warning("cannot write a lease; another worker may run a step again: %s", error)

    def keep_renewed(self) -> int:
        """Renew the leases for as long as there are any; return how many there are now."""
        count = len(self._required(Event.RENEW))
        if count and self._renewing is None:
            self._renewing = asyncio.ensure_future(self._renew())
        return count

    async def _renew(self) -> None:
        while self._required(Event.RENEW):
            await asyncio.sleep(self._renew_s)
            await self.report(Event.RENEW)
        self._renewing = None

    def cancel(self) -> None:
        """Renew no longer."""
        if self._renewing is not None:
            self._renewing.cancel()
