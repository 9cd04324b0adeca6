"""Import the products of many shops over one API, so that no shop waits for the backlog of another one.

    stepstream dev examples/tenants.py
    stepstream send import.requested --data '{"shop": "acme", "products": 400}'
    stepstream send import.requested --data '{"shop": "ant", "products": 50, "plan": "pro"}'

The catalogue allows 60 calls a minute to all shops together, which is a limit on single steps. Shops share it
equally, and one with the plan `pro` has three times the share of another. So a shop with a thousand imports delays a
call of another shop by one call. Each shop has one import at a time, and at most two of its calls wait for the API or
run. The calls of a shop that closes leave the queue.

`stepstream limits list` shows the queue, and `stepstream limits pause catalogue` stops the calls.
"""

import asyncio

from stepstream import App, CancelOn, Concurrency, Context, Limit, on

PRODUCTS_PER_CALL = 50

plan = "has(event.data.plan) && event.data.plan == 'pro' ? 3 : 1"
catalogue = Limit("catalogue", 60, "1m", burst=5, fair="event.data.shop", weight=plan)
app = App("tenants", limits=[catalogue])
one_import = Concurrency(1, counts="runs", key="event.data.shop")
two_calls = Concurrency(2, counts="steps", key="event.data.shop")


async def fetch(shop: str, first: int, last: int) -> int:
    """Fetch some products of a shop, and return how many there were; call your API here."""
    return len([f"{shop}-{number}" for number in range(first, last)])


@app.function(
    on("import.requested"),
    concurrency=[one_import, two_calls],
    cancel_on=[CancelOn("shop.closed", match="data.shop")],
)
async def import_products(ctx: Context) -> int:
    """Import the products of a shop, and return how many there were."""
    shop, products = ctx.event.data["shop"], ctx.event.data["products"]
    api = ctx.step.options(limit=catalogue, retries=10, backoff=["5s", "1m"])
    starts = range(0, products, PRODUCTS_PER_CALL)
    calls = [api.run(f"from {at}", fetch, shop, at, min(at + PRODUCTS_PER_CALL, products)) for at in starts]
    return sum(await asyncio.gather(*calls))
