"""The app of the tests of sources: orders as JSON, payments as CloudEvents, parcels by a setting of the engine."""

from stepstream import App, Context, on

app = App("sources")
app.source("orders", name="shop/order", data="{'n': value.n}", if_="value.n >= 0")
app.source("payments", format="cloudevents")


@app.function(on("shop/order"), on("shop.paid"), on("shop/parcel"), retries=0)
async def follow(ctx: Context) -> dict[str, object]:
    """Return name and number of the event."""
    return {"name": ctx.event.name, "n": ctx.event.data["n"]}
