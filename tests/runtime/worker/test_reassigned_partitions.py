"""Partitions that are revoked while a body is running, and assigned to the same worker again."""

import asyncio
from collections import defaultdict

import pytest

from stepstream import App, Context, on
from stepstream.contract.codec import NULL
from stepstream.contract.commands import Memo, RunLoaded, RunResumed, RunStopped, StepDispatched
from stepstream.contract.inbox import RunClaimed, RunLeased, RunReturned, StepLeased, StepReported, StepsPlanned
from stepstream.contract.kinds import StepKind
from stepstream.contract.outcomes import Value
from tests.fakes.waiting import iterate, until
from tests.runtime.worker.harness import EVENTS, STEP, PoolHarness, WorkerHarness, dispatched, served, started


class Bodies:
    """Bodies that note when they start, and end when the test finishes them."""

    def __init__(self) -> None:
        self.started_bodies: list[str] = []
        self.stopped: list[str] = []
        self.finish = defaultdict[str, asyncio.Event](asyncio.Event)

    async def __call__(self, name: str) -> str:
        """Run until the test finishes this body."""
        self.started_bodies.append(name)
        try:
            await self.finish[name].wait()
        except asyncio.CancelledError:
            self.stopped.append(name)
            raise
        return name


async def test_a_result_read_while_the_partition_was_revoked_is_not_lost() -> None:
    """The engine sends it once. The run leaves the worker and is claimed again, although its partition stays now."""
    app, body = App("shop"), Bodies()

    @app.function(on("go"))
    async def function(ctx: Context) -> None:
        await asyncio.gather(ctx.step.run("work", body, "work"), ctx.step.sleep("nap", "1h"))

    async with served(app) as harness:
        await harness.give(started("run"))
        (nap,) = harness.log.reports_of(StepsPlanned)[0].plans
        await harness.reassign()
        await harness.give(RunResumed("run", 1, (Memo(nap.step, nap.id, StepKind.SLEEP, Value(NULL), 1),)))
        await harness.rebalance(0)
        body.finish["work"].set()
        await until(lambda: harness.log.reports_of(RunClaimed))
        assert (body.started_bodies, harness.log.reports_of(RunReturned), harness.log.committed) == (["work"], [], {})


async def test_a_leaving_run_is_claimed_again_although_its_partition_stays() -> None:
    """One of its two bodies has ended. The step after it is another worker's, or this one's after a claim."""
    app, body = App("shop"), Bodies()

    @app.function(on("go"))
    async def function(ctx: Context) -> None:
        async def two() -> None:
            await ctx.step.run("right", body, "right")
            await ctx.step.run("last", body, "last")

        await asyncio.gather(ctx.step.run("left", body, "left"), two())

    async with served(app) as harness:
        await harness.give(started("run"))
        await harness.rebalance()
        body.finish["right"].set()
        await iterate()
        await harness.rebalance()
        await harness.redeliver()
        await harness.rebalance(0)
        body.finish["left"].set()
        await until(lambda: harness.log.reports_of(RunClaimed))
        assert (sorted(body.started_bodies), harness.log.committed) == (["left", "right"], {})


async def reassign_and_keep(harness: WorkerHarness) -> None:
    """Revoke a partition, assign it again, and keep it in another rebalance."""
    await harness.give(started("run"))
    await harness.reassign()
    await harness.rebalance(0)


async def test_a_run_keeps_its_lease_when_its_partition_is_assigned_again() -> None:
    """The worker that had its partition meanwhile has claimed it, and would get it while the body is running."""
    app, body = App("shop"), Bodies()

    @app.function(on("go"))
    async def function(ctx: Context) -> None:
        await ctx.step.run("work", body, "work")

    async with served(app) as harness:
        await reassign_and_keep(harness)
        assert [report.for_ms > 0 for report in harness.log.reports_of(RunLeased)] == [True] * 3
        body.finish["work"].set()
        await until(lambda: harness.log.reports_of(RunClaimed))
        assert len(harness.log.reports_of(StepReported)) == 1


async def test_a_step_keeps_its_lease_when_its_partition_is_assigned_again() -> None:
    """So does a step of a queue. Its result ends the lease."""
    async with PoolHarness() as at:
        at.log.give(dispatched())
        await until(lambda: at.bodies == 1)
        for kept in ((), (), (0,)):
            await at.log.rebalance(*kept)
            at.log.redeliver()
            await until(lambda: not at.log.unread)
        await iterate()
        assert [report.for_ms > 0 for report in at.log.reports_of(StepLeased)] == [True] * 3
        at.finish.set()
        await until(lambda: at.results)
        assert at.bodies == 1


async def test_a_redelivered_stop_does_not_stop_what_started_after_it() -> None:
    """The run waited for its next attempt, and then was due. Another run keeps the offset before both commands."""
    app, body = App("shop"), Bodies()

    @app.function(on("go"))
    async def function(ctx: Context) -> None:
        await ctx.step.run("work", body, ctx.run_id)

    async with served(app) as harness:
        await harness.give(started("long"), RunStopped("run", "waiting"), RunResumed("run", 1))
        (claim,) = harness.log.reports_of(RunClaimed)
        await harness.give(RunLoaded("run", "function", 2, EVENTS, 1, claim.claim, 1))
        await harness.reassign()
        assert (body.started_bodies, body.stopped) == (["long", "run"], [])
        await harness.give(RunStopped("run", "cancelled"))
        assert body.stopped == ["run"]


@pytest.mark.parametrize("command", [RunStopped("run", step=STEP), dispatched("of-a-dead-worker", attempt=1)])
async def test_a_redelivered_command_of_a_step_does_not_stop_it(
    command: RunStopped | StepDispatched,
) -> None:
    """It came before the body started: the step was not due yet, or another worker had it."""
    async with PoolHarness() as at:
        for each in (dispatched(run="long"), command, dispatched(attempt=1)):
            at.log.give(each)
        if isinstance(command, StepDispatched):
            await until(lambda: len(at.claims) == 2)
            at.log.give(dispatched(at.claims[1], attempt=1))
        await until(lambda: at.bodies == 2)
        for _ in range(2):
            await at.log.rebalance()
        at.log.redeliver()
        await until(lambda: not at.log.unread)
        await iterate()
        assert at.bodies == 2
        at.finish.set()
        await until(lambda: len(at.results) == 2)
        at.log.give(RunStopped("other", step=STEP))
        await until(lambda: at.log.committed)
        assert (at.bodies, list(at.log.committed.values())) == (2, [len(at.log.commands)])
