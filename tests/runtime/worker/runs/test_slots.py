"""A worker with few slots: the order in which runs get one, and runs that wait."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from stepstream import App, Context, Event, on
from stepstream.contract.codec import NULL
from stepstream.contract.commands import Memo, RunLoaded, RunResumed, RunStopped
from stepstream.contract.inbox import RunClaimed, RunReturned, StepsPlanned
from stepstream.contract.kinds import StepKind
from stepstream.contract.outcomes import Value
from stepstream.runtime.worker.runs.lifecycle import Life
from stepstream.runtime.worker.runs.live_run import LiveRun
from stepstream.runtime.worker.runs.slots import Slots
from stepstream.testing import VirtualEngine
from tests.fakes.waiting import iterate, until
from tests.runtime.worker.harness import EVENTS, PLACE, WorkerHarness, served, started


async def test_revoked_runs_do_not_count_among_those_that_wait() -> None:
    """Partitions are revoked and assigned, as when another pod restarts. Commands are read as before."""
    app, stopped = App("shop"), asyncio.Event()

    async def body() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            stopped.set()

    @app.function(on("go"))
    async def function(ctx: Context) -> None:
        await ctx.step.run("work", body)

    async with served(app, runs_active_max=1, runs_queued_max=10) as harness:
        await harness.give(*map(started, ("first", "a", "b", "c", "d")))
        for _ in range(2):
            await harness.reassign()
            assert harness.worker.load.queued == 4
        await harness.give(RunStopped("first", "cancelled"))
        assert stopped.is_set()


async def test_revoked_run_gets_no_slot_of_another_revoked_run() -> None:
    """It is out of date and would be claimed again, which would take it from its new owner and stop its body there."""
    app = App("shop")

    @app.function(on("go"))
    async def function(ctx: Context) -> None:
        await asyncio.get_running_loop().create_future()

    async with served(app, runs_active_max=1) as harness:
        await harness.give(started("first"), started("second"), RunResumed("second", 1))
        assert (harness.worker.load.in_use, harness.worker.load.queued) == (1, 1)
        await harness.rebalance()
        assert harness.worker.load.cached == 0
        assert harness.log.reports_of(RunClaimed) == []


@pytest.mark.parametrize("live_cache", [False, True])
async def test_runs_woken_together_get_slots_one_after_another(live_cache: bool) -> None:
    """Twenty sleeps end at once: no more bodies are running than there are slots, as when runs start."""
    app = App("shop")
    running: list[int] = [0]

    async def body() -> None:
        running.append(running[-1] + 1)
        await iterate()
        running.append(running[-1] - 1)

    @app.function(on("go"))
    async def function(ctx: Context) -> None:
        await ctx.step.sleep("nap", "1h")
        await ctx.step.run("work", body)

    async with VirtualEngine(app, runs_active_max=2, live_cache=live_cache) as engine:
        await engine.send(*[Event("go")] * 20)
        await engine.advance("1h")
        assert [run.status for run in engine.runs()] == ["completed"] * 20
    assert max(running) == 2


class Waiting:
    """A worker with one slot, which `long` has; `run`, which slept, is woken, and may continue when `given` is set."""

    def __init__(self, harness: WorkerHarness, finish: asyncio.Event, given: asyncio.Event) -> None:
        self.harness = harness
        self.finish = finish
        self.given = given
        self.naps = {plan.id: plan for planned in harness.log.reports_of(StepsPlanned) for plan in planned.plans}

    def ends(self, nap: str, seen: int) -> RunResumed:
        """Return the command that ends a sleep."""
        plan = self.naps[nap]
        return RunResumed("run", 1, (Memo(plan.step, plan.id, StepKind.SLEEP, Value(NULL), seen),))


@asynccontextmanager
async def waiting(*before: str, alone: bool = False, **options: int) -> AsyncIterator[Waiting]:
    """Have a run wait for the only slot, behind others that are to start, with one of two results that it needs."""
    app, finish, given = App("shop"), asyncio.Event(), asyncio.Event()

    @app.function(on("long"))
    async def long(ctx: Context) -> None:
        await ctx.step.run("work", finish.wait)

    @app.function(on("go"))
    async def function(ctx: Context) -> list[str]:
        order: list[str] = []

        async def nap(name: str) -> None:
            await ctx.step.sleep(name, "1h")
            order.append(name)

        async def external() -> None:
            await given.wait()
            await ctx.step.run("given", lambda: None)

        await asyncio.gather(nap("a"), nap("b"), *([external()] if alone else []))
        return order

    async with served(app, runs_active_max=1, **options) as harness:
        await harness.give(started("run"))
        await harness.give(started("long", "long"))
        scene = Waiting(harness, finish, given)
        await harness.give(*map(started, before), scene.ends("b", 1))
        assert (harness.worker.load.in_use, harness.worker.load.queued) == (1, len(before) + 1)
        yield scene


async def test_results_for_a_woken_run_keep_their_order() -> None:
    """Its commands are not acknowledged before. Then it ends with all results."""
    async with waiting() as scene:
        await scene.harness.give(scene.ends("a", 2))
        assert scene.harness.log.committed == {PLACE: 1}
        scene.finish.set()
        await until(lambda: len(scene.harness.log.reports_of(RunReturned)) == 2)
        (returned,) = [report for report in scene.harness.log.reports_of(RunReturned) if report.run_id == "run"]
        assert bytes(returned.output) == b'["b","a"]'
        await until(lambda: scene.harness.log.committed == {PLACE: 4})


async def test_a_woken_run_is_not_evicted() -> None:
    """A full cache evicts parked runs. The engine sends the results of this one to no other worker."""
    async with waiting("other", "another", runs_cached_max=2) as scene:
        await scene.harness.give(scene.ends("a", 2))
        scene.finish.set()
        await until(lambda: len(scene.harness.log.reports_of(RunReturned)) == 2)


async def test_a_woken_run_taken_by_a_late_claim_is_claimed_again() -> None:
    """A late claim of a dead worker was granted: the run that waits has an older epoch."""
    async with waiting() as scene:
        await scene.harness.give(RunLoaded("run", "function", 2, EVENTS, 1, "of-a-dead-worker"))
        assert [claim.run_id for claim in scene.harness.log.reports_of(RunClaimed)] == ["run"]
        assert (scene.harness.worker.load.queued, scene.harness.log.committed) == (0, {PLACE: 1})
        await scene.harness.give(RunStopped("run"), RunStopped("long"))
        assert scene.harness.log.committed == {PLACE: 6}


async def test_a_cancelled_run_waits_for_no_slot() -> None:
    """A client cancelled it."""
    async with waiting() as scene:
        await scene.harness.give(RunStopped("run", "cancelled"))
        assert (scene.harness.worker.load.queued, scene.harness.worker.load.cached) == (0, 1)


@pytest.mark.parametrize("ends", [False, True])
async def test_a_woken_run_is_left_to_another_worker(ends: bool) -> None:
    """Its partition is revoked, or its worker drains: the command that woke it is not acknowledged."""
    async with waiting() as scene:
        if ends:
            draining = asyncio.ensure_future(scene.harness.worker.drain())
            await iterate()
            scene.finish.set()
            await asyncio.wait_for(draining, 60)
        else:
            await scene.harness.rebalance()
        assert (scene.harness.worker.load.queued, scene.harness.log.committed) == (0, {PLACE: 2 if ends else 1})


async def test_a_woken_run_whose_partition_stays_keeps_its_place() -> None:
    """The partition stays in a rebalance: the run continues where it was when there is a slot."""
    async with waiting() as scene:
        await scene.harness.rebalance(0)
        await scene.harness.give(scene.ends("a", 2))
        scene.finish.set()
        await until(lambda: len(scene.harness.log.reports_of(RunReturned)) == 2)


async def test_a_woken_run_that_continues_by_itself_gets_its_results() -> None:
    """What it waited for beside the steps came. It is active then, and no longer waits for a slot."""
    async with waiting(alone=True) as scene:
        await scene.harness.give(scene.ends("a", 2))
        scene.given.set()
        await until(lambda: len(scene.harness.log.reports_of(RunReturned)) == 1)
        assert scene.harness.worker.load.queued == 0


def test_detached_runs_do_not_prevent_a_woken_one_from_resuming() -> None:
    """No other run may start, but this one is in memory already."""
    slots = Slots[LiveRun](active_max=1, detached_max=1)
    detached, new, woken = (LiveRun(name, 0, Life(name)) for name in ("detached", "new", "woken"))
    slots.detach(detached)
    slots.queue(new, resumes=False)
    slots.queue(woken, resumes=True)
    assert (slots.next(), slots.next()) == (woken, None)
    slots.take(woken)
    slots.release(detached)
    assert slots.next() is None
    slots.release(woken)
    assert (slots.next(), slots.next()) == (new, None)
