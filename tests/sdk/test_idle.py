"""What idle code waits for: steps and its own tasks suspend a run, external work keeps it in its worker."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

from stepstream import App, Context, Event, on
from stepstream.contract.commands import Open
from stepstream.contract.ids import step_hash
from stepstream.sdk.replay import replay
from stepstream.testing import VirtualEngine
from tests.fakes.waiting import iterate
from tests.sdk.runs import Run, memo

Wait = Callable[[Awaitable[Any]], Awaitable[Any]]
INTERNAL: dict[str, Wait] = {}
EXTERNAL: dict[str, Wait] = {}


def case(cases: dict[str, Wait]) -> Callable[[Wait], Wait]:
    """Register a way to wait for a step, alone or beside something else."""

    def register(wait: Wait) -> Wait:
        cases[wait.__name__] = wait
        return wait

    return register


@case(INTERNAL)
async def the_step(step: Awaitable[Any]) -> None:
    await step


@case(INTERNAL)
async def a_gather(step: Awaitable[Any]) -> None:
    await asyncio.gather(step, asyncio.sleep(0))


@case(INTERNAL)
async def a_gather_of_gathers(step: Awaitable[Any]) -> None:
    await asyncio.gather(asyncio.gather(asyncio.gather(step)), asyncio.sleep(0))


@case(INTERNAL)
async def a_wait(step: Awaitable[Any]) -> None:
    await asyncio.wait([asyncio.ensure_future(step)])


@case(INTERNAL)
async def a_wait_for_gathers(step: Awaitable[Any]) -> None:
    both: list[asyncio.Future[Any]] = [asyncio.gather(asyncio.gather(step)), asyncio.gather(asyncio.sleep(0))]
    await asyncio.wait(both)


@case(INTERNAL)
async def as_completed(step: Awaitable[Any]) -> None:
    for first in asyncio.as_completed([step]):
        await first


@case(INTERNAL)
async def a_task_group(step: Awaitable[Any]) -> None:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_awaiting(step))


@case(INTERNAL)
async def a_task_group_of_anyio(step: Awaitable[Any]) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_awaiting, step)


@case(INTERNAL)
async def a_shield(step: Awaitable[Any]) -> None:
    await asyncio.shield(step)


@case(INTERNAL)
async def a_timeout(step: Awaitable[Any]) -> None:
    async with asyncio.timeout(3_600):
        await step


@case(INTERNAL)
async def a_lock_that_a_task_holds(step: Awaitable[Any]) -> None:
    lock = asyncio.Lock()

    async def hold() -> None:
        async with lock:
            await step

    holder = asyncio.create_task(hold())
    await asyncio.sleep(0)
    async with lock:
        await holder


@case(INTERNAL)
async def an_event_of_a_task(step: Awaitable[Any]) -> None:
    event = asyncio.Event()
    task = asyncio.create_task(_awaiting(step))
    task.add_done_callback(lambda _: event.set())
    await event.wait()


@case(INTERNAL)
async def a_condition_of_a_task(step: Awaitable[Any]) -> None:
    condition = asyncio.Condition()

    async def notify() -> None:
        await step
        async with condition:
            condition.notify()

    async with condition:
        task = asyncio.create_task(notify())
        await condition.wait()
    await task


@case(INTERNAL)
async def a_semaphore_that_a_task_holds(step: Awaitable[Any]) -> None:
    semaphore = asyncio.Semaphore(1)

    async def hold() -> None:
        async with semaphore:
            await step

    holder = asyncio.create_task(hold())
    await asyncio.sleep(0)
    async with semaphore:
        await holder


@case(INTERNAL)
async def a_barrier_of_a_task(step: Awaitable[Any]) -> None:
    barrier = asyncio.Barrier(2)

    async def arrive() -> None:
        await step
        await barrier.wait()

    task = asyncio.create_task(arrive())
    await barrier.wait()
    await task


@case(INTERNAL)
async def a_queue_of_a_task(step: Awaitable[Any]) -> None:
    queue: asyncio.Queue[Any] = asyncio.Queue()

    async def put() -> None:
        queue.put_nowait(await step)

    task = asyncio.create_task(put())
    await queue.get()
    await task


@case(EXTERNAL)
async def a_timer(step: Awaitable[Any]) -> None:
    await asyncio.gather(step, asyncio.wait_for(asyncio.get_running_loop().create_future(), 3_600))


@case(EXTERNAL)
async def a_wait_with_a_timeout(step: Awaitable[Any]) -> None:
    await asyncio.wait([asyncio.ensure_future(step)], timeout=3_600)


@case(EXTERNAL)
async def a_gather_with_a_foreign_future(step: Awaitable[Any]) -> None:
    await asyncio.gather(step, asyncio.get_running_loop().create_future())


@case(EXTERNAL)
async def a_wait_with_a_foreign_future(step: Awaitable[Any]) -> None:
    await asyncio.wait([asyncio.ensure_future(step), asyncio.get_running_loop().create_future()])


@case(EXTERNAL)
async def a_thread(step: Awaitable[Any]) -> None:
    over = threading.Event()
    try:
        await asyncio.gather(step, asyncio.to_thread(over.wait, 20))
    finally:
        over.set()


async def _awaiting(step: Awaitable[Any]) -> Any:
    return await step


def waiting(wait: Wait) -> Callable[[Context], Awaitable[Any]]:
    """Return code that waits for a sleep in the given way."""

    async def code(ctx: Context) -> str:
        await wait(ctx.step.sleep("nap", "1h"))
        return "done"

    return code


@pytest.mark.parametrize("name", INTERNAL)
async def test_code_that_waits_for_its_steps_is_suspended(name: str) -> None:
    """However the code waits for a step, it is suspended at once, and continues with the result."""
    run = await Run(waiting(INTERNAL[name])).start()
    await run.resume(memo("nap", None, seen=1, kind="sleep"))
    assert (run.output, run.detached_count) == ("done", 0)


@pytest.mark.parametrize("name", EXTERNAL)
async def test_code_that_waits_for_external_work_is_not_suspended(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside an open step it is detached after a time, and keeps its worker."""
    monkeypatch.setattr(replay, "DETACH_AFTER_S", 0.0)
    run = Run(waiting(EXTERNAL[name]))
    starting = asyncio.ensure_future(run.start())
    await iterate()
    assert (run.is_suspended, run.detached_count > 0) == (False, True)
    run.replay.abort()
    starting.cancel()
    await iterate()


@pytest.mark.parametrize("live_cache", [True, False])
async def test_a_future_that_another_task_sets(monkeypatch: pytest.MonkeyPatch, live_cache: bool) -> None:
    """A run whose task waits for an unknown future releases its slot after a time, and its open step resumes it."""
    monkeypatch.setattr(replay, "DETACH_AFTER_S", 0.2)
    app = App("shop")

    @app.function(on("go"))
    async def function(ctx: Context) -> list[int]:
        handed = asyncio.get_running_loop().create_future()

        async def give() -> None:
            await ctx.step.sleep("nap", "1h")
            handed.set_result(await ctx.step.run("make", abs, -7))

        async def take() -> int:
            return await ctx.step.run("use", abs, await handed)

        _, used = await asyncio.gather(give(), take())
        return [used]

    async with VirtualEngine(app, live_cache=live_cache) as engine:
        await engine.send(Event("go"))
        assert engine.run().status == "running"
        await engine.advance("1h")
        assert engine.run().output == [7]


async def test_a_run_whose_external_work_has_just_ended_is_not_idle() -> None:
    """Its task continues in the same iteration of the event loop; a detached run would count as idle."""
    external = asyncio.get_running_loop().create_future()

    async def code(_: Context) -> Any:
        return await asyncio.gather(external)

    run = Run(code)
    starting = asyncio.ensure_future(run.start())
    await iterate(5)
    run.replay.activity.look(at_once=True)
    external.set_result(7)
    await starting
    assert (run.output, run.detached_count) == ([7], 0)


async def test_suspended_code_that_continues_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """An external result that comes to a detached run is not lost: the code continues, and its steps are memoized."""
    monkeypatch.setattr(replay, "DETACH_AFTER_S", 0.1)
    app = App("shop")
    outside: list[asyncio.Future[int]] = []
    used = asyncio.Event()

    async def use(number: int) -> int:
        used.set()
        return -number

    @app.function(on("go"))
    async def function(ctx: Context) -> list[int | None]:
        async def listen() -> int:
            outside.append(asyncio.get_running_loop().create_future())
            return await ctx.step.run("use", use, await outside[-1])

        found, _ = await asyncio.gather(listen(), ctx.step.sleep("nap", "1h"))
        return [found]

    async with VirtualEngine(app) as engine:
        await engine.send(Event("go"))
        assert [step.status for step in engine.run().steps] == ["waiting"]
        outside[0].set_result(-7)
        await used.wait()
        await engine.until_idle()
        assert {step.id: step.status for step in engine.run().steps} == {"nap": "waiting", "use": "completed"}
        await engine.advance("1h")
        assert engine.run().output == [7]
        assert len(outside) == 1


async def test_dispatched_step_is_not_missed_behind_the_lock_of_another_run() -> None:
    """Code that waits for a lock on its way to the dispatched step waits on, however often the run is found idle."""
    lock = asyncio.Lock()
    await lock.acquire()

    async def code(ctx: Context) -> int:
        async with lock:
            return await ctx.step.run("charge", abs, -7)

    run = Run(code, opened=[Open(step_hash("charge", 0), ready=True)], dispatched=True)
    starting = asyncio.ensure_future(run.start())
    for _ in range(3):
        run.replay.resume((), (), acknowledged=False)  # Looks again.
        await iterate()
    assert not starting.done()
    lock.release()
    await starting
    assert (run.bodies, run.output) == (["charge"], 7)
