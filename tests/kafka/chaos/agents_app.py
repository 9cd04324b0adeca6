"""The app of the test of agents: each has three rounds of three parallel tools, and streams what its model says."""

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator
from contextvars import ContextVar
from pathlib import Path

from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ModelResponse, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, DeltaToolCalls, FunctionModel

from stepstream import App, Context, on
from stepstream.ai.pydantic_ai import Durable
from stepstream.sdk.replay.tasks import current_body

ROUNDS = 3
TOOLS = ("orders", "parcels", "prices")
WORDS = 20
# So long takes a word, and a call of a tool, that several processes are killed while an agent runs.
WORD_S, CALL_S = 0.01, 0.1

app = App("agents")
running: ContextVar[str] = ContextVar("running")


def call_noted() -> int:
    """Append to a file which step was called, by which attempt of it and by which process; return the attempt."""
    body = current_body.get()
    assert body is not None
    line = json.dumps([running.get(), body.step, body.attempt, os.getpid(), time.time_ns() // 1_000_000])
    with Path(os.environ["CHAOS_EFFECTS"]).open("a") as file:
        file.write(f"{line}\n")
    return body.attempt


async def answered(messages: list[ModelMessage], _info: AgentInfo) -> AsyncIterator[str | DeltaToolCalls]:
    """Write some words, and call the tools or end; the first attempt of the second request fails half-way."""
    attempt = call_noted()
    made = sum(isinstance(message, ModelResponse) for message in messages)
    for number in range(WORDS):
        yield f"{made}/{number} "
        await asyncio.sleep(WORD_S)
        if (made, attempt, number) == (1, 0, WORDS // 2):
            raise ConnectionError("the connection to the model broke")
    if made < ROUNDS:
        for at, name in enumerate(TOOLS):
            yield {at: DeltaToolCall(name, json.dumps({"number": made}), tool_call_id=f"{name}-{made}")}
    else:
        found = [part for message in messages for part in message.parts if isinstance(part, ToolReturnPart)]
        yield ",".join(sorted(f"{part.tool_call_id}={part.content}" for part in found))


agent = Agent(FunctionModel(stream_function=answered, model_name="scripted"))


def tool(name: str) -> None:
    """Give the agent a tool."""

    @agent.tool_plain(name=name)
    async def look_up(number: int) -> str:
        call_noted()
        await asyncio.sleep(CALL_S)
        return f"{name}/{number}"


for each in TOOLS:
    tool(each)


@app.function(on("agents/go"))
async def support(ctx: Context) -> str:
    """Run the agent."""
    running.set(ctx.run_id)
    model = ctx.step.options(backoff="100ms")
    result = await agent.run("go", capabilities=[Durable(ctx, model=model, stream="tokens")])
    return result.output


@app.function()
async def other(ctx: Context) -> None:
    """Exist: tests wait until two functions are registered."""
