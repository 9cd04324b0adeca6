"""What the workers of runs and of steps share: they take commands, note which are dealt with, and drain."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Collection

from stepstream.runtime.bell import Bell
from stepstream.runtime.ports import LogRecord, WorkerLog
from stepstream.runtime.positions import Positions

_COMMANDS_PER_POLL_MAX = 64
# How long a worker that ends keeps the commands to itself: most bodies end meanwhile, and moving a run costs a replay.
LEAVE_AFTER_S = 2.0


class Intake(ABC):
    """The reading side of a worker; `changed` rings when something of it has ended."""

    def __init__(self, log: WorkerLog) -> None:
        self._log = log
        self._positions = Positions()
        self._draining = False
        self.serving = False
        self.changed = Bell()

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
        self._hand_back_waiting()
        if reserve_ms and not await self.changed.until(self._rests, leave_after_s):
            await self._reserve(reserve_ms)
            await self._commit()
            await self._log.leave()
        await self.changed.until(self._rests)
        await self._commit()

    def _rests(self) -> bool:
        return not self.active or not self.serving

    async def _poll(self) -> None:
        await self._log.open(self._revoke)
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

    async def _revoke(self, partitions: Collection[int]) -> None:
        """Let go of what others get; they claim it."""
        try:
            await self._commit()
        finally:  # Whatever the broker says, they are no longer ours.
            self._let_go(partitions)
            self._positions.forget(partitions)

    async def _commit(self) -> None:
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
    def _let_go(self, partitions: Collection[int]) -> None:
        """Drop all that came from partitions, but for what is reserved."""

    @abstractmethod
    def _hand_back_waiting(self) -> None:
        """Leave what waits for a slot to whoever reads its commands again."""

    @abstractmethod
    async def _reserve(self, for_ms: int) -> None:
        """Have the engine give what is at work to nobody else for a while; return when that is durable."""
