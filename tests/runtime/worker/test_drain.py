"""A worker that drains: which runs end in it, and which it leaves to other workers."""

import asyncio
from typing import Any

import pytest

from stepstream import App, Context, ThreadedContext, on
from stepstream.contract.commands import RunLoaded, RunResumed
from stepstream.contract.inbox import (
    RunClaimed,
    RunFailed,
    RunLeased,
    RunPostponed,
    RunReturned,
    StepReported,
    StepsPlanned,
)
from stepstream.contract.topics import commands_topic
from stepstream.runtime.ports import LogError
from stepstream.runtime.worker.pool import PoolWorker
from stepstream.runtime.worker.worker import Worker
from stepstream.sdk.execution import Bodies
from stepstream.sdk.threads.threads import Threads
from tests.fakes.waiting import iterate, until
from tests.fakes.worker_log import FakeWorkerLog
from tests.runtime.worker.harness import EVENTS, BlockedBody, dispatched, options, started, until_free


async def test_a_running_body_ends_before_a_draining_worker_stops() -> None:
    """No more commands are read, but a running body ends, is reported, and its command is acknowledged."""
    app, log = App("shop"), FakeWorkerLog(started())
    body = BlockedBody()

    @app.function(on("go"))
    async def function(ctx: Context) -> str:
        return await ctx.step.run("work", body.run)

    worker = Worker(log, app, options())
    serving = asyncio.ensure_future(worker.serve())
    await asyncio.wait_for(body.running.wait(), 60)
    draining = asyncio.ensure_future(worker.drain())
    polls = []
    for _ in range(100):
        await asyncio.sleep(0)
        polls.append(log.calls.count["poll"])
    assert polls[50] == polls[-1]
    assert (serving.done(), log.closed) == (False, False)
    body.finish.set()
    await asyncio.wait_for(draining, 60)
    assert log.kinds == [StepReported, RunReturned]
    assert log.committed == {(commands_topic("shop"), 0): 1}
    assert not serving.done()
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)
    assert log.closed


async def test_a_retry_read_before_the_failure_is_known_to_be_durable_is_claimed() -> None:
    """The engine may read a report, and resume the run, before the worker knows that the report is durable."""
    app, log = App("shop"), FakeWorkerLog(started())
    log.calls.block("acknowledge")

    @app.function(on("go"))
    async def function(ctx: Context) -> None:
        raise ValueError("again")

    worker = Worker(log, app, options())
    serving = asyncio.ensure_future(worker.serve())
    await until(lambda: log.reports)
    log.give(RunResumed("run", 1))
    await until(lambda: not log.unread)
    log.calls.allow("acknowledge")
    await until(lambda: worker.load.in_use == 0 and worker.active == 0)
    assert log.kinds == [RunFailed, RunClaimed]
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)


@pytest.mark.parametrize("command", [RunLoaded("run", "function", 2, EVENTS, 1, "gone-1"), RunResumed("run", 1)])
async def test_a_postponed_run_is_claimed_when_a_command_of_it_is_read(command: RunLoaded | RunResumed) -> None:
    """A late claim of a dead worker was granted, so that the report is stale; or the run is due again already."""
    app, log = App("shop"), FakeWorkerLog(started())
    log.calls.block("acknowledge")
    worker = Worker(log, app, options())
    serving = asyncio.ensure_future(worker.serve())
    await until(lambda: log.reports)
    log.give(command)
    await until(lambda: len(log.reports) == 2)
    log.calls.allow("acknowledge")
    await until(lambda: not worker.active)
    assert log.kinds == [RunPostponed, RunClaimed]
    assert (worker.load.cached, log.committed) == (1, {})
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)


async def test_a_run_that_waits_for_a_slot_is_left_to_another_worker() -> None:
    """Its command is not acknowledged, or no worker would ever start it."""
    app, log = App("shop"), FakeWorkerLog(started())
    log.give(started("second"))
    body = BlockedBody()

    @app.function(on("go"))
    async def function(ctx: Context) -> None:
        await ctx.step.run("work", body.run)

    worker = Worker(log, app, options(runs_active_max=1))
    serving = asyncio.ensure_future(worker.serve())
    await asyncio.wait_for(body.running.wait(), 60)
    await until(lambda: worker.load.queued)
    draining = asyncio.ensure_future(worker.drain())
    await asyncio.sleep(0)
    body.finish.set()
    await asyncio.wait_for(draining, 60)
    assert {report.run_id for report in log.reports} == {"run"}
    assert log.committed == {(commands_topic("shop"), 0): 1}
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)


@pytest.mark.parametrize("steps", [1, 2])
async def test_a_body_that_outlasts_a_drain_is_leased_before_the_worker_leaves(steps: int) -> None:
    """Another worker has the commands then, and gets the run at its next step, or when its code waits."""
    app, log = App("shop"), FakeWorkerLog(started())
    body = BlockedBody()

    @app.function(on("go"))
    async def function(ctx: Context) -> None:
        for number in range(steps):
            await ctx.step.run(f"work-{number}", body.run)
        await ctx.step.sleep("nap", "1h")

    worker = Worker(log, app, options())
    serving = asyncio.ensure_future(worker.serve())
    await asyncio.wait_for(body.running.wait(), 60)
    draining = asyncio.ensure_future(worker.drain(9_000, 0))
    await until(lambda: log.left)
    assert log.reports == [RunLeased("run", 1, 9_000)]
    assert not draining.done()
    body.finish.set()
    await asyncio.wait_for(draining, 60)
    rest = [StepReported] if steps == 2 else [StepReported, StepsPlanned]
    assert log.kinds[1:] == [*rest, RunLeased]
    assert (log.reports[-1], log.committed) == (RunLeased("run", 1), {})
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)


@pytest.mark.parametrize("queue", [False, True])
async def test_a_lease_of_a_draining_worker_survives_a_rebalance(queue: bool) -> None:
    """The group assigns the partition to the worker again before it leaves: no other worker gets the running body."""
    app = App("shop", queues=["q"])
    log = FakeWorkerLog(dispatched(), topic=commands_topic("shop", "q")) if queue else FakeWorkerLog(started())
    body = BlockedBody()

    @app.function(on("go"))
    async def function(ctx: Context) -> None:
        await (ctx.step.options(queue="q") if queue else ctx.step).run("work", body.run)

    async def leave() -> None:
        await log.rebalance(0)
        await iterate(20)
        log.left = True

    log.leave = leave  # type: ignore[method-assign]  # A rebalance comes before the group is left.
    worker = PoolWorker(log, app, "q", options()) if queue else Worker(log, app, options())
    serving = asyncio.ensure_future(worker.serve())
    await asyncio.wait_for(body.running.wait(), 60)
    draining = asyncio.ensure_future(worker.drain(9_000, 0))
    await until(lambda: log.left)
    assert all(report.for_ms > 0 for report in log.reports)
    assert len(log.reports) == 2
    body.finish.set()
    await asyncio.wait_for(draining, 60)
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)


async def test_a_drain_ends_when_the_worker_fails() -> None:
    """Other workers have its runs, and the process can end."""
    app, log = App("shop"), FakeWorkerLog(started())
    running = asyncio.Event()

    async def body() -> None:
        running.set()
        await asyncio.get_running_loop().create_future()

    @app.function(on("go"))
    async def function(ctx: Context) -> None:
        await asyncio.gather(ctx.step.run("work", body), ctx.step.sleep("nap", "1h"))

    log.calls.fail("append", LogError("the broker is away"))
    worker = Worker(log, app, options())
    serving = asyncio.ensure_future(worker.serve())
    await asyncio.wait_for(running.wait(), 60)
    await asyncio.wait_for(worker.drain(), 60)
    with pytest.raises(LogError):
        await serving


@pytest.mark.parametrize("threaded", [False, True])
async def test_a_run_that_needs_another_body_is_left_to_another_worker(threaded: bool) -> None:
    """Running bodies end and are reported. Another worker reads the command again and does the rest."""
    app, log = App("shop"), FakeWorkerLog(started())
    running, finish = asyncio.Queue[str](), {"left": asyncio.Event(), "right": asyncio.Event()}

    async def body(name: str) -> str:
        running.put_nowait(name)
        await finish[name].wait()
        return name

    def one_after_the_other(ctx: ThreadedContext) -> None:
        ctx.step.run("left", body, "left")
        ctx.step.run("right", body, "right")

    async def side_by_side(ctx: Context) -> None:
        await asyncio.gather(*(ctx.step.run(name, body, name) for name in finish))
        await ctx.step.run("after", body, "left")

    handler: Any = one_after_the_other if threaded else side_by_side
    app.function(on("go"), id="function")(handler)

    bodies = Bodies(threads=Threads(1, parked_max=0))
    worker = Worker(log, app, options(bodies=bodies))
    serving = asyncio.ensure_future(worker.serve())
    expected = ["left"] if threaded else ["left", "right"]
    assert [await asyncio.wait_for(running.get(), 60) for _ in expected] == expected
    draining = asyncio.ensure_future(worker.drain())
    for name in expected:
        await asyncio.sleep(0)
        assert not draining.done()
        finish[name].set()
        await until(lambda: len(log.reports) == expected.index(name) + 1)  # noqa: B023 - awaited at once
    await asyncio.wait_for(draining, 60)
    assert [(type(report), bytes(report.outcome.data)) for report in log.reports] == [
        (StepReported, f'"{name}"'.encode()) for name in expected
    ]
    assert (log.committed, running.empty(), worker.load.in_use) == ({}, True, 0)
    await until_free(bodies)
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)
    bodies.threads.close()
