"""Runs of a worker with few slots: whose turn it is, and what becomes of those that wait for theirs."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from stepstream import App, Context, on
from stepstream.contract.codec import encode
from stepstream.contract.commands import Command, RunStarted, RunStopped
from stepstream.contract.events import EventRecord
from stepstream.runtime import worker as worker_module
from stepstream.runtime.clocks import VirtualClock
from stepstream.runtime.ports import LogRecord
from stepstream.runtime.worker import Worker
from tests.runtime.test_drain import Door, until

EVENTS = (EventRecord("go"),)


class Desk:
    """A worker with one slot at a door, and a log of which it is given parts."""

    def __init__(self, app: App) -> None:
        self.door = Door()
        self.place = self.door.commands.pop()
        self.log: list[LogRecord] = []
        self.worker = Worker(self.door, VirtualClock(0), app, runs_active_max=1)

    async def give(self, *commands: Command) -> None:
        """Append commands, and return when they are read."""
        first = len(self.log)
        self.log += [self.place._replace(offset=first + at, value=encode(each)) for at, each in enumerate(commands)]
        await self.read(self.log[first:])

    async def read(self, records: list[LogRecord]) -> None:
        """Have records read."""
        self.door.commands = list(records)
        await until(lambda: not self.door.commands)
        await turns()

    async def move(self, *kept: int) -> None:
        """Share the partitions out anew."""
        assert self.door.tenant
        await self.door.tenant.moving()
        await self.door.tenant.moved(kept, lost=False)


async def turns() -> None:
    """Let the event loop turn."""
    for _ in range(50):
        await asyncio.sleep(0)


@asynccontextmanager
async def served(app: App) -> AsyncIterator[Desk]:
    """Have a worker at its desk."""
    desk = Desk(app)
    serving = asyncio.ensure_future(desk.worker.serve())
    yield desk
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)


async def test_runs_that_went_do_not_fill_the_room_of_those_that_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """A partition comes and goes, as when a pod beside it restarts: commands are read as before."""
    monkeypatch.setattr(worker_module, "RUNS_QUEUED_MAX", 10)
    app, stopped = App("shop"), asyncio.Event()

    async def body() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            stopped.set()

    @app.function(on("go"))
    async def function(ctx: Context) -> None:
        await ctx.step.run("work", body)

    async with served(app) as desk:
        await desk.give(*(RunStarted(name, "function", 1, EVENTS, 1) for name in ("first", "a", "b", "c", "d")))
        for _ in range(3):
            await desk.move()
            await desk.read(desk.log)
            assert desk.worker.load.queued == 4
        await desk.give(RunStopped("first", "cancelled"))
        assert stopped.is_set()
