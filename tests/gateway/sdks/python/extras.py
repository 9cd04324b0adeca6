"""Middleware, and requests to AI providers."""

from typing import Any

import inngest
from inngest.experimental.ai import openai

from tests.gateway.sdks.python.sdk import URL, define, value


class Boxing(inngest.Middleware):
    """What the engine stores is in a box, as with middleware that encrypts."""

    async def transform_input(self, _ctx: Any, _function: Any, steps: inngest.StepMemos) -> None:
        """Unpack the results of steps."""
        for memo in steps.values():
            boxed: Any = memo.data
            memo.data = boxed["box"]

    async def transform_output(self, result: inngest.TransformOutputResult) -> None:
        """Pack the result of a step."""
        if result.step and result.has_output():
            result.output = {"box": result.output}


@define("middleware", middleware=[Boxing])
async def middleware(ctx: inngest.Context) -> Any:
    """Return the result of the second step."""
    first = await ctx.step.run("first", value, "a")
    return await ctx.step.run("second", value, {"first": first})


@define("ai-infer")
async def ai_infer(ctx: inngest.Context) -> Any:
    """Return what a model answers."""
    adapter = openai.Adapter(auth_key="sk-test", base_url=f"{URL}/v1", model="small")
    body = {"messages": [{"role": "user", "content": "hi"}]}
    answer: Any = await ctx.step.ai.infer("ask", adapter=adapter, body=body)
    return answer["choices"][0]["message"]["content"]
