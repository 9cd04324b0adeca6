"""A worker that was frozen: it begins nothing more until the group has said that it is a member still."""

import asyncio
from collections.abc import Collection
from typing import Any

import pytest

from stepstream import App, Context, on
from stepstream.contract.codec import encode
from stepstream.contract.commands import RunStarted
from stepstream.contract.events import event_record
from stepstream.contract.topics import commands_topic
from stepstream.runtime.clocks import VirtualClock
from stepstream.runtime.kafka import worker_log
from stepstream.runtime.kafka.reader import SESSION_MS
from stepstream.runtime.kafka.worker_log import KafkaWorkerLog
from stepstream.runtime.ports import LogError, LogRecord, NewRecord, Offsets
from stepstream.runtime.worker.worker import Worker
from tests.runtime.test_assignment import Group, tell_at_once, until

COMMAND = encode(RunStarted("01AAAAAAAAAAAAAAAAAAAAAAAA", "work", 1, (event_record("go", {}),), 0))
TURNS = 50


class Time:
    """The clock of the lease, which the test moves."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def monotonic(self) -> float:
        """Return the time in seconds."""
        return self.now


class Silent(Group):
    """A cluster with one new command; the group confirms once, and then not before the test says what it answers."""

    def __init__(self) -> None:
        super().__init__()
        self.end.set_result(7)
        self.told = False
        self.reports: list[bytes] = []
        self.answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def read(self, _limit: int, _wait_ms: int) -> list[LogRecord]:
        """Return the command, and nothing more for ever."""
        while self.read_to > 7 or not self.confirmed or not self.told:  # noqa: ASYNC110 - nobody tells when it is so
            await asyncio.sleep(0)
        self.read_to = 8
        return [LogRecord(commands_topic("shop"), 0, 7, b"k", COMMAND, (), 0)]

    async def ends(self, places: Collection[tuple[str, int]]) -> Offsets:
        """Return the end; what comes from now on is new."""
        self.told = True
        return await super().ends(places)

    async def send(self, records: list[NewRecord]) -> None:
        """Keep what the worker reports."""
        self.reports += [record.value for record in records]

    async def confirm(self) -> None:
        """Answer at first, and again when the test does."""
        self.confirmed += 1
        if self.confirmed > 1:
            await asyncio.shield(self.answer)


class Scene:
    """A worker at a run of two steps that is frozen in the middle of the first one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.time = Time()
        self.ran: list[str] = []
        self.group = Silent()
        self.app = App("shop")
        monkeypatch.setattr(worker_log, "time", self.time)
        tell_at_once(monkeypatch)

        async def body(step: str) -> None:
            self.ran.append(step)
            # A process that is stopped here for longer than its session knows nothing of it afterwards.
            self.time.now += 1.5 * SESSION_MS / 1_000

        @self.app.function(on("go"))
        async def work(ctx: Context) -> None:
            await ctx.step.run("first", body, "first")
            await ctx.step.run("second", body, "second")

        cluster: Any = self.group
        self.log = KafkaWorkerLog(cluster, "shop", 1)
        self.worker = Worker(self.log, VirtualClock(0), self.app)

    async def freeze(self) -> asyncio.Task[None]:
        """Have the first step run and the process thaw; return who serves."""
        serving = asyncio.ensure_future(self.worker.serve())
        await until(lambda: self.group.joined)
        assert self.group.joined
        await self.group.joined.assigned([0])
        await until(lambda: self.group.reports)
        for _ in range(TURNS):
            await asyncio.sleep(0)
        assert (self.ran, len(self.group.reports), self.worker.load.cached) == (["first"], 1, 1)
        return serving


async def test_a_worker_that_was_given_up_begins_no_body(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it had at work is reported and does no harm; the rest of the run is for others, who may have ended it."""
    scene = Scene(monkeypatch)
    serving = await scene.freeze()
    assert scene.group.joined
    scene.group.answer.set_exception(LogError("the member is not known"))
    await scene.group.joined.revoked([0])
    scene.group.membership = ("member-2", 3)
    await scene.group.joined.assigned([])
    for _ in range(TURNS):
        await asyncio.sleep(0)
    assert (scene.ran, scene.worker.load.cached) == (["first"], 0)
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)


async def test_a_worker_that_is_a_member_still_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once the group confirms it, nobody else can have had its runs: the next body begins."""
    scene = Scene(monkeypatch)
    serving = await scene.freeze()
    scene.group.answer.set_result(None)
    await until(lambda: scene.ran == ["first", "second"])
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)
