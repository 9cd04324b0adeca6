"""Right uses, each with the type that it must have; mypy checks this file with all others."""

import asyncio
from dataclasses import dataclass
from typing import Any, Literal, assert_type

from stepstream import (
    App,
    Approval,
    CancelOn,
    Channel,
    Client,
    Context,
    Event,
    Inference,
    KafkaClient,
    Request,
    Run,
    RunHandle,
    SignalReceipt,
    StreamClient,
    StreamMessage,
    SyncClient,
    ThreadedContext,
    Timeouts,
    Wait,
    cron,
    on,
)

app = App("types")


@dataclass
class Receipt:
    """A typed result."""

    total: int


RECEIPTS = Channel("receipts/{customer}", Receipt, shared=True)


async def charge(order: dict[str, Any], *, times: int = 1) -> Receipt:
    """Be an async body."""
    return Receipt(int(order["total"]) * times)


def label(order: str) -> str:
    """Be a plain body."""
    return order


@app.function()
async def tax(ctx: Context) -> float:
    """Be a function that others invoke."""
    return float(ctx.event.ts)


@app.function(on("a", if_="event.data.n > 0"), cron("0 9 * * *", tz="Europe/Berlin"), retries=3, backoff="5s")
async def steps(ctx: Context) -> Receipt:
    """Use each step once."""
    assert_type(await ctx.step.run("charge", charge, ctx.event.data, times=2), Receipt)
    assert_type(await ctx.step.run("label", label, "x"), str)
    assert_type(await ctx.step.sleep("nap", "1h"), None)
    assert_type(await ctx.step.sleep_until("until", "2026-01-01"), None)
    assert_type(await ctx.step.wait_for_event("wait", event="b", match="data.id", timeout="1d"), Event | None)
    request = await ctx.step.wait_for_request("change", schema=Receipt, timeout="1d")
    assert_type(request, Request[Receipt] | None)
    if request:
        assert_type(request.data, Receipt)
        assert_type(await request.reply({"ok": True}), None)
    assert_type(await ctx.step.wait_for_request("other", timeout="1d"), Request[Any] | None)
    ctx.state["progress"] = {"page": 1}
    assert_type(ctx.state["progress"], Any)
    assert_type(await ctx.publish("tokens", "x"), None)
    assert_type(await ctx.publish(RECEIPTS, Receipt(1)), None)
    assert_type(await ctx.step.publish("receipt", RECEIPTS, Receipt(1)), None)
    assert_type(await ctx.step.publish("announce", "orders", {"id": 1}, shared=True), None)
    waits: dict[Literal["paid", "refused"], Wait] = {"paid": Wait("b", match="data.id"), "refused": Wait("c")}
    first = await ctx.step.wait_for_any("any", waits, timeout="1d")
    assert_type(first, tuple[Literal["paid", "refused"], Event] | None)
    assert_type(await ctx.step.wait_for_all("all", {"b": Wait("b")}, timeout="1d"), dict[str, Event] | None)
    assert_type(await ctx.step.wait_for_signal("signal", signal="s", timeout="1d"), Any)
    assert_type(await ctx.step.wait_for_approval("ok", title="ok?", timeout="1d"), Approval[None] | None)
    asked = ctx.step.wait_for_approval("form", title="ok?", form=Receipt, timeout="1d")
    assert_type(await asked, Approval[Receipt] | None)
    assert_type(await ctx.step.send_event("send", Event("b")), list[str])
    assert_type(await ctx.step.invoke("tax", function=tax, data={"n": 1}, on_parent_end="cancel"), float)
    assert_type(await ctx.step.invoke("other", function="by-name"), Any)
    assert_type(await ctx.step.options(retries=0, timeout="5s", heartbeat_timeout="1s").run("quick", label, "x"), str)
    both = await asyncio.gather(ctx.step.run("l", label, "x"), ctx.step.invoke("t", function=tax))
    assert_type(both, tuple[str, float])
    assert_type(await ctx.group.parallel(*[ctx.step.run(n, label, n) for n in "ab"]), list[str])
    assert_type(await ctx.group.race(ctx.step.run("r", label, "x"), ctx.step.run("s", label, "y")), str)
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(ctx.step.run("in-group", label, "x"))
    assert_type(task.result(), str)
    assert_type((await ctx.step.ai.infer("ask", model="test", prompt="?")).output, str)
    assert_type(await ctx.step.ai.infer("ask", model="test", prompt="?", output_type=Receipt), Inference[Receipt])
    assert_type(await ctx.step.ai.wrap("label", label, "x"), str)
    assert_type((ctx.run_id, ctx.attempt, ctx.event, ctx.events), tuple[str, int, Event, list[Event]])
    return await ctx.step.run("charge-again", charge, {})


@app.function(
    on("b"),
    cancel_on=[CancelOn("c", match="data.id"), CancelOn("d", if_="true", timeout="1h")],
    timeouts=Timeouts(start=5, finish="1h"),
)
def plain(ctx: ThreadedContext) -> str:
    """Use steps in a plain function."""
    assert_type(ctx.step.run("charge", charge, {}), Receipt)
    assert_type(ctx.step.run("label", label, "x"), str)
    assert_type(ctx.step.wait_for_event("wait", event="b", timeout=5), Event | None)
    assert_type(ctx.step.wait_for_any("any", {"b": Wait("b")}, timeout=5), tuple[str, Event] | None)
    assert_type(ctx.step.ai.infer("ask", model="test", prompt="?").output, str)
    assert_type(ctx.step.ai.infer("ask", model="test", prompt="?", output_type=Receipt).output, Receipt)
    assert_type(ctx.step.ai.wrap("charge", charge, {}), Receipt)
    assert_type(ctx.step.wait_for_all("all", {"b": Wait("b")}, timeout=5), dict[str, Event] | None)
    assert_type(ctx.step.invoke("tax", function=tax), float)
    assert_type(ctx.step.invoke("receipt", function=steps), Receipt)
    return "done"


async def outside() -> None:
    """Send from outside of functions."""
    assert_type(await app.send(Event("a"), Event("b", {"n": 1}, id="x")), list[str])
    assert_type(await app.signal("s", {"by": "ann"}), bool)
    assert_type(await app.signal_with_start("s", 1, function=tax, start={"n": 1}), SignalReceipt)


async def other_program(client: Client) -> None:
    """Call an engine from another program."""
    assert_type(await client.send("a", {"n": 1}, id="x"), str)
    assert_type(await client.send(Event("a"), Event("b")), list[str])
    assert_type(await client.invoke(tax, {"n": 1}, timeout="1m"), float)
    assert_type(await client.invoke("tax"), Any)
    assert_type(await client.start(steps), RunHandle[Receipt])
    assert_type(await (await client.start(steps)).result(), Receipt)
    async for run in client.runs("status:failed", limit=3):
        assert_type(run, Run)
    async for typed in client.stream("run", RECEIPTS):
        assert_type(typed.data, Receipt)


def synchronous_program(client: SyncClient) -> None:
    """Call an engine without an event loop."""
    assert_type(client.send("a", {"n": 1}, id="x"), str)
    assert_type(client.send(Event("a"), Event("b")), list[str])
    assert_type(client.invoke(tax, {"n": 1}), float)
    assert_type(client.start(steps).result(), Receipt)
    for run in client.runs("status:failed"):
        assert_type(run, Run)
    for message in client.stream("run", RECEIPTS):
        assert_type(message, StreamMessage[Receipt])


async def straight_to_kafka(client: KafkaClient) -> None:
    """Send without an engine."""
    assert_type(await client.send("a", {"n": 1}), str)
    assert_type(await client.send(Event("a")), list[str])


async def streams(client: StreamClient) -> None:
    """Read live streams."""
    async for message in client.run("run", "tokens"):
        assert_type(message, StreamMessage[Any])
    async for typed in client.run("run", RECEIPTS):
        assert_type(typed.data, Receipt)
    async for mixed in client.run("run", RECEIPTS, "tokens"):
        assert_type(mixed.data, Any)
    async for shared in client.channel(RECEIPTS.of(customer=7)):
        assert_type(shared.data, Receipt)
    assert_type(await client.issue_token(runs=["run"]), str)
