"""The check that compares a run with its replay accepts steps that ask models, and agents."""

from pydantic_ai import Agent
from pydantic_ai.messages import ModelRequest
from pydantic_ai.models.test import TestModel

from stepstream import App, Context, Event, on
from stepstream.ai.pydantic_ai import Durable
from stepstream.testing import VirtualEngine


async def test_times_of_messages_are_no_difference() -> None:
    """Messages that the code makes have other times in a replay; that is neither a difference nor a warning."""
    app, agent = App("ai"), Agent(TestModel())

    @agent.tool_plain
    async def look_up(number: int) -> int:
        return number

    @app.function(on("go"))
    async def function(ctx: Context) -> str:
        said = ""
        for _ in range(2):
            talk = [ModelRequest.user_text_prompt("hello")]
            said += (await ctx.step.ai.infer("ask", model=TestModel(), messages=talk)).output
            said += (await agent.run("go", capabilities=[Durable(ctx)])).output
            await ctx.step.sleep("nap", "1m")
        return said

    async with VirtualEngine(app, replay_check=True, live_cache=False) as engine:
        await engine.send(Event("go"))
        await engine.advance("2m")
        run = engine.run()
        assert run.status == "completed"
        assert not run.warnings
