"""Durable agents of the OpenAI Agents SDK: requests to models, calls of tools and approvals are steps of a run."""

import asyncio
import copy
import dataclasses
import functools
import json
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from stepstream.ai.extras import require

require("agents", "The OpenAI Agents SDK", "openai-agents")

from agents import Agent, FunctionTool, Handoff, ModelSettings, RunConfig, Runner, RunResult, Tool, Usage
from agents.exceptions import AgentsException
from agents.items import ToolApprovalItem
from agents.models.interface import Model
from agents.retry import ModelRetrySettings
from agents.tool import ApplyPatchTool, ComputerTool, CustomTool, LocalShellTool, ShellTool, invoke_function_tool
from agents.tool_context import ToolContext

from stepstream.ai.approvals import Approvals, ToolRequest, refusal_of
from stepstream.ai.openai_models import DurableProvider, RequestSteps, durable_model
from stepstream.contract.model_usage import ModelUsage
from stepstream.sdk.channels import Channel
from stepstream.sdk.context import Context
from stepstream.sdk.deferred import dump_any
from stepstream.sdk.errors import StepError, StepUsageError
from stepstream.sdk.spending import note_usage
from stepstream.sdk.steps.bodies import StepBody
from stepstream.sdk.steps.step import Step
from stepstream.sdk.values import PLAIN_JSON

__all__ = ["Approvals", "Durable"]

# They act in the process of the run, and the SDK calls them without a function that could be a step.
_LOCAL_TOOLS = (ApplyPatchTool, ComputerTool, CustomTool, LocalShellTool, ShellTool)
_DEFAULT_TURNS_MAX = 10


class Durable:
    """Makes a run of an agent durable: `await Durable(ctx).run(agent, input)` in an async function.

    Each request to a model is the step `NAME/model N`, and each call of a function tool the step
    `NAME/tool/TOOL/CALL_ID`. A replay, also in another process, gets their stored results and continues where the agent
    was. The id of a call is part of a stored response, so tools that run in parallel may end in any order.

    A tool that needs an approval (`needs_approval=`) waits for the decision of a person, as the step
    `NAME/approve/TOOL/CALL_ID`. The model gets a refusal, or that no person decided in time, as its result. An agent
    as a tool is one step; a tool that runs a `Durable` itself is inline.

    Args:
        ctx: The context of the run.
        name: The beginning of the ids of the steps. Agents that run at the same time in one run have different ones.
        model: The steps for requests to models, such as `ctx.step.options(retries=10)`; by default `ctx.step`.
        tools: The steps for calls of tools.
        inline: The names of the tools that use `ctx.step` themselves: they run beside the steps, not in one.
        stream: A channel to which the text of the model is published while the model writes it.
        approvals: How approvals are asked for.

    Example:
        ```python
        agent = Agent("support", instructions="You answer mails.", model="gpt-5", tools=[find_order, refund])


        @app.function(on("mail.received"))
        async def answer_mail(ctx: Context) -> str:
            result = await Durable(ctx).run(agent, ctx.event.data["text"])
            return result.final_output
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
        stream: str | Channel[str] = "",
        approvals: Approvals | None = None,
    ) -> None:
        self.ctx = ctx
        self.name = name
        self.tools = tools or ctx.step
        self.inline = inline
        self.approvals = approvals or Approvals()
        publish = functools.partial(ctx.publish, stream) if stream else None
        self._requests = RequestSteps(name, model or ctx.step, publish)
        self._agents: dict[int, Agent[Any]] = {}

    async def run(
        self,
        agent: Agent[Any],
        input: str | list[Any],
        *,
        context: Any = None,
        max_turns: int = _DEFAULT_TURNS_MAX,
        run_config: RunConfig | None = None,
    ) -> RunResult:
        """Run an agent and those that it hands over to, by `Runner.run`.

        Tracing is off without a `run_config`: a replay would send the same spans again. Raises `StepError` for a
        request or a call of a tool that has no attempts left, `StepUsageError` for an agent that has MCP servers or
        tools for a shell or a computer, and what `Runner.run` raises.
        """
        config = self._config(run_config or RunConfig(tracing_disabled=True))
        durable = self.agent(agent)
        try:
            result = await Runner.run(durable, input, context=context, max_turns=max_turns, run_config=config)
            while result.interruptions:
                state = result.to_state()
                refusals = await asyncio.gather(*(self._refusal_of(item) for item in result.interruptions))
                for item, refusal in zip(result.interruptions, refusals, strict=True):
                    if refusal:
                        state.reject(item, rejection_message=refusal)
                    else:
                        state.approve(item)
                result = await Runner.run(durable, state, max_turns=max_turns, run_config=config)
        except AgentsException as error:
            if isinstance(error.__cause__, StepError):
                raise error.__cause__ from None
            raise
        return result

    def agent(self, agent: Agent[Any]) -> Agent[Any]:
        """Return the agent whose requests and calls of tools are steps."""
        if id(agent) in self._agents:
            return self._agents[id(agent)]
        if agent.mcp_servers:
            raise StepUsageError(f"agent {agent.name!r} has MCP servers, whose calls are no steps; call them in tools")
        durable = agent.clone(tools=[self._tool(agent, tool) for tool in agent.tools], handoffs=[])
        if isinstance(agent.model, Model):
            durable.model = durable_model(agent.model, self._requests)
        # Agents may hand over to each other, so each is known before its handoffs are.
        self._agents[id(agent)] = self._agents[id(durable)] = durable
        durable.handoffs = [self._handoff(target) for target in agent.handoffs]
        return durable

    def _config(self, config: RunConfig) -> RunConfig:
        provider = DurableProvider(config.model_provider, self._requests)
        model = config.model
        if isinstance(model, Model):
            model = durable_model(model, self._requests)
        # The step retries: a client that did so too would multiply the attempts.
        once = ModelSettings(retry=ModelRetrySettings(max_retries=0))
        settings = config.model_settings.resolve(once) if isinstance(config.model_settings, ModelSettings) else once
        return dataclasses.replace(config, model=model, model_provider=provider, model_settings=settings)

    def _tool(self, agent: Agent[Any], tool: Tool) -> Tool:
        if isinstance(tool, _LOCAL_TOOLS):
            raise StepUsageError(
                f"tool {tool.name!r} of agent {agent.name!r} acts in the process of the run and is no step; "
                "use a function tool"
            )
        if not isinstance(tool, FunctionTool) or tool.name in self.inline:
            return tool
        return dataclasses.replace(tool, on_invoke_tool=functools.partial(self._call, tool), timeout_seconds=None)

    def _handoff(self, target: Agent[Any] | Handoff[Any, Any]) -> Agent[Any] | Handoff[Any, Any]:
        if isinstance(target, Agent):
            return self.agent(target)

        async def hand_over(context: Any, arguments: str) -> Agent[Any]:
            return self.agent(await target.on_invoke_handoff(context, arguments))

        return dataclasses.replace(target, on_invoke_handoff=hand_over)

    async def _call(self, tool: FunctionTool, context: ToolContext[Any], arguments: str) -> Any:
        id = f"{self.name}/tool/{tool.name}/{context.tool_call_id}"
        body = functools.partial(_called, _ToolCall(tool, context, arguments))
        return await self.tools.ai.body(StepBody(id, body, PLAIN_JSON, {"tool": tool.name, "args": arguments}))

    async def _refusal_of(self, item: ToolApprovalItem) -> str:
        arguments = json.dumps(json.loads(item.arguments or "{}"), ensure_ascii=False, indent=2)
        request = ToolRequest(self.name, item.name or "", item.call_id or "", arguments)
        return await refusal_of(self.ctx, self.approvals, request)


@dataclass(frozen=True, slots=True)
class _ToolCall:
    """A call of a tool: one object, because the context of a call differs in each replay."""

    tool: FunctionTool
    context: ToolContext[Any]
    arguments: str


async def _called(call: _ToolCall) -> Any:
    # An agent as a tool adds what it uses to the usage of its context, which parallel calls share.
    context = copy.copy(call.context)
    context.usage = Usage()
    try:
        return dump_any(await invoke_function_tool(function_tool=call.tool, context=context, arguments=call.arguments))
    finally:
        call.context.usage.add(context.usage)
        if context.usage.total_tokens:
            note_usage(ModelUsage("", context.usage.input_tokens, context.usage.output_tokens))
