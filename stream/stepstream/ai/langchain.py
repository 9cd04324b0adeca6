"""Durable agents of LangChain: requests to models, calls of tools and approvals are steps of a run."""

import functools
import json
import warnings
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import Any, NoReturn

from stepstream.ai.extras import require

require("langchain", "LangChain", "langchain")

from langchain.agents.middleware import AgentMiddleware, ModelRequest, ModelResponse, ToolCallRequest
from langchain_core.messages import ToolMessage
from langgraph.errors import GraphBubbleUp
from langgraph.types import Command

from stepstream.ai.approvals import Approvals, ToolRequest, refusal_of
from stepstream.ai.failures import raise_for_status
from stepstream.ai.langchain_calls import (
    counted_calls,
    model_name,
    response_of,
    result_of,
    stored_response,
    stored_result,
)
from stepstream.sdk.channels import Channel
from stepstream.sdk.context import Context
from stepstream.sdk.errors import StepUsageError
from stepstream.sdk.steps.bodies import StepBody
from stepstream.sdk.steps.step import Step
from stepstream.sdk.values import PLAIN_JSON

__all__ = ["Approvals", "Durable"]

ToolResult = ToolMessage | Command[Any]


class Durable(AgentMiddleware[Any, Any, Any]):
    """Makes a run of an agent durable: the last middleware of `create_agent`, in an async function.

    Each request to the model is the step `NAME/model N`, and each call of a tool the step `NAME/tool/TOOL/CALL_ID`. A
    replay, also in another process, gets their stored results and continues where the agent was. The id of a call is
    part of a stored answer of the model, so tools that run in parallel may end in any order.

    A tool in `approve` waits for the decision of a person, as the step `NAME/approve/TOOL/CALL_ID`. The model gets a
    refusal, or that no person decided in time, as its result.

    Args:
        ctx: The context of the run.
        name: The beginning of the ids of the steps. Agents that run at the same time in one run have different ones.
        model: The steps for requests to the model, such as `ctx.step.options(retries=10)`; by default `ctx.step`.
        tools: The steps for calls of tools.
        inline: The names of the tools that use `ctx.step` themselves: they run beside the steps, not in one.
        approve: The names of the tools that need an approval.
        stream: A channel to which the text of the model is published while the model writes it.
        approvals: How approvals are asked for.

    Example:
        ```python
        @app.function(on("mail.received"))
        async def answer_mail(ctx: Context) -> str:
            agent = create_agent(model, [find_order, refund], middleware=[Durable(ctx, approve=["refund"])])
            state = await agent.ainvoke({"messages": [{"role": "user", "content": ctx.event.data["text"]}]})
            return state["messages"][-1].text
        ```
    """

    def __init__(
        self,
        ctx: Context,
        *,
        name: str = "agent",
        model: Step | None = None,
        tools: Step | None = None,
        inline: Collection[str] = (),
        approve: Collection[str] = (),
        stream: str | Channel[str] = "",
        approvals: Approvals | None = None,
    ) -> None:
        super().__init__()
        self._ctx = ctx
        self._name = name
        self._model = model or ctx.step
        self._tools = tools or ctx.step
        self._inline = inline
        self._approve = approve
        self._publish = functools.partial(ctx.publish, stream) if stream else None
        self._approvals = approvals or Approvals()
        self._requests = 0

    async def awrap_model_call(
        self,
        request: ModelRequest[Any],
        handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]],
    ) -> ModelResponse[Any]:
        """Return the stored response, or ask the model."""
        self._requests += 1
        body = functools.partial(self._ask, _ModelCall(request, handler))
        id = f"{self._name}/model {self._requests}"
        asked = StepBody(id, body, PLAIN_JSON, {"model": model_name(request.model)})
        stored = await self._model.ai.counted(asked, _tokens)
        return response_of(stored, request.response_format)

    async def awrap_tool_call(
        self, request: ToolCallRequest, handler: Callable[[ToolCallRequest], Awaitable[ToolResult]]
    ) -> ToolResult:
        """Return the stored result of a call, or call the tool once a person has approved it."""
        name, id = request.tool_call["name"], request.tool_call["id"] or ""
        arguments = request.tool_call["args"]
        if name in self._approve:
            shown = json.dumps(arguments, ensure_ascii=False, indent=2)
            refusal = await refusal_of(self._ctx, self._approvals, ToolRequest(self._name, name, id, shown))
            if refusal:
                return ToolMessage(refusal, name=name, tool_call_id=id, status="error")
        if name in self._inline:
            return await handler(request)
        body = functools.partial(_called, _ToolCall(request, handler))
        step = StepBody(f"{self._name}/tool/{name}/{id}", body, PLAIN_JSON, {"tool": name, "args": arguments})
        result: ToolResult = result_of(await self._tools.ai.counted(step, _tokens))
        return result

    def wrap_model_call(self, request: Any, handler: Any) -> NoReturn:  # noqa: ARG002 - part of the interface
        """Refuse to run in a thread that cannot wait for a step."""
        raise StepUsageError("a durable agent runs in an async function: use await agent.ainvoke(…)")

    def wrap_tool_call(self, request: Any, handler: Any) -> NoReturn:
        """Refuse to run in a thread that cannot wait for a step."""
        self.wrap_model_call(request, handler)

    async def _ask(self, call: "_ModelCall") -> dict[str, Any]:
        self._model.ai.check_budget()
        if getattr(call.request.model, "max_retries", 0) != 0:
            remedy = "create it with max_retries=0, because they multiply with those of its step"
            warnings.warn(f"the client of {model_name(call.request.model)} has retries: {remedy}", stacklevel=2)
        with counted_calls(self._publish) as calls:
            try:
                response = await call.handler(call.request)
            except Exception as error:  # noqa: BLE001 - each provider has its own errors
                raise_for_status(error)
        return {**stored_response(response), "tokens": calls.usage.tokens}


@dataclass(frozen=True, slots=True)
class _ModelCall:
    """A request to a model: one object, because its messages have ids, which differ in each replay."""

    request: ModelRequest[Any]
    handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]]


@dataclass(frozen=True, slots=True)
class _ToolCall:
    """A call of a tool: one object for the same reason."""

    request: ToolCallRequest
    handler: Callable[[ToolCallRequest], Awaitable[ToolResult]]


async def _called(call: _ToolCall) -> dict[str, Any]:
    name = call.request.tool_call["name"]
    with counted_calls() as calls:
        try:
            result = await call.handler(call.request)
        except GraphBubbleUp as error:
            raise StepUsageError(f"tool {name!r} interrupts the agent, which a step cannot: use approve=") from error
        except StepUsageError as error:
            raise StepUsageError(f"{error}; a tool that uses ctx.step is inline: inline=[{name!r}]") from error
    return {**stored_result(name, result), "tokens": calls.usage.tokens}


def _tokens(stored: dict[str, Any]) -> int:
    return int(stored["tokens"])
