"""Partitions that go while a body is at work, and come back: its run is done with that when the body has ended."""

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
    """Bodies that say when they are at work, and end when they are let."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.stopped: list[str] = []
        self.go_on = defaultdict[str, asyncio.Event](asyncio.Event)

    async def __call__(self, name: str) -> str:
        """Be at work."""
        self.begun.append(name)
        try:
            await self.go_on[name].wait()
        except asyncio.CancelledError:
            self.stopped.append(name)
            raise
        return name


async def test_a_result_that_came_while_a_run_was_away_is_not_lost() -> None:
    """The engine tells it once. The run is handed back and asked for anew, although its partition has stayed since."""
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
        body.go_on["work"].set()
        await until(lambda: harness.log.reports_of(RunClaimed))
        assert (body.begun, harness.log.reports_of(RunReturned), harness.log.committed) == (["work"], [], {})


async def test_a_run_that_is_to_leave_is_asked_for_anew_although_its_partition_stays() -> None:
    """One of its two bodies has ended, and the step after that is another worker's, or ours once we have asked."""
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
        body.go_on["right"].set()
        await iterate()
        await harness.rebalance()
        await harness.redeliver()
        await harness.rebalance(0)
        body.go_on["left"].set()
        await until(lambda: harness.log.reports_of(RunClaimed))
        assert (sorted(body.begun), harness.log.committed) == (["left", "right"], {})


async def kept_after_it_came_back(harness: WorkerHarness) -> None:
    """Have a partition go and come back, and stay when it is shared out once more."""
    await harness.give(started("run"))
    await harness.reassign()
    await harness.rebalance(0)


async def test_a_run_that_came_back_stays_reserved_to_its_end() -> None:
    """Whoever had its partition meanwhile has asked for it, and would be given it in the middle of the body."""
    app, body = App("shop"), Bodies()

    @app.function(on("go"))
    async def function(ctx: Context) -> None:
        await ctx.step.run("work", body, "work")

    async with served(app) as harness:
        await kept_after_it_came_back(harness)
        assert [report.for_ms > 0 for report in harness.log.reports_of(RunLeased)] == [True] * 3
        body.go_on["work"].set()
        await until(lambda: harness.log.reports_of(RunClaimed))
        assert len(harness.log.reports_of(StepReported)) == 1


async def test_a_lent_step_that_came_back_stays_reserved_to_its_end() -> None:
    """The same in a queue: its result is what ends the reservation."""
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


async def test_a_stop_that_is_read_again_stops_nothing_that_began_after_it() -> None:
    """A run was not to be tried yet, then it was; another run holds the place back from which both are read again."""
    app, body = App("shop"), Bodies()

    @app.function(on("go"))
    async def function(ctx: Context) -> None:
        await ctx.step.run("work", body, ctx.run_id)

    async with served(app) as harness:
        await harness.give(started("long"), RunStopped("run", "waiting"), RunResumed("run", 1))
        (claim,) = harness.log.reports_of(RunClaimed)
        await harness.give(RunLoaded("run", "function", 2, EVENTS, 1, claim.claim, 1))
        await harness.reassign()
        assert (body.begun, body.stopped) == (["long", "run"], [])
        await harness.give(RunStopped("run", "cancelled"))
        assert body.stopped == ["run"]


@pytest.mark.parametrize("word", [RunStopped("run", step=STEP), dispatched("of-one-that-is-gone", attempt=1)])
async def test_an_old_word_of_a_lent_step_that_is_read_again_does_not_stop_it(
    word: RunStopped | StepDispatched,
) -> None:
    """It was said before the body began: that the step was not to be run yet, or that somebody else had it."""
    async with PoolHarness() as at:
        for command in (dispatched(run="long"), word, dispatched(attempt=1)):
            at.log.give(command)
        if isinstance(word, StepDispatched):
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
