"""Threads of plain functions: code that must not continue releases its thread, at any time."""

import asyncio
import threading
from typing import Any
from unittest import mock

import pytest

from stepstream import App, ThreadedContext, on
from stepstream.contract.commands import Memo, RunResumed
from stepstream.contract.ids import step_hash
from stepstream.contract.inbox import RunClaimed, RunReturned
from stepstream.contract.kinds import StepKind
from stepstream.contract.outcomes import Value
from stepstream.contract.topics import commands_topic
from stepstream.runtime.ports import LogError
from stepstream.runtime.worker.pool import PoolWorker
from stepstream.runtime.worker.worker import Worker
from stepstream.sdk.errors import RunInterrupted
from stepstream.sdk.execution import Bodies
from stepstream.sdk.replay.tasks import task_factory
from stepstream.sdk.threads.threaded import Line
from stepstream.sdk.threads.threads import Threads
from tests.fakes.waiting import iterate, until
from tests.fakes.worker_log import FakeWorkerLog
from tests.runtime.worker.harness import charging, dispatched, options, served, serving, started, until_free
from tests.sdk.runs import Run


async def test_a_lost_report_releases_its_thread() -> None:
    """The next worker of the process uses the same threads, and each lost report would occupy one forever."""
    log, ran, bodies = FakeWorkerLog(started()), list[str](), Bodies(threads=Threads(1, parked_max=0))
    log.calls.fail("append", LogError("the broker is away"))
    with pytest.raises(LogError):
        await asyncio.wait_for(Worker(log, charging(ran, threaded=True), options(bodies=bodies)).serve(), 60)
    assert ran == ["charged"]
    await until_free(bodies)
    bodies.threads.close()


async def test_parked_runs_of_a_worker_that_failed_are_forgotten() -> None:
    """Otherwise they would stay in memory, and count among the runs that may keep a thread."""
    app, bodies = App("shop"), Bodies()

    @app.function(on("go"), id="function")
    def function(ctx: ThreadedContext) -> None:
        ctx.step.sleep("nap", "1h")

    async with served(app, bodies=bodies) as harness:
        await harness.give(started("run"))
        await until(lambda: bool(bodies.threads._parked))
    assert not bodies.threads._parked
    bodies.threads.close()


async def test_a_body_that_ends_after_its_worker_releases_its_thread() -> None:
    """The report of another run was lost while it was running, and its own is no longer written."""
    app, bodies = App("shop"), Bodies(threads=Threads(1, parked_max=0))
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
    ran, bodies = list[str](), Bodies(threads=Threads(1, parked_max=0))
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


async def test_the_function_that_waited_longest_loses_its_thread() -> None:
    """Two waiting functions keep their threads. A third evicts the first, whose code is run again when it resumes."""
    app, bodies = App("shop"), Bodies(threads=Threads(1, parked_max=2))
    entries: list[str] = []

    @app.function(on("go"), id="function")
    def function(ctx: ThreadedContext) -> str:
        entries.append(ctx.run_id)
        ctx.step.sleep("nap", "1h")
        return ctx.run_id

    async with served(app, bodies=bodies) as harness:
        for run_id in ("first", "second", "third"):
            await harness.give(started(run_id))
            await until(lambda: not harness.worker.load.in_use)
        assert harness.worker.load.cached == 2
        memo = Memo(step_hash("nap", 0), "nap", StepKind.SLEEP, Value(), 1)
        await harness.give(RunResumed("second", 1, (memo,)), RunResumed("first", 1, (memo,)))
        await until(lambda: harness.log.reports_of(RunReturned))
        assert [report.run_id for report in harness.log.reports_of(RunReturned)] == ["second"]
        assert [report.run_id for report in harness.log.reports_of(RunClaimed)] == ["first"]
    assert entries == ["first", "second", "third"]
    await until_free(bodies)
    bodies.threads.close()


async def test_line_that_is_stopped_while_it_asks_for_a_step() -> None:
    """The event loop stops a branch between its check and its request: the thread must not wait for that step."""
    asyncio.get_running_loop().set_task_factory(task_factory)
    run = Run(_no_code)
    line = Line(run.replay, asyncio.get_running_loop())

    def stopping(code: Any, loop: asyncio.AbstractEventLoop) -> Any:
        line.stop()
        return real(code, loop)

    real = asyncio.run_coroutine_threadsafe
    with mock.patch.object(asyncio, "run_coroutine_threadsafe", stopping), pytest.raises(RunInterrupted):
        await asyncio.wait_for(asyncio.to_thread(line.wait_for, asyncio.Event().wait()), 60)
    run.replay.abort()


async def _no_code(_: object) -> None:
    """Do nothing."""
