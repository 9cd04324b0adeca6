"""`ctx.group` in a plain function: callables that run in parallel, each in a thread, and block the function."""

import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from stepstream import App, Event, NonRetriableError, StepError, ThreadedContext, on
from tests.scenarios.conftest import EngineOf


async def test_parallel_runs_branches_side_by_side(engine_of: EngineOf) -> None:
    """Branches of several steps run in parallel, and their results come in the order of the branches."""
    app = App("threads")
    bodies = Counter[str]()

    def body(name: str) -> str:
        bodies[name] += 1
        return name

    @app.function(on("go"))
    def function(ctx: ThreadedContext) -> list[str]:
        def branch(name: str, hours: int) -> str:
            first = ctx.step.run("first", body, f"first of {name}")
            ctx.step.sleep("nap", f"{hours}h")
            return ctx.step.run("last", body, f"{first}, last")

        found = ctx.group.parallel(lambda: branch("a", 3), lambda: branch("b", 1), lambda: branch("c", 2))
        return [*found, ctx.step.run("after", body, "after")]

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        await engine.advance("179m")
        assert engine.run().status == "running"
        await engine.advance("1m")
        assert engine.run().output == [*(f"first of {name}, last" for name in "abc"), "after"]
        assert engine.run().warnings == ()
    assert set(bodies.values()) == {1}


async def test_race_returns_the_first_and_stops_the_others(engine_of: EngineOf) -> None:
    """The first branch to settle wins; the others end at the step where they wait, and their steps are cancelled."""
    app = App("threads")
    caught: list[BaseException] = []

    @app.function(on("go"))
    def function(ctx: ThreadedContext) -> str:
        def slow() -> str:
            try:
                ctx.step.sleep("slow", "2h")
            except Exception as error:  # noqa: BLE001 - the point of the scenario
                caught.append(error)
            return ctx.step.run("never", lambda: "slow")

        def quick() -> str:
            ctx.step.sleep("quick", "1h")
            return "quick"

        winner = ctx.group.race(slow, quick)
        ctx.step.sleep("after", "2h")
        return winner

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        await engine.advance("4h")
        run = engine.run()
        assert run.output == "quick"
        assert {step.id: step.status for step in run.steps} == {
            "slow": "cancelled",
            "quick": "completed",
            "after": "completed",
        }
    assert caught == []


async def test_an_error_of_a_branch_stops_the_others(engine_of: EngineOf) -> None:
    """The first error is raised in the function, which may catch it and continue."""
    app = App("threads")

    def broken() -> None:
        raise NonRetriableError("no")

    @app.function(on("go"))
    def function(ctx: ThreadedContext) -> str:
        try:
            ctx.group.parallel(lambda: ctx.step.sleep("nap", "7d"), lambda: ctx.step.run("bad", broken))
        except StepError as error:
            return ctx.step.run("after", str, f"{error.step_id}: {error.message}")
        return "never"

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        assert engine.run().output == "bad: no"


async def test_one_branch_runs_at_a_time(engine_of: EngineOf) -> None:
    """Threads of one run do not interleave between steps, so that all replays take the same way."""
    app = App("threads")
    at_once: list[int] = []
    running = threading.Semaphore(0)

    @app.function(on("go"))
    def function(ctx: ThreadedContext) -> list[int]:
        order: list[int] = []

        def branch(number: int) -> int:
            for step in range(3):
                running.release()
                at_once.append(running._value)
                order.append(number)
                running.acquire()
                ctx.step.run(f"{number}.{step}", abs, -number)
            return number

        ctx.group.parallel(*[lambda number=number: branch(number) for number in range(8)])
        ctx.step.sleep("nap", "1s")
        return order

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        await engine.advance("1s")
        order: Any = engine.run().output
        assert sorted(order) == sorted([*range(8)] * 3)
    assert set(at_once) == {1}


async def test_groups_may_be_nested(engine_of: EngineOf) -> None:
    """A branch may run another group."""
    app = App("threads")

    @app.function(on("go"))
    def function(ctx: ThreadedContext) -> list[list[int]]:
        def branch(number: int) -> list[int]:
            return ctx.group.parallel(*(_stepping(ctx, number, part) for part in range(2)))

        return ctx.group.parallel(lambda: branch(1), lambda: branch(2))

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        assert engine.run().output == [[10, 11], [20, 21]]


def _stepping(ctx: ThreadedContext, number: int, part: int) -> Callable[[], int]:
    return lambda: ctx.step.run(f"{number}.{part}", int, 10 * number + part)


async def test_a_result_in_place_of_a_callable_is_a_warning(engine_of: EngineOf) -> None:
    """A step of a plain function blocks, so a group that is given its result has run nothing in parallel."""
    app = App("threads")

    @app.function(on("go"))
    def function(ctx: ThreadedContext) -> list[int]:
        return ctx.group.parallel(ctx.step.run("a", abs, -1), ctx.step.run("b", abs, -2))  # type: ignore[arg-type]

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        run = engine.run()
        assert run.output == [1, 2]
        assert ["ran one after the other" in warning for warning in run.warnings] == [True]


@pytest.mark.parametrize("branches", [0, 65])
async def test_the_number_of_branches_is_bounded(engine_of: EngineOf, branches: int) -> None:
    """A group of no branches is empty; one of more than 64 fails its run, with the remedy."""
    app = App("threads")

    @app.function(on("go"))
    def function(ctx: ThreadedContext) -> list[int]:
        return ctx.group.parallel(*[lambda: 1] * branches)

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        run = engine.run()
        assert (run.output, "split it" in str(run.error)) == (([], False) if branches == 0 else (None, True))
