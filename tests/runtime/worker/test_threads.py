"""Threads of plain functions: a call that is to go no further gives its thread back, whenever it comes to that."""

import asyncio
import threading

import pytest

from stepstream import App, ThreadedContext, on
from stepstream.contract.commands import RunResumed
from stepstream.contract.topics import commands_topic
from stepstream.runtime.ports import LogError
from stepstream.runtime.worker.pool import PoolWorker
from stepstream.runtime.worker.worker import Worker
from stepstream.sdk import threads
from stepstream.sdk.execution import Bodies
from tests.fakes.waiting import iterate, until
from tests.fakes.worker_log import FakeWorkerLog
from tests.runtime.worker.harness import charging, dispatched, options, served, serving, started, until_free


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "RUNS_ACTIVE_MAX", 1)


async def test_a_lost_report_gives_its_thread_back() -> None:
    """The next worker of the process has the same threads: else each lost report would take one away for ever."""
    log, ran, bodies = FakeWorkerLog(started()), list[str](), Bodies()
    log.calls.fail("append", LogError("the broker is away"))
    with pytest.raises(LogError):
        await asyncio.wait_for(Worker(log, charging(ran, threaded=True), options(bodies=bodies)).serve(), 5)
    assert ran == ["charged"]
    await until_free(bodies)
    bodies.threads.close()


async def test_a_body_that_ends_after_its_worker_gives_its_thread_back() -> None:
    """The report of another run was lost while it was at work; its own is not written any more."""
    app, bodies = App("shop"), Bodies()
    begun, go_on = threading.Event(), threading.Event()

    def body() -> None:
        begun.set()
        go_on.wait(20)

    @app.function(on("go"), id="function")
    def function(ctx: ThreadedContext) -> None:
        ctx.step.run("work", body)

    async with served(app, bodies=bodies) as harness:
        await harness.give(started("run"))
        await until(begun.is_set)
        harness.log.calls.fail("append", LogError("the broker is away"))
        await harness.give(RunResumed("other", 1))
        await until(lambda: harness.log.closed)
    go_on.set()
    await until_free(bodies)
    bodies.threads.close()


async def test_a_lent_step_that_went_while_it_was_held_back_gives_its_thread_back() -> None:
    """Its code waits at the door when its partition goes, and is let through afterwards."""
    ran, bodies = list[str](), Bodies()
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
