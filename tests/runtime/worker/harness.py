"""Workers of runs and of queues that serve a log in memory, driven by a test."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Protocol

from stepstream import App, Context, ThreadedContext, on
from stepstream.contract.commands import Command, RunStarted, StepDispatched
from stepstream.contract.events import EventRecord
from stepstream.contract.ids import step_hash
from stepstream.contract.inbox import StepClaimed, StepReported
from stepstream.contract.topics import commands_topic
from stepstream.runtime.clocks import VirtualClock
from stepstream.runtime.ports import LogRecord
from stepstream.runtime.worker.options import WorkerOptions
from stepstream.runtime.worker.pool import PoolWorker
from stepstream.runtime.worker.worker import Worker
from stepstream.sdk.execution import Bodies
from tests.fakes.waiting import iterate, until
from tests.fakes.worker_log import TOPIC, FakeWorkerLog

PLACE = (TOPIC, 0)
QUEUE_TOPIC = commands_topic("shop", "gpu")
EVENTS = (EventRecord("go"),)
STEP = step_hash("work", 0)


def started(run_id: str = "run", function: str = "function") -> RunStarted:
    """Return the command that starts a run."""
    return RunStarted(run_id, function, 1, EVENTS, 1)


def dispatched(claim: str = "", *, run: str = "run", step: str = "work", attempt: int = 0) -> StepDispatched:
    """Return the command that dispatches a step to a queue."""
    return StepDispatched(run, "function", step_hash(step, 0), step, EVENTS, 1, attempt, (), claim)


def options(**chosen: Any) -> WorkerOptions:
    """Return the options of a worker whose clock does not advance."""
    return WorkerOptions(VirtualClock(0), **chosen)


class _Serves(Protocol):
    async def serve(self) -> None: ...


@asynccontextmanager
async def serving(worker: _Serves) -> AsyncIterator["asyncio.Task[None]"]:
    """Have a worker serve; yield its task, which is cancelled at the end."""
    task = asyncio.ensure_future(worker.serve())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until_free(bodies: Bodies) -> None:
    """Return when the threads of plain functions are free: one more function runs to its end."""
    await iterate(20)
    await asyncio.wait_for(bodies.threads.run_function(lambda: None), 60)


class WorkerHarness:
    """A worker of runs and its log, which has no command at first."""

    def __init__(self, app: App, **chosen: Any) -> None:
        self.log = FakeWorkerLog()
        self.worker = Worker(self.log, app, options(**chosen))

    async def give(self, *commands: Command) -> None:
        """Append commands, and return when the worker has processed them as far as it can."""
        self.log.give(*commands)
        await self.settle()

    async def redeliver(self, *commands: LogRecord) -> None:
        """Deliver commands again, by default all of them."""
        self.log.unread = list(commands or self.log.commands)
        await self.settle()

    async def rebalance(self, *kept: int, lost: bool = False) -> None:
        """Revoke all partitions but `kept`."""
        await self.log.rebalance(*kept, lost=lost)
        await iterate()

    async def reassign(self) -> None:
        """Have the partition go to another worker and return, and be read again from its first command."""
        await self.rebalance()
        await self.rebalance()
        await self.redeliver()

    async def settle(self) -> None:
        """Return when every command was read and no task can proceed."""
        await until(lambda: not self.log.unread)
        await iterate()


@asynccontextmanager
async def served(app: App, **chosen: Any) -> AsyncIterator[WorkerHarness]:
    """Have a worker of runs serve."""
    harness = WorkerHarness(app, **chosen)
    async with serving(harness.worker):
        yield harness


class PoolHarness:
    """A worker of the queue `gpu` and its log; its step bodies end once `finish` is set."""

    def __init__(self, *, fresh_from: int = 0, **chosen: Any) -> None:
        self.log = FakeWorkerLog(topic=QUEUE_TOPIC, fresh_from=fresh_from)
        self.bodies = 0
        self.finish = asyncio.Event()
        app = App("shop", queues=["gpu"])

        async def body() -> int:
            self.bodies += 1
            await self.finish.wait()
            return self.bodies

        @app.function(on("go"))
        async def function(ctx: Context) -> int:
            return await ctx.step.options(queue="gpu").run("work", body)

        self.worker = PoolWorker(self.log, app, "gpu", options(**chosen))

    async def __aenter__(self) -> "PoolHarness":
        self._serving = serving(self.worker)
        await self._serving.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._serving.__aexit__(None, None, None)

    @property
    def claims(self) -> list[str]:
        """The claims made so far."""
        return [report.claim for report in self.log.reports_of(StepClaimed)]

    @property
    def results(self) -> list[StepReported]:
        """The results reported so far."""
        return self.log.reports_of(StepReported)


class BlockedBody:
    """The body of a step: it sets `running` when it starts, and ends once `finish` is set."""

    def __init__(self) -> None:
        self.running, self.finish = asyncio.Event(), asyncio.Event()

    async def run(self) -> str:
        """Return "done" once the test sets `finish`."""
        self.running.set()
        await self.finish.wait()
        return "done"


class BlockedRun:
    """A worker with one run of two steps, whose first body has started and ends once `finish` is set."""

    def __init__(self, **chosen: Any) -> None:
        self.log = FakeWorkerLog(started())
        self.bodies = 0
        self.finish = asyncio.Event()
        app = App("shop")

        async def body() -> str:
            self.bodies += 1
            await self.finish.wait()
            return "done"

        @app.function(on("go"))
        async def function(ctx: Context) -> str:
            await ctx.step.run("first", body)
            return await ctx.step.run("second", body)

        self.worker = Worker(self.log, app, options(**chosen))

    async def __aenter__(self) -> "BlockedRun":
        self._serving = serving(self.worker)
        await self._serving.__aenter__()
        await until(lambda: self.bodies == 1)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._serving.__aexit__(None, None, None)


def charging(ran: list[str], *, threaded: bool) -> App:
    """Return an app with one function of one step that notes when it runs; `threaded` makes it a plain function."""
    app = App("shop")

    def plain(ctx: ThreadedContext) -> None:
        ctx.step.run("charge", lambda: ran.append("charged"))

    async def coroutine(ctx: Context) -> None:
        await ctx.step.run("charge", lambda: ran.append("charged"))

    handler: Any = plain if threaded else coroutine
    app.function(on("go"), id="function")(handler)
    return app
