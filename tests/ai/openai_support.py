"""The support agent of tests/ai/agents.py with the OpenAI Agents SDK."""

from collections.abc import Mapping
from typing import Any

from agents import Agent, FunctionTool, Usage, function_tool
from agents.items import ModelResponse
from agents.testing import ModelCall, ModelStep, ScriptedModel, assistant_message, function_call

from stepstream import Context, on
from stepstream.ai.openai_agents import Durable
from tests.ai.agents import TOOLS, Calls

USAGE = Usage(requests=1, input_tokens=50, output_tokens=10, total_tokens=60)


def outputs_of(call: ModelCall) -> dict[str, str]:
    """Return what the tools returned, by the ids of their calls."""
    items: list[Mapping[str, Any]] = [item for item in call.input if isinstance(item, Mapping)]
    return {str(item["call_id"]): str(item["output"]) for item in items if item.get("type") == "function_call_output"}


def answered_by(answer: Any) -> ScriptedModel:
    """Return a model that answers each request by a function."""
    return ScriptedModel([ModelStep.respond(answer)] * 100)


class OpenAISupport(Calls):
    """An agent whose model calls the tools at once and then says what they returned; all calls are counted."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        tools = [self.function_tool(name) for name in TOOLS]
        self.agent: Agent[Any] = Agent("support", model=answered_by(self.answer), tools=[*tools])

        @self.app.function(on("mail"), backoff="1s")
        async def support(ctx: Context) -> str:
            result = await Durable(ctx, **options).run(self.agent, "Where is my parcel?")
            return str(result.final_output)

    def function_tool(self, name: str) -> FunctionTool:
        """Return a tool."""

        @function_tool(name_override=name)
        async def look_up(number: int) -> str:
            self.calls[name] += 1
            return f"{name}/{number}"

        return look_up

    def answer(self, call: ModelCall) -> ModelResponse:
        """Answer as a model."""
        self.calls["model"] += 1
        found = outputs_of(call)
        if not found:
            asked = [function_call(name, {"number": at}, call_id=f"call-{at}") for at, name in enumerate(TOOLS)]
            return ModelResponse(asked, USAGE, None)
        said = ", ".join(f"{id}={output}" for id, output in sorted(found.items()))
        return ModelResponse([assistant_message(said)], USAGE, None)
