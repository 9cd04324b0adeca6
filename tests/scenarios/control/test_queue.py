"""A step of a queue runs on the workers of that queue; its memo, attempts and errors are those of any step."""

import asyncio
from collections import Counter
from typing import Any, Literal

import pytest

from stepstream import App, Context, Event, StepError, ThreadedContext, on
from stepstream.contract.history import StepPlanned
from stepstream.contract.inbox import StepReported, decode_inbox
from stepstream.runtime.ports import LogError
from stepstream.testing import Crash
from tests.scenarios.conftest import EngineOf


async def test_a_step_of_a_queue_runs_in_order_and_once(engine_of: EngineOf) -> None:
    """It gets earlier results, later steps get its result, each body runs once, and history has the queue."""
    app = App("shop", queues=["gpu"])
    bodies: list[str] = []

    def note(name: str, *given: object) -> str:
        bodies.append(name)
        return f"{name}({','.join(map(str, given))})"

    @app.function(on("go"))
    async def function(ctx: Context) -> str:
        first = await ctx.step.run("first", note, "first")
        await ctx.step.sleep("nap", "1m")
        there = await ctx.step.options(queue="gpu").run("there", note, "there", first)
        return await ctx.step.run("last", note, "last", there)

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        await engine.advance("1m")
        run = engine.run()
        assert run.output == "last(there(first()))"
        assert [(step.id, step.kind, step.attempts) for step in run.steps] == [
            ("first", "run", 1),
            ("nap", "sleep", 1),
            ("there", "run", 1),
            ("last", "run", 1),
        ]
        planned = [entry for entry in engine.history if isinstance(entry, StepPlanned)]
        assert [(entry.id, entry.detail) for entry in planned] == [("nap", ""), ("there", "queue gpu")]
    assert bodies == ["first", "there", "last"]


async def test_a_step_of_a_queue_is_retried(engine_of: EngineOf) -> None:
    """A failed attempt is repeated after its back-off; the last error is raised in the function."""
    app = App("shop", queues=["gpu"])
    attempts: Counter[str] = Counter()

    async def flaky() -> int:
        attempts["flaky"] += 1
        if attempts["flaky"] < 3:
            raise ValueError("again")
        return attempts["flaky"]

    def broken() -> None:
        attempts["broken"] += 1
        raise ValueError("broken")

    async def slow() -> None:
        attempts["slow"] += 1
        await asyncio.Event().wait()

    @app.function(on("go"), retries=2, backoff="1m")
    async def function(ctx: Context) -> list[object]:
        there = ctx.step.options(queue="gpu")
        found: list[object] = [await there.run("flaky", flaky)]
        for step in (
            there.options(retries=1).run("broken", broken),
            there.options(retries=0, timeout=0.01).run("slow", slow),
        ):
            try:
                await step
            except StepError as error:
                found.append(error.name)
        return found

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        await engine.advance("1h")
        assert engine.run().output == [3, "ValueError", "StepTimeoutError"]
    assert attempts == {"flaky": 3, "broken": 2, "slow": 1}


@pytest.mark.log
async def test_gather_and_race_work_across_queues(engine_of: EngineOf) -> None:
    """All results come in order; the loser of a race is stopped where it runs."""
    app = App("shop", queues=["gpu", "cpu"])
    begun = asyncio.Event()
    stopped: list[str] = []

    async def forever() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            stopped.append("forever")
            raise

    @app.function(on("go"))
    async def function(ctx: Context) -> list[object]:
        gpu, cpu = ctx.step.options(queue="gpu"), ctx.step.options(queue="cpu")
        both = await asyncio.gather(gpu.run("a", lambda: 1), cpu.run("b", lambda: 2), ctx.step.run("c", lambda: 3))
        won = await ctx.group.race(gpu.run("forever", forever), cpu.run("quick", begun.wait))
        return [*both, won, await cpu.run("d", lambda: 4)]

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        assert engine.run().output == [1, 2, 3, True, 4]
    assert stopped == ["forever"]


async def test_a_plain_function_dispatches_steps(engine_of: EngineOf) -> None:
    """The code of a plain function is replayed up to the step and stopped there."""
    app = App("shop", queues=["gpu"])
    after: list[int] = []

    @app.function(on("go"))
    def function(ctx: ThreadedContext) -> int:
        first = ctx.step.run("first", lambda: 1)
        there = ctx.step.options(queue="gpu").run("there", lambda: first + 1)
        after.append(there)
        return there + ctx.step.run("last", lambda: 1)

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        assert engine.run().output == 3
    assert set(after) == {2}


class DyingLog:
    """The log of the queue's worker, which crashes once, before or after its first report of a step is durable."""

    def __init__(self, port: Any, when: str, died: list[str]) -> None:
        self._port = port
        self._when = when
        self._died = died

    def __getattr__(self, name: str) -> Any:
        return getattr(self._port, name)

    async def append(self, routing_key: str, value: bytes) -> None:
        """Append, or crash."""
        is_report = isinstance(decode_inbox(value), StepReported)
        if is_report and self._when == "after":
            await self._port.append(routing_key, value)
        if is_report and not self._died:
            self._died.append(self._when)
            raise LogError("the test asked for it")
        if not is_report or self._when == "before":
            await self._port.append(routing_key, value)


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_crash_of_a_queue_worker_keeps_one_result(engine_of: EngineOf, when: str) -> None:
    """A body whose report was durable does not run again; any other does, and one result is kept."""
    app = App("shop", queues=["gpu"])
    bodies: list[str] = []
    died: list[str] = []

    @app.function(on("go"))
    async def function(ctx: Context) -> str:
        await ctx.step.options(queue="gpu").run("there", lambda: bodies.append("there"))
        return "done"

    def wrap(name: str, port: Any) -> Any:
        return DyingLog(port, when, died) if name == "worker-shop.gpu" else port

    async with engine_of(app, wrap=wrap) as engine:
        await engine.send(Event("go"))
        run = engine.run()
        assert run.output == "done"
        assert [step.id for step in run.steps] == ["there"]
    assert died == [when]
    assert len(bodies) == (2 if when == "before" else 1)


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_crash_of_the_engine_dispatches_a_step_once(
    engine_of: EngineOf, when: Literal["before", "after"]
) -> None:
    """The step is dispatched once, whether the commit of its dispatch was known or not."""
    app = App("shop", queues=["gpu"])
    bodies: list[str] = []

    @app.function(on("go"))
    async def function(ctx: Context) -> str:
        await ctx.step.options(queue="gpu").run("there", lambda: bodies.append("there"))
        return "done"

    async with engine_of(app, crashes=[Crash("engine", when, "there")]) as engine:
        await engine.send(Event("go"))
        assert engine.run().output == "done"
    assert bodies == ["there"]


async def test_a_queue_that_the_app_lacks_is_refused(engine_of: EngineOf) -> None:
    """options(queue=) refuses a name that is not in App(queues=), with the names that are."""
    app = App("shop", queues=["gpu"])

    @app.function(on("go"))
    async def function(ctx: Context) -> None:
        await ctx.step.options(queue="gpq").run("there", lambda: None)

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        error = str(engine.run().error)
        assert "StepUsageError" in error
        assert "queues=['gpq']" in error
        assert "the queues of the app are 'gpu'" in error
