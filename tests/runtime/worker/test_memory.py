"""The memory budget of a process: what its workers hold, and what they leave until some of it is released."""

import asyncio
import contextvars
import gc
import threading
import weakref
from typing import Any

import pytest

from stepstream import App, Context, ThreadedContext, on
from stepstream.contract.codec import Raw
from stepstream.contract.commands import Memo, RunLoaded, RunResumed, RunStopped
from stepstream.contract.ids import step_hash
from stepstream.contract.inbox import RunClaimed, RunReturned, StepReported
from stepstream.contract.kinds import StepKind
from stepstream.contract.outcomes import Value
from stepstream.runtime.ports import LogError
from stepstream.runtime.worker.memory import MemoryBudget
from tests.fakes.waiting import iterate, until
from tests.runtime.worker.harness import EVENTS, PoolHarness, dispatched, served, started

KIB = 1024
RUNS, STEPS = 12, 4


def gathering(size: int, running: list[int]) -> App:
    """Return an app whose runs gather four results of this size, and note how many bodies run at the same time."""
    app = App("shop")

    async def body() -> str:
        running.append(running[-1] + 1)
        await iterate(5)
        running.append(running[-1] - 1)
        return "x" * size

    @app.function(on("go"))
    async def function(ctx: Context) -> int:
        return len(await asyncio.gather(*(ctx.step.run(f"step-{number}", body) for number in range(STEPS))))

    return app


@pytest.mark.parametrize("mib", [0, 1])
async def test_large_results_stay_near_the_budget(mib: int) -> None:
    """Twelve runs with four results of 100 KiB each all end, however small the budget is, and then nothing is held."""
    memory, running = MemoryBudget(mib * KIB * KIB + 1), [0]
    most = [0]
    memory_add = memory.add

    def add(size: int) -> None:
        memory_add(size)
        most.append(memory.used)

    memory.add = add  # type: ignore[method-assign]
    async with served(gathering(100 * KIB, running), memory=memory) as harness:
        # Until one has ended, nothing is known of the results.
        harness.log.give(started("first"))
        await until(lambda: harness.log.reports_of(RunReturned))
        harness.log.give(*(started(f"run-{number}") for number in range(1, RUNS)))
        await until(lambda: len(harness.log.reports_of(RunReturned)) == RUNS)
        await harness.settle()
    assert memory.used == 0
    # Unbounded, it would be 48 results and their reports: 9 MiB. The last run to start needs its results.
    assert max(most) < (mib + 1) * KIB * KIB
    assert max(running) < RUNS * STEPS


async def test_a_full_budget_takes_no_commands() -> None:
    """While a run holds more than the budget, no other starts; when it has ended, they do."""
    app, finish, memory = App("shop"), asyncio.Event(), MemoryBudget(KIB)

    @app.function(on("go"))
    async def function(ctx: Context) -> None:
        await ctx.step.run("work", finish.wait)

    async with served(app, memory=memory) as harness:
        memo = Memo(step_hash("old", 0), "old", StepKind.RUN, Value(Raw(b'"' + b"x" * 2 * KIB + b'"')), 1)
        harness.log.fresh_from = 1
        await harness.give(started("large"))
        (claim,) = harness.log.reports_of(RunClaimed)
        await harness.give(RunLoaded("large", "function", 2, EVENTS, 1, claim.claim, memos=(memo,)))
        assert (memory.is_full, harness.worker.load.in_use) == (True, 1)
        harness.log.give(started("other"))
        await iterate()
        assert harness.log.unread
        finish.set()
        await until(lambda: len(harness.log.reports_of(RunReturned)) == 2)
    assert memory.used == 0


async def test_a_full_budget_evicts_runs_that_wait() -> None:
    """The run that waits the longest leaves the memory, and is loaded again when its step ends."""
    app, memory = App("shop"), MemoryBudget(10 * KIB)

    async def large() -> str:
        return "x" * 4 * KIB

    @app.function(on("go"))
    async def function(ctx: Context) -> None:
        await ctx.step.run("large", large)
        await ctx.step.sleep("nap", "1h")

    async with served(app, memory=memory) as harness:
        for name in ("first", "second", "third"):
            await harness.give(started(name))
        assert sorted(map(str, harness.worker._items)) == ["second", "third"]
        await harness.give(RunResumed("first", 1, (Memo(step_hash("nap", 0), "nap", StepKind.SLEEP, Value(), 1),)))
        assert [claim.run_id for claim in harness.log.reports_of(RunClaimed)] == ["first"]


def test_listener_does_not_see_the_context_of_a_run() -> None:
    """The code that a worker starts when a run releases memory must not inherit the context variables of that run."""
    memory, seen = MemoryBudget(KIB), list[str]()
    current = contextvars.ContextVar("current", default="")
    memory.on_room(lambda: seen.append(current.get()))

    def release() -> None:
        current.set("a run")
        memory.add(KIB)
        memory.remove(KIB)

    contextvars.copy_context().run(release)
    assert seen == [""]


async def test_a_lost_report_releases_its_memory() -> None:
    """The next worker of the process has the same budget."""
    app, memory = gathering(KIB, [0]), MemoryBudget()
    async with served(app, memory=memory) as harness:
        harness.log.calls.fail("append", LogError("the broker is away"))
        harness.log.give(started("run"))
        await until(lambda: harness.log.closed)
        await iterate()
    assert memory.used == 0


async def test_result_of_a_stopped_run_is_not_held() -> None:
    """A run is cancelled while a body runs in a thread: what the body returns later is not counted."""
    app, memory = App("shop"), MemoryBudget()
    running, finish = threading.Event(), threading.Event()

    def body() -> str:
        running.set()
        finish.wait(10)
        return "x" * KIB

    @app.function(on("go"))
    def function(ctx: ThreadedContext) -> None:
        ctx.step.run("work", body)

    async with served(app, memory=memory) as harness:
        await harness.give(started())
        await until(running.is_set)
        await harness.give(RunStopped("run", "cancelled"))
        finish.set()
        await until(lambda: not harness.worker.load.bodies)
        await iterate()
        assert memory.used == 0


async def test_a_step_of_a_queue_is_counted_until_it_ends() -> None:
    """What dispatched it has the events and results of its run."""
    memory = MemoryBudget()
    async with PoolHarness(memory=memory) as harness:
        harness.log.give(dispatched())
        await until(lambda: harness.bodies)
        assert memory.used > 0
        harness.finish.set()
        await until(lambda: harness.results)
        await iterate()
        assert memory.used == 0


async def test_bodies_that_hang_delay_others_by_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a full budget one body starts at a time, but a body may take hours."""
    monkeypatch.setattr("stepstream.runtime.worker.memory._BODY_WAIT_S_MAX", 0.01)
    memory, inside = MemoryBudget(1), list[int]()
    memory.add(1)

    async def body(number: int) -> None:
        async with memory.body("function"):
            inside.append(number)
            await asyncio.get_running_loop().create_future()

    bodies = [asyncio.ensure_future(body(number)) for number in range(3)]
    await iterate(3)
    assert inside == [0]
    bodies[1].cancel()
    await until(lambda: inside == [0, 2])
    for each in bodies:
        each.cancel()
    await asyncio.gather(*bodies, return_exceptions=True)
    async with memory.body("function"):
        pass


async def test_bytes_that_a_body_holds_count_before_it_starts() -> None:
    """A body that holds much, such as a call with the results of its run, waits for others to end."""
    memory, inside = MemoryBudget(1_000), list[int]()
    memory.learn("function", 10)

    async def body(number: int) -> None:
        async with memory.body("function", 600):
            inside.append(number)
            await asyncio.get_running_loop().create_future()

    bodies = [asyncio.ensure_future(body(number)) for number in range(3)]
    await iterate(3)
    assert inside == [0, 1]
    bodies[0].cancel()
    await until(lambda: inside == [0, 1, 2])
    for each in bodies:
        each.cancel()
    await asyncio.gather(*bodies, return_exceptions=True)


class Result(dict[str, Any]):
    """A result that can be weakly referenced."""


async def test_results_are_freed_with_their_run() -> None:
    """No cycle of references keeps the results of an ended run in memory until Python looks for cycles."""
    app, refs = App("shop"), list[weakref.ref[Any]]()

    @app.function(on("go"))
    async def function(ctx: Context) -> int:
        async def large(number: int) -> Result:
            await ctx.step.run(f"step-{number}", lambda: {"n": 1})
            result = Result()
            refs.append(weakref.ref(result))
            return result

        return len(await asyncio.gather(*map(large, range(3))))

    gc.collect()
    gc.disable()
    try:
        async with served(app) as harness:
            await harness.give(started())
            await until(lambda: harness.log.reports_of(RunReturned))
            await harness.settle()
            assert len(harness.log.reports_of(StepReported)) == 3
            assert [ref() for ref in refs] == [None] * 3
    finally:
        gc.enable()
