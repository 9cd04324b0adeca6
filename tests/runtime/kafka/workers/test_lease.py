"""A worker that was frozen starts no code until the group has confirmed its membership."""

import asyncio

from stepstream import App, Context, on
from stepstream.contract.codec import encode
from stepstream.contract.commands import RunStarted
from stepstream.contract.events import event_record
from stepstream.contract.topics import INBOX
from stepstream.runtime.clocks import VirtualClock
from stepstream.runtime.kafka.client.settings import SESSION_S
from stepstream.runtime.kafka.workers.group_lease import MemberOptions
from stepstream.runtime.kafka.workers.worker_log import KafkaWorkerLog
from stepstream.runtime.ports import LogError, LogRecord
from stepstream.runtime.worker.options import WorkerOptions
from stepstream.runtime.worker.worker import Worker
from tests.fakes.waiting import iterate, until
from tests.runtime.kafka.workers.worker_group import AT, FIRST, TOPIC, WorkerGroup

STARTED = RunStarted("01AAAAAAAAAAAAAAAAAAAAAAAA", "work", 1, (event_record("go", {}),), 0)
COMMAND = LogRecord(TOPIC, 0, FIRST, b"k", encode(STARTED), (), 0)
TURNS = 50


class Time:
    """The clock of the lease, which the test advances."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def monotonic(self) -> float:
        """Return the time in seconds."""
        return self.now


class Scene:
    """A worker with a run of two steps that is frozen in the middle of the first one."""

    def __init__(self) -> None:
        self.time = Time()
        self.ran: list[str] = []
        self.group = WorkerGroup()
        self.group.records.clear()
        self.group.end_offsets[AT] = FIRST
        self.app = App("shop")

        async def body(step: str) -> None:
            self.ran.append(step)
            # As in a process that is suspended here for longer than its session, and does not notice.
            self.time.now += 1.5 * SESSION_S

        @self.app.function(on("go"))
        async def work(ctx: Context) -> None:
            await ctx.step.run("first", body, "first")
            await ctx.step.run("second", body, "second")

        self.log = KafkaWorkerLog(
            self.group, "shop", 1, MemberOptions(commit_s=0.0, renew_sessions=0.0, monotonic=self.time.monotonic)
        )
        self.worker = Worker(self.log, self.app, WorkerOptions(VirtualClock(0)))

    async def freeze(self) -> asyncio.Task[None]:
        """Run the first step and thaw the process, while the group does not answer; return the serving task."""
        serving = asyncio.ensure_future(self.worker.serve())
        await self.group.assign(0)
        await until(lambda: self.log.is_fresh(COMMAND))
        self.group.calls.block("confirm")
        self.group.add([COMMAND])
        await until(lambda: self.group.values(INBOX))
        await iterate(TURNS)
        assert (self.ran, len(self.group.values(INBOX)), self.worker.load.cached) == (["first"], 1, 1)
        return serving


async def test_expired_worker_starts_no_code() -> None:
    """The result of the running step is reported; the rest of the run belongs to others, who may have ended it."""
    scene = Scene()
    serving = await scene.freeze()
    scene.group.calls.fail("confirm", LogError("the member is not known"))
    await scene.group.revoke(0)
    await scene.group.assign(member="member-2", generations=2)
    await iterate(TURNS)
    assert (scene.ran, scene.worker.load.cached) == (["first"], 0)
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)


async def test_confirmed_worker_continues() -> None:
    """Once the group confirms the membership, no other worker can have had its runs: the next step starts."""
    scene = Scene()
    serving = await scene.freeze()
    scene.group.calls.allow("confirm")
    await until(lambda: scene.ran == ["first", "second"])
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)
