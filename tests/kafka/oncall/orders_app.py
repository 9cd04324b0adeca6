"""The app of the on-call trial: an order waits for its payment, which may have come before it, and is shipped."""

from stepstream import App, Context, cron, on
from tests.kafka.chaos.chaos_app import effect

app = App("orders", lookback="1h")


@app.function(on("order/placed"), backoff="1s")
async def fulfil(ctx: Context) -> dict[str, object]:
    """Ship an order once it is paid, and let it expire when its payment does not come in time."""
    payment = await ctx.step.wait_for_event(
        "payment", event="order/paid", match="data.n", timeout=ctx.event.data["timeout"], lookback="1h"
    )
    done = "expire" if payment is None else "ship"
    await ctx.step.run(done, effect, ctx.run_id, done)
    return {"n": ctx.event.data["n"], "paid": payment is not None}


@app.function(cron("* * * * *"), backoff="1s")
async def close_books(ctx: Context) -> None:
    """Sleep every minute, so that the history shows cron triggers and timers that are late."""
    await ctx.step.sleep("until the books are settled", "5s")
