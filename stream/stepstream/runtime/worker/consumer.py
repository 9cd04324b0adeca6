"""What the workers of runs and of steps share: they take commands, note which are dealt with, and drain."""

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence

from stepstream.contract.ids import run_routing
from stepstream.runtime.dead_letters import CommandDeadLetters, DeadLetterObserver
from stepstream.runtime.notification import Notification
from stepstream.runtime.ports import LogRecord, WorkerLog
from stepstream.runtime.worker.positions import Positions

logger = logging.getLogger(__name__)
_COMMANDS_PER_POLL_MAX = 64
# How long a worker that ends keeps the commands to itself: most bodies end meanwhile, and moving a run costs a replay.
LEAVE_AFTER_S = 2.0
# What is at work when its partition goes to another worker is ours until it ends, renewed for as long as we live.
MOVE_MS = 60_000
_RENEW_S = 20.0


class CommandConsumer(ABC):
    """The reading side of a worker of a topic of commands; `changed` rings when something of it has ended."""

    def __init__(self, log: WorkerLog, topic: str, observer: DeadLetterObserver | None) -> None:
        self._log = log
        self._dead_letters = CommandDeadLetters(log, topic, observer)
        self._positions = Positions()
        self._draining = False
        self._moving = False
        # A drain reserves all at work for as long as it may take, and once: then its worker is gone.
        self._reserve_ms = MOVE_MS
        self._renewing: asyncio.Task[None] | None = None
        self.serving = False
        self.changed = Notification()

    @property
    @abstractmethod
    def active(self) -> int:
        """How much is at work, waits for a slot, or is on its way to the log."""

    async def drain(self, reserve_ms: int = 0, leave_after_s: float = LEAVE_AFTER_S) -> None:
        """Take no more commands, let the bodies at work end, and commit; what would begin one is handed back.

        With `reserve_ms` others get the commands if that takes longer than `leave_after_s`, and for so long nothing
        that is at work.
        """
        self._draining = True
        self._reserve_ms = reserve_ms or MOVE_MS
        self._stop_renewing()
        self._hand_back_waiting()
        if reserve_ms and not await self.changed.until(self._rests, leave_after_s):
            await self._reserve()
            await self._commit()
            await self._log.leave()
        await self.changed.until(self._rests)
        await self._commit()

    def _rests(self) -> bool:
        return not self.active or not self.serving

    async def _poll(self) -> None:
        await self._log.open(self)
        self.serving = True
        while not self._draining:
            await self._until_room()
            records = await self._log.poll(_COMMANDS_PER_POLL_MAX)
            for record in () if self._draining else records:
                self._positions.begin(record.topic, record.partition, record.offset)
                self._dispatch(record)
            await self._commit()
        # Whoever has it drained ends it, when all has come to rest; were it to end here, another would begin.
        await asyncio.get_running_loop().create_future()

    async def moving(self) -> None:
        """Reserve what is at work, whose partition another may get that is not to begin it once more; and commit."""
        self._moving = True
        await self._reserve()
        await self._commit()

    async def moved(self, kept: Collection[int], *, lost: bool) -> None:
        """Let go of what others get, but for what is at work: that ends here, unless the group had given us up."""
        self._moving = False
        self._let_go(kept, lost=lost)
        self._positions.keep(kept)
        if not self._draining and (stays := len(self._leases(self._reserve_ms, anew=False))):
            logger.info("the partitions of %d runs with steps at work went to others; the steps end here", stays)
            self._renewing = self._renewing or asyncio.ensure_future(self._renew())

    async def _reserve(self, *, anew: bool = True) -> None:
        """Have the engine give to nobody else what is at work, or with `anew` false what is reserved already.

        Where that cannot be written others may begin it again; whoever asks for it goes on all the same.
        """
        reports = self._leases(self._reserve_ms, anew=anew)
        writes = (self._log.append(run_routing(run_id), value) for run_id, value in reports)
        for error in await asyncio.gather(*writes, return_exceptions=True):
            if error is not None:
                logger.warning("what is at work could not be reserved, and others may begin it again: %s", error)

    async def _renew(self) -> None:
        """Reserve once more, now and then, what went to others and is at work still."""
        while self._leases(self._reserve_ms, anew=False):
            await asyncio.sleep(_RENEW_S)
            await self._reserve(anew=False)
        self._renewing = None

    def _stop_renewing(self) -> None:
        if self._renewing is not None:
            self._renewing.cancel()

    async def _commit(self) -> None:
        """Note what is dealt with."""
        if offsets := self._positions.advance():
            await self._log.commit(offsets)

    def _end(self, record: LogRecord) -> None:
        """Note a command as dealt with."""
        self._positions.end(record.topic, record.partition, record.offset)

    @abstractmethod
    async def _until_room(self) -> None:
        """Return when so little waits for a slot that more commands may be taken."""

    @abstractmethod
    def _dispatch(self, record: LogRecord) -> None:
        """Act on a command."""

    @abstractmethod
    def _let_go(self, kept: Collection[int], *, lost: bool) -> None:
        """Drop all that came from other partitions than these, and what is reserved only if it is `lost`."""

    @abstractmethod
    def _hand_back_waiting(self) -> None:
        """Leave what waits for a slot to whoever reads its commands again."""

    @abstractmethod
    def _leases(self, for_ms: int, *, anew: bool) -> Sequence[tuple[str, bytes]]:
        """Return what reserves all that is at work, as run id and report; not `anew` only what is reserved already."""
