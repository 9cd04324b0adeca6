"""The worker of a queue: late claims, repeated commands, a backlog, rebalances and drains."""

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


async def test_a_step_dispatched_without_results_is_claimed() -> None:
    """The first command of a step of a large run has no results, and its body needs them."""
    async with PoolHarness() as at:
        at.finish.set()
        at.log.give(replace(dispatched(), events=(), partial=True))
        await until(lambda: at.claims)
        assert at.bodies == 0
        at.log.give(dispatched(at.claims[0]))
        await until(lambda: at.results)
        assert [result.claim for result in at.results] == at.claims


async def test_a_step_taken_by_a_late_claim_is_claimed_again() -> None:
    """The engine accepts reports of that claim only, and would drop the result of the running body."""
    async with PoolHarness() as at:
        at.log.give(dispatched())
        await until(lambda: at.bodies == 1)
        at.log.give(dispatched("of-a-dead-worker"))
        await until(lambda: at.claims)
        assert at.log.committed == {}
        at.log.give(dispatched(at.claims[0]))
        await until(lambda: at.bodies == 2)
        at.finish.set()
        await until(lambda: at.results)
        assert [result.claim for result in at.results] == at.claims


async def test_a_running_step_that_is_dispatched_again_keeps_the_command() -> None:
    """The topic lost the first one; the command stays unacknowledged, so that a crash does not lose the step."""
    async with PoolHarness() as at:
        at.log.give(dispatched())
        await until(lambda: at.bodies == 1)
        at.log.give(replace(dispatched(), events=(), partial=True))
        at.finish.set()
        await until(lambda: at.results)
        await until(lambda: at.log.committed)
        assert at.bodies == 1
        assert at.claims == []


async def test_a_reported_step_taken_by_a_late_claim_is_claimed_again() -> None:
    """A worker that reads the claim of another claims the step: its own report may be later than that claim."""
    async with PoolHarness() as at:
        at.finish.set()
        at.log.give(dispatched())
        await until(lambda: at.results)
        await until(lambda: at.worker.active == 0)
        at.log.give(dispatched("of-a-dead-worker"))
        await until(lambda: at.claims)
        at.log.give(dispatched(at.claims[0]))
        await until(lambda: len(at.results) == 2)
        assert [result.claim for result in at.results] == ["", at.claims[0]]


async def test_a_later_attempt_of_a_claimed_step_is_claimed_as_well() -> None:
    """The engine may grant the earlier claim for the later attempt, and drops reports without a claim then."""
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


async def test_a_later_attempt_replaces_one_that_waits_for_a_slot() -> None:
    """The earlier one gets no slot, which it would occupy forever."""
    async with PoolHarness(runs_active_max=1) as at:
        at.log.give(dispatched(run="long"), dispatched(), dispatched(attempt=1))
        await until(lambda: at.bodies == 1)
        assert (at.worker.load.in_use, at.worker.load.queued) == (1, 1)
        at.finish.set()
        await until(lambda: len(at.results) == 2)
        assert [result.attempt for result in at.results] == [0, 1]
        await until(lambda: at.worker.active == 0)


async def test_a_backlog_larger_than_the_queue_is_read_up_to_its_answers() -> None:
    """The answers to all claims of a backlog are in the log after its last command."""
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


async def test_steps_of_a_large_run_are_dispatched_without_its_results() -> None:
    """Three steps are dispatched after a result of 100 KB: only the answers to their claims have it."""
    app = App("shop", queues=["gpu"])

    @app.function(on("go"))
    async def function(ctx: Context) -> list[int]:
        text = await ctx.step.run("load", lambda: "x" * 100_000)
        gpu = ctx.step.options(queue="gpu")
        return list(await asyncio.gather(*[gpu.run(name, lambda: len(text)) for name in ("a", "b", "c")]))

    async with VirtualEngine(app) as engine:
        await engine.send(Event("go"))
        assert engine.run().output == [100_000] * 3
        records = engine.journal.read(commands_topic("shop", "gpu"), 0, 0, 100)
    commands = [decode_command(record.value) for record in records]
    found = [(each.partial, len(each.memos), bool(each.claim)) for each in commands if isinstance(each, StepDispatched)]
    assert sorted(found) == [(False, 1, True)] * 3 + [(True, 0, False)] * 3


async def test_a_step_that_outlasts_a_drain_is_leased_before_the_worker_leaves() -> None:
    """Another worker reads the command of the step again, and the report of this one still counts."""
    async with PoolHarness() as at:
        at.log.give(dispatched())
        await until(lambda: at.bodies == 1)
        draining = asyncio.ensure_future(at.worker.drain(9_000, 0))
        await until(lambda: at.log.left)
        assert at.log.reports == [StepLeased("run", STEP, 0, "gpu", "", 9_000)]
        assert not draining.done()
        at.finish.set()
        await asyncio.wait_for(draining, 60)
        assert [result.step for result in at.results] == [STEP]


async def test_a_running_step_continues_when_its_partition_stays() -> None:
    """Its lease is released at once, and its command is acknowledged in the end."""
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


async def test_a_step_whose_partition_is_assigned_again_runs_once() -> None:
    """Its command is read again while its body runs, and is acknowledged when the body has ended."""
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


async def test_a_worker_that_lost_its_membership_stops_its_steps() -> None:
    """Other workers have started them."""
    async with PoolHarness() as at:
        at.log.give(dispatched())
        await until(lambda: at.bodies == 1)
        await at.log.rebalance(lost=True)
        await until(lambda: at.worker.active == 0)
        assert at.results == []


@pytest.mark.parametrize("drains", [False, True])
async def test_a_blocked_step_does_not_start_after_a_rebalance_or_a_drain(drains: bool) -> None:
    """The membership of a frozen worker expired, and another worker ran the step."""
    async with PoolHarness() as at:
        at.log.calls.block("until_member")
        at.finish.set()
        at.log.give(dispatched())
        await at.log.calls.until("until_member")
        if drains:
            draining = asyncio.ensure_future(at.worker.drain(9_000, 0))
            await asyncio.sleep(0)
            at.log.calls.allow("until_member")
            await asyncio.wait_for(draining, 60)
        else:
            await at.log.rebalance()
            at.log.calls.allow("until_member")
            await until(lambda: at.worker.active == 0)
        assert (at.bodies, at.log.reports, at.log.committed) == (0, [], {})
