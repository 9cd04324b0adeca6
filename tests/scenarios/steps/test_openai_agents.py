"""The run of an agent of the OpenAI Agents SDK is durable: tools in any order, handoffs, approvals, text, errors."""

from typing import Any

import pytest
from agents import Agent, ToolOutputText, function_tool, handoff
from agents.items import ModelResponse
from agents.testing import ModelCall, assistant_message, function_call

from stepstream import App, Context, Event, StepError, on
from stepstream.ai.openai_agents import Approvals, Durable
from tests.ai.agents import ANSWER, STEPS
from tests.ai.openai_support import USAGE, OpenAISupport, answered_by, outputs_of
from tests.scenarios.conftest import EngineOf


class Caller:
    """A model that makes these calls, one request after the other, and then answers with what came back."""

    def __init__(self, *calls: tuple[str, dict[str, Any]]) -> None:
        self.calls = calls
        self.requests: list[ModelCall] = []
        self.model = answered_by(self.answer)

    def answer(self, call: ModelCall) -> ModelResponse:
        """Answer as a model."""
        self.requests.append(call)
        if (at := len(self.requests) - 1) < len(self.calls):
            name, arguments = self.calls[at]
            return ModelResponse([function_call(name, arguments, call_id=f"call-{at}")], USAGE, None)
        return ModelResponse([assistant_message(str([*outputs_of(call).values()]))], USAGE, None)


def agent_app(agent: Agent[Any], **options: Any) -> App:
    """Return an app whose function runs an agent."""
    app = App("agents")

    @app.function(on("go"), backoff="1s", ai_budget=10_000)
    async def function(ctx: Context) -> str:
        result = await Durable(ctx, **options).run(agent, "go")
        await ctx.step.sleep("nap", "1m")
        return str(result.final_output)

    return app


@pytest.mark.log
async def test_parallel_tools_of_openai_agents_have_their_own_results(engine_of: EngineOf) -> None:
    """Each request and each call is made once, in every replay, and the run has the tokens of the model."""
    support = OpenAISupport()
    async with engine_of(support.app) as engine:
        await engine.send(Event("mail"))
        run = engine.run()
        assert run.output == ANSWER
        assert [step.id for step in run.steps] == [*STEPS]
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
async def test_a_tool_of_openai_agents_waits_for_an_approval(
    engine_of: EngineOf, decided: dict[str, Any] | None, said: str
) -> None:
    """A person approves the call or refuses it; a refusal and a missing decision are said to the model."""
    caller, sent = Caller(("refund", {"amount": 5})), list[int]()

    @function_tool(needs_approval=True)
    async def refund(amount: int) -> str:
        sent.append(amount)
        return f"sent {amount}"

    agent = Agent[Any]("support", model=caller.model, tools=[refund])
    async with engine_of(agent_app(agent, approvals=Approvals("1h", ["support"]))) as engine:
        await engine.send(Event("go"))
        if decided:
            await engine.decide("agent/approve/refund/call-0", **decided)
        await engine.advance("2h")
        assert engine.run().output == said
    assert len(caller.requests) == 2
    assert sent == ([5] if decided == {"approved": True} else [])


async def test_agents_hand_over_to_each_other(engine_of: EngineOf) -> None:
    """The requests and tools of the agents that a run is handed over to are steps too."""
    caller, ran = Caller(("transfer_to_billing", {}), ("balance", {}), ("back", {})), list[str]()

    @function_tool
    async def balance() -> ToolOutputText:
        ran.append("balance")
        return ToolOutputText(text="5 EUR")

    billing = Agent[Any]("billing", model=caller.model, tools=[balance])
    front = Agent[Any]("front", model=caller.model, handoffs=[billing])
    billing.handoffs = [handoff(front, tool_name_override="back")]
    async with engine_of(agent_app(front)) as engine:
        await engine.send(Event("go"))
        await engine.advance("1m")
        run = engine.run()
        assert "5 EUR" in str(run.output)
        assert [step.id for step in run.steps] == [
            "agent/model 1",
            "agent/model 2",
            "agent/tool/balance/call-1",
            "agent/model 3",
            "agent/model 4",
            "nap",
        ]
        assert not run.warnings
    assert ran == ["balance"]


async def test_errors_of_tools_are_results_or_are_retried(engine_of: EngineOf) -> None:
    """The model gets the error of a tool as its result; a tool without that is retried, and then fails the agent."""
    caller, ran = Caller(("passed", {}), ("raised", {})), list[str]()

    @function_tool
    async def passed() -> str:
        ran.append("passed")
        raise ValueError("no such order")

    @function_tool(failure_error_function=None)
    async def raised() -> str:
        ran.append("raised")
        raise ConnectionError("the shop is down")

    agent, app = Agent[Any]("support", model=caller.model, tools=[passed, raised]), App("agents")

    @app.function(on("go"))
    async def function(ctx: Context) -> str:
        try:
            await Durable(ctx, tools=ctx.step.options(retries=1, backoff="1s")).run(agent, "go")
        except StepError as error:
            return f"{error.step_id}: {error.message}"
        return ""

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        await engine.advance("10s")
        assert engine.run().output == "agent/tool/raised/call-1: the shop is down"
    assert ran == ["passed", "raised", "raised"]
    assert "An error occurred" in str(outputs_of(caller.requests[1]))


async def test_a_tool_that_uses_steps_is_inline_in_openai_agents(engine_of: EngineOf) -> None:
    """It runs beside the steps, and may run another agent."""
    inner, caller = Caller(("add", {"number": 2})), Caller(("research", {}))
    app, ran = App("agents"), list[int]()

    @function_tool
    async def add(number: int) -> int:
        ran.append(number)
        return number + 1

    researcher = Agent[Any]("researcher", model=inner.model, tools=[add])

    @app.function(on("go"))
    async def function(ctx: Context) -> str:
        @function_tool
        async def research() -> str:
            await ctx.step.sleep("a while", "1h")
            result = await Durable(ctx, name="researcher").run(researcher, "?")
            return str(result.final_output)

        agent = Agent[Any]("support", model=caller.model, tools=[research])
        return str((await Durable(ctx, inline=["research"]).run(agent, "go")).final_output)

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        await engine.advance("1h")
        run = engine.run()
        assert run.output == """["['3']"]"""
        assert "researcher/tool/add/call-0" in [step.id for step in run.steps]
    assert (ran, len(inner.requests), len(caller.requests)) == ([2], 2, 2)


async def test_an_agent_as_a_tool_is_one_step(engine_of: EngineOf) -> None:
    """Its requests are made in the body of that step, which has their tokens."""
    inner, caller = Caller(), Caller(("ask", {"input": "?"}))
    expert = Agent[Any]("expert", model=inner.model)
    agent = Agent[Any]("support", model=caller.model, tools=[expert.as_tool("ask", "Ask an expert.")])
    async with engine_of(agent_app(agent)) as engine:
        await engine.send(Event("go"))
        await engine.advance("1m")
        run = engine.run()
        assert run.output == "['[]']"
        assert [step.id for step in run.steps] == ["agent/model 1", "agent/tool/ask/call-0", "agent/model 2", "nap"]
        usage = run.steps[1].usage
        assert usage
        assert (usage.input_tokens, usage.output_tokens) == (50, 10)
    assert len(inner.requests) == 1


async def test_the_text_of_an_openai_agent_is_streamed(engine_of: EngineOf) -> None:
    """The pieces are published once, while the model writes them, and tokens are counted."""
    caller = Caller()
    async with engine_of(agent_app(Agent[Any]("support", model=caller.model), stream="tokens")) as engine:
        await engine.send(Event("go"))
        await engine.advance("1m")
        run = engine.run()
        assert "".join(await engine.stream(run.run_id, "tokens")) == run.output == "[]"
        assert run.usage
        assert (run.usage.input_tokens, run.usage.output_tokens) == (50, 10)
    assert len(caller.requests) == 1
