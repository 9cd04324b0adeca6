"""The run of an agent of LangChain is durable: tools in any order, approvals, text, errors."""

from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.tools import BaseTool, tool

from stepstream import App, Context, Event, StepError, on
from stepstream.ai.langchain import Approvals, Durable
from tests.ai.agents import ANSWER, STEPS
from tests.ai.langchain_support import Caller, LangChainSupport, answer_of, outputs_of
from tests.scenarios.conftest import EngineOf


def agent_app(model: Any, *tools: BaseTool, **options: Any) -> App:
    """Return an app whose function runs an agent."""
    app = App("agents")

    @app.function(on("go"), backoff="1s", ai_budget=10_000)
    async def function(ctx: Context) -> str:
        answer = await answer_of(create_agent(model, tools, middleware=[Durable(ctx, **options)]))
        await ctx.step.sleep("nap", "1m")
        return answer

    return app


@pytest.mark.log
async def test_parallel_tools_of_langchain_have_their_own_results(engine_of: EngineOf) -> None:
    """Each request and each call is made once, in every replay, and the run has the tokens of the model."""
    support = LangChainSupport()
    async with engine_of(support.app) as engine:
        await engine.send(Event("mail"))
        run = engine.run()
        assert run.output == ANSWER
        assert sorted(step.id for step in run.steps) == sorted(STEPS)
        assert not run.warnings
        assert run.usage
        assert (run.usage.input_tokens, run.usage.output_tokens) == (100, 20)
    assert support.calls.total() == 5


@pytest.mark.parametrize(
    ("decided", "said"),
    [
        ({"approved": True}, "['sent 5']"),
        ({"approved": False, "comment": "Too much."}, "['tester refused. Too much.']"),
        (None, "['No person decided in time.']"),
    ],
)
async def test_a_tool_of_langchain_waits_for_an_approval(
    engine_of: EngineOf, decided: dict[str, Any] | None, said: str
) -> None:
    """A person approves the call or refuses it; a refusal and a missing decision are said to the model."""
    caller, sent = Caller(("refund", {"amount": 5})), list[int]()

    @tool
    def refund(amount: int) -> str:
        """Send money back."""
        sent.append(amount)
        return f"sent {amount}"

    app = agent_app(caller.model, refund, approve=["refund"], approvals=Approvals("1h", ["support"]))
    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        if decided:
            await engine.decide("agent/approve/refund/call-0", **decided)
        await engine.advance("2h")
        assert engine.run().output == said
    assert len(caller.requests) == 2
    assert sent == ([5] if decided == {"approved": True} else [])


async def test_a_tool_of_langchain_that_fails_is_retried(engine_of: EngineOf) -> None:
    """Wrong arguments are a result for the model; any other error is that of a step, which fails the agent at last."""
    caller, ran = Caller(("look", {"number": "none"}), ("look", {"number": 1})), list[int]()

    @tool
    async def look(number: int) -> str:
        """Look something up."""
        ran.append(number)
        raise ConnectionError("the shop is down")

    app = App("agents")

    @app.function(on("go"))
    async def function(ctx: Context) -> str:
        durable = Durable(ctx, tools=ctx.step.options(retries=1, backoff="1s"))
        try:
            return await answer_of(create_agent(caller.model, [look], middleware=[durable]))
        except StepError as error:
            return f"{error.step_id}: {error.message}"

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        await engine.advance("10s")
        assert engine.run().output == "agent/tool/look/call-1: the shop is down"
    assert ran == [1, 1]
    assert "should be a valid integer" in str(outputs_of(caller.requests[1]))


async def test_a_tool_that_uses_steps_is_inline_in_langchain(engine_of: EngineOf) -> None:
    """It runs beside the steps, and may run another agent."""
    inner, caller = Caller(("add", {"number": 2})), Caller(("research", {}))
    app, ran = App("agents"), list[int]()

    @tool
    async def add(number: int) -> int:
        """Add one."""
        ran.append(number)
        return number + 1

    @app.function(on("go"))
    async def function(ctx: Context) -> str:
        researcher = create_agent(inner.model, [add], middleware=[Durable(ctx, name="researcher")])

        @tool
        async def research() -> str:
            """Ask a researcher."""
            await ctx.step.sleep("a while", "1h")
            return await answer_of(researcher)

        return await answer_of(create_agent(caller.model, [research], middleware=[Durable(ctx, inline=["research"])]))

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        await engine.advance("1h")
        run = engine.run()
        assert run.output == """["['3']"]"""
        assert "researcher/tool/add/call-0" in [step.id for step in run.steps]
    assert (ran, len(inner.requests), len(caller.requests)) == ([2], 2, 2)


async def test_the_text_of_a_langchain_agent_is_streamed(engine_of: EngineOf) -> None:
    """The pieces are published once, while the model writes them, and tokens are counted."""
    caller = Caller(("look", {}))

    @tool
    async def look() -> str:
        """Look something up."""
        return "here it is"

    async with engine_of(agent_app(caller.model, look, stream="tokens")) as engine:
        await engine.send(Event("go"))
        await engine.advance("1m")
        run = engine.run()
        pieces = await engine.stream(run.run_id, "tokens")
        assert "".join(pieces) == "['here it is'] "
        assert run.output == "['here it is'] "
        assert len(pieces) > 1
    assert len(caller.requests) == 2
