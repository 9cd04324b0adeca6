"""Threads of plain functions: code that must not continue releases its thread, at any time."""

import asyncio
import threading

import pytest

from stepstream import App, ThreadedContext, on
from stepstream.contract.commands import RunResumed
from stepstream.contract.topics import commands_topic
from stepstream.runtime.ports import LogError
from stepstream.runtime.worker.pool import PoolWorker
from stepstream.runtime.worker.worker import Worker
from stepstream.sdk.execution import Bodies
from stepstream.sdk.threads import Threads
from tests.fakes.waiting import iterate, until
from tests.fakes.worker_log import FakeWorkerLog
from tests.runtime.worker.harness import charging, dispatched, options, served, serving, started, until_free


async def test_a_lost_report_releases_its_thread() -> None:
    """The next worker of the process uses the same threads, and each lost report would occupy one forever."""
    log, ran, bodies = FakeWorkerLog(started()), list[str](), Bodies(threads=Threads(1))
    log.calls.fail("append", LogError("the broker is away"))
    with pytest.raises(LogError):
        await asyncio.wait_for(Worker(log, charging(ran, threaded=True), options(bodies=bodies)).serve(), 5)
    assert ran == ["charged"]
    await until_free(bodies)
    bodies.threads.close()


async def test_a_body_that_ends_after_its_worker_releases_its_thread() -> None:
    """The report of another run was lost while it was running, and its own is no longer written."""
    app, bodies = App("shop"), Bodies(threads=Threads(1))
    running, finish = threading.Event(), threading.Event()

    def body() -> None:
        running.set()
        finish.wait(20)

    @app.function(on("go"), id="function")
    def function(ctx: ThreadedContext) -> None:
        ctx.step.run("work", body)

    async with served(app, bodies=bodies) as harness:
        await harness.give(started("run"))
        await until(running.is_set)
        harness.log.calls.fail("append", LogError("the broker is away"))
        await harness.give(RunResumed("other", 1))
        await until(lambda: harness.log.closed)
    finish.set()
    await until_free(bodies)
    bodies.threads.close()


async def test_a_blocked_step_of_a_revoked_partition_releases_its_thread() -> None:
    """Its code waits for the membership when the partition is revoked, and continues afterwards."""
    ran, bodies = list[str](), Bodies(threads=Threads(1))
    app = App("shop", queues=["q"])

    @app.function(on("go"), id="function")
    def function(ctx: ThreadedContext) -> None:
        ctx.step.options(queue="q").run("charge", lambda: ran.append("charged"))

    log = FakeWorkerLog(dispatched(step="charge"), topic=commands_topic("shop", "q"))
    log.calls.block("until_member")
    async with serving(PoolWorker(log, app, "q", options(bodies=bodies))):
        await log.calls.until("until_member")
        await log.rebalance()
        await iterate()
        log.calls.allow("until_member")
        await until_free(bodies)
        assert ran == []
    bodies.threads.close()
