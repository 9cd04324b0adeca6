"""The worker of a queue between others: late claims, words that come twice, and a backlog larger than its room."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from stepstream import App, Context, Event, on
from stepstream.contract.codec import encode
from stepstream.contract.commands import RunStopped, StepDispatched, decode_command
from stepstream.contract.events import EventRecord
from stepstream.contract.ids import step_hash
from stepstream.contract.inbox import StepClaimed, StepLeased, StepReported, decode_inbox
from stepstream.contract.topics import commands_topic
from stepstream.runtime.clocks import VirtualClock
from stepstream.runtime.ports import LogRecord, NewRecord, Offsets, RebalanceListener
from stepstream.runtime.worker import pool
from stepstream.runtime.worker.consumer import MOVE_MS
from stepstream.runtime.worker.pool import PoolWorker
from stepstream.testing import VirtualEngine

STEP = step_hash("work", 0)


async def until(holds: Callable[[], object]) -> None:
    """Return when something holds."""
    async with asyncio.timeout(5):
        while not holds():  # noqa: ASYNC110 - nobody tells when it does
            await asyncio.sleep(0)


class Door:
    """A worker's log whose commands are given by hand; those from `fresh_from` on no other worker has seen."""

    def __init__(self, fresh_from: int = 0) -> None:
        self.fresh_from = fresh_from
        self.commands: asyncio.Queue[LogRecord] = asyncio.Queue()
        self.reports: list[Any] = []
        self.dealt: Offsets = {}
        self.left = False
        self.tenant: RebalanceListener | None = None
        self.given: list[LogRecord] = []

    def give(self, command: StepDispatched | RunStopped) -> None:
        """Append a command."""
        self.given.append(LogRecord(commands_topic("shop", "gpu"), 0, len(self.given), b"k", encode(command), (), 0))
        self.commands.put_nowait(self.given[-1])

    def again(self) -> None:
        """Give the first command once more, at its place: its partition came back."""
        self.commands.put_nowait(self.given[0])

    def all_again(self) -> None:
        """Give all commands once more, at their places: none of them was dealt with when it came back."""
        for record in self.given:
            self.commands.put_nowait(record)

    async def open(self, tenant: RebalanceListener) -> None:
        """Take note of whom to tell."""
        self.tenant = tenant

    async def hold(self) -> None:
        """Go on."""

    def is_fresh(self, record: LogRecord) -> bool:
        """Tell whether a command came after this worker."""
        return record.offset >= self.fresh_from

    async def poll(self, _limit: int) -> list[LogRecord]:
        """Return the next command."""
        return [await self.commands.get()]

    async def append(self, _routing_key: str, value: bytes) -> None:
        """Take a report."""
        self.reports.append(decode_inbox(value))

    async def dead_letter(self, _: NewRecord) -> None:
        """Nothing is unreadable."""

    async def commit(self, offsets: Offsets) -> None:
        """Take note."""
        self.dealt |= offsets

    async def leave(self) -> None:
        """Have partitions go to others."""
        self.left = True
        if self.tenant:
            await self.tenant.moved((), lost=False)

    async def close(self) -> None:
        """Do nothing."""


class Pool:
    """A worker of the queue gpu at such a door; bodies end when they are let."""

    def __init__(self, door: Door) -> None:
        self.door = door
        self.bodies = 0
        self.go_on = asyncio.Event()
        app = App("shop", queues=["gpu"])

        async def body() -> int:
            self.bodies += 1
            await self.go_on.wait()
            return self.bodies

        @app.function(on("go"))
        async def function(ctx: Context) -> int:
            return await ctx.step.options(queue="gpu").run("work", body)

        self.worker = PoolWorker(door, VirtualClock(0), app, "gpu")

    async def __aenter__(self) -> "Pool":
        self.serving = asyncio.ensure_future(self.worker.serve())
        return self

    async def __aexit__(self, *_: object) -> None:
        self.serving.cancel()
        await asyncio.gather(self.serving, return_exceptions=True)

    @property
    def claims(self) -> list[str]:
        """The claims made so far."""
        return [report.claim for report in self.door.reports if isinstance(report, StepClaimed)]

    @property
    def results(self) -> list[StepReported]:
        """The results reported so far."""
        return [report for report in self.door.reports if isinstance(report, StepReported)]


def lent(claim: str = "", *, run: str = "run", attempt: int = 0) -> StepDispatched:
    """Return the word that a step is to be run."""
    return StepDispatched(run, "function", STEP, "work", (EventRecord("go"),), 1, attempt, (), claim)


async def test_a_step_that_is_lent_without_its_results_is_asked_for() -> None:
    """Of a large run the first word has no results: nobody runs the step before they are there."""
    async with Pool(Door()) as at:
        at.go_on.set()
        at.door.give(replace(lent(), events=(), partial=True))
        await until(lambda: at.claims)
        assert at.bodies == 0
        at.door.give(lent(at.claims[0]))
        await until(lambda: at.results)
        assert [result.claim for result in at.results] == at.claims


async def test_a_step_that_a_late_claim_took_is_claimed_back() -> None:
    """From that claim on the engine hears of nobody else: the result of the body at work would be dropped for ever."""
    async with Pool(Door()) as at:
        at.door.give(lent())
        await until(lambda: at.bodies == 1)
        at.door.give(lent("of-one-that-is-gone"))
        await until(lambda: at.claims)
        assert at.door.dealt == {}
        at.door.give(lent(at.claims[0]))
        await until(lambda: at.bodies == 2)
        at.go_on.set()
        await until(lambda: at.results)
        assert [result.claim for result in at.results] == at.claims


async def test_a_late_claim_of_a_step_that_was_reported_is_claimed_back() -> None:
    """Whoever reads that another has a step asks: the report of its own may have come after the claim."""
    async with Pool(Door()) as at:
        at.go_on.set()
        at.door.give(lent())
        await until(lambda: at.results)
        await until(lambda: at.worker.active == 0)
        at.door.give(lent("of-one-that-is-gone"))
        await until(lambda: at.claims)
        at.door.give(lent(at.claims[0]))
        await until(lambda: len(at.results) == 2)
        assert [result.claim for result in at.results] == ["", at.claims[0]]


async def test_an_attempt_that_comes_while_the_one_before_is_asked_for_is_asked_for_too() -> None:
    """The engine may answer the earlier claim with the later attempt: who runs it without a claim is not heard."""
    async with Pool(Door(fresh_from=1)) as at:
        at.go_on.set()
        at.door.give(lent())
        await until(lambda: at.claims)
        at.door.give(lent(attempt=1))
        await until(lambda: len(at.claims) == 2)
        at.door.give(lent(at.claims[0], attempt=1))
        at.door.give(lent(at.claims[1], attempt=1))
        await until(lambda: at.results)
        assert (at.bodies, [result.claim for result in at.results]) == (1, [at.claims[1]])


async def test_a_backlog_larger_than_the_room_is_read_to_its_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A queue that nobody served for a while: the answers to all claims lie behind the last word of the backlog."""
    monkeypatch.setattr(pool, "RUNS_QUEUED_MAX", 3)
    async with Pool(Door(fresh_from=100)) as at:
        at.go_on.set()
        for run in range(10):
            at.door.give(lent(run=f"run-{run}"))
        await until(lambda: len(at.claims) == 10)
        claims = {report.run_id: report.claim for report in at.door.reports}
        for run in range(10):
            at.door.give(lent(claims[f"run-{run}"], run=f"run-{run}"))
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
    async with Pool(Door()) as at:
        at.door.give(lent())
        await until(lambda: at.bodies == 1)
        draining = asyncio.ensure_future(at.worker.drain(9_000, 0))
        await until(lambda: at.door.left)
        assert at.door.reports == [StepLeased("run", STEP, 0, "gpu", "", 9_000)]
        assert not draining.done()
        at.go_on.set()
        await asyncio.wait_for(draining, 5)
        assert [result.step for result in at.results] == [STEP]


async def test_a_step_at_work_goes_on_when_the_partitions_move() -> None:
    """Where its partition stays it is let go of at once, and its command is dealt with in the end."""
    async with Pool(Door()) as at:
        at.door.give(lent())
        await until(lambda: at.bodies == 1)
        assert at.door.tenant
        await at.door.tenant.moving()
        await at.door.tenant.moved([0], lost=False)
        held = StepLeased("run", STEP, 0, "gpu", "", MOVE_MS)
        await until(lambda: at.door.reports == [held, replace(held, for_ms=0)])
        at.go_on.set()
        await until(lambda: at.results)
        at.door.give(RunStopped("other", step=STEP))
        await until(lambda: at.door.dealt == {(commands_topic("shop", "gpu"), 0): 2})
        assert at.bodies == 1


async def test_a_step_whose_partition_went_and_came_back_is_begun_once() -> None:
    """Its command is read again while it is at work: it is dealt with when the body has ended, and not before."""
    async with Pool(Door()) as at:
        at.door.give(lent())
        await until(lambda: at.bodies == 1)
        assert at.door.tenant
        await at.door.tenant.moving()
        await at.door.tenant.moved((), lost=False)
        at.door.again()
        at.door.give(RunStopped("other", step=STEP))
        await until(at.door.commands.empty)
        assert at.door.dealt == {}
        at.go_on.set()
        await until(lambda: at.results)
        at.door.give(RunStopped("other", step=STEP))
        await until(lambda: at.door.dealt == {(commands_topic("shop", "gpu"), 0): 3})
        assert (at.bodies, at.claims) == (1, [])


async def test_a_step_of_a_worker_that_was_given_up_is_stopped() -> None:
    """Others have begun it meanwhile."""
    async with Pool(Door()) as at:
        at.door.give(lent())
        await until(lambda: at.bodies == 1)
        assert at.door.tenant
        await at.door.tenant.moving()
        await at.door.tenant.moved((), lost=True)
        await until(lambda: at.worker.active == 0)
        assert at.results == []


@pytest.mark.parametrize("drains", [False, True])
async def test_a_lent_step_that_is_held_back_does_not_begin_when_it_went_or_its_worker_ends(drains: bool) -> None:
    """A frozen worker was given up; another ran the step; then the frozen one hears of it, or is to end."""
    door = Door()
    asked, freed = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        asked.set()
        await freed.wait()

    door.hold = hold  # type: ignore[method-assign]  # The group is on the move.
    async with Pool(door) as at:
        at.go_on.set()
        door.give(lent())
        await asyncio.wait_for(asked.wait(), 5)
        assert door.tenant
        if drains:
            draining = asyncio.ensure_future(at.worker.drain(9_000, 0))
            await asyncio.sleep(0)
            freed.set()
            await asyncio.wait_for(draining, 5)
        else:
            await door.tenant.moving()
            await door.tenant.moved((), lost=False)
            freed.set()
            await until(lambda: at.worker.active == 0)
        assert (at.bodies, door.reports, door.dealt) == (0, [], {})
