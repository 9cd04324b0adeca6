"""Orders of a shop: priced, packed, paid for and shipped by durable functions of an app in FastAPI."""

from datetime import timedelta
from typing import Any

import fastapi
import inngest
import inngest.fast_api

client = inngest.Inngest(app_id="python-shop")
app = fastapi.FastAPI()


async def price_items(items: Any) -> int:
    """Return what the items cost, in cents."""
    return sum(int(item["price"]) * int(item["quantity"]) for item in items)


async def price_shipping(city: str) -> int:
    """Return what the way costs, in cents."""
    return 300 if city == "Berlin" else 900


async def cancel(order_id: str) -> None:
    """Cancel an order that is not paid for in time."""
    print(f"order {order_id} is cancelled")


@client.create_function(fn_id="process-order", trigger=inngest.TriggerEvent(event="shop/order.placed"))
async def process_order(ctx: inngest.Context) -> Any:
    """Process an order from its prices to its parcel."""
    data: Any = ctx.event.data
    order_id, city = data["order_id"], data["city"]

    # Both run at a time.
    total, shipping = await ctx.group.parallel(
        (
            lambda: ctx.step.run("price items", price_items, data["items"]),
            lambda: ctx.step.run("price shipping", price_shipping, city),
        )
    )

    payment = await ctx.step.wait_for_event(
        "payment",
        event="shop/payment.received",
        if_exp="async.data.order_id == event.data.order_id",
        timeout=timedelta(seconds=data["pay_within_s"]),
    )
    if payment is None:
        await ctx.step.run("cancel", cancel, order_id)
        return {"order_id": order_id, "status": "cancelled"}

    await ctx.step.sleep("packing", timedelta(seconds=2))

    async def book_carrier() -> str:
        # The carrier is busy at first: the step is retried after a second, and nothing before it runs again.
        if ctx.attempt == 0:
            raise inngest.RetryAfterError("the carrier is busy", timedelta(seconds=1))
        return f"{city}/{order_id}"

    parcel = await ctx.step.run("book carrier", book_carrier)
    shipped = inngest.Event(name="shop/order.shipped", data={"order_id": order_id, "parcel": parcel})
    await ctx.step.send_event("shipped", shipped)
    return {"order_id": order_id, "status": "shipped", "total": total + shipping, "parcel": parcel}


@client.create_function(fn_id="notify-customer", trigger=inngest.TriggerEvent(event="shop/order.shipped"))
async def notify_customer(ctx: inngest.Context) -> str:
    """Write to the customer."""
    parcel = str(ctx.event.data["parcel"])

    async def send_mail() -> str:
        return f"parcel {parcel} is on its way"

    return await ctx.step.run("send mail", send_mail)


inngest.fast_api.serve(app, client, [process_order, notify_customer])
