"""Why an open run does not continue: each reason is the same sentence on the page, in the API and in `runs show`."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from stepstream import App, Concurrency, Context, Event, Timeouts, on
from stepstream.api.facade import EngineFacade
from stepstream.api.http import make_api
from stepstream.cli.terminal.tables import why_lines
from stepstream.contract.functions import FunctionRegistered
from stepstream.contract.operators.control import Pause, queue_scope
from stepstream.runtime.overview import RunningWorker
from stepstream.runtime.readmodel.why import WhyCode
from stepstream.testing import VirtualEngine
from tests.api.pages.browsing import Browser
from tests.fakes.facades import facade_of

app = App("shop", queues=["gpu"])


def fail() -> None:
    """Fail each attempt."""
    raise ConnectionError("bank is down")


@app.function(on("sleep"))
async def nap(ctx: Context) -> None:
    """Sleep for an hour."""
    await ctx.step.sleep("nap", "1h")


@app.function(on("wait"))
async def parcel(ctx: Context) -> None:
    """Wait for the event of its order."""
    await ctx.step.wait_for_event("parcel", event="parcel/left", match="data.id", timeout="2h")


@app.function(on("signal"))
async def decide(ctx: Context) -> None:
    """Wait for a signal."""
    await ctx.step.wait_for_signal("decision", signal="approve/7", timeout="3h")


@app.function(on("ask"))
async def refund(ctx: Context) -> None:
    """Wait for a person."""
    await ctx.step.wait_for_approval("ask", title="Refund?", timeout="1d")


@app.function(on("request"))
async def change(ctx: Context) -> None:
    """Wait for a request."""
    await ctx.step.wait_for_request("change", timeout="1d")


@app.function(on("invoke"))
async def parent(ctx: Context) -> None:
    """Invoke a function that sleeps."""
    await ctx.step.invoke("call", function=nap, data={}, timeout="1d")


@app.function(on("retry"))
async def pay(ctx: Context) -> None:
    """Fail in a step."""
    await ctx.step.options(retries=1, backoff="1h").run("charge", fail)


@app.function(on("crash"), retries=1, backoff="1h")
async def crash(_: Context) -> None:
    """Fail between steps."""
    fail()


@app.function(on("limit"), concurrency=Concurrency(1, counts="runs"))
async def limited(ctx: Context) -> None:
    """Hold the limit of its function."""
    await ctx.step.sleep("hold", "1d")


@app.function(on("timeout"), timeouts=Timeouts(finish="2h"))
async def timed(ctx: Context) -> None:
    """Sleep with a timeout."""
    await ctx.step.sleep("nap", "1h")


@app.function(on("queue"))
async def render(ctx: Context) -> None:
    """Run a body on the workers of a queue."""
    await ctx.step.options(queue="gpu").run("draw", lambda: None)


Change = Callable[[VirtualEngine, EngineFacade], Awaitable[EngineFacade]]


async def nothing(_: VirtualEngine, facade: EngineFacade) -> EngineFacade:
    """Leave all as it is."""
    return facade


async def pause(engine: VirtualEngine, facade: EngineFacade) -> EngineFacade:
    """Pause the run."""
    await engine.engine.operator.pause(engine.run().run_id, Pause(0, "Mia", "stock is counted"))
    await engine.until_idle()
    return facade


async def without_workers(_: VirtualEngine, facade: EngineFacade) -> EngineFacade:
    """End all workers."""

    async def workers(names: Sequence[str]) -> dict[str, list[RunningWorker]]:
        return {name: [] for name in names}

    return replace(facade, workers=workers)


class Retired:
    """What an engine knows once a release without the functions is registered."""

    def __init__(self, known: Any) -> None:
        self._known = known

    def __getattr__(self, name: str) -> Any:
        return getattr(self._known, name)

    def functions(self) -> list[FunctionRegistered]:
        """Return all functions as retired."""
        return [msgspec.structs.replace(each, retired=True) for each in self._known.functions()]


async def without_code(_: VirtualEngine, facade: EngineFacade) -> EngineFacade:
    """Register a release that does not have the functions."""
    return replace(facade, overview=Retired(facade.overview))


async def without_shard(engine: VirtualEngine, facade: EngineFacade) -> EngineFacade:
    """Stop serving the shards."""
    engine.engine._shards.clear()
    return facade


CASES: list[tuple[str, WhyCode, str, Change]] = [
    ("sleep", WhyCode.SHARD, "Its shard 0 processes no records", without_shard),
    ("queue", WhyCode.MISSING_CODE, "the latest release of app 'shop' has no function 'render'", without_code),
    ("sleep", WhyCode.PAUSED, "It was paused by Mia at ", pause),
    ("queue", WhyCode.PAUSED, "The queue shop.gpu was paused by Mia at ", nothing),
    ("queue", WhyCode.NO_WORKER, "waits for a worker of shop.gpu, and none is running", without_workers),
    ("queue", WhyCode.WORKER, "runs on a worker of shop.gpu, or waits for one", nothing),
    ("retry", WhyCode.RETRY, "Attempt 2 of step 'charge' is due at ", nothing),
    ("retry", WhyCode.RETRY, "after ConnectionError: bank is down", nothing),
    ("crash", WhyCode.RETRY, "after ConnectionError: bank is down", nothing),
    ("invoke", WhyCode.CHILD, "for the run of 'nap' that it invoked", nothing),
    ("ask", WhyCode.APPROVAL, "for a person's decision", nothing),
    ("request", WhyCode.REQUEST, "for the request 'change'", nothing),
    ("signal", WhyCode.SIGNAL, "for the signal 'approve/7'", nothing),
    ("wait", WhyCode.EVENT, "for the event 'parcel/left' with data.id = 7", nothing),
    ("sleep", WhyCode.SLEEP, "Step 'nap' has slept since ", nothing),
    ("limit", WhyCode.LIMIT, "1 of 1 in use, place 1 of 1 in its queue", nothing),
    ("later", WhyCode.SCHEDULED, "It starts at ", nothing),
    ("timeout", WhyCode.TIMEOUT, "A timeout cancels it at ", nothing),
]


def test_each_reason_is_a_case() -> None:
    """A new reason needs its sentence here."""
    assert {code for _, code, _, _ in CASES} == {*WhyCode}


@pytest.mark.parametrize(("event", "code", "said", "change"), CASES)
async def test_a_reason_is_the_same_sentence_everywhere(event: str, code: WhyCode, said: str, change: Change) -> None:
    """The page has it with its remedy, and so have the API and the command."""
    async with VirtualEngine(app) as engine:
        if event == "queue":
            await engine.engine.operator.pause_scope(queue_scope("shop", "gpu"), Pause(0, "Mia", "repair"))
        if event == "limit":
            await engine.send(Event("limit"))
        ts = engine.now_ms + 3_600_000 if event == "later" else 0
        await engine.send(Event("sleep" if event == "later" else event, {"id": 7}, ts=ts))
        facade = await change(engine, facade_of(engine.engine))
        browser = Browser(make_api(facade, engine.index, bytes, now_ms=lambda: engine.now_ms))
        run_id = engine.runs()[-1 if event == "limit" else 0].run_id
        run = (await browser.client.get(f"/v1/runs/{run_id}")).json()
        page = await browser.open(f"/ui/runs/{run_id}")
        whys = page.all(".why")
        assert [why.attributes["data-code"] for why in whys] == [each["code"] for each in run["why"]]
        sentences = [" ".join(f"{each['text']} {each['remedy'].replace('`', '')}".split()) for each in run["why"]]
        assert [" ".join(why.text().split()) for why in whys] == sentences
        found = [each["text"] for each in run["why"] if each["code"] == code]
        assert any(said in text for text in found), run["why"]
        assert {*found} <= {*why_lines(run)}
