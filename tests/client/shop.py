"""The functions that tests of clients call."""

from dataclasses import dataclass
from typing import Any

from stepstream import App, Context, NonRetriableError, on

app = App("shop")


@dataclass
class Receipt:
    """A typed result."""

    total: int


@app.function(on("order"))
async def charge(ctx: Context) -> Receipt:
    """Return a receipt."""
    total: int = await ctx.step.run("total", lambda: ctx.event.data.get("total", 0) * 2)
    await ctx.publish("progress", total)
    return Receipt(total)


@app.function(on("order"))
async def beside(ctx: Context) -> None:
    """Start on the same event as another function."""


@app.function()
async def price_order(ctx: Context) -> int:
    """Return a price, or fail."""
    if ctx.event.data["order_id"] > 7:
        raise NonRetriableError("sold out")
    return 12


@app.function()
async def refuse(ctx: Context) -> None:
    """Fail."""
    raise NonRetriableError("the card was refused")


@app.function()
async def approve(ctx: Context) -> Any:
    """Wait for a signal."""
    return await ctx.step.wait_for_signal("approval", signal=f"approve/{ctx.event.data['order']}", timeout="1h")


@app.function()
async def add_up(ctx: Context) -> int:
    """Reply to requests with the sum of what they say; to those of more than 100 an hour later."""
    total = 0
    while request := await ctx.step.wait_for_request("add up", schema=int, timeout="1d"):
        if request.data > 100:
            await ctx.step.sleep("later", "1h")
        total += request.data
        await request.reply(total)
    return total


@app.function()
async def count_down(ctx: Context) -> str:
    """Continue as new until a number is 0."""
    if left := ctx.event.data["left"]:
        await ctx.continue_as_new({"left": left - 1})
    return "done"
