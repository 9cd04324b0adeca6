"""The run of an agent is durable: requests, tools in any order, approvals, and what a tool says to the agent."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

import pydantic
import pytest
from pydantic_ai import Agent, ModelRetry, RunContext, ToolReturn
from pydantic_ai.exceptions import ApprovalRequired
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, DeltaToolCalls, FunctionModel

from stepstream import App, Context, Event, on
from stepstream.ai.pydantic_ai import Approvals, Durable
from tests.ai.agents import ANSWER, STEPS, Support, returns_of
from tests.scenarios.conftest import EngineOf


class Caller:
    """A model that makes these calls, one request after the other, and then answers with what came back."""

    def __init__(self, *calls: tuple[str, dict[str, Any]]) -> None:
        self.calls = calls
        self.requests: list[Sequence[ModelMessage]] = []
        self.model = FunctionModel(self.answer, stream_function=self.stream, model_name="scripted")

    def answer(self, messages: list[ModelMessage], _info: AgentInfo) -> ModelResponse:
        """Answer as a model."""
        self.requests.append(messages)
        if (at := len(self.requests) - 1) < len(self.calls):
            return ModelResponse([ToolCallPart(*self.calls[at], f"call-{at}")])
        return ModelResponse([TextPart(str([*returns_of(messages).values()]))])

    async def stream(self, _messages: list[ModelMessage], _info: AgentInfo) -> AsyncIterator[str | DeltaToolCalls]:
        """Answer in pieces."""
        for word in ("It ", "is ", "on ", "its ", "way."):
            yield word


def agent_app(agent: Agent[None, str], **options: Any) -> App:
    """Return an app whose function runs an agent."""
    app = App("agents")

    @app.function(on("go"), backoff="1s")
    async def function(ctx: Context) -> str:
        result = await agent.run("go", capabilities=[Durable(ctx, **options)])
        await ctx.step.sleep("nap", "1m")
        return result.output

    return app


@pytest.mark.log
async def test_parallel_tools_have_their_own_results(engine_of: EngineOf) -> None:
    """Each request and each call is made once, in every replay, and the run has the tokens of the model."""
    support = Support()
    async with engine_of(support.app) as engine:
        await engine.send(Event("mail"))
        run = engine.run()
        assert run.output == ANSWER
        assert [step.id for step in run.steps] == [*STEPS]
        assert not run.warnings
        assert run.usage
        assert (run.usage.input_tokens, run.usage.output_tokens) == (100, 20)
    assert set(support.calls.values()) == {1, 2}
    assert support.calls.total() == 5


async def test_tools_may_end_in_another_order_than_they_were_called(engine_of: EngineOf) -> None:
    """The first call fails at first, so that the others end before it; each result is still that of its call."""
    support = Support()
    tool, failed = support.tool("orders"), list[str]()

    async def orders(number: int) -> dict[str, Any]:
        if not failed:
            failed.append("once")
            raise ConnectionError("the shop is down")
        found: dict[str, Any] = await tool(number)
        return found

    support.agent = Agent(support.agent.model, tools=[orders])
    for name in ("parcels", "prices"):
        support.agent.tool_plain(name=name)(support.tool(name))
    async with engine_of(support.app) as engine:
        await engine.send(Event("mail"))
        await engine.advance("10s")
        run = engine.run()
        assert run.output == ANSWER
        ended = [step.id for step in sorted(run.steps, key=lambda step: step.ended_at)]
        assert ended[-2:] == ["agent/tool/orders/call-0", "agent/model 2"]
    assert support.calls.total() == 5


@pytest.mark.parametrize(
    ("decided", "said"),
    [
        ({"approved": True}, "['sent 5']"),
        ({"approved": False, "comment": "Too much."}, "['tester refused. Too much.']"),
        (None, "['No person decided in time.']"),
    ],
)
async def test_a_tool_waits_for_an_approval(engine_of: EngineOf, decided: dict[str, Any] | None, said: str) -> None:
    """A person approves the call or refuses it; a refusal and a missing decision are said to the model."""
    caller, sent = Caller(("refund", {"amount": 5})), list[int]()
    agent = Agent(caller.model)

    @agent.tool_plain(requires_approval=True)
    async def refund(amount: int) -> str:
        sent.append(amount)
        return f"sent {amount}"

    async with engine_of(agent_app(agent, approvals=Approvals("1h", ["support"]))) as engine:
        await engine.send(Event("go"))
        if decided:
            await engine.decide("agent/approve/refund/call-0", **decided)
        await engine.advance("2h")
        assert engine.run().output == said
    assert len(caller.requests) == 2
    assert sent == ([5] if decided == {"approved": True} else [])


async def test_what_a_tool_says_to_the_agent_is_stored(engine_of: EngineOf) -> None:
    """A request for other arguments, one for an approval, a model and a return with more content are results."""
    caller = Caller(("find", {"name": "x"}), ("find", {"name": "ok"}), ("pay", {}), ("show", {}))
    agent, ran = Agent(caller.model), list[str]()

    class Found(pydantic.BaseModel):
        name: str

    @agent.tool_plain
    async def find(name: str) -> Found:
        ran.append(f"find {name}")
        if name == "x":
            raise ModelRetry("no such name")
        return Found(name=name)

    @agent.tool
    async def pay(ctx: RunContext[object]) -> str:
        ran.append(f"pay {ctx.tool_call_approved}")
        if not ctx.tool_call_approved:
            raise ApprovalRequired
        return "paid"

    @agent.tool_plain
    def show() -> ToolReturn[str]:
        ran.append("show")
        return ToolReturn("shown", content="a picture", metadata={"n": 1})

    async with engine_of(agent_app(agent)) as engine:
        await engine.send(Event("go"))
        await engine.decide("agent/approve/pay/call-2", approved=True)
        await engine.advance("1m")
        run = engine.run()
        assert run.output == "['no such name', {'name': 'ok'}, 'paid', 'shown']"
        assert not run.warnings
    assert ran == ["find x", "find ok", "pay False", "pay True", "show"]


async def test_an_agent_may_run_several_times(engine_of: EngineOf) -> None:
    """The steps of each run of the agent are further uses of their ids, without a warning of changed arguments."""
    support, app = Support(), App("twice")

    @app.function(on("go"))
    async def function(ctx: Context) -> list[str]:
        said = []
        for number in range(2):
            result = await support.agent.run(f"question {number}", capabilities=[Durable(ctx)])
            said.append(result.output)
            await ctx.step.sleep(f"nap {number}", "1m")
        return said

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        await engine.advance("2m")
        run = engine.run()
        assert run.output == [ANSWER, ANSWER]
        assert not run.warnings
    assert support.calls.total() == 10


async def test_a_tool_that_uses_steps_is_inline(engine_of: EngineOf) -> None:
    """It runs beside the steps; without the mark the error of its step has the remedy."""
    inline, wrong = Caller(("wait", {})), Caller(("wait", {}))
    app, ran = App("agents"), list[str]()

    async def run(ctx: Context, caller: Caller, metadata: dict[str, Any] | None = None) -> str:
        agent = Agent(caller.model)

        async def work() -> str:
            ran.append("work")
            return "done"

        @agent.tool_plain(metadata=metadata)
        async def wait() -> str:
            await ctx.step.sleep("a while", "1h")
            return await ctx.step.run("work", work)

        return (await agent.run("go", capabilities=[Durable(ctx)])).output

    @app.function(on("inline"))
    async def inline_(ctx: Context) -> str:
        return await run(ctx, inline, metadata={"stepstream": "inline"})

    @app.function(on("wrong"))
    async def wrong_(ctx: Context) -> str:
        return await run(ctx, wrong)

    async with engine_of(app) as engine:
        await engine.send(Event("inline"), Event("wrong"))
        await engine.advance("1h")
        assert engine.run("inline-").output == "['done']"
        error = engine.run("wrong-").last_error
        assert "is inside the body of step 'agent/tool/wait/call-0'" in str(error["message"])
        assert "@agent.tool(metadata={'stepstream': 'inline'})" in str(error["message"])
    assert ran == ["work"]


async def test_the_text_of_an_agent_is_streamed(engine_of: EngineOf) -> None:
    """The pieces are published once, while the model writes them."""
    caller = Caller()
    async with engine_of(agent_app(Agent(caller.model), stream="tokens")) as engine:
        await engine.send(Event("go"))
        await engine.advance("1m")
        run = engine.run()
        assert run.output == "It is on its way."
        assert await engine.stream(run.run_id, "tokens") == ["It ", "is ", "on ", "its ", "way."]


async def test_events_of_an_agent_come_from_stored_responses(engine_of: EngineOf) -> None:
    """Code that reads the stream of an agent gets each response once it is complete, and in every replay."""
    caller, app, texts = Caller(), App("agents"), list[str]()
    agent = Agent(caller.model)

    @app.function(on("go"))
    async def function(ctx: Context) -> str:
        async with agent.run_stream("go", capabilities=[Durable(ctx)]) as stream:
            output = await stream.get_output()
        await ctx.step.sleep("nap", "1m")
        texts.append(output)
        return output

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        await engine.advance("1m")
        assert engine.run().output == "[]"
    assert len(caller.requests) == 1
