"""Steps of one id that asyncio starts in the order of a set: each item is processed once, in every replay."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable

from stepstream import App, Context, Event, on
from tests.scenarios.conftest import EngineOf

ITEMS = range(12)
Start = Callable[[Context, Callable[[int], int]], Iterable[Awaitable[int]]]


def app_of(start: Start, processed: Counter[int]) -> App:
    """Make an app whose function awaits what `start` returns as it completes; every other item fails once."""
    app, attempts = App("items"), Counter[int]()
    kept: list[bytearray] = []

    def process(item: int) -> int:
        attempts[item] += 1
        if attempts[item] == 1 and item % 2:
            raise ValueError("flaky")
        processed[item] += 1
        return item

    @app.function(on("go"), backoff="1s")
    async def function(ctx: Context) -> list[int]:
        kept.extend(bytearray(number * 97) for number in range(len(kept) + 7))  # Objects get other addresses each time.
        return sorted([await item for item in asyncio.as_completed(start(ctx, process))])

    return app


async def process_all(engine_of: EngineOf, start: Start) -> tuple[str, object, Counter[int]]:
    """Return the status, the output or the error of a run, and how often each item was processed."""
    processed = Counter[int]()
    async with engine_of(app_of(start, processed)) as engine:
        await engine.send(Event("go"))
        await engine.advance("1h")
        run = engine.run()
        return run.status, run.error or run.output, processed


ONCE = ("completed", list(ITEMS), Counter(ITEMS))


async def test_as_completed_over_steps_of_one_id(engine_of: EngineOf) -> None:
    """A step has its identity from the moment when the code calls it, in whatever order the steps are started."""
    assert await process_all(engine_of, lambda ctx, body: [ctx.step.run("item", body, n) for n in ITEMS]) == ONCE


async def test_as_completed_over_tasks_of_one_id(engine_of: EngineOf) -> None:
    """Tasks that the code creates in order start in this order."""

    def start(ctx: Context, body: Callable[[int], int]) -> list[asyncio.Task[int]]:
        async def process(item: int) -> int:
            return await ctx.step.run("item", body, item)

        return [asyncio.create_task(process(item)) for item in ITEMS]

    assert await process_all(engine_of, start) == ONCE


async def test_as_completed_over_coroutines_of_one_id_is_refused(engine_of: EngineOf) -> None:
    """asyncio starts them in the order of their addresses: the run fails before any item is processed."""

    def start(ctx: Context, body: Callable[[int], int]) -> list[Awaitable[int]]:
        async def process(item: int) -> int:
            return await ctx.step.run("item", body, item)

        return [process(item) for item in ITEMS]

    status, error, processed = await process_all(engine_of, start)
    assert (status, processed) == ("failed", Counter())
    assert "step 'item' is used by several coroutines of one asyncio.as_completed" in str(error)


async def test_as_completed_over_coroutines_with_different_ids(engine_of: EngineOf) -> None:
    """Where each coroutine has its own ids, the order in which they start does not matter."""

    def start(ctx: Context, body: Callable[[int], int]) -> list[Awaitable[int]]:
        async def process(item: int) -> int:
            same = [ctx.step.run(f"check {item}", abs, item) for _ in range(2)]
            await asyncio.gather(*same)
            return await ctx.step.run(f"item {item}", body, item)

        return [process(item) for item in ITEMS]

    assert await process_all(engine_of, start) == ONCE


async def test_a_set_of_tasks_has_one_order_in_all_replays(engine_of: EngineOf) -> None:
    """Code that iterates over the set of finished tasks goes the same way in every replay."""
    app, orders = App("items"), set[tuple[str, ...]]()
    kept: list[bytearray] = []

    @app.function(on("go"))
    async def function(ctx: Context) -> list[str]:
        kept.extend(bytearray(number * 97) for number in range(len(kept) + 7))
        done, _ = await asyncio.wait([asyncio.create_task(ctx.step.run(name, str, name)) for name in "abcdefgh"])
        names = [task.result() for task in done]
        orders.add(tuple(names))
        used = [await ctx.step.run("use", str, name) for name in names]
        await ctx.step.sleep("nap", "1s")
        return used

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        await engine.advance("1s")
        (order,) = orders
        assert engine.run().output == list(order)
        assert sorted(order) == list("abcdefgh")


async def test_a_set_of_coroutines_mixes_up_no_results(engine_of: EngineOf) -> None:
    """A set of coroutines has another order in each replay: then the run waits, and no item is processed twice."""
    app, processed = App("items"), Counter[int]()
    reverse = iter([False, *[True] * 1_000])

    async def process(ctx: Context, item: int) -> int:
        def body() -> int:
            processed[item] += 1
            if processed[item] == 1 and item % 2:
                raise ValueError("flaky")
            return item

        return await ctx.step.run("item", body)

    @app.function(on("go"), backoff="1s")
    async def function(ctx: Context) -> int:
        # A set iterates in the order of addresses, which may be the same by chance; here each replay has another one.
        items = sorted(ITEMS, reverse=next(reverse))
        return sum(await asyncio.gather(*[process(ctx, item) for item in items]))

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        await engine.advance("10m")
        run = engine.run()
        if run.status == "completed":  # The code stayed in memory, so that there was no replay.
            assert (run.output, run.warnings) == (sum(ITEMS), ())
            assert processed == Counter({item: 1 + item % 2 for item in ITEMS})
        else:
            assert "steps with the id 'item' are called in another order than before" in run.warnings[0]
            assert processed == Counter(ITEMS)
