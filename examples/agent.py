"""A support agent that looks orders up, asks a person before it refunds one, and writes while clients listen.

    pip install 'stepstream[ai]'
    stepstream dev examples/agent.py --open
    stepstream send mail.received --data '{"from": "ann@example.com", "text": "Order 7 arrived broken!"}'

The page shows the run, which waits for an approval of the refund; approve it there. The answer is published on the
channel `answer` of the run while it is written:

    curl -N "localhost:8288/v1/runs/RUN_ID/stream?channel=answer"

Kill the process at any time and start it again: no request to the model and no refund is repeated whose result was
stored. The model is a script that needs no network. AGENT_MODEL=openai:gpt-5 selects a real one, with the client of its
provider (`pip install 'pydantic-ai-slim[openai]'`) and its key (OPENAI_API_KEY).
"""

import os
import re
from collections.abc import AsyncIterator

from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ToolReturnPart, UserPromptPart
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, DeltaToolCalls, FunctionModel

from stepstream import App, Context, Limit, on
from stepstream.ai.pydantic_ai import Approvals, Durable

tokens = Limit("tokens", 90_000, "1m", burst=30_000, counts="units")
app = App("support", limits=[tokens])
ORDERS: dict[int, dict[str, str | int]] = {7: {"customer": "ann@example.com", "total": 40, "state": "delivered"}}
refunds: list[tuple[int, int]] = []  # stands for your payment service


async def script(messages: list[ModelMessage], _: AgentInfo) -> AsyncIterator[str | DeltaToolCalls]:
    """Stand in for a model: look up the order and the rules at once, refund, and answer with what came back."""
    parts = [part for message in messages for part in message.parts]
    order = re.search(r"[Oo]rder (\d+)", str([part.content for part in parts if isinstance(part, UserPromptPart)]))
    returned = {part.tool_name: str(part.content) for part in parts if isinstance(part, ToolReturnPart)}
    if order is None:
        yield "Which order do you mean?"
    elif not returned:
        yield {
            0: DeltaToolCall("find_order", f'{{"number": {order[1]}}}', tool_call_id="order"),
            1: DeltaToolCall("read_rules", '{"topic": "damage"}', tool_call_id="rules"),
        }
    elif "refund" not in returned and "total" in returned["find_order"]:
        yield {0: DeltaToolCall("refund", f'{{"number": {order[1]}, "amount": 40}}', tool_call_id="refund")}
    else:
        for word in f"About order {order[1]}: {returned.get('refund', returned['find_order'])}".split(" "):
            yield f"{word} "


agent = Agent(
    os.environ.get("AGENT_MODEL") or FunctionModel(stream_function=script, model_name="script"),
    instructions="You answer mails of customers. Look their order and the rules up, then refund it if the rules allow.",
)


@agent.tool_plain
async def find_order(number: int) -> dict[str, str | int] | str:
    """Find an order by its number."""
    return ORDERS.get(number, "There is no such order.")


@agent.tool_plain
async def read_rules(topic: str) -> str:
    """Read the rules about a topic."""
    return f"Rules about {topic}: refund the whole total within 30 days."


@agent.tool_plain(requires_approval=True)
async def refund(number: int, amount: int) -> str:
    """Refund an amount of an order."""
    refunds.append((number, amount))
    return f"we sent you {amount} EUR."


@app.function(on("mail.received"), ai_budget=100_000, attributes={"from": "event.data.from"})
async def answer_mail(ctx: Context) -> str:
    """Answer a mail by the agent."""
    durable = Durable(
        ctx,
        model=ctx.step.options(limit=tokens, units=2_000, retries=8),
        stream="answer",
        approvals=Approvals("2d", to=["support"]),
    )
    result = await agent.run(ctx.event.data["text"], capabilities=[durable])
    return result.output.strip()
