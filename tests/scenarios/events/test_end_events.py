"""Every run that ends emits events about its end, with ids derived from the run id."""

import pytest

from stepstream import App, Context, Event, NonRetriableError, on
from tests.scenarios.conftest import EngineOf


@pytest.mark.log
async def test_every_end_is_an_event_once_without_recursion(engine_of: EngineOf) -> None:
    """Ended runs emit stream/function.finished, failed ones failed too; runs started by these emit none."""
    app = App("failure")
    received: list[str] = []

    @app.function(on("good"))
    async def good(ctx: Context) -> int:
        return 1

    @app.function(on("bad"), retries=0)
    async def bad(ctx: Context) -> None:
        raise ValueError("no")

    @app.function(on("stream/function.finished"), on("stream/function.failed"))
    async def listener(ctx: Context) -> None:
        received.append(f"{ctx.event.name}:{ctx.event.data['function_id']}")

    async with engine_of(app) as engine:
        await engine.send(Event("good"), Event("bad"))
    assert sorted(received) == [
        "stream/function.failed:bad",
        "stream/function.finished:bad",
        "stream/function.finished:good",
    ]


async def test_ids_of_end_events_are_derived_from_the_run(engine_of: EngineOf) -> None:
    """finished, failed and cancelled have ids derived from the run id, so that repeats are deduplicated."""
    app = App("failure")

    @app.function(on("good"))
    async def good(ctx: Context) -> int:
        return 1

    @app.function(on("bad"), retries=0)
    async def bad(ctx: Context) -> None:
        raise ValueError("no")

    @app.function(on("long"))
    async def long(ctx: Context) -> None:
        await ctx.step.sleep("nap", "1d")

    names = ("stream/function.finished", "stream/function.failed", "stream/function.cancelled")

    @app.function(*[on(name) for name in names])
    async def listener(ctx: Context) -> dict[str, str]:
        data = ctx.event.data
        return {"id": ctx.event.id, "name": ctx.event.name, "run": data["run_id"], "status": data["status"]}

    async with engine_of(app) as engine:
        await engine.send(Event("good"), Event("bad"), Event("long"))
        await engine.cancel(engine.run("long").run_id)
        runs = {run.function: run.run_id for run in engine.runs() if run.function != "listener"}
        received = {
            str(run.output["id"]): run.output for run in engine.runs("listener") if isinstance(run.output, dict)
        }
        expected = {
            f"{runs['good']}:finished": "completed",
            f"{runs['bad']}:finished": "failed",
            f"{runs['bad']}:failed": "failed",
            f"{runs['long']}:finished": "cancelled",
            f"{runs['long']}:cancelled": "cancelled",
        }
        assert {id: received[id]["status"] for id in received} == expected
        assert all(id == f"{data['run']}:{str(data['name']).rpartition('.')[2]}" for id, data in received.items())


async def test_an_end_can_wake_a_waiting_run(engine_of: EngineOf) -> None:
    """A run may wait for the end of another by its event."""
    app = App("failure")

    @app.function(on("job"))
    async def job(ctx: Context) -> int:
        await ctx.step.sleep("work", "1h")
        return 42

    @app.function(on("watch"))
    async def watcher(ctx: Context) -> object:
        ended = await ctx.step.wait_for_event(
            "end", event="stream/function.finished", if_="async.data.function_id == 'job'", timeout="1d"
        )
        return ended.data["result"] if ended else None

    async with engine_of(app) as engine:
        await engine.send(Event("job"), Event("watch"))
        await engine.advance("1h")
        assert engine.run("watcher").output == 42


async def test_events_of_a_failure_say_whether_its_error_forbade_a_retry(engine_of: EngineOf) -> None:
    """So does the event of the failure handler; an error after the last attempt says nothing about a retry."""
    app = App("failure")
    received: list[tuple[str, object]] = []

    async def note(ctx: Context) -> None:
        data = ctx.event.data
        received.append((data["function_id"], data.get("non_retriable")))

    @app.function(on("bad"), retries=0, on_failure=note)
    async def bad(ctx: Context) -> None:
        raise ValueError("no")

    @app.function(on("worse"), on_failure=note)
    async def worse(ctx: Context) -> None:
        raise NonRetriableError("never")

    @app.function(on("stream/function.finished"), on("stream/function.failed"))
    async def listener(ctx: Context) -> None:
        await note(ctx)

    async with engine_of(app) as engine:
        await engine.send(Event("bad"), Event("worse"))
    assert sorted(received, key=str) == [("bad", None)] * 3 + [("worse", True)] * 3
