"""The support agent of tests/ai/agents.py with LangChain."""

import asyncio
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from langchain.agents import create_agent
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, ToolCallChunk, ToolMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.tools import BaseTool, StructuredTool

from stepstream import Context, on
from stepstream.ai.langchain import Durable
from tests.ai.agents import TOOLS, Calls

USAGE = UsageMetadata(input_tokens=50, output_tokens=10, total_tokens=60)


class ScriptedModel(GenericFakeChatModel):
    """A fake of LangChain that answers each request by a function, and knows the tools anyway."""

    messages: Any = ()
    answer: Callable[[Sequence[BaseMessage]], AIMessage]
    model_name: str = "scripted"

    def _generate(self, messages: list[BaseMessage], *_: Any, **__: Any) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=self.answer(messages))])

    def _stream(self, messages: list[BaseMessage], *_: Any, **__: Any) -> Iterator[ChatGenerationChunk]:
        answer = self.answer(messages)
        for word in answer.text.split(" ") if answer.text else ():
            yield ChatGenerationChunk(message=AIMessageChunk(content=f"{word} "))
        calls = [
            ToolCallChunk(name=call["name"], args=json.dumps(call["args"]), id=call["id"], index=at)
            for at, call in enumerate(answer.tool_calls)
        ]
        yield ChatGenerationChunk(message=AIMessageChunk(content="", tool_call_chunks=calls, usage_metadata=USAGE))

    def bind_tools(self, *_: Any, **options: Any) -> Any:
        """Return the model itself, with its settings."""
        options.pop("tool_choice", None)
        return self.bind(**options)


def outputs_of(messages: Sequence[BaseMessage]) -> dict[str, str]:
    """Return what the tools returned, by the ids of their calls."""
    return {message.tool_call_id: message.text for message in messages if isinstance(message, ToolMessage)}


def message(text: str, *calls: tuple[str, dict[str, Any], str]) -> AIMessage:
    """Return an answer: its text, and the calls of tools by name, arguments and id."""
    asked = [{"name": name, "args": args, "id": id, "type": "tool_call"} for name, args, id in calls]
    return AIMessage(text, tool_calls=asked, usage_metadata=USAGE)


class Caller:
    """A model that makes these calls, one request after the other, and then answers with what came back."""

    def __init__(self, *calls: tuple[str, dict[str, Any]]) -> None:
        self.calls = calls
        self.requests: list[Sequence[BaseMessage]] = []
        self.model = ScriptedModel(answer=self.answer)

    def answer(self, messages: Sequence[BaseMessage]) -> AIMessage:
        """Answer as a model."""
        self.requests.append(messages)
        if (at := len(self.requests) - 1) < len(self.calls):
            name, arguments = self.calls[at]
            return message("", (name, arguments, f"call-{at}"))
        return message(str([*outputs_of(messages).values()]))


async def answer_of(agent: Any, text: str = "go") -> str:
    """Run an agent; return its last message."""
    state = await agent.ainvoke({"messages": [{"role": "user", "content": text}]})
    return str(state["messages"][-1].text)


class LangChainSupport(Calls):
    """An agent whose model calls the tools at once and then says what they returned; all calls are counted."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.all_called = asyncio.Event()
        model, tools = ScriptedModel(answer=self.answer), [self.tool(name) for name in TOOLS]

        @self.app.function(on("mail"), backoff="1s")
        async def support(ctx: Context) -> str:
            return await answer_of(create_agent(model, tools, middleware=[Durable(ctx, **options)]))

    def tool(self, name: str) -> BaseTool:
        """Return a tool."""

        async def look_up(number: int) -> str:
            self.calls[name] += 1
            # LangChain does something in another thread before it calls middleware, so tools are called in any order.
            if {*TOOLS} <= {*self.calls}:
                asyncio.get_running_loop().call_soon(self.all_called.set)
            await self.all_called.wait()
            return f"{name}/{number}"

        return StructuredTool.from_function(coroutine=look_up, name=name, description="Look something up.")

    def answer(self, messages: Sequence[BaseMessage]) -> AIMessage:
        """Answer as a model."""
        self.calls["model"] += 1
        found = outputs_of(messages)
        if not found:
            return message("", *((name, {"number": at}, f"call-{at}") for at, name in enumerate(TOOLS)))
        return message(", ".join(f"{id}={output}" for id, output in sorted(found.items())))
