"""Durable agents of Pydantic AI: their requests to models, calls of tools and approvals are steps of a run."""

import asyncio
import functools
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from stepstream.ai.extras import require

require("pydantic_ai", "Pydantic AI", "ai")

from pydantic_ai.capabilities import AbstractCapability, CapabilityOrdering
from pydantic_ai.exceptions import ApprovalRequired, CallDeferred, ModelAPIError, ModelRetry, ToolFailed, UserError
from pydantic_ai.messages import (
    FunctionToolCallEvent,
    FunctionToolResultEvent,
    ModelMessage,
    ModelResponse,
    ToolCallPart,
    ToolReturn,
    ToolReturnPart,
)
from pydantic_ai.models import CompletedStreamedResponse, Model, ModelRequestParameters, StreamedResponse
from pydantic_ai.models.wrapper import WrapperModel
from pydantic_ai.settings import ModelSettings
from pydantic_ai.tools import DeferredToolRequests, DeferredToolResults, RunContext, ToolApproved, ToolDenied
from pydantic_ai.toolsets import AbstractToolset, ToolsetTool, WrapperToolset

from stepstream.ai.approvals import Approvals, ToolRequest, refusal_of
from stepstream.ai.requests import answer_of, raise_for_step, streamed, text_of, with_defaults
from stepstream.sdk.channels import Channel
from stepstream.sdk.context import Context
from stepstream.sdk.deferred import converter_of, dump_any
from stepstream.sdk.errors import StepUsageError
from stepstream.sdk.spending import note_usage
from stepstream.sdk.steps.bodies import StepBody
from stepstream.sdk.steps.step import Step
from stepstream.sdk.values import PLAIN_JSON, ReturnType

# The key of the metadata of a tool, and its value for a tool that uses steps itself.
METADATA, INLINE = "stepstream", "inline"

__all__ = ["Approvals", "Durable"]


@dataclass(init=False)
class Durable(AbstractCapability[Any]):
    """Makes a run of an agent durable: `await agent.run(…, capabilities=[Durable(ctx)])` in an async function.

    Each request to the model is the step `NAME/model N`, and each call of a tool the step `NAME/tool/TOOL/CALL_ID`. A
    replay, also in another process, gets their stored results and continues where the agent was. The id of a call is
    part of a stored answer of the model, so tools that run in parallel may end in any order.

    A tool that uses `ctx.step` itself has `metadata={"stepstream": "inline"}`: it runs beside the steps, not in one.
    A tool that needs an approval (`requires_approval=True`, or `ApprovalRequired`) waits for the decision of a person,
    as the step `NAME/approve/TOOL/CALL_ID`. The model gets a refusal, or that no person decided in time, as its result.

    Args:
        ctx: The context of the run.
        name: The beginning of the ids of the steps. Agents that run at the same time in one run have different ones.
        model: The steps for requests to the model, such as `ctx.step.options(retries=10)`; by default `ctx.step`.
        tools: The steps for calls of tools.
        stream: A channel to which the text of the model is published while the model writes it.
        events: A channel to which the events of the agent are published as they happen, for a front end: see
            `stepstream.ai.frontends`.
        approvals: How approvals are asked for.

    Example:
        ```python
        agent = Agent("openai:gpt-5", tools=[find_order, refund])


        @app.function(on("mail.received"))
        async def answer_mail(ctx: Context) -> str:
            result = await agent.run(ctx.event.data["text"], capabilities=[Durable(ctx)])
            return result.output
        ```
    """

    def __init__(
        self,
        ctx: Context,
        *,
        name: str = "agent",
        model: Step | None = None,
        tools: Step | None = None,
        stream: str | Channel[str] = "",
        events: str = "",
        approvals: Approvals | None = None,
    ) -> None:
        self.id = None
        self.ctx = ctx
        self.name = name
        self.model = model or ctx.step
        self.tools = tools or ctx.step
        self.stream = stream
        self.events = events
        self.approvals = approvals or Approvals()
        self.requests = 0

    def get_ordering(self) -> CapabilityOrdering:
        """Be next to the model and the tools, so that what other capabilities change applies before a step."""
        return CapabilityOrdering(position="innermost")

    def get_wrapper_model(self, model: Model) -> Model:
        """Return the model whose requests are steps."""
        return _DurableModel(model, self)

    def get_wrapper_toolset(self, toolset: AbstractToolset[Any]) -> AbstractToolset[Any]:
        """Return the tools whose calls are steps."""
        return _DurableToolset(toolset, self)

    async def handle_deferred_tool_calls(
        self,
        ctx: RunContext[Any],  # noqa: ARG002 - part of the interface
        *,
        requests: DeferredToolRequests,
    ) -> DeferredToolResults | None:
        """Wait for the decisions about the calls that need one."""
        if not requests.approvals:
            return None
        decisions = await asyncio.gather(*(self._decide(call) for call in requests.approvals))
        found = zip(requests.approvals, decisions, strict=True)
        return DeferredToolResults(approvals={call.tool_call_id: decision for call, decision in found})

    async def publish(self, event: Any) -> None:
        """Publish an event of the agent on the channels that it has."""
        if self.stream and (text := text_of(event)):
            await self.ctx.publish(self.stream, text)
        if self.events:
            await self.ctx.publish(self.events, dump_any(event))

    async def _decide(self, call: ToolCallPart) -> ToolApproved | ToolDenied:
        arguments = json.dumps(call.args_as_dict(), ensure_ascii=False, indent=2)
        request = ToolRequest(self.name, call.tool_name, call.tool_call_id, arguments)
        refusal = await refusal_of(self.ctx, self.approvals, request)
        return ToolDenied(refusal) if refusal else ToolApproved()


@dataclass(frozen=True, slots=True)
class _Request:
    """A request to a model: one object, because its parts have times, which differ in each replay."""

    messages: list[ModelMessage]
    settings: ModelSettings
    parameters: ModelRequestParameters


@dataclass(frozen=True, slots=True)
class _ToolCall:
    """A call of a tool: one object for the same reason."""

    name: str
    args: dict[str, Any]
    ctx: RunContext[Any]
    tool: ToolsetTool[Any]


class _DurableModel(WrapperModel):
    """A model whose requests are steps; they are numbered, because an agent makes one after the other."""

    def __init__(self, model: Model, durable: Durable) -> None:
        super().__init__(model)
        self._durable = durable

    async def request(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> ModelResponse:
        """Return the stored response, or ask the model."""
        durable = self._durable
        durable.requests += 1
        asked = _Request(messages, with_defaults(model_settings), model_request_parameters)
        body = functools.partial(self._ask, asked)
        id = f"{durable.name}/model {durable.requests}"
        returns = ReturnType(converter_of(ModelResponse))
        step = durable.model.ai.counted(StepBody(id, body, returns, {"model": self.wrapped.model_name}), _tokens)
        response: ModelResponse = await step
        return response

    @asynccontextmanager
    async def request_stream(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
        run_context: RunContext[Any] | None = None,  # noqa: ARG002 - part of the interface of models
    ) -> AsyncGenerator[StreamedResponse]:
        """Stream the response once it is complete: a step has no partial result."""
        response = await self.request(messages, model_settings, model_request_parameters)
        yield CompletedStreamedResponse(response, model_request_parameters=model_request_parameters, replay_events=True)

    async def _ask(self, request: _Request) -> ModelResponse:
        self._durable.model.ai.check_budget()
        try:
            response = await self._response(request.messages, request.settings, request.parameters)
        except (UserError, ImportError, ModelAPIError) as error:
            raise_for_step(error)
        note_usage(answer_of(response).usage)
        return response

    async def _response(
        self, messages: list[ModelMessage], settings: ModelSettings, parameters: ModelRequestParameters
    ) -> ModelResponse:
        durable = self._durable
        if not (durable.stream or durable.events):
            return await self.wrapped.request(messages, settings, parameters)
        return await streamed(self.wrapped.request_stream(messages, settings, parameters), durable.publish)


def _tokens(response: ModelResponse) -> int:
    return response.usage.total_tokens


@dataclass
class _DurableToolset(WrapperToolset[Any]):
    """Tools whose calls are steps, except those that are inline."""

    durable: Durable

    async def call_tool(
        self, name: str, tool_args: dict[str, Any], ctx: RunContext[Any], tool: ToolsetTool[Any]
    ) -> Any:
        """Return the stored result of a call, or call the tool; what it says to the agent by an error counts as one."""
        if (tool.tool_def.metadata or {}).get(METADATA) == INLINE:
            return await self.wrapped.call_tool(name, tool_args, ctx, tool)
        id = f"{self.durable.name}/tool/{name}/{ctx.tool_call_id}"
        body = functools.partial(self._call, _ToolCall(name, tool_args, ctx, tool))
        result = await self.durable.tools.ai.body(StepBody(id, body, PLAIN_JSON, {"tool": name, "args": tool_args}))
        return _returned(result)

    async def _call(self, call: _ToolCall) -> dict[str, Any]:
        called = ToolCallPart(call.name, call.args, call.ctx.tool_call_id or "")
        await self.durable.publish(FunctionToolCallEvent(called, args_valid=True))
        result = await self._result_of(call)
        if part := _part_of(called, result):
            await self.durable.publish(FunctionToolResultEvent(part))
        return result

    async def _result_of(self, call: _ToolCall) -> dict[str, Any]:
        try:
            value = await self.wrapped.call_tool(call.name, call.args, call.ctx, call.tool)
        except ModelRetry as error:
            return {"retry": error.message}
        except ToolFailed as error:
            return {"failed": error.message}
        except ApprovalRequired as error:
            return {"approval": dump_any(error.metadata)}
        except CallDeferred as error:
            return {"deferred": dump_any(error.metadata), "kind": error.kind}
        except StepUsageError as error:
            remedy = f"a tool that uses ctx.step is inline: @agent.tool(metadata={{{METADATA!r}: {INLINE!r}}})"
            raise StepUsageError(f"{error}; {remedy}") from error
        return {"return": dump_any(value)} if isinstance(value, ToolReturn) else {"value": dump_any(value)}


def _part_of(call: ToolCallPart, result: dict[str, Any]) -> ToolReturnPart | None:
    """Return what a call of a tool returned as a part of a message, None if its result comes later."""
    name, id = call.tool_name, call.tool_call_id
    match result:
        case {"retry": message}:
            return ToolReturnPart(name, message, id, outcome="retried")
        case {"failed": message}:
            return ToolReturnPart(name, message, id, outcome="failed")
        case {"return": {"return_value": value}} | {"value": value}:
            return ToolReturnPart(name, value, id)
        case _:
            return None


def _returned(result: dict[str, Any]) -> Any:
    """Return the value of a call of a tool, or raise what the tool said to the agent."""
    match result:
        case {"retry": message}:
            raise ModelRetry(message)
        case {"failed": message}:
            raise ToolFailed(message)
        case {"approval": metadata}:
            raise ApprovalRequired(metadata)
        case {"deferred": metadata, "kind": kind}:
            raise CallDeferred(metadata, kind=kind)
        case {"return": parts}:
            return converter_of(ToolReturn).validate_json(json.dumps(parts).encode())
        case _:
            return result["value"]
