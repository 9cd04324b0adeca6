"""The worker of a queue between others: late claims, words that come twice, and a backlog larger than its room."""

import asyncio

import pytest
from msgspec.structs import replace

from stepstream import App, Context, Event, on
from stepstream.contract.commands import RunStopped, StepDispatched, decode_command
from stepstream.contract.inbox import StepLeased
from stepstream.contract.topics import commands_topic
from stepstream.runtime.worker.options import WorkerOptions
from stepstream.testing import VirtualEngine
from tests.fakes.waiting import until
from tests.runtime.worker.harness import STEP, PoolHarness, dispatched


async def test_a_step_that_is_lent_without_its_results_is_asked_for() -> None:
    """Of a large run the first word has no results: nobody runs the step before they are there."""
    async with PoolHarness() as at:
        at.finish.set()
        at.log.give(replace(dispatched(), events=(), partial=True))
        await until(lambda: at.claims)
        assert at.bodies == 0
        at.log.give(dispatched(at.claims[0]))
        await until(lambda: at.results)
        assert [result.claim for result in at.results] == at.claims


async def test_a_step_that_a_late_claim_took_is_claimed_back() -> None:
    """From that claim on the engine hears of nobody else: the result of the body at work would be dropped for ever."""
    async with PoolHarness() as at:
        at.log.give(dispatched())
        await until(lambda: at.bodies == 1)
        at.log.give(dispatched("of-one-that-is-gone"))
        await until(lambda: at.claims)
        assert at.log.committed == {}
        at.log.give(dispatched(at.claims[0]))
        await until(lambda: at.bodies == 2)
        at.finish.set()
        await until(lambda: at.results)
        assert [result.claim for result in at.results] == at.claims


async def test_a_late_claim_of_a_step_that_was_reported_is_claimed_back() -> None:
    """Whoever reads that another has a step asks: the report of its own may have come after the claim."""
    async with PoolHarness() as at:
        at.finish.set()
        at.log.give(dispatched())
        await until(lambda: at.results)
        await until(lambda: at.worker.active == 0)
        at.log.give(dispatched("of-one-that-is-gone"))
        await until(lambda: at.claims)
        at.log.give(dispatched(at.claims[0]))
        await until(lambda: len(at.results) == 2)
        assert [result.claim for result in at.results] == ["", at.claims[0]]


async def test_an_attempt_that_comes_while_the_one_before_is_asked_for_is_asked_for_too() -> None:
    """The engine may answer the earlier claim with the later attempt: who runs it without a claim is not heard."""
    async with PoolHarness(fresh_from=1) as at:
        at.finish.set()
        at.log.give(dispatched())
        await until(lambda: at.claims)
        at.log.give(dispatched(attempt=1))
        await until(lambda: len(at.claims) == 2)
        at.log.give(dispatched(at.claims[0], attempt=1))
        at.log.give(dispatched(at.claims[1], attempt=1))
        await until(lambda: at.results)
        assert (at.bodies, [result.claim for result in at.results]) == (1, [at.claims[1]])


async def test_a_backlog_larger_than_the_room_is_read_to_its_answers() -> None:
    """A queue that nobody served for a while: the answers to all claims lie behind the last word of the backlog."""
    async with PoolHarness(fresh_from=100, runs_queued_max=3) as at:
        at.finish.set()
        for run in range(10):
            at.log.give(dispatched(run=f"run-{run}"))
        await until(lambda: len(at.claims) == 10)
        claims = {report.run_id: report.claim for report in at.log.reports}
        for run in range(10):
            at.log.give(dispatched(claims[f"run-{run}"], run=f"run-{run}"))
        await until(lambda: len(at.results) == 10)
        await until(lambda: at.worker.active == 0)
    assert at.bodies == 10


async def test_of_a_large_run_steps_are_lent_without_its_results() -> None:
    """Three steps at once after a result of 100 KB: it is in the answers to their claims alone."""
    app = App("shop", queues=["gpu"])

    @app.function(on("go"))
    async def function(ctx: Context) -> list[int]:
        text = await ctx.step.run("load", lambda: "x" * 100_000)
        lent_out = ctx.step.options(queue="gpu")
        return list(await asyncio.gather(*[lent_out.run(name, lambda: len(text)) for name in ("a", "b", "c")]))

    async with VirtualEngine(app) as engine:
        await engine.send(Event("go"))
        assert engine.run().output == [100_000] * 3
        records = engine.journal.read(commands_topic("shop", "gpu"), 0, 0, 100)
    words = [decode_command(record.value) for record in records]
    found = [(word.partial, len(word.memos), bool(word.claim)) for word in words if isinstance(word, StepDispatched)]
    assert sorted(found) == [(False, 1, True)] * 3 + [(True, 0, False)] * 3


async def test_a_step_that_outlasts_a_drain_is_reserved_before_the_group_is_left() -> None:
    """Others have the commands then, and come upon this step too; what is reported counts all the same."""
    async with PoolHarness() as at:
        at.log.give(dispatched())
        await until(lambda: at.bodies == 1)
        draining = asyncio.ensure_future(at.worker.drain(9_000, 0))
        await until(lambda: at.log.left)
        assert at.log.reports == [StepLeased("run", STEP, 0, "gpu", "", 9_000)]
        assert not draining.done()
        at.finish.set()
        await asyncio.wait_for(draining, 5)
        assert [result.step for result in at.results] == [STEP]


async def test_a_step_at_work_goes_on_when_the_partitions_move() -> None:
    """Where its partition stays it is let go of at once, and its command is dealt with in the end."""
    async with PoolHarness() as at:
        at.log.give(dispatched())
        await until(lambda: at.bodies == 1)
        await at.log.rebalance(0)
        held = StepLeased("run", STEP, 0, "gpu", "", WorkerOptions().lease_ms)
        await until(lambda: at.log.reports == [held, replace(held, for_ms=0)])
        at.finish.set()
        await until(lambda: at.results)
        at.log.give(RunStopped("other", step=STEP))
        await until(lambda: at.log.committed == {(commands_topic("shop", "gpu"), 0): 2})
        assert at.bodies == 1


async def test_a_step_whose_partition_went_and_came_back_is_begun_once() -> None:
    """Its command is read again while it is at work: it is dealt with when the body has ended, and not before."""
    async with PoolHarness() as at:
        at.log.give(dispatched())
        await until(lambda: at.bodies == 1)
        await at.log.rebalance()
        at.log.redeliver()
        at.log.give(RunStopped("other", step=STEP))
        await until(lambda: not at.log.unread)
        assert at.log.committed == {}
        at.finish.set()
        await until(lambda: at.results)
        at.log.give(RunStopped("other", step=STEP))
        await until(lambda: at.log.committed == {(commands_topic("shop", "gpu"), 0): 3})
        assert (at.bodies, at.claims) == (1, [])


async def test_a_step_of_a_worker_that_was_given_up_is_stopped() -> None:
    """Others have begun it meanwhile."""
    async with PoolHarness() as at:
        at.log.give(dispatched())
        await until(lambda: at.bodies == 1)
        await at.log.rebalance(lost=True)
        await until(lambda: at.worker.active == 0)
        assert at.results == []


@pytest.mark.parametrize("drains", [False, True])
async def test_a_lent_step_that_is_held_back_does_not_begin_when_it_went_or_its_worker_ends(drains: bool) -> None:
    """A frozen worker was given up; another ran the step; then the frozen one hears of it, or is to end."""
    async with PoolHarness() as at:
        at.log.calls.block("until_member")
        at.finish.set()
        at.log.give(dispatched())
        await at.log.calls.until("until_member")
        if drains:
            draining = asyncio.ensure_future(at.worker.drain(9_000, 0))
            await asyncio.sleep(0)
            at.log.calls.allow("until_member")
            await asyncio.wait_for(draining, 5)
        else:
            await at.log.rebalance()
            at.log.calls.allow("until_member")
            await until(lambda: at.worker.active == 0)
        assert (at.bodies, at.log.reports, at.log.committed) == (0, [], {})
