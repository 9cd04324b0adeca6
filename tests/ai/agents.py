"""A support agent with three tools that it calls at once, and a scripted model that counts its requests."""

from collections import Counter
from collections.abc import Callable
from typing import Any

from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.usage import RequestUsage

from stepstream import App, Context, on
from stepstream.ai.pydantic_ai import Durable

TOOLS = ("orders", "parcels", "prices")


def returns_of(messages: list[ModelMessage]) -> dict[str, Any]:
    """Return what the tools returned, by the ids of their calls."""
    parts = [part for message in messages for part in message.parts]
    return {part.tool_call_id: part.content for part in parts if isinstance(part, ToolReturnPart)}


class Calls:
    """An app with an agent, whose calls of its model and of its tools are counted."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.app = App("support")


class Support(Calls):
    """An agent whose model calls the tools at once and then says what they returned; all calls are counted."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.agent = Agent(FunctionModel(self.answer, model_name="scripted"), name="support")
        for name in TOOLS:
            self.agent.tool_plain(name=name)(self.tool(name))

        @self.app.function(on("mail"), backoff="1s")
        async def support(ctx: Context) -> str:
            result = await self.agent.run("Where is my parcel?", capabilities=[Durable(ctx, **options)])
            return result.output

    def tool(self, name: str) -> Callable[[int], Any]:
        """Return a tool."""

        async def look_up(number: int) -> dict[str, Any]:
            self.calls[name] += 1
            return {"tool": name, "number": number}

        return look_up

    def answer(self, messages: list[ModelMessage], _info: AgentInfo) -> ModelResponse:
        """Answer as a model."""
        self.calls["model"] += 1
        usage = RequestUsage(input_tokens=50, output_tokens=10)
        found = returns_of(messages)
        if not found:
            calls = [ToolCallPart(name, {"number": at}, f"call-{at}") for at, name in enumerate(TOOLS)]
            return ModelResponse(calls, usage=usage)
        said = ", ".join(f"{key}={value['tool']}/{value['number']}" for key, value in sorted(found.items()))
        return ModelResponse([TextPart(said)], usage=usage)


ANSWER = "call-0=orders/0, call-1=parcels/1, call-2=prices/2"
STEPS = ("agent/model 1", *(f"agent/tool/{name}/call-{at}" for at, name in enumerate(TOOLS)), "agent/model 2")
