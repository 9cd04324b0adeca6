"""Traces without a preview, as the suites of the SDK for Go ask for them, and the lists of runs in their orders."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from stepstream import App, Context, NonRetriableError, RetryAfterError, on
from stepstream.contract.ids import run_id_at, run_ms
from stepstream.gateway.rest.sdk_shapes import moment_of
from tests.gateway.rest.sites import SdkClient, running

app = App("shop")
attempts: list[str] = []
TRACE = """query ($id: String!, $preview: Boolean) { run(runID: $id) { trace(preview: $preview) {
    ...Fields childrenSpans { ...Fields childrenSpans { ...Fields } }
} } }
fragment Fields on RunTraceSpan { name status stepOp attempts outputID }"""
OUTPUT = "query ($id: String!) { runTraceSpanOutputByID(outputID: $id) { data error { message stack } } }"
LIST = """query ($order: [RunsV2OrderBy!]!, $after: String) {
    runs(first: 2, after: $after, filter: {from: "2020-01-01T00:00:00Z"}, orderBy: $order) {
        edges { node { eventName } } pageInfo { endCursor hasNextPage }
    }
}"""


@app.function(on("nap"), id="shop-nap")
async def nap(ctx: Context) -> str:
    """Fail before a sleep and after it, once each."""
    attempts.append("before")
    if len(attempts) == 1:
        raise RetryAfterError("too early", "1m")
    await ctx.step.sleep("nap", "1h")
    attempts.append("after")
    if attempts.count("after") == 1:
        raise RetryAfterError("too late", "1m")
    return "awake"


@app.function(on("broken"), id="shop-broken", retries=1)
async def broken(_ctx: Context) -> None:
    """Fail, twice."""
    raise RetryAfterError("no use", "1m")


@app.function(on("refused"), id="shop-refused")
async def refused(_ctx: Context) -> None:
    """Fail for good."""
    raise NonRetriableError("refused")


@app.function(on("long"), id="shop-long")
async def long(ctx: Context) -> None:
    """End last."""
    await ctx.step.sleep("nap", "2h")


@pytest.fixture
async def client() -> AsyncIterator[SdkClient]:
    """A client of a server in dev mode."""
    attempts.clear()
    async with running(app) as made:
        yield made


async def children(client: SdkClient, *, preview: bool = False) -> list[dict[str, Any]]:
    """Return the spans below that of the only run."""
    found = await client.ask(TRACE, id=client.engine.run().run_id, preview=preview)
    spans: list[dict[str, Any]] = found["run"]["trace"]["childrenSpans"]
    return spans


def shown(spans: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Return the names and states of spans."""
    return [(span["name"], span["status"]) for span in spans]


async def output_of(client: SdkClient, span: dict[str, Any]) -> dict[str, Any]:
    """Return the output of a span."""
    output: dict[str, Any] = (await client.ask(OUTPUT, id=span["outputID"]))["runTraceSpanOutputByID"]
    return output


async def test_failed_attempts_of_the_code_belong_to_what_followed(client: SdkClient) -> None:
    """While they are retried they have a separate span, later they are children of the next step or of the end."""
    await client.send({"name": "nap"})
    (code,) = await children(client)
    assert (code["name"], code["status"], code["attempts"], code["outputID"]) == ("execute", "RUNNING", 0, None)
    assert shown(code["childrenSpans"]) == [("Attempt 0", "FAILED"), ("Attempt 1", "QUEUED")]
    assert (await output_of(client, code["childrenSpans"][0]))["error"]["message"] == "too early"
    await client.engine.advance("1m")
    (sleep,) = await children(client)
    assert (sleep["name"], sleep["status"], sleep["attempts"]) == ("nap", "WAITING", 0)
    assert [span["stepOp"] for span in sleep["childrenSpans"]] == [None, "SLEEP"]
    await client.engine.advance("2h")
    sleep, end = await children(client)
    assert shown(sleep["childrenSpans"]) == [("Attempt 0", "FAILED"), ("Attempt 1", "COMPLETED")]
    assert (end["name"], end["status"], end["stepOp"]) == ("function success", "COMPLETED", None)
    assert shown(end["childrenSpans"]) == [("Attempt 0", "FAILED"), ("Attempt 1", "COMPLETED")]
    assert (await output_of(client, end["childrenSpans"][0]))["error"]["message"] == "too late"
    assert json.loads((await output_of(client, end))["data"]) == "awake"


async def test_a_run_that_failed_has_the_code_that_failed(client: SdkClient) -> None:
    """With its attempts, if it was retried."""
    await client.send({"name": "broken"})
    await client.engine.advance("1h")
    (end,) = await children(client)
    assert (end["name"], end["status"], end["attempts"]) == ("execute", "FAILED", 2)
    assert shown(end["childrenSpans"]) == [("Attempt 0", "FAILED"), ("Attempt 1", "FAILED")]
    messages = [(await output_of(client, span))["error"]["message"] for span in (end, *end["childrenSpans"])]
    assert messages == ["no use"] * 3
    assert await children(client, preview=True) == []


async def test_code_that_is_not_retried_fails_at_once(client: SdkClient) -> None:
    """Its span says so, and has the only attempt."""
    await client.send({"name": "refused"})
    (end,) = await children(client)
    assert (end["name"], end["attempts"], shown(end["childrenSpans"])) == (
        "function error",
        0,
        [("Attempt 0", "FAILED")],
    )


async def test_runs_are_listed_in_the_order_of_a_query(client: SdkClient) -> None:
    """By their end, in pages; without an order the newest come first."""
    await client.send({"name": "long"})
    await client.engine.advance("1m")
    await client.send({"name": "refused"})
    await client.engine.advance("1m")
    await client.send({"name": "nap"})
    await client.engine.advance("3h")

    async def listed(field: str, direction: str) -> list[str]:
        names, after = list[str](), ""
        while True:
            found = (await client.ask(LIST, order=[{"field": field, "direction": direction}], after=after))["runs"]
            names += [edge["node"]["eventName"] for edge in found["edges"]]
            after = found["pageInfo"]["endCursor"]
            if not found["pageInfo"]["hasNextPage"]:
                return names

    assert await listed("QUEUED_AT", "DESC") == ["nap", "refused", "long"]
    assert await listed("QUEUED_AT", "ASC") == ["long", "refused", "nap"]
    assert await listed("ENDED_AT", "ASC") == ["refused", "nap", "long"]
    assert await listed("ENDED_AT", "DESC") == ["long", "nap", "refused"]


async def test_a_trigger_is_earlier_than_its_run(client: SdkClient) -> None:
    """Suites compare its time with that in the id of the run."""
    await client.send({"name": "long"})
    run = client.engine.run()
    query = "query ($id: String!) { runTrigger(runID: $id) { timestamp } }"
    trigger = (await client.ask(query, id=run.run_id))["runTrigger"]
    assert moment_of(trigger["timestamp"], "timestamp") == run_ms(run.run_id) - 1
    assert run_ms(run_id_at(1_796_079_183_402, run.run_id[10:])) == 1_796_079_183_402
