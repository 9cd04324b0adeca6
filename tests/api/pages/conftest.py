"""An engine in memory with a small shop, which the pages show."""

from collections.abc import AsyncIterator

import pytest

from stepstream import App, Context, on
from stepstream.testing import VirtualEngine

app = App("shop")


async def charge(amount: int) -> dict[str, int]:
    """Charge an order; an amount below 0 fails."""
    if amount < 0:
        raise ValueError(f"amount {amount} is negative")
    return {"charged": amount}


@app.function(on("order"), retries=0)
async def fulfil(ctx: Context) -> object:
    """Charge an order, and wait for its parcel."""
    paid = await ctx.step.run("charge", charge, ctx.event.data["amount"])
    await ctx.step.sleep("nap", "1h")
    await ctx.step.wait_for_event("parcel", event="parcel/left", match="data.id", timeout="2h")
    await ctx.step.wait_for_signal("approval", signal="approve/7", timeout="3h")
    return paid


@app.function(on("loop"))
async def loop(ctx: Context) -> str:
    """Run a step for each page."""
    for number in range(400):
        await ctx.step.run(f"page {number}", lambda: {"ok": True})
    return "done"


@app.function()
async def child(ctx: Context) -> str:
    """Wait for a signal."""
    return str(await ctx.step.wait_for_signal("go", signal="child", timeout="1d"))


@app.function(on("parent"))
async def parent(ctx: Context) -> str:
    """Invoke another function."""
    return await ctx.step.invoke("call", function=child, data={}, timeout="2d")


@pytest.fixture
async def engine() -> AsyncIterator[VirtualEngine]:
    """Yield the engine of the shop."""
    async with VirtualEngine(app) as made:
        yield made
