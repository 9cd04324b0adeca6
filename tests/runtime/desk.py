"""A worker at a door by hand, and its log, of which it is given parts, once or again."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from stepstream import App
from stepstream.contract.codec import encode
from stepstream.contract.commands import Command, RunStarted
from stepstream.contract.events import EventRecord
from stepstream.contract.topics import commands_topic
from stepstream.runtime.clocks import VirtualClock
from stepstream.runtime.ports import LogRecord
from stepstream.runtime.worker.worker import Worker
from tests.runtime.test_drain import Door, until

PLACE = (commands_topic("shop"), 0)
EVENTS = (EventRecord("go"),)


def started(run_id: str, function: str = "function") -> RunStarted:
    """Return the first command of a run."""
    return RunStarted(run_id, function, 1, EVENTS, 1)


class Desk:
    """A worker at its door; nothing is in its log at first."""

    def __init__(self, app: App, **options: Any) -> None:
        self.door = Door()
        self._record = self.door.commands.pop()
        self.log: list[LogRecord] = []
        self.worker = Worker(self.door, VirtualClock(0), app, **options)

    async def give(self, *commands: Command) -> None:
        """Append commands, and return when they are read."""
        first = len(self.log)
        self.log += [self._record._replace(offset=first + at, value=encode(each)) for at, each in enumerate(commands)]
        await self.read(self.log[first:])

    async def read(self, records: list[LogRecord]) -> None:
        """Have records read."""
        self.door.commands = list(records)
        await until(lambda: not self.door.commands)
        await turns()

    async def move(self, *kept: int, lost: bool = False) -> None:
        """Share the partitions out anew."""
        assert self.door.tenant
        await self.door.tenant.moving()
        await self.door.tenant.moved(kept, lost=lost)
        await turns()

    async def come_back(self) -> None:
        """Have the partition go to another worker and come back, to be read again from its beginning."""
        await self.move()
        await self.move()
        await self.read(self.log)

    def said(self, kind: type) -> list[Any]:
        """Return the reports of a kind."""
        return [report for report in self.door.reports if isinstance(report, kind)]


async def turns() -> None:
    """Let the event loop turn."""
    for _ in range(100):
        await asyncio.sleep(0)


@asynccontextmanager
async def served(app: App, **options: Any) -> AsyncIterator[Desk]:
    """Have a worker at its desk."""
    desk = Desk(app, **options)
    serving = asyncio.ensure_future(desk.worker.serve())
    try:
        yield desk
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
