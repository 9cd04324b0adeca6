"""The events of durable agents of Pydantic AI for its encoders of front ends, such as Vercel AI and AG-UI."""

import json
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from typing import Any, Protocol

from stepstream.ai.extras import require

require("pydantic_ai", "Pydantic AI", "ai")

from pydantic_ai.messages import (
    AgentStreamEvent,
    FunctionToolCallEvent,
    FunctionToolResultEvent,
    PartDeltaEvent,
    PartEndEvent,
    PartStartEvent,
)

from stepstream.contract.errors import StepstreamError
from stepstream.sdk.deferred import converter_of


class RunNotCompleted(StepstreamError):
    """The run of an agent ended without a result: it failed, or it was cancelled."""

    code = "run-not-completed"


class AgentMessages(Protocol):
    """A live stream of events: `StreamClient(…).run(run_id, "events")`."""

    status: str

    def __aiter__(self) -> AsyncIterator[Any]:
        """Yield messages until the run has ended."""


@dataclass(slots=True)
class _OpenPart:
    """The part of a response that a model is writing."""

    index: int
    part: Any


async def agent_events(messages: AgentMessages) -> AsyncGenerator[AgentStreamEvent, None]:
    """Yield the events that `Durable(ctx, events="…")` publishes, for `transform_stream` of an encoder.

    Each call of a tool and each result is yielded once. The protocols cannot take back text: if an attempt fails while
    the model writes, the part ends where it was, and that of the next attempt follows. Raises `RunNotCompleted` at the
    end of a run that failed or was cancelled, which encoders send as an error; and what the stream raises.

    Example:
        ```python
        from pydantic_ai.ui.vercel_ai import VercelAIEventStream


        @web.post("/chat/{run_id}")
        async def chat(run_id: str) -> StreamingResponse:
            encoder = VercelAIEventStream(sdk_version=6)
            events = agent_events(client.run(run_id, "events"))
            return encoder.streaming_response(encoder.transform_stream(events))
        ```
    """
    written: _OpenPart | None = None
    seen: set[tuple[type, str]] = set()
    async for message in messages:
        event = _event(message.data)
        match event:
            case PartStartEvent(index=index, part=part):
                if written is not None:
                    yield PartEndEvent(index=written.index, part=written.part)
                written = _OpenPart(index, part)
            case PartDeltaEvent(delta=delta) if written is not None:
                written.part = delta.apply(written.part)
            case PartEndEvent():
                written = None
            case FunctionToolCallEvent() | FunctionToolResultEvent():
                key = (type(event), event.part.tool_call_id)
                if key in seen:
                    continue
                seen.add(key)
        yield event
    if messages.status != "completed":
        raise RunNotCompleted(f"the run of the agent ended as {messages.status}")


def _event(data: Any) -> AgentStreamEvent:
    event: AgentStreamEvent = converter_of(AgentStreamEvent).validate_json(json.dumps(data).encode())
    return event
