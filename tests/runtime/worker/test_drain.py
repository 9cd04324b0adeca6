"""A worker at a log by hand: it drains whole, and takes a retry that comes before its own report is known written."""

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
from stepstream.sdk import threads
from stepstream.sdk.execution import Bodies
from tests.fakes.waiting import iterate, until
from tests.fakes.worker_log import FakeWorkerLog
from tests.runtime.worker.harness import EVENTS, dispatched, options, started, until_free


async def test_a_body_that_outlasts_the_next_poll_ends_before_the_worker() -> None:
    """No more commands are taken, but a body at work runs to its end, is reported, and its command is dealt with."""
    app, log = App("shop"), FakeWorkerLog(started())
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def body() -> str:
        begun.set()
        await go_on.wait()
        return "done"

    @app.function(on("go"))
    async def function(ctx: Context) -> str:
        return await ctx.step.run("work", body)

    worker = Worker(log, app, options())
    serving = asyncio.ensure_future(worker.serve())
    await asyncio.wait_for(begun.wait(), 5)
    draining = asyncio.ensure_future(worker.drain())
    polls = []
    for _ in range(100):
        await asyncio.sleep(0)
        polls.append(log.calls.count["poll"])
    assert polls[50] == polls[-1]
    assert (serving.done(), log.closed) == (False, False)
    go_on.set()
    await asyncio.wait_for(draining, 5)
    assert log.kinds == [StepReported, RunReturned]
    assert log.committed == {(commands_topic("shop"), 0): 1}
    assert not serving.done()
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)
    assert log.closed


async def test_a_retry_that_is_due_before_the_failure_is_known_to_be_durable_is_taken() -> None:
    """The engine may have read a report, and wake the run, before its worker hears that it is written."""
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


@pytest.mark.parametrize("word", [RunLoaded("run", "function", 2, EVENTS, 1, "gone-1"), RunResumed("run", 1)])
async def test_a_run_that_is_postponed_is_asked_for_when_there_is_word_of_it(word: RunLoaded | RunResumed) -> None:
    """The late claim of a worker that is gone took it, so that its report is not heard; or that was heard already."""
    app, log = App("shop"), FakeWorkerLog(started())
    log.calls.block("acknowledge")
    worker = Worker(log, app, options())
    serving = asyncio.ensure_future(worker.serve())
    await until(lambda: log.reports)
    log.give(word)
    await until(lambda: len(log.reports) == 2)
    log.calls.allow("acknowledge")
    await until(lambda: not worker.active)
    assert log.kinds == [RunPostponed, RunClaimed]
    assert (worker.load.cached, log.committed) == (1, {})
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)


async def test_a_run_that_has_no_turn_yet_is_left_to_another_worker() -> None:
    """Its command is not dealt with, or nobody would ever begin it."""
    app, log = App("shop"), FakeWorkerLog(started())
    log.give(started("second"))
    begun, go_on = asyncio.Event(), asyncio.Event()

    @app.function(on("go"))
    async def function(ctx: Context) -> None:
        begun.set()
        await go_on.wait()

    worker = Worker(log, app, options(runs_active_max=1))
    serving = asyncio.ensure_future(worker.serve())
    await asyncio.wait_for(begun.wait(), 5)
    await until(lambda: worker.load.queued)
    draining = asyncio.ensure_future(worker.drain())
    await asyncio.sleep(0)
    go_on.set()
    await asyncio.wait_for(draining, 5)
    assert [report.run_id for report in log.reports] == ["run"]
    assert log.committed == {(commands_topic("shop"), 0): 1}
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)


@pytest.mark.parametrize("steps", [1, 2])
async def test_a_body_that_outlasts_a_drain_is_reserved_before_the_group_is_left(steps: int) -> None:
    """Others have the commands then, and its run when it is let go: at the next step, or when the code rests."""
    app, log = App("shop"), FakeWorkerLog(started())
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def body() -> str:
        begun.set()
        await go_on.wait()
        return "done"

    @app.function(on("go"))
    async def function(ctx: Context) -> None:
        for number in range(steps):
            await ctx.step.run(f"work-{number}", body)
        await ctx.step.sleep("nap", "1h")

    worker = Worker(log, app, options())
    serving = asyncio.ensure_future(worker.serve())
    await asyncio.wait_for(begun.wait(), 5)
    draining = asyncio.ensure_future(worker.drain(9_000, 0))
    await until(lambda: log.left)
    assert log.reports == [RunLeased("run", 1, 9_000)]
    assert not draining.done()
    go_on.set()
    await asyncio.wait_for(draining, 5)
    rest = [StepReported] if steps == 2 else [StepReported, StepsPlanned]
    assert log.kinds[1:] == [*rest, RunLeased]
    assert (log.reports[-1], log.committed) == (RunLeased("run", 1), {})
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)


@pytest.mark.parametrize("queue", [False, True])
async def test_what_a_drain_has_reserved_stays_so_although_the_group_moves_before_it_is_left(queue: bool) -> None:
    """The worker is given its partition once more, and leaves then: a body at work is nobody else's to its end."""
    app = App("shop", queues=["q"])
    log = FakeWorkerLog(dispatched(), topic=commands_topic("shop", "q")) if queue else FakeWorkerLog(started())
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def body() -> None:
        begun.set()
        await go_on.wait()

    @app.function(on("go"))
    async def function(ctx: Context) -> None:
        await (ctx.step.options(queue="q") if queue else ctx.step).run("work", body)

    async def leave() -> None:
        await log.rebalance(0)
        await iterate(20)
        log.left = True

    log.leave = leave  # type: ignore[method-assign]  # A rebalance comes before the group is left.
    worker = PoolWorker(log, app, "q", options()) if queue else Worker(log, app, options())
    serving = asyncio.ensure_future(worker.serve())
    await asyncio.wait_for(begun.wait(), 5)
    draining = asyncio.ensure_future(worker.drain(9_000, 0))
    await until(lambda: log.left)
    assert all(report.for_ms > 0 for report in log.reports)
    assert len(log.reports) == 2
    go_on.set()
    await asyncio.wait_for(draining, 5)
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)


async def test_a_worker_that_fails_while_it_drains_is_not_waited_for() -> None:
    """What it had is others'; the process is to end."""
    app, log = App("shop"), FakeWorkerLog(started())
    begun = asyncio.Event()

    async def body() -> None:
        begun.set()
        await asyncio.get_running_loop().create_future()

    @app.function(on("go"))
    async def function(ctx: Context) -> None:
        await asyncio.gather(ctx.step.run("work", body), ctx.step.sleep("nap", "1h"))

    log.calls.fail("append", LogError("the broker is away"))
    worker = Worker(log, app, options())
    serving = asyncio.ensure_future(worker.serve())
    await asyncio.wait_for(begun.wait(), 5)
    await asyncio.wait_for(worker.drain(), 5)
    with pytest.raises(LogError):
        await serving


@pytest.mark.parametrize("threaded", [False, True])
async def test_a_run_that_would_begin_another_step_is_handed_back(
    threaded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is at work ends and is reported; the rest of the run is another worker's, that reads its command again."""
    monkeypatch.setattr(threads, "RUNS_ACTIVE_MAX", 1)
    app, log = App("shop"), FakeWorkerLog(started())
    begun, go_on = asyncio.Queue[str](), {"left": asyncio.Event(), "right": asyncio.Event()}

    async def body(name: str) -> str:
        begun.put_nowait(name)
        await go_on[name].wait()
        return name

    def one_after_the_other(ctx: ThreadedContext) -> None:
        ctx.step.run("left", body, "left")
        ctx.step.run("right", body, "right")

    async def side_by_side(ctx: Context) -> None:
        await asyncio.gather(*(ctx.step.run(name, body, name) for name in go_on))
        await ctx.step.run("after", body, "left")

    handler: Any = one_after_the_other if threaded else side_by_side
    app.function(on("go"), id="function")(handler)

    bodies = Bodies()
    worker = Worker(log, app, options(bodies=bodies))
    serving = asyncio.ensure_future(worker.serve())
    expected = ["left"] if threaded else ["left", "right"]
    assert [await asyncio.wait_for(begun.get(), 5) for _ in expected] == expected
    draining = asyncio.ensure_future(worker.drain())
    for name in expected:
        await asyncio.sleep(0)
        assert not draining.done()
        go_on[name].set()
        await until(lambda: len(log.reports) == expected.index(name) + 1)  # noqa: B023 - awaited at once
    await asyncio.wait_for(draining, 5)
    assert [(type(report), bytes(report.outcome.data)) for report in log.reports] == [
        (StepReported, f'"{name}"'.encode()) for name in expected
    ]
    assert (log.committed, begun.empty(), worker.load.in_use) == ({}, True, 0)
    await until_free(bodies)
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)
    bodies.threads.close()
