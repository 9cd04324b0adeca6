"""Runs of a worker with few slots: whose turn it is, and what becomes of those that wait for theirs."""

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
from stepstream.runtime.worker.lifecycle import Life
from stepstream.runtime.worker.live_run import LiveRun
from stepstream.runtime.worker.slots import Slots
from stepstream.testing import VirtualEngine
from tests.fakes.waiting import iterate, until
from tests.runtime.worker.harness import EVENTS, PLACE, WorkerHarness, served, started


async def test_runs_that_went_do_not_fill_the_room_of_those_that_wait() -> None:
    """A partition comes and goes, as when a pod beside it restarts: commands are read as before."""
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


@pytest.mark.parametrize("live_cache", [False, True])
async def test_runs_that_are_woken_together_take_their_turns(live_cache: bool) -> None:
    """Twenty sleeps end in one moment: no more bodies are at work than there are slots, as when the runs begin."""
    app = App("shop")
    at_work: list[int] = [0]

    async def body() -> None:
        at_work.append(at_work[-1] + 1)
        await iterate()
        at_work.append(at_work[-1] - 1)

    @app.function(on("go"))
    async def function(ctx: Context) -> None:
        await ctx.step.sleep("nap", "1h")
        await ctx.step.run("work", body)

    async with VirtualEngine(app, runs_active_max=2, live_cache=live_cache) as engine:
        await engine.send(*[Event("go")] * 20)
        await engine.advance("1h")
        assert [run.status for run in engine.runs()] == ["completed"] * 20
    assert max(at_work) == 2


class Waiting:
    """A harness with one slot: `long` has it, and `run`, which slept, is woken; its code may go on at a turn, too."""

    def __init__(self, harness: WorkerHarness, go_on: asyncio.Event, turn: asyncio.Event) -> None:
        self.harness = harness
        self.go_on = go_on
        self.turn = turn
        self.naps = {plan.id: plan for planned in harness.log.reports_of(StepsPlanned) for plan in planned.plans}

    def ends(self, nap: str, seen: int) -> RunResumed:
        """Return the word that a sleep is over."""
        plan = self.naps[nap]
        return RunResumed("run", 1, (Memo(plan.step, plan.id, StepKind.SLEEP, Value(NULL), seen),))


@asynccontextmanager
async def waiting(*before: str, alone: bool = False, **options: int) -> AsyncIterator[Waiting]:
    """Have a run wait for the only slot behind others that are to begin, with one of two results that it needs."""
    app, go_on, turn = App("shop"), asyncio.Event(), asyncio.Event()

    @app.function(on("long"))
    async def long(ctx: Context) -> None:
        await ctx.step.run("work", go_on.wait)

    @app.function(on("go"))
    async def function(ctx: Context) -> list[str]:
        order: list[str] = []

        async def nap(name: str) -> None:
            await ctx.step.sleep(name, "1h")
            order.append(name)

        async def given() -> None:
            await turn.wait()
            await ctx.step.run("given", lambda: None)

        await asyncio.gather(nap("a"), nap("b"), *([given()] if alone else []))
        return order

    async with served(app, runs_active_max=1, **options) as harness:
        await harness.give(started("run"))
        await harness.give(started("long", "long"))
        scene = Waiting(harness, go_on, turn)
        await harness.give(*map(started, before), scene.ends("b", 1))
        assert (harness.worker.load.in_use, harness.worker.load.queued) == (1, len(before) + 1)
        yield scene


async def test_what_comes_while_a_woken_run_waits_is_kept_in_its_order() -> None:
    """Its commands are not dealt with before; then it ends by all of them."""
    async with waiting() as scene:
        await scene.harness.give(scene.ends("a", 2))
        assert scene.harness.log.committed == {PLACE: 1}
        scene.go_on.set()
        await until(lambda: len(scene.harness.log.reports_of(RunReturned)) == 2)
        (returned,) = [report for report in scene.harness.log.reports_of(RunReturned) if report.run_id == "run"]
        assert bytes(returned.output) == b'["b","a"]'
        await until(lambda: scene.harness.log.committed == {PLACE: 4})


async def test_a_woken_run_that_waits_is_not_evicted() -> None:
    """A full cache drops runs that rest; the engine has told this one what it will tell nobody again."""
    async with waiting("other", "another", runs_cached_max=2) as scene:
        await scene.harness.give(scene.ends("a", 2))
        scene.go_on.set()
        await until(lambda: len(scene.harness.log.reports_of(RunReturned)) == 2)


async def test_a_run_that_another_took_while_it_waited_is_claimed_back() -> None:
    """The late claim of a worker that is gone was answered: what waits is of an older epoch."""
    async with waiting() as scene:
        await scene.harness.give(RunLoaded("run", "function", 2, EVENTS, 1, "of-one-that-is-gone"))
        assert [claim.run_id for claim in scene.harness.log.reports_of(RunClaimed)] == ["run"]
        assert (scene.harness.worker.load.queued, scene.harness.log.committed) == (0, {PLACE: 1})
        await scene.harness.give(RunStopped("run"), RunStopped("long"))
        assert scene.harness.log.committed == {PLACE: 6}


async def test_a_woken_run_that_ended_waits_no_more() -> None:
    """Somebody cancelled it."""
    async with waiting() as scene:
        await scene.harness.give(RunStopped("run", "cancelled"))
        assert (scene.harness.worker.load.queued, scene.harness.worker.load.cached) == (0, 1)


@pytest.mark.parametrize("ends", [False, True])
async def test_a_woken_run_that_waits_is_left_to_another_worker(ends: bool) -> None:
    """Its partition goes, or its worker ends: the word that woke it is not dealt with, and is read again there."""
    async with waiting() as scene:
        if ends:
            draining = asyncio.ensure_future(scene.harness.worker.drain())
            await iterate()
            scene.go_on.set()
            await asyncio.wait_for(draining, 5)
        else:
            await scene.harness.rebalance()
        assert (scene.harness.worker.load.queued, scene.harness.log.committed) == (0, {PLACE: 2 if ends else 1})


async def test_a_woken_run_that_stays_goes_on_waiting() -> None:
    """The partitions are shared out anew, and its own is ours still: it goes on where it was when there is a slot."""
    async with waiting() as scene:
        await scene.harness.rebalance(0)
        await scene.harness.give(scene.ends("a", 2))
        scene.go_on.set()
        await until(lambda: len(scene.harness.log.reports_of(RunReturned)) == 2)


async def test_a_woken_run_whose_code_goes_on_by_itself_has_its_news_then() -> None:
    """Somebody gave it what it waited for beside the steps: it is at work now, and waits for no turn."""
    async with waiting(alone=True) as scene:
        await scene.harness.give(scene.ends("a", 2))
        scene.turn.set()
        await until(lambda: len(scene.harness.log.reports_of(RunReturned)) == 1)
        assert scene.harness.worker.load.queued == 0


def test_detached_runs_do_not_prevent_a_woken_one_from_resuming() -> None:
    """There is room for no other run to start, but this one is in memory already."""
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
