"""Agents of LangChain: errors of requests, prices, what is refused, and what a step stores."""

import importlib
import re
import sys
from collections.abc import Sequence
from typing import Any

import pydantic
import pytest
from langchain.agents import create_agent
from langchain.agents.structured_output import ProviderStrategy, ToolStrategy
from langchain.tools import ToolRuntime
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.tools import BaseTool, tool
from langgraph.types import Command, interrupt

from stepstream import App, Context, Event, on
from stepstream.ai.langchain import Durable
from stepstream.runtime.readmodel.views import RunView
from stepstream.testing import VirtualEngine
from tests.ai.langchain_support import Caller, ScriptedModel, answer_of, message

ASKED = {"messages": [{"role": "user", "content": "go"}]}


class ProviderError(Exception):
    """An error of a client of a provider."""

    def __init__(self, status: int, **headers: str) -> None:
        super().__init__(f"status {status}")
        self.status_code = status
        self.response = type("Response", (), {"headers": headers})


class RetryingModel(ScriptedModel):
    """A model whose client retries."""

    max_retries: int = 2


class Provider:
    """A provider that fails by these errors, one after the other, and then answers."""

    def __init__(self, *errors: Exception, name: str = "gpt-5") -> None:
        self.errors = [*errors]
        self.name = name
        self.requests = 0

    def answer(self, _messages: Sequence[BaseMessage]) -> AIMessage:
        """Answer as a model."""
        self.requests += 1
        if self.errors:
            raise self.errors.pop(0)
        answer = message("hello")
        answer.response_metadata = {"model_name": self.name}
        return answer


async def run_of(model: Any, *tools: BaseTool, **options: Any) -> RunView:
    """Run an agent in a run, whose code is replayed at each step; its output is the last state of the agent."""
    app = App("agents")

    @app.function(on("go"), retries=0)
    async def function(ctx: Context) -> Any:
        durable = Durable(ctx, model=ctx.step.options(retries=3, backoff="1s"))
        agent: Any = create_agent(model, tools, middleware=[durable], **options)
        state = await agent.ainvoke(ASKED)
        await ctx.step.sleep("nap", "1m")
        return repr(state["structured_response"]) if options else state["messages"][-1].text

    async with VirtualEngine(app, live_cache=False) as engine:
        await engine.send(Event("go"))
        await engine.advance("5m")
        return engine.run()


@pytest.mark.parametrize(
    ("errors", "requests", "output"),
    [
        ([ProviderError(500), ProviderError(429)], 3, "hello"),
        ([ProviderError(429, **{"retry-after": "60"})], 2, "hello"),
        ([ConnectionError("no route")], 2, "hello"),
        ([ProviderError(401)], 1, None),
    ],
)
async def test_errors_of_langchain_say_whether_to_retry(
    errors: list[Exception], requests: int, output: str | None
) -> None:
    """A refused request is final, and any other is repeated."""
    provider = Provider(*errors)
    run = await run_of(ScriptedModel(answer=provider.answer))
    assert (run.output, provider.requests) == (output, requests)


async def test_a_step_of_langchain_has_the_price_of_its_model() -> None:
    """It is known by the name of the model that answered."""
    known = await run_of(ScriptedModel(answer=Provider(name="gpt-5").answer))
    unknown = await run_of(ScriptedModel(answer=Provider(name="scripted").answer))
    assert known.usage
    assert 0 < known.usage.cost_usd < 1
    assert unknown.usage
    assert unknown.usage.cost_usd == 0


async def test_a_client_with_retries_is_warned_of() -> None:
    """They multiply with those of the step."""
    with pytest.warns(UserWarning, match="scripted has retries: create it with max_retries=0"):
        await run_of(RetryingModel(answer=Provider().answer))


@tool
async def ask() -> str:
    """Ask a person."""
    return str(interrupt("may I?"))


@tool
async def leave() -> Command[Any]:
    """Leave the agent."""
    return Command(goto="elsewhere")


@pytest.mark.parametrize(
    ("called", "reason"),
    [(ask, r"interrupts the agent, which a step cannot: use approve="), (leave, r"inline=\['leave'\]")],
    ids=["interrupt", "goto"],
)
async def test_tools_that_steer_the_agent_are_refused(called: BaseTool, reason: str) -> None:
    """A step has a result; the message says what to do."""
    run = await run_of(ScriptedModel(answer=lambda _: message("", (called.name, {}, "1"))), called)
    assert re.search(reason, str(run.last_error))


async def test_a_langchain_agent_does_not_run_in_a_thread() -> None:
    """A step is awaited."""
    app = App("agents")

    @app.function(on("go"), retries=0)
    async def function(ctx: Context) -> None:
        agent: Any = create_agent(ScriptedModel(answer=Provider().answer), middleware=[Durable(ctx)])
        agent.invoke(ASKED)

    async with VirtualEngine(app) as engine:
        await engine.send(Event("go"))
        assert "use await agent.ainvoke" in str(engine.run().last_error)


async def test_tokens_of_an_agent_in_a_tool_count() -> None:
    """An agent that a tool runs in its step needs no middleware: the step has its tokens."""
    inner, caller = Caller(), Caller(("consult", {}))

    @tool
    async def consult() -> str:
        """Ask an expert."""
        return await answer_of(create_agent(inner.model))

    run = await run_of(caller.model, consult)
    assert run.output == "['[]']"
    assert run.usage
    assert (run.usage.input_tokens, run.usage.output_tokens) == (150, 30)
    (used,) = [step.usage for step in run.steps if step.id == "agent/tool/consult/call-0"]
    assert used
    assert used.input_tokens == 50
    assert len(inner.requests) == 1


class Ticket(pydantic.BaseModel):
    """What the model answers."""

    team: str


@pytest.mark.parametrize(
    ("format", "answer"),
    [
        (Ticket, message("", ("Ticket", {"team": "billing"}, "1"))),
        (ToolStrategy(Ticket), message("", ("Ticket", {"team": "billing"}, "1"))),
        (ProviderStrategy(Ticket), message('{"team": "billing"}')),
    ],
    ids=["auto", "tool", "text"],
)
async def test_a_structured_answer_of_langchain_survives_replays(format: Any, answer: AIMessage) -> None:
    """The stored answer is the same value of the type as that of the model."""
    run = await run_of(ScriptedModel(answer=lambda _: answer), response_format=format)
    assert run.output == "Ticket(team='billing')"


async def test_a_tool_of_langchain_changes_the_state_of_its_agent() -> None:
    """What it returns as a Command is stored as JSON, with its messages."""

    @tool
    async def note(runtime: ToolRuntime) -> Command[Any]:
        """Note something."""
        return Command(update={"messages": [ToolMessage("noted", tool_call_id=runtime.tool_call_id)]})

    run = await run_of(Caller(("note", {})).model, note)
    assert run.output == "['noted']"


async def test_a_missing_package_of_langchain_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says how to install it."""
    for name in [name for name in sys.modules if name.startswith("stepstream.ai")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "langchain", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'stepstream\[langchain\]'"):
        importlib.import_module("stepstream.ai.langchain")
