"""Partitions of a worker move: what is at work goes on where it is, and ends there, whoever has its commands next."""

import asyncio

import pytest

from stepstream import App, Context, on
from stepstream.contract.codec import encode
from stepstream.contract.commands import RunStopped
from stepstream.contract.inbox import RunClaimed, RunLeased, RunReturned, StepReported
from stepstream.runtime.ports import LogError
from stepstream.runtime.worker.options import WorkerOptions
from stepstream.runtime.worker.worker import Worker
from stepstream.sdk import threads
from stepstream.sdk.execution import Bodies
from tests.fakes.waiting import iterate, until
from tests.fakes.worker_log import TOPIC, FakeWorkerLog
from tests.runtime.worker.harness import BlockedRun, charging, options, serving, started, until_free

RESERVED, RELEASED = RunLeased("run", 1, WorkerOptions().lease_ms), RunLeased("run", 1)


async def test_a_body_of_a_partition_that_stays_goes_on() -> None:
    """It is begun once, its run ends here, and its command is dealt with."""
    async with BlockedRun() as run:
        await run.log.rebalance(0)
        await until(lambda: run.log.reports == [RESERVED, RELEASED])
        run.finish.set()
        await until(lambda: run.log.committed == {(TOPIC, 0): 1})
        assert run.bodies == 2
        assert run.log.kinds[2:] == [StepReported, StepReported, RunReturned]


async def test_a_body_of_a_partition_that_goes_ends_here_and_the_rest_of_its_run_elsewhere() -> None:
    """The next step is not begun here: the run is let go of, and its command is left to whoever has the partition."""
    async with BlockedRun() as run:
        await run.log.rebalance()
        run.finish.set()
        await until(lambda: run.worker.load.cached == 0)
        assert run.bodies == 1
        assert run.log.kinds == [RunLeased, StepReported, RunLeased]
        assert run.log.reports[-1] == RELEASED
        assert run.log.committed == {}


async def test_what_goes_on_elsewhere_is_reserved_for_as_long_as_its_body_takes() -> None:
    """A reservation ends by itself, in case its worker dies; while the worker lives it is made anew."""
    async with BlockedRun(lease_renew_s=0.0) as run:
        await run.log.rebalance()
        await until(lambda: run.log.reports[:3] == [RESERVED] * 3)
        run.finish.set()
        await until(lambda: run.worker.load.cached == 0)
        count = len(run.log.reports)
        for _ in range(20):
            await asyncio.sleep(0)
        assert len(run.log.reports) == count


@pytest.mark.parametrize("error", [LogError("the broker is away"), KeyError("a client that does not know its own")])
async def test_what_could_not_be_reserved_is_reserved_once_more(error: Exception) -> None:
    """Others may begin it meanwhile, but the partitions are let go of in order, and the next word is for all."""
    async with BlockedRun(lease_renew_s=0.0) as run:
        run.log.calls.fail("append", error)
        await run.log.rebalance()
        await until(lambda: run.log.calls.count["append"] > 3)
        run.log.calls.allow("append")
        await until(lambda: RESERVED in run.log.reports)
        run.finish.set()
        await until(lambda: run.worker.load.cached == 0)
        assert run.log.reports[-1] == RELEASED


async def test_a_worker_that_drains_reserves_nothing_for_longer_than_that_may_take() -> None:
    """Were it killed meanwhile, the runs that had moved before would stand for longer than those that it leaves."""
    async with BlockedRun(lease_renew_s=0.0) as run:
        await run.log.rebalance()
        draining = asyncio.ensure_future(run.worker.drain(9_000, 0))
        await until(lambda: run.log.left)
        count = run.log.reports.index(RunLeased("run", 1, 9_000))
        await run.log.rebalance()
        for _ in range(50):
            await asyncio.sleep(0)
        assert {report.for_ms for report in run.log.reports[count:]} == {9_000}
        run.finish.set()
        await asyncio.wait_for(draining, 5)


async def test_a_partition_that_comes_back_brings_its_run_back_when_the_body_has_ended() -> None:
    """Its command is read again: it is not passed over, nor begun beside the body, but asked for behind it."""
    async with BlockedRun() as run:
        await run.log.rebalance()
        run.log.redeliver()
        await until(lambda: not run.log.unread)
        assert run.bodies == 1
        run.finish.set()
        await until(lambda: RunClaimed in run.log.kinds)
        assert run.log.kinds == [RunLeased, StepReported, RunLeased, RunClaimed]
        assert run.log.committed == {}
        run.log.give(RunStopped("run"))
        await until(lambda: run.log.committed == {(TOPIC, 0): 2})


async def test_what_a_worker_had_that_was_given_up_is_stopped() -> None:
    """Others have begun it meanwhile."""
    async with BlockedRun() as run:
        await run.log.rebalance(lost=True)
        assert run.worker.load.cached == 0
        run.finish.set()
        await until(lambda: not run.worker.active)
        assert run.log.kinds == [RunLeased]


async def test_a_run_without_a_body_at_work_goes_at_once() -> None:
    """Nothing of it would be begun twice."""
    log, app = FakeWorkerLog(started()), App("shop")
    reached, never = asyncio.Event(), asyncio.Event()

    @app.function(on("go"))
    async def function(ctx: Context) -> None:
        reached.set()
        await never.wait()

    worker = Worker(log, app, options())
    async with serving(worker):
        await asyncio.wait_for(reached.wait(), 5)
        await log.rebalance()
        assert (worker.load.cached, log.reports) == (0, [])


@pytest.mark.parametrize("threaded", [False, True])
@pytest.mark.parametrize("ends", [False, True])
async def test_a_body_that_is_held_back_does_not_begin_when_its_run_has_gone(
    threaded: bool, ends: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its partition went to another worker meanwhile, or its worker ended."""
    monkeypatch.setattr(threads, "RUNS_ACTIVE_MAX", 1)
    log, ran, bodies = FakeWorkerLog(started()), list[str](), Bodies()
    log.calls.block("until_member")
    worker = Worker(log, charging(ran, threaded=threaded), options(bodies=bodies))
    async with serving(worker) as task:
        await log.calls.until("until_member")
        if ends:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        else:
            await log.rebalance()
        log.calls.allow("until_member")
        await until_free(bodies)
        assert ran == []
    bodies.threads.close()


async def test_only_runs_that_rest_leave_the_cache() -> None:
    """The one that has rested the longest goes first; those with code at work stay, however many they are."""
    log = FakeWorkerLog(*map(started, ("first", "second", "third")))
    app, go_on = App("shop"), {name: asyncio.Event() for name in ("first", "second", "third", "last")}

    @app.function(on("go"))
    async def function(ctx: Context) -> None:
        await ctx.step.run("work", go_on[ctx.run_id].wait)
        await ctx.step.sleep("nap", "1h")

    worker = Worker(log, app, options(runs_cached_max=1))
    async with serving(worker):
        await until(lambda: sorted(map(str, worker._lives)) == ["first", "second", "third"])
        for name in ("second", "first"):
            go_on[name].set()
            await until(lambda: worker.load.in_use == 2 if "second" in worker._parked else True)
        await until(lambda: worker.load.in_use == 1)
        log.give(started("last"))
        await until(lambda: sorted(map(str, worker._lives)) == ["last", "third"])


async def test_the_bytes_of_a_backlog_are_not_kept() -> None:
    """Each run of it is asked for at once, and the first answer lies behind the last of it: only places are held."""
    log = FakeWorkerLog(started(), fresh_from=1)
    worker = Worker(log, App("shop"), options())
    async with serving(worker):
        await until(lambda: worker.load.cached == 1)
        assert [record.value for run in worker._lives.values() for record in run.commands] == [b""]


async def test_a_worker_lets_go_of_what_is_taken_from_it_though_it_cannot_commit() -> None:
    """Else it would go on with runs that others have, and take their later commands for its own."""
    log = FakeWorkerLog(fresh_from=2)
    log.give_bytes(b"\x00", encode(started()))
    log.calls.block("dead_letter")
    worker = Worker(log, App("shop"), options())
    async with serving(worker):
        await until(lambda: worker.load.cached == 1)
        log.calls.block("poll")
        await iterate()
        log.calls.allow("dead_letter")
        await until(lambda: log.dead_letters)
        await iterate()
        log.calls.fail("commit", LogError("the broker is away"))
        with pytest.raises(LogError, match="away"):
            await log.rebalance()
        assert log.listener
        await log.listener.moved((), lost=False)
        assert worker.load.cached == 0
