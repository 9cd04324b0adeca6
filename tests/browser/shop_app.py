"""The app that the flows look at: orders, reports with many steps, invoked runs and steps that fail."""

from typing import Any

from pydantic import BaseModel, Field

from stepstream import App, CancelOn, Concurrency, Context, on

app = App("shop")


async def charge(order: dict[str, Any]) -> str:
    """Charge an order; a total below 0 fails."""
    if order["total"] < 0:
        raise ValueError(f"total {order['total']} is negative")
    return f"receipt for {order['total']}"


@app.function(on("order"), retries=0)
async def fulfil_order(ctx: Context) -> dict[str, Any]:
    """Charge an order and wait for its parcel."""
    ctx.set_attributes(order_id=ctx.event.data["id"], total=ctx.event.data["total"])
    receipt = await ctx.step.run("charge", charge, ctx.event.data)
    parcel = await ctx.step.wait_for_event("parcel", event="parcel", match="data.id", timeout="7d")
    return {"receipt": receipt, "parcel": parcel and parcel.data, "items": [{"sku": f"sku-{n}"} for n in range(3)]}


async def post(price: int, order: dict[str, Any]) -> str:
    """Post an invoice; a price above the limit of its order fails."""
    if price > order["limit"]:
        raise ValueError(f"{price} is above the limit of {order['limit']}")
    return f"posted {price} to {order['customer']}"


@app.function(on("invoice"), retries=0)
async def invoice(ctx: Context) -> str:
    """Look up a price, and post it."""
    price = await ctx.step.run("look up", lambda: 90)
    return await ctx.step.run("post", post, price, ctx.event.data)


def write(number: int) -> dict[str, int]:
    """Write a page."""
    return {"number": number}


@app.function(on("report"), retries=0)
async def write_report(ctx: Context) -> int:
    """Run a step for each page of a report."""
    pages = ctx.event.data["pages"]
    for number in range(pages):
        await ctx.step.run(f"page {number}", write, number)
    return int(pages)


@app.function(on("call"), retries=0)
async def call(ctx: Context) -> Any:
    """Invoke a function that waits for a signal."""
    return await ctx.step.invoke("answer", function=answer, data=ctx.event.data, timeout="1d")


@app.function()
async def answer(ctx: Context) -> Any:
    """Wait for a signal."""
    return await ctx.step.wait_for_signal("go", signal=f"go/{ctx.event.data['id']}", timeout="1d")


@app.function(
    on("export"),
    retries=0,
    concurrency=Concurrency(1, counts="runs"),
    cancel_on=[CancelOn("withdraw", match="data.id")],
)
async def export(ctx: Context) -> None:
    """Log a text, and sleep for a day: one run at a time."""
    ctx.logger.warning("%s", ctx.event.data["text"])
    await ctx.step.sleep("night", "1d")


class Refund(BaseModel):
    """What the person who approves a refund enters."""

    amount: float = Field(gt=0, description="in euros")


@app.function(on("refund"), retries=0)
async def refund(ctx: Context) -> Any:
    """Ask a person for a refund."""
    decision = await ctx.step.wait_for_approval("ask", title=f"Refund {ctx.event.id}?", form=Refund, timeout="3d")
    return decision and [decision.approved, decision.by, decision.values and decision.values.amount]


@app.function(on("flaky"), retries=1, backoff="1h")
async def charge_flaky(ctx: Context) -> str:
    """Fail once, and wait an hour for the second attempt."""
    return await ctx.step.run("charge", charge, {"total": -1})


@app.function(on("echo"), retries=0)
async def echo(ctx: Context) -> Any:
    """Return hostile text from a step whose id is hostile too, or fail with it."""
    text = str(ctx.event.data["text"])
    given = await ctx.step.run(text[:200], lambda: {text: [text]})
    if ctx.event.data.get("fails"):
        raise ValueError(text)
    return given
