"""Partitions of a worker move: what is at work goes on where it is, and ends there, whoever has its commands next."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from stepstream import App, Context, on
from stepstream.contract.codec import encode
from stepstream.contract.commands import RunStarted, RunStopped
from stepstream.contract.events import EventRecord
from stepstream.contract.inbox import RunClaimed, RunLeased, RunReturned, StepReported
from stepstream.contract.topics import commands_topic
from stepstream.runtime.clocks import VirtualClock
from stepstream.runtime.ports import LogError
from stepstream.runtime.worker import consumer as intake
from stepstream.runtime.worker.consumer import MOVE_MS
from stepstream.runtime.worker.worker import Worker
from stepstream.sdk import threads
from stepstream.sdk.execution import Bodies
from tests.runtime.test_drain import Door, until, until_free

TOPIC = commands_topic("shop")
RESERVED, RELEASED = RunLeased("run", 1, MOVE_MS), RunLeased("run", 1)


class ConsumerState:
    """A worker with one run, whose first of two bodies is at work until it is let go."""

    def __init__(self, door: Door) -> None:
        self.door = door
        self.begun = 0
        self.go_on = asyncio.Event()
        app = App("shop")

        async def body() -> str:
            self.begun += 1
            await self.go_on.wait()
            return "done"

        @app.function(on("go"))
        async def function(ctx: Context) -> str:
            await ctx.step.run("first", body)
            return await ctx.step.run("second", body)

        self.worker = Worker(door, VirtualClock(0), app)

    async def move(self, *kept: int, lost: bool = False) -> None:
        """Share the partitions out anew."""
        assert self.door.tenant
        await self.door.tenant.moving()
        await self.door.tenant.moved(kept, lost=lost)

    def said(self) -> list[type]:
        """Return the kinds of the reports, in their order."""
        return [type(report) for report in self.door.reports]


@asynccontextmanager
async def seated() -> AsyncIterator[ConsumerState]:
    """Have a worker at a door, with its first body at work."""
    seat = ConsumerState(Door())
    serving = asyncio.ensure_future(seat.worker.serve())
    await until(lambda: seat.begun == 1)
    yield seat
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)


async def test_a_body_of_a_partition_that_stays_goes_on() -> None:
    """It is begun once, its run ends here, and its command is dealt with."""
    async with seated() as seat:
        await seat.move(0)
        await until(lambda: seat.door.reports == [RESERVED, RELEASED])
        seat.go_on.set()
        await until(lambda: seat.door.dealt == {(TOPIC, 0): 1})
        assert seat.begun == 2
        assert seat.said()[2:] == [StepReported, StepReported, RunReturned]


async def test_a_body_of_a_partition_that_goes_ends_here_and_the_rest_of_its_run_elsewhere() -> None:
    """The next step is not begun here: the run is let go of, and its command is left to whoever has the partition."""
    async with seated() as seat:
        await seat.move()
        seat.go_on.set()
        await until(lambda: seat.worker.load.cached == 0)
        assert seat.begun == 1
        assert seat.said() == [RunLeased, StepReported, RunLeased]
        assert seat.door.reports[-1] == RELEASED
        assert seat.door.dealt == {}


async def test_what_goes_on_elsewhere_is_reserved_for_as_long_as_its_body_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A reservation ends by itself, in case its worker dies; while the worker lives it is made anew."""
    monkeypatch.setattr(intake, "_RENEW_S", 0.0)
    async with seated() as seat:
        await seat.move()
        await until(lambda: seat.door.reports[:3] == [RESERVED] * 3)
        seat.go_on.set()
        await until(lambda: seat.worker.load.cached == 0)
        count = len(seat.door.reports)
        for _ in range(20):
            await asyncio.sleep(0)
        assert len(seat.door.reports) == count


@pytest.mark.parametrize("error", [LogError("the broker is away"), KeyError("a client that does not know its own")])
async def test_what_could_not_be_reserved_is_reserved_once_more(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others may begin it meanwhile, but the partitions are let go of in order, and the next word is for all."""
    monkeypatch.setattr(intake, "_RENEW_S", 0.0)
    async with seated() as seat:
        append, refused = seat.door.append, list[bytes]()

        async def broken(_routing_key: str, value: bytes) -> None:
            refused.append(value)
            raise error

        seat.door.append = broken  # type: ignore[method-assign]  # The broker is away for a while.
        await seat.move()
        await until(lambda: len(refused) > 2)
        seat.door.append = append  # type: ignore[method-assign]
        await until(lambda: RESERVED in seat.door.reports)
        seat.go_on.set()
        await until(lambda: seat.worker.load.cached == 0)
        assert seat.door.reports[-1] == RELEASED


async def test_a_worker_that_drains_reserves_nothing_for_longer_than_that_may_take(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Were it killed meanwhile, the runs that had moved before would stand for longer than those that it leaves."""
    monkeypatch.setattr(intake, "_RENEW_S", 0.0)
    async with seated() as seat:
        await seat.move()
        draining = asyncio.ensure_future(seat.worker.drain(9_000, 0))
        await until(lambda: seat.door.left)
        count = seat.door.reports.index(RunLeased("run", 1, 9_000))
        await seat.move()
        for _ in range(50):
            await asyncio.sleep(0)
        assert {report.for_ms for report in seat.door.reports[count:]} == {9_000}
        seat.go_on.set()
        await asyncio.wait_for(draining, 5)


async def test_a_partition_that_comes_back_brings_its_run_back_when_the_body_has_ended() -> None:
    """Its command is read again: it is not passed over, nor begun beside the body, but asked for behind it."""
    async with seated() as seat:
        await seat.move()
        seat.door.commands = [seat.door.taken[0]]
        await until(lambda: not seat.door.commands)
        assert seat.begun == 1
        seat.go_on.set()
        await until(lambda: RunClaimed in seat.said())
        assert seat.said() == [RunLeased, StepReported, RunLeased, RunClaimed]
        assert seat.door.dealt == {}
        stopped = encode(RunStopped("run"))
        seat.door.commands = [seat.door.taken[0]._replace(offset=1, value=stopped)]
        await until(lambda: seat.door.dealt == {(TOPIC, 0): 2})


async def test_what_a_worker_had_that_was_given_up_is_stopped() -> None:
    """Others have begun it meanwhile."""
    async with seated() as seat:
        await seat.move(lost=True)
        assert seat.worker.load.cached == 0
        seat.go_on.set()
        await until(lambda: not seat.worker.active)
        assert seat.said() == [RunLeased]


async def test_a_run_without_a_body_at_work_goes_at_once() -> None:
    """Nothing of it would be begun twice."""
    door = Door()
    app = App("shop")
    reached, never = asyncio.Event(), asyncio.Event()

    @app.function(on("go"))
    async def function(ctx: Context) -> None:
        reached.set()
        await never.wait()

    worker = Worker(door, VirtualClock(0), app)
    serving = asyncio.ensure_future(worker.serve())
    await asyncio.wait_for(reached.wait(), 5)
    assert door.tenant
    await door.tenant.moving()
    await door.tenant.moved((), lost=False)
    assert (worker.load.cached, door.reports) == (0, [])
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)


class Gate:
    """A door at which bodies are held back until it is open."""

    def __init__(self, door: Door) -> None:
        self.asked, self.open = asyncio.Event(), asyncio.Event()
        door.hold = self.hold  # type: ignore[method-assign]  # The group is on the move.

    async def hold(self) -> None:
        """Wait."""
        self.asked.set()
        await self.open.wait()


def charging(ran: list[str], *, threaded: bool) -> App:
    """Make an app with one step, in a plain function or another."""
    app = App("shop")

    def plain(ctx: Context) -> None:
        ctx.step.run("charge", lambda: ran.append("charged"))

    async def coroutine(ctx: Context) -> None:
        await ctx.step.run("charge", lambda: ran.append("charged"))

    handler: Any = plain if threaded else coroutine
    app.function(on("go"), id="function")(handler)
    return app


@pytest.mark.parametrize("threaded", [False, True])
@pytest.mark.parametrize("ends", [False, True])
async def test_a_body_that_is_held_back_does_not_begin_when_its_run_has_gone(
    threaded: bool, ends: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its partition went to another worker meanwhile, or its worker ended."""
    monkeypatch.setattr(threads, "RUNS_ACTIVE_MAX", 1)
    door, ran, bodies = Door(), list[str](), Bodies()
    gate = Gate(door)
    worker = Worker(door, VirtualClock(0), charging(ran, threaded=threaded), bodies=bodies)
    serving = asyncio.ensure_future(worker.serve())
    await asyncio.wait_for(gate.asked.wait(), 5)
    if ends:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
    elif door.tenant:
        await door.tenant.moving()
        await door.tenant.moved((), lost=False)
    gate.open.set()
    await until_free(bodies)
    assert ran == []
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)
    bodies.threads.close()


async def test_only_runs_that_rest_leave_the_cache() -> None:
    """The one that has rested the longest goes first; those with code at work stay, however many they are."""
    door = Door()
    names = ["first", "second", "third"]
    door.commands = [
        door.commands[0]._replace(offset=at, value=encode(RunStarted(name, "function", 1, (EventRecord("go"),), 1)))
        for at, name in enumerate(names)
    ]
    app, go_on = App("shop"), {name: asyncio.Event() for name in names}

    @app.function(on("go"))
    async def function(ctx: Context) -> None:
        await ctx.step.run("work", go_on[ctx.run_id].wait)
        await ctx.step.sleep("nap", "1h")

    worker = Worker(door, VirtualClock(0), app, runs_cached_max=1)
    serving = asyncio.ensure_future(worker.serve())

    def cached() -> Callable[[], list[str]]:
        return lambda: sorted(worker._runs)

    await until(lambda: cached()() == ["first", "second", "third"])
    for name in ("second", "first"):
        go_on[name].set()
        await until(lambda: worker.load.in_use == 2 if "second" in worker._resting else True)
    await until(lambda: worker.load.in_use == 1)
    last = encode(RunStarted("last", "function", 1, (EventRecord("go"),), 1))
    go_on["last"] = asyncio.Event()
    door.commands = [door.taken[0]._replace(offset=3, value=last)]
    await until(lambda: cached()() == ["last", "third"])
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)
