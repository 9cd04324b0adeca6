"""What code publishes reaches the log once and in order; clients see no message of a failed attempt."""

import pytest

from stepstream import App, Context, Event, ThreadedContext, on
from stepstream.contract.ids import step_hash
from stepstream.contract.live import run_stream
from tests.scenarios.conftest import EngineOf

pytestmark = pytest.mark.log


def publishing_app(attempts: list[int]) -> App:
    """Return an app that publishes between steps, in bodies, in a queue and as a step."""
    app = App("publishing", queues=["gpu"])

    @app.function(on("go"))
    async def function(ctx: Context) -> None:
        async def answer() -> None:
            attempts.append(len(attempts))
            for token in range(3):
                await ctx.publish("tokens", f"{attempts[-1]}.{token}")
                if attempts[-1] == 0 and token == 1:
                    raise ValueError("once")

        def render() -> None:
            # In a thread, it blocks.
            ctx.publish("tokens", "rendered")

        await ctx.publish("state", "begins")
        await ctx.step.options(backoff="1s").run("answer", answer)
        await ctx.publish("state", "answered")
        await ctx.step.options(queue="gpu").run("render", render)
        await ctx.step.sleep("nap", "1h")
        await ctx.step.publish("announce", "orders", {"order": 7}, shared=True)
        await ctx.publish("state", "ends")

    return app


async def test_messages_are_published_once_and_in_order(engine_of: EngineOf) -> None:
    """Code between steps is not sent again by a replay, and each message names its step, attempt and number."""
    async with engine_of(publishing_app([])) as engine:
        await engine.send(Event("go"))
        await engine.advance("2h")
        run = engine.run()
        assert run.status == "completed"
        sent = await engine.published(run_stream(run.run_id))
        assert [(each.step_id, each.attempt, each.number, bytes(each.data)) for each in sent] == [
            ("", 0, 0, b'"begins"'),
            ("answer", 0, 0, b'"0.0"'),
            ("answer", 0, 1, b'"0.1"'),
            ("answer", 1, 0, b'"1.0"'),
            ("answer", 1, 1, b'"1.1"'),
            ("answer", 1, 2, b'"1.2"'),
            ("", 0, 1, b'"answered"'),
            ("render", 0, 0, b'"rendered"'),
            ("", 0, 2, b'"ends"'),
        ]
        assert {each.step for each in sent} == {"", step_hash("answer", 0), step_hash("render", 0)}
        assert await engine.stream(run.run_id, "tokens") == ["1.0", "1.1", "1.2", "rendered"]
        assert await engine.stream(run.run_id, "state") == ["begins", "answered", "ends"]
        assert await engine.shared_stream("orders") == [{"order": 7}]


async def test_plain_functions_publish(engine_of: EngineOf) -> None:
    """A plain function publishes between its steps and in their bodies, and blocks until it has."""
    app = App("plain")

    @app.function(on("go"))
    def function(ctx: ThreadedContext) -> None:
        async def body() -> None:
            await ctx.publish("a", 2)

        ctx.publish("a", 1)
        ctx.step.run("body", body)
        ctx.step.sleep("nap", "1h")
        ctx.step.publish("step", "a", 3)
        ctx.publish("a", 4)

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        await engine.advance("2h")
        run = engine.run()
        assert run.status == "completed"
        assert [bytes(each.data) for each in await engine.published(run_stream(run.run_id))] == [b"1", b"2", b"3", b"4"]
