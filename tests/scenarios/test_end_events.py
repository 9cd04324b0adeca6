"""Every ended run tells so by an event, without recursion."""

from stepstream import App, Context, Event, on
from tests.scenarios.conftest import EngineOf


async def test_every_end_is_told_once_and_without_recursion(engine_of: EngineOf) -> None:
    """Ended runs emit stream/function.finished, failed ones failed too; runs started by these emit none."""
    app = App("failure")
    heard: list[str] = []

    @app.function(on("good"))
    async def good(ctx: Context) -> int:
        return 1

    @app.function(on("bad"), retries=0)
    async def bad(ctx: Context) -> None:
        raise ValueError("no")

    @app.function(on("stream/function.finished"), on("stream/function.failed"))
    async def listener(ctx: Context) -> None:
        heard.append(f"{ctx.event.name}:{ctx.event.data['function_id']}")

    async with engine_of(app) as engine:
        await engine.send(Event("good"), Event("bad"))
    assert sorted(heard) == [
        "stream/function.failed:bad",
        "stream/function.finished:bad",
        "stream/function.finished:good",
    ]
