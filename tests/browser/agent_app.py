"""The agent of examples/agent.py, whose model pauses in the middle of its answer until the test writes to a pipe."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from agent import agent, app, script
from pydantic_ai.messages import ModelMessage
from pydantic_ai.models.function import AgentInfo, DeltaToolCalls, FunctionModel

__all__ = ["app"]


async def paused(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str | DeltaToolCalls]:
    """Answer as the script does, but in two parts."""
    async for piece in script(messages, info):
        if piece == "sent ":
            await asyncio.to_thread(Path(__file__).with_name("pipe").read_text)
        yield piece


agent.model = FunctionModel(stream_function=paused, model_name="script")
