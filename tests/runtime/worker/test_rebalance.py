"""Rebalances: a running body ends in its worker, although another worker gets its partition."""

import asyncio

import pytest

from stepstream import App, Context, on
from stepstream.contract.codec import encode
from stepstream.contract.commands import RunStopped
from stepstream.contract.inbox import RunClaimed, RunLeased, RunReturned, StepReported
from stepstream.runtime.ports import LogError
from stepstream.runtime.worker.options import WorkerOptions
from stepstream.runtime.worker.worker import Worker
from stepstream.sdk.execution import Bodies
from stepstream.sdk.threads.threads import Threads
from tests.fakes.waiting import iterate, until
from tests.fakes.worker_log import TOPIC, FakeWorkerLog
from tests.runtime.worker.harness import BlockedRun, charging, options, serving, started, until_free

LEASED, RELEASED = RunLeased("run", 1, WorkerOptions().lease_ms), RunLeased("run", 1)


async def test_a_body_of_a_partition_that_stays_continues() -> None:
    """The body runs once, its run ends here, and its command is acknowledged."""
    async with BlockedRun() as run:
        await run.log.rebalance(0)
        await until(lambda: run.log.reports == [LEASED, RELEASED])
        run.finish.set()
        await until(lambda: run.log.committed == {(TOPIC, 0): 1})
        assert run.bodies == 2
        assert run.log.kinds[2:] == [StepReported, StepReported, RunReturned]


async def test_a_body_of_a_revoked_partition_ends_here() -> None:
    """The next body does not start here: the lease is released, and the other worker processes the command."""
    async with BlockedRun() as run:
        await run.log.rebalance()
        run.finish.set()
        await until(lambda: run.worker.load.cached == 0)
        assert run.bodies == 1
        assert run.log.kinds == [RunLeased, StepReported, RunLeased]
        assert run.log.reports[-1] == RELEASED
        assert run.log.committed == {}


async def test_the_lease_of_a_revoked_partition_is_renewed_while_its_body_runs() -> None:
    """A lease expires if its worker dies. A worker that lives renews it."""
    async with BlockedRun(lease_renew_s=0.0) as run:
        await run.log.rebalance()
        await until(lambda: run.log.reports[:3] == [LEASED] * 3)
        run.finish.set()
        await until(lambda: run.worker.load.cached == 0)
        count = len(run.log.reports)
        for _ in range(20):
            await asyncio.sleep(0)
        assert len(run.log.reports) == count


@pytest.mark.parametrize("error", [LogError("the broker is away"), KeyError("a client that does not know its own")])
async def test_a_lease_that_cannot_be_written_is_written_later(error: Exception) -> None:
    """Other workers may start the body meanwhile, but the rebalance ends, and the next lease is for all runs."""
    async with BlockedRun(lease_renew_s=0.0) as run:
        run.log.calls.fail("append", error)
        await run.log.rebalance()
        await until(lambda: run.log.calls.count["append"] > 3)
        run.log.calls.allow("append")
        await until(lambda: LEASED in run.log.reports)
        run.finish.set()
        await until(lambda: run.worker.load.cached == 0)
        assert run.log.reports[-1] == RELEASED


async def test_a_draining_worker_leases_for_no_longer_than_its_drain() -> None:
    """If the worker is killed, runs that it leased before must not wait longer than those that it leases now."""
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
        await asyncio.wait_for(draining, 60)


async def test_a_run_whose_partition_is_assigned_again_is_claimed_afterwards() -> None:
    """Its command is read again. It is not skipped, and no second body starts: the run is claimed behind the first."""
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


async def test_a_worker_that_lost_its_membership_stops_its_bodies() -> None:
    """Other workers have started them."""
    async with BlockedRun() as run:
        await run.log.rebalance(lost=True)
        assert run.worker.load.cached == 0
        run.finish.set()
        await until(lambda: not run.worker.active)
        assert run.log.kinds == [RunLeased]


async def test_a_run_without_a_running_body_is_dropped_at_once() -> None:
    """No body would run twice."""
    log, app = FakeWorkerLog(started()), App("shop")
    reached, never = asyncio.Event(), asyncio.Event()

    @app.function(on("go"))
    async def function(ctx: Context) -> None:
        reached.set()
        await never.wait()

    worker = Worker(log, app, options())
    async with serving(worker):
        await asyncio.wait_for(reached.wait(), 60)
        await log.rebalance()
        assert (worker.load.cached, log.reports) == (0, [])


@pytest.mark.parametrize("threaded", [False, True])
@pytest.mark.parametrize("ends", [False, True])
async def test_a_blocked_body_does_not_start_after_its_run_was_revoked(threaded: bool, ends: bool) -> None:
    """The partition went to another worker while the body waited for the membership, or the worker ended."""
    log, ran, bodies = FakeWorkerLog(started()), list[str](), Bodies(threads=Threads(1, parked_max=0))
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


async def test_only_parked_runs_are_evicted() -> None:
    """The run that is parked the longest is evicted first. Runs with running code stay, however many there are."""
    log = FakeWorkerLog(*map(started, ("first", "second", "third")))
    app, finish = App("shop"), {name: asyncio.Event() for name in ("first", "second", "third", "last")}

    @app.function(on("go"))
    async def function(ctx: Context) -> None:
        await ctx.step.run("work", finish[ctx.run_id].wait)
        await ctx.step.sleep("nap", "1h")

    worker = Worker(log, app, options(runs_cached_max=1))
    async with serving(worker):
        await until(lambda: worker.load.in_use == 3)
        for name in ("second", "first"):
            finish[name].set()
            await until(lambda: worker.load.in_use == 2 if "second" in worker._parked else True)
        await until(lambda: worker.load.in_use == 1)
        log.give(started("last"))
        await until(lambda: sorted(map(str, worker._items)) == ["last", "third"])


async def test_the_bytes_of_a_backlog_are_not_kept() -> None:
    """A worker claims every run of a backlog before it reads the first answer, and keeps only offsets."""
    log = FakeWorkerLog(started(), fresh_from=1)
    worker = Worker(log, App("shop"), options())
    async with serving(worker):
        await until(lambda: worker.load.cached == 1)
        assert [record.value for run in worker._items.values() for record in run.commands] == [b""]


async def test_a_worker_that_cannot_commit_still_drops_revoked_runs() -> None:
    """It would otherwise continue runs of other workers, and process their later commands."""
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
