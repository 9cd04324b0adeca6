"""A worker at a door by hand: it drains whole, and takes a retry that comes before its own report is known written."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from stepstream import App, Context, on
from stepstream.contract.codec import encode
from stepstream.contract.commands import RunLoaded, RunResumed, RunStarted, StepDispatched
from stepstream.contract.events import EventRecord
from stepstream.contract.ids import step_hash
from stepstream.contract.inbox import (
    RunClaimed,
    RunFailed,
    RunLeased,
    RunPostponed,
    RunReturned,
    StepReported,
    StepsPlanned,
    decode_inbox,
)
from stepstream.contract.topics import commands_topic
from stepstream.runtime.clocks import VirtualClock
from stepstream.runtime.ports import LogError, LogRecord, NewRecord, Offsets, RebalanceListener
from stepstream.runtime.worker.pool import PoolWorker
from stepstream.runtime.worker.worker import Worker
from stepstream.sdk import threads
from stepstream.sdk.execution import Bodies

EVENTS = (EventRecord("go"),)


async def until(holds: Callable[[], object]) -> None:
    """Return when something holds."""
    async with asyncio.timeout(5):
        while not holds():  # noqa: ASYNC110 - nobody tells when it does
            await asyncio.sleep(0)


async def until_free(bodies: Bodies) -> None:
    """Return when the threads of functions are free again: one more function runs to its end."""
    for _ in range(20):
        await asyncio.sleep(0)
    await asyncio.wait_for(bodies.threads.run_function(lambda: None), 5)


class Door:
    """A worker's log with one command, that returns none now and then, as that on Kafka does."""

    def __init__(self) -> None:
        command = encode(RunStarted("run", "function", 1, (EventRecord("go"),), 1))
        self.commands = [LogRecord(commands_topic("shop"), 0, 0, b"k", command, (), 0)]
        self.taken: list[LogRecord] = []
        self.polls = 0
        self.closed = False
        self.reports: list[Any] = []
        self.dealt: Offsets = {}
        self.left = False
        self.tenant: RebalanceListener | None = None
        # Cleared while the broker is slow to answer.
        self.written = asyncio.Event()
        self.written.set()

    async def open(self, tenant: RebalanceListener) -> None:
        """Take note of whom to tell."""
        self.tenant = tenant

    async def hold(self) -> None:
        """Go on."""

    def is_fresh(self, _: LogRecord) -> bool:
        """Tell that no other can have begun it."""
        return True

    async def poll(self, _limit: int) -> list[LogRecord]:
        """Return the command once."""
        await asyncio.sleep(0)
        self.polls += 1
        found, self.commands = self.commands, []
        self.taken += found
        return found

    async def append(self, _routing_key: str, value: bytes) -> None:
        """Take a report; return when it is written."""
        self.reports.append(decode_inbox(value))
        await self.written.wait()

    async def dead_letter(self, _: NewRecord) -> None:
        """Nothing is unreadable."""

    async def commit(self, offsets: Offsets) -> None:
        """Take note, as long as it is open."""
        if not self.closed:
            self.dealt |= offsets

    async def leave(self) -> None:
        """Have partitions go to others."""
        self.left = True
        if self.tenant:
            await self.tenant.moved((), lost=False)

    async def close(self) -> None:
        """Take nothing more."""
        self.closed = True


async def test_a_body_that_outlasts_the_next_poll_ends_before_the_worker() -> None:
    """No more commands are taken, but a body at work runs to its end, is reported, and its command is dealt with."""
    app, door = App("shop"), Door()
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def body() -> str:
        begun.set()
        await go_on.wait()
        return "done"

    @app.function(on("go"))
    async def function(ctx: Context) -> str:
        return await ctx.step.run("work", body)

    worker = Worker(door, VirtualClock(0), app)
    serving = asyncio.ensure_future(worker.serve())
    await asyncio.wait_for(begun.wait(), 5)
    draining = asyncio.ensure_future(worker.drain())
    polls = []
    for _ in range(100):
        await asyncio.sleep(0)
        polls.append(door.polls)
    assert polls[50] == polls[-1]
    assert (serving.done(), door.closed) == (False, False)
    go_on.set()
    await asyncio.wait_for(draining, 5)
    assert [type(report) for report in door.reports] == [StepReported, RunReturned]
    assert door.dealt == {(commands_topic("shop"), 0): 1}
    assert not serving.done()
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)
    assert door.closed


async def test_a_retry_that_is_due_before_the_failure_is_known_to_be_durable_is_taken() -> None:
    """The engine may have read a report, and wake the run, before its worker hears that it is written."""
    app, door = App("shop"), Door()
    door.written.clear()

    @app.function(on("go"))
    async def function(ctx: Context) -> None:
        raise ValueError("again")

    worker = Worker(door, VirtualClock(0), app)
    serving = asyncio.ensure_future(worker.serve())
    await until(lambda: door.reports)
    resumed = door.taken[0]._replace(offset=1, value=encode(RunResumed("run", 1)))
    door.commands = [resumed]
    await until(lambda: not door.commands)
    door.written.set()
    await until(lambda: worker.load.in_use == 0 and worker.active == 0)
    assert [type(report) for report in door.reports] == [RunFailed, RunClaimed]
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)


@pytest.mark.parametrize("word", [RunLoaded("run", "function", 2, EVENTS, 1, "gone-1"), RunResumed("run", 1)])
async def test_a_run_that_is_postponed_is_asked_for_when_there_is_word_of_it(word: RunLoaded | RunResumed) -> None:
    """The late claim of a worker that is gone took it, so that its report is not heard; or that was heard already."""
    app, door = App("shop"), Door()
    door.written.clear()
    worker = Worker(door, VirtualClock(0), app)
    serving = asyncio.ensure_future(worker.serve())
    await until(lambda: door.reports)
    door.commands = [door.taken[0]._replace(offset=1, value=encode(word))]
    await until(lambda: len(door.reports) == 2)
    door.written.set()
    await until(lambda: not worker.active)
    assert [type(report) for report in door.reports] == [RunPostponed, RunClaimed]
    assert (worker.load.cached, door.dealt) == (1, {})
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)


async def test_a_run_that_has_no_turn_yet_is_left_to_another_worker() -> None:
    """Its command is not dealt with, or nobody would ever begin it."""
    app, door = App("shop"), Door()
    second = encode(RunStarted("second", "function", 1, (EventRecord("go"),), 1))
    door.commands.append(door.commands[0]._replace(offset=1, value=second))
    begun, go_on = asyncio.Event(), asyncio.Event()

    @app.function(on("go"))
    async def function(ctx: Context) -> None:
        begun.set()
        await go_on.wait()

    worker = Worker(door, VirtualClock(0), app, runs_active_max=1)
    serving = asyncio.ensure_future(worker.serve())
    await asyncio.wait_for(begun.wait(), 5)
    await until(lambda: worker.load.queued)
    draining = asyncio.ensure_future(worker.drain())
    await asyncio.sleep(0)
    go_on.set()
    await asyncio.wait_for(draining, 5)
    assert [report.run_id for report in door.reports] == ["run"]
    assert door.dealt == {(commands_topic("shop"), 0): 1}
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)


@pytest.mark.parametrize("steps", [1, 2])
async def test_a_body_that_outlasts_a_drain_is_reserved_before_the_group_is_left(steps: int) -> None:
    """Others have the commands then, and its run when it is let go: at the next step, or when the code rests."""
    app, door = App("shop"), Door()
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

    worker = Worker(door, VirtualClock(0), app)
    serving = asyncio.ensure_future(worker.serve())
    await asyncio.wait_for(begun.wait(), 5)
    draining = asyncio.ensure_future(worker.drain(9_000, 0))
    await until(lambda: door.left)
    assert door.reports == [RunLeased("run", 1, 9_000)]
    assert not draining.done()
    go_on.set()
    await asyncio.wait_for(draining, 5)
    rest = [StepReported] if steps == 2 else [StepReported, StepsPlanned]
    assert [type(report) for report in door.reports[1:]] == [*rest, RunLeased]
    assert (door.reports[-1], door.dealt) == (RunLeased("run", 1), {})
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)


@pytest.mark.parametrize("queue", [False, True])
async def test_what_a_drain_has_reserved_stays_so_although_the_group_moves_before_it_is_left(queue: bool) -> None:
    """The worker is given its partition once more, and leaves then: a body at work is nobody else's to its end."""
    app, door = App("shop", queues=["q"]), Door()
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def body() -> None:
        begun.set()
        await go_on.wait()

    @app.function(on("go"))
    async def function(ctx: Context) -> None:
        await (ctx.step.options(queue="q") if queue else ctx.step).run("work", body)

    async def leave() -> None:
        assert door.tenant
        await door.tenant.moving()
        await door.tenant.moved((0,), lost=False)
        for _ in range(20):
            await asyncio.sleep(0)
        door.left = True

    door.leave = leave  # type: ignore[method-assign]  # The group is on the move.
    if queue:
        lent = StepDispatched("run", "function", step_hash("work", 0), "work", (EventRecord("go"),), 1)
        door.commands = [door.commands[0]._replace(topic=commands_topic("shop", "q"), value=encode(lent))]
    clock = VirtualClock(0)
    worker = PoolWorker(door, clock, app, "q") if queue else Worker(door, clock, app)
    serving = asyncio.ensure_future(worker.serve())
    await asyncio.wait_for(begun.wait(), 5)
    draining = asyncio.ensure_future(worker.drain(9_000, 0))
    await until(lambda: door.left)
    assert all(report.for_ms > 0 for report in door.reports)
    assert len(door.reports) == 2
    go_on.set()
    await asyncio.wait_for(draining, 5)
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)


async def test_a_worker_that_fails_while_it_drains_is_not_waited_for() -> None:
    """What it had is others'; the process is to end."""
    app, door = App("shop"), Door()
    begun = asyncio.Event()

    async def append(_routing_key: str, value: bytes) -> None:
        raise LogError(f"the broker is away, and {len(value)} bytes are not written")

    async def body() -> None:
        begun.set()
        await asyncio.get_running_loop().create_future()

    @app.function(on("go"))
    async def function(ctx: Context) -> None:
        await asyncio.gather(ctx.step.run("work", body), ctx.step.sleep("nap", "1h"))

    door.append = append  # type: ignore[method-assign]  # There is no broker.
    worker = Worker(door, VirtualClock(0), app)
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
    app, door = App("shop"), Door()
    begun, go_on = asyncio.Queue[str](), {"left": asyncio.Event(), "right": asyncio.Event()}

    async def body(name: str) -> str:
        begun.put_nowait(name)
        await go_on[name].wait()
        return name

    def one_after_the_other(ctx: Context) -> None:
        ctx.step.run("left", body, "left")
        ctx.step.run("right", body, "right")

    async def side_by_side(ctx: Context) -> None:
        await asyncio.gather(*(ctx.step.run(name, body, name) for name in go_on))
        await ctx.step.run("after", body, "left")

    handler: Any = one_after_the_other if threaded else side_by_side
    app.function(on("go"), id="function")(handler)

    bodies = Bodies()
    worker = Worker(door, VirtualClock(0), app, bodies=bodies)
    serving = asyncio.ensure_future(worker.serve())
    expected = ["left"] if threaded else ["left", "right"]
    assert [await asyncio.wait_for(begun.get(), 5) for _ in expected] == expected
    draining = asyncio.ensure_future(worker.drain())
    for name in expected:
        await asyncio.sleep(0)
        assert not draining.done()
        go_on[name].set()
        await until(lambda: len(door.reports) == expected.index(name) + 1)  # noqa: B023 - awaited at once
    await asyncio.wait_for(draining, 5)
    assert [(type(report), bytes(report.outcome.data)) for report in door.reports] == [
        (StepReported, f'"{name}"'.encode()) for name in expected
    ]
    assert (door.dealt, begun.empty(), worker.load.in_use) == ({}, True, 0)
    await until_free(bodies)
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)
    bodies.threads.close()
