"""A pipeline that reads a report of 200 pages by a language model: all pages at once, then what was found in groups.

    pip install 'stepstream[ai]'
    stepstream dev examples/documents.py --open
    stepstream send report.uploaded --data '{"name": "expenses", "pages": 200}'

The run shows its progress, and the tokens of each page. Requests wait while more than 90,000 tokens are used in a
minute. Kill the process at any time and start it again: no page whose result was stored is read again.

The model is a script that needs no network. DOCUMENTS_MODEL=openai:gpt-5 selects a real one, with the client of its
provider (`pip install 'pydantic-ai-slim[openai]'`) and its key (OPENAI_API_KEY).
"""

import asyncio
import json
import os
import re
from collections.abc import Sequence

from pydantic import BaseModel
from pydantic_ai.messages import ModelMessage, ModelResponse, ToolCallPart, UserPromptPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

from stepstream import App, Context, Limit, on

GROUP = 20

tokens = Limit("tokens", 90_000, "1m", burst=30_000, counts="units")
app = App("documents", limits=[tokens])


class Expenses(BaseModel):
    """What a model finds in a part of a report."""

    total: int
    receipts: int
    largest: str


def script(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    """Stand in for a model: add up the receipts of a page, or what was found in several parts."""
    prompts = [part.content for message in messages for part in message.parts if isinstance(part, UserPromptPart)]
    text = str(prompts[-1])
    if text.startswith("["):
        parts = [Expenses.model_validate(part) for part in json.loads(text)]
    else:
        receipts = re.findall(r"(\w+ \d+): (\d+) EUR", text)
        parts = [Expenses(total=int(amount), receipts=1, largest=f"{name}: {amount} EUR") for name, amount in receipts]
    found = merged(parts)
    return ModelResponse([ToolCallPart(info.output_tools[0].name, found.model_dump())])


def merged(parts: Sequence[Expenses]) -> Expenses:
    """Return what was found in all parts."""
    largest = max(parts, key=lambda part: int(part.largest.split()[-2]))
    return Expenses(
        total=sum(part.total for part in parts),
        receipts=sum(part.receipts for part in parts),
        largest=largest.largest,
    )


model = os.environ.get("DOCUMENTS_MODEL") or FunctionModel(script, model_name="script")


def split(name: str, pages: int) -> list[str]:
    """Stand in for a reader of PDF files: return the text of each page of a report."""
    return [
        "\n".join(f"{name.title()} {number}: {number * 37 % 101 + 1} EUR" for number in range(page * 5, page * 5 + 5))
        for page in range(pages)
    ]


@app.function(on("report.uploaded"), ai_budget=500_000, attributes={"name": "event.data.name"})
async def read_report(ctx: Context) -> Expenses:
    """Read each page of a report by a model, and merge what it finds, group by group, until one result is left."""
    pages = await ctx.step.run("split", split, ctx.event.data["name"], ctx.event.data["pages"])
    ask = ctx.step.options(limit=tokens, units=500, retries=8)
    done = 0

    async def read(number: int, page: str) -> Expenses:
        nonlocal done
        found = await ask.ai.infer(
            f"page {number}", model=model, instructions="Add up the receipts.", prompt=page, output_type=Expenses
        )
        done += 1
        if done % GROUP == 0:
            ctx.state["progress"] = {"read": done, "of": len(pages)}
        return found.output

    async def merge(level: int, number: int, parts: Sequence[Expenses]) -> Expenses:
        found = await ask.ai.infer(
            f"level {level} group {number}",
            model=model,
            instructions="These were found in the parts of a report. Merge them.",
            prompt=json.dumps([part.model_dump() for part in parts]),
            output_type=Expenses,
        )
        return found.output

    parts = await asyncio.gather(*(read(number, page) for number, page in enumerate(pages, 1)))
    level = 0
    while len(parts) > 1:
        level += 1
        groups = [parts[first : first + GROUP] for first in range(0, len(parts), GROUP)]
        parts = await asyncio.gather(*(merge(level, number, group) for number, group in enumerate(groups, 1)))
    return parts[0]
