"""The place of a worker in its process: it outlives the worker, drains it, and answers the probes for it."""

import asyncio
import time
from collections.abc import Callable, Mapping

from stepstream.host.broker_contact import BrokerContact
from stepstream.runtime.kafka.client.answers import Extent
from stepstream.runtime.kafka.workers.worker_log import KafkaWorkerLog
from stepstream.runtime.worker.observer import Load
from stepstream.runtime.worker.pool import PoolWorker
from stepstream.runtime.worker.worker import Worker

# A worker that has been out of its group for this long does not rejoin by itself: the process should be restarted.
LOST_S_MAX = 300.0


class WorkerSlot:
    """Holds the current worker and its log; a worker that fails is replaced, readiness and counters carry over.

    `topics` says why the topics of the worker cannot be used, and is empty if they can; `functions` says why no run of
    the app would start.
    """

    def __init__(
        self,
        name: str,
        contact: BrokerContact,
        topics: Callable[[], str] = lambda: "",
        functions: Callable[[], str] = lambda: "",
    ) -> None:
        self.name = name
        self._topics_unready = topics
        self._functions_unready = functions
        self.contact = contact
        self._current: tuple[Worker | PoolWorker, KafkaWorkerLog] | None = None
        self._earlier_assignments = 0
        self._confirmed_at = time.monotonic()
        self._draining = False

    def take(self, worker: Worker | PoolWorker, log: KafkaWorkerLog) -> None:
        """Hold a worker and its log in place of the previous ones."""
        if self._current is not None:
            self._earlier_assignments += self._current[1].assignments
            self._confirmed_at = self._last_confirmed()
        self._current = worker, log

    def check(self, topics: Mapping[str, Extent]) -> None:
        """Let the current worker start over if its topic was created again."""
        if self._current is not None:
            self._current[1].check(topics)

    @property
    def log(self) -> KafkaWorkerLog | None:
        """The log of the current worker."""
        return self._current[1] if self._current else None

    @property
    def load(self) -> Load | None:
        """How full the current worker is."""
        return self._current[0].load if self._current else None

    @property
    def assignments(self) -> int:
        """How many times the group has assigned partitions to this process."""
        return self._earlier_assignments + (self._current[1].assignments if self._current else 0)

    @property
    def draining(self) -> bool:
        """Whether the process is shutting down, so that a worker that fails is not restarted."""
        return self._draining

    @property
    def unready(self) -> str:
        """Why the worker is not ready; empty when it has joined and its functions are registered."""
        return self._not_joined() or self._functions_unready()

    @property
    def joined(self) -> bool:
        """Whether the worker polls and its group has assigned its partitions, even if none."""
        return not self._not_joined()

    def _not_joined(self) -> str:
        if self._draining:
            return "draining: no new work is taken, running steps finish"
        return self.contact.unready or self._topics_unready() or self._not_assigned()

    def _not_assigned(self) -> str:
        if self._current is None or not self._current[0].serving:
            return "starting: commands are not read yet"
        log = self._current[1]
        if not log.assignments:
            return "the group has not assigned partitions yet"
        silent_s = time.monotonic() - log.confirmed_at
        return "" if log.member else f"the group has not confirmed the membership for {silent_s:.0f} s"

    @property
    def alive(self) -> bool:
        """Whether the group has confirmed the worker's membership recently."""
        return self._draining or time.monotonic() - self._last_confirmed() < LOST_S_MAX

    def _last_confirmed(self) -> float:
        return max(self._confirmed_at, self._current[1].confirmed_at) if self._current else self._confirmed_at

    async def drain(self, seconds: float) -> None:
        """Let running steps finish; raise TimeoutError after `seconds`. Meanwhile the worker is alive but not ready."""
        self._draining = True
        if self._current is not None:
            async with asyncio.timeout(seconds):
                await self._current[0].drain(int(seconds * 1_000))
